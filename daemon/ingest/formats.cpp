#include "daemon/ingest/formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "daemon/base/whole.h"
#include "daemon/ingest/json.h"
#include "daemon/ingest/line_time.h"
#include "daemon/logs/header.h"

namespace culprit::ingest {
namespace {

constexpr std::string_view kNginxCombined = R"($remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent")";
constexpr std::string_view kEnvoyDefault =
    R"([%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% )"
    R"(%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%")";
// Istio's default has the reason in words between the flags and the bytes, and the cluster behind the host.
constexpr std::string_view kEnvoyIstio =
    R"([%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% )"
    R"(%CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% )"
    R"(%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% )";
// option httplog, docs.haproxy.org section 8.2.3; captured headers stand before the request.
constexpr std::string_view kHaproxy =
    R"($remote_addr [$time_local] $frontend $upstream_cluster/$server $tq/$tw/$tc/$tr/$request_millis $status $bytes_sent $cc $cs $flags $connections $queues $captured"$request")";

constexpr std::size_t kTokensMax = 128;
constexpr std::size_t kAttributesFromLine = 32;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

bool is_number(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);  // "info" begins like infinity
}

// "GET /x?token=1 HTTP/1.1" -> the same with "?…": values of a query are none of ours to keep.
std::string without_query(std::string_view line) {
  std::string out;
  for (std::size_t mark = line.find('?'); mark != std::string_view::npos; mark = line.find('?')) {
    out += line.substr(0, mark + 1);
    const bool path = out.rfind('/') != std::string::npos && out.rfind('/') > out.find_last_of(" \"");
    line.remove_prefix(mark + 1);
    const std::size_t end = std::min(line.find_first_of(" \"\t"), line.size());
    if (path && end > 0) out += "…";
    else out += line.substr(0, end);
    line.remove_prefix(end);
  }
  out += line;
  return out;
}

const std::array<std::string_view, 6> kTimeNames = {"time", "timestamp", "ts", "@timestamp", "date", "start_time"};
const std::array<std::string_view, 6> kLevelNames = {"level", "severity", "lvl", "log.level", "loglevel", "levelname"};
const std::array<std::string_view, 4> kMessageNames = {"msg", "message", "event", "log"};

template <typename Names>
bool among(const Names& names, std::string_view key) {
  return std::ranges::find(names, key) != names.end();
}

// Seconds, milliseconds, microseconds or nanoseconds since 1970, told by their size. 0: no time, or one that nobody lives to see.
std::int64_t unix_wall_ns(double value) {
  constexpr double kMax = 9.2e18;  // the year 2261, and what fits
  const double ns = value > 1e17 ? value : value > 1e14 ? value * 1e3 : value > 1e11 ? value * 1e6 : value > 1e8 ? value * 1e9 : 0;
  return ns < kMax ? static_cast<std::int64_t>(ns) : 0;
}

const std::array<std::string_view, 4> kPidNames = {"pid", "process.pid", "process_id", "processId"};
const std::array<std::string_view, 5> kThreadNames = {"tid", "thread.id", "thread_id", "threadId", "threadid"};

std::size_t digits_of(std::string_view text) { return std::min(text.find_first_not_of("0123456789"), text.size()); }

// Who wrote a plain line, as far as its head says so: "123#124: " (nginx: process and thread), "cron[123]: ", "123:M " (redis), and,
// where nothing else can be meant, "[123] " (PostgreSQL's default).
void take_process(std::string_view line, bool brackets, stream::Event& event, Decoded& out) {
  const std::string_view head = line.substr(0, 160);
  const auto put = [&](std::string_view pid, std::string_view tid) {
    if (pid.empty() || pid.size() > 10) return false;
    add_attribute(event.attributes, "process.pid", pid, out);
    if (!tid.empty() && tid.size() <= 10) add_attribute(event.attributes, "thread.id", tid, out);
    return true;
  };
  if (const std::size_t count = digits_of(head); count > 0 && head.size() > count + 2 && head[count] == ':' && std::string_view("MSCX").find(head[count + 1]) != std::string_view::npos && head[count + 2] == ' ') {
    put(head.substr(0, count), {});
    return;
  }
  for (std::size_t at = head.find_first_of("#["); at != std::string_view::npos; at = head.find_first_of("#[", at + 1)) {
    const std::string_view after = head.substr(at + 1);
    const std::string_view number = after.substr(0, digits_of(after)), rest = after.substr(number.size());
    if (head[at] == '#') {
      std::size_t begin = at;
      while (begin > 0 && head[begin - 1] >= '0' && head[begin - 1] <= '9') --begin;
      if (rest.starts_with(": ") && !number.empty() && put(head.substr(begin, at - begin), number)) return;
    } else if (!number.empty() && at > 0 && (rest.starts_with("]: ") ? head[at - 1] != ' ' : brackets && rest.starts_with("] "))) {
      put(number, {});
      return;
    }
  }
}

// One field of a structured line (JSON, logfmt) into the event.
void take_field(std::string_view key, std::string_view value, bool is_text, const Context& context, stream::Event& event, std::string& message, Decoded& out) {
  double number = 0;
  if (among(kTimeNames, key)) {
    std::int64_t wall = 0;
    if (is_number(value, number) && value.find_first_not_of("0123456789.eE+") == std::string_view::npos) wall = unix_wall_ns(number);
    else wall = line_time(value, context.now_ns + context.wall_offset_ns).value_or(0);
    if (wall > 0) event.time_ns = stream_time(wall, context, out);
    return;
  }
  if (among(kLevelNames, key)) {
    event.severity = logs::severity_of_level(value);
    if (!is_text && is_number(value, number)) {  // pino and bunyan: 10 trace ... 60 fatal
      const int tens = whole<int>(number / 10);
      static constexpr std::uint8_t kLevels[] = {0, stream::kTrace, stream::kDebug, stream::kInfo, stream::kWarn, stream::kError, stream::kFatal};
      if (tens >= 1 && tens <= 6) event.severity = kLevels[tens];
    }
    return;
  }
  if (among(kMessageNames, key) && message.empty()) {
    message = value;
    return;
  }
  if (key == "trace_id" || key == "traceId" || key == "trace.id" || key == "traceID" || key == "otelTraceID") {
    if (parse_trace_id(value, event.trace_id)) return;
  }
  if (key == "span_id" || key == "spanId" || key == "span.id" || key == "otelSpanID") {
    if (parse_span_id(value, event.span_id)) return;
  }
  if (key == "traceparent" && find_trace_id(value, event.trace_id, event.span_id)) return;
  if ((key == "service" || key == "service.name" || key == "service_name") && event.entity.empty() && !value.empty()) {
    event.entity = "service:" + bounded_text(value, kNameBytesMax, out);
    return;
  }
  const bool counted = digits_of(value) == value.size() && !value.empty() && value.size() <= 10;
  if (counted && among(kPidNames, key)) key = "process.pid";
  else if (counted && among(kThreadNames, key)) key = "thread.id";
  if (event.attributes.size() < kAttributesFromLine) add_attribute(event.attributes, key, value, out);
  else ++out.cut;
}

}  // namespace

void LineFormat::add(std::string literal, Field field) {
  tokens_.push_back({std::move(literal), field, false});
}

Result<void> LineFormat::compile_nginx(std::string_view format) {
  static constexpr std::pair<std::string_view, Field> kNames[] = {
      {"time_local", Field::Time},        {"time_iso8601", Field::Time},        {"msec", Field::UnixTime},         {"request", Field::Request},
      {"request_method", Field::Method},  {"request_uri", Field::Path},         {"uri", Field::Path},              {"status", Field::Status},
      {"request_time", Field::Seconds},   {"upstream_addr", Field::Upstream},   {"upstream_cluster", Field::Cluster}, {"proxy_host", Field::Cluster},
      {"body_bytes_sent", Field::Bytes},  {"bytes_sent", Field::Bytes},         {"remote_addr", Field::Client},    {"http_traceparent", Field::Trace},
      {"request_id", Field::RequestId},   {"host", Field::Host},                {"http_host", Field::Host},        {"http_user_agent", Field::Agent},
      {"request_millis", Field::Millis},  {"flags", Field::Flags},              {"opentelemetry_trace_id", Field::Trace}, {"otel_trace_id", Field::Trace}};
  std::string literal;
  for (std::size_t at = 0; at < format.size();) {
    if (format[at] != '$') {
      literal += format[at++];
      continue;
    }
    std::size_t begin = at + 1, end = begin;
    const bool braces = begin < format.size() && format[begin] == '{';
    if (braces) ++begin, end = begin;
    while (end < format.size() && ((format[end] >= 'a' && format[end] <= 'z') || (format[end] >= 'A' && format[end] <= 'Z') || (format[end] >= '0' && format[end] <= '9') || format[end] == '_')) ++end;
    if (end == begin || tokens_.size() >= kTokensMax) return fail(Code::Invalid, fmt::format("format: no variable at offset {}", at));
    const auto name = format.substr(begin, end - begin);
    const auto found = std::ranges::find(kNames, name, [](const auto& pair) { return pair.first; });
    add(std::exchange(literal, {}), found == std::end(kNames) ? Field::Skip : found->second);
    at = end + (braces ? 1 : 0);
  }
  tokens_.push_back({std::move(literal), Field::Skip, true});
  return {};
}

Result<void> LineFormat::compile_apache(std::string_view format) {
  std::string literal;
  for (std::size_t at = 0; at < format.size();) {
    if (format[at] == '\\' && at + 1 < format.size()) {  // as it stands in httpd.conf
      literal += format[at + 1];
      at += 2;
      continue;
    }
    if (format[at] != '%') {
      literal += format[at++];
      continue;
    }
    std::size_t end = at + 1;
    while (end < format.size() && (format[end] == '>' || format[end] == '<' || format[end] == '!' || format[end] == ',' || (format[end] >= '0' && format[end] <= '9'))) ++end;
    std::string_view braces;
    if (end < format.size() && format[end] == '{') {
      const std::size_t close = format.find('}', end);
      if (close == std::string_view::npos) return fail(Code::Invalid, fmt::format("format: no '}}' for offset {}", end));
      braces = format.substr(end + 1, close - end - 1);
      end = close + 1;
    }
    if (end >= format.size() || tokens_.size() >= kTokensMax) return fail(Code::Invalid, fmt::format("format: no directive at offset {}", at));
    Field field = Field::Skip;
    const std::string header = lower(braces);
    switch (format[end]) {
      case '%': literal += '%'; at = end + 1; continue;
      case 't': field = Field::Time; if (braces.empty()) literal += '['; break;
      case 'r': field = Field::Request; break;
      case 'm': field = Field::Method; break;
      case 'U': field = Field::Path; break;
      case 's': field = Field::Status; break;
      case 'D': field = Field::Micros; break;
      case 'T': field = braces == "ms" ? Field::Millis : braces == "us" ? Field::Micros : Field::Seconds; break;
      case 'b': case 'B': case 'O': field = Field::Bytes; break;
      case 'h': case 'a': field = Field::Client; break;
      case 'v': case 'V': field = Field::Host; break;
      case 'i': field = header == "traceparent" ? Field::Trace : header == "user-agent" ? Field::Agent : header == "x-request-id" ? Field::RequestId : Field::Skip; break;
      default: break;
    }
    add(std::exchange(literal, {}), field);
    if (format[end] == 't' && braces.empty()) literal = "]";
    at = end + 1;
  }
  tokens_.push_back({std::move(literal), Field::Skip, true});
  return {};
}

Result<void> LineFormat::compile_envoy(std::string_view format) {
  static constexpr std::pair<std::string_view, Field> kNames[] = {
      {"START_TIME", Field::Time},           {"REQ(:METHOD)", Field::Method},     {"REQ(:PATH)", Field::Path},          {"REQ(X-ENVOY-ORIGINAL-PATH?:PATH)", Field::Path},
      {"RESPONSE_CODE", Field::Status},      {"RESPONSE_FLAGS", Field::Flags},    {"DURATION", Field::Millis},          {"UPSTREAM_HOST", Field::Upstream},
      {"UPSTREAM_CLUSTER", Field::Cluster},  {"BYTES_SENT", Field::Bytes},        {"REQ(X-REQUEST-ID)", Field::RequestId}, {"REQ(:AUTHORITY)", Field::Host},
      {"REQ(USER-AGENT)", Field::Agent},     {"REQ(TRACEPARENT)", Field::Trace},  {"TRACE_ID", Field::Trace},           {"DOWNSTREAM_REMOTE_ADDRESS", Field::Client}};
  std::string literal;
  for (std::size_t at = 0; at < format.size();) {
    if (format[at] != '%') {
      literal += format[at++];
      continue;
    }
    if (format.substr(at).starts_with("%%")) {
      literal += '%';
      at += 2;
      continue;
    }
    std::size_t end = at + 1;
    int depth = 0;
    while (end < format.size() && (format[end] != '%' || depth > 0)) {
      depth += format[end] == '(' ? 1 : format[end] == ')' ? -1 : 0;
      ++end;
    }
    if (end >= format.size() || tokens_.size() >= kTokensMax) return fail(Code::Invalid, fmt::format("format: no second '%' for offset {}", at));
    std::string_view op = format.substr(at + 1, end - at - 1);
    // A length after the brackets, "REQ(X):20", and the time's own format are no part of the name.
    if (const std::size_t close = op.rfind(')'); close != std::string_view::npos) op = op.substr(0, close + 1);
    std::string name(op);
    for (char& c : name) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    if (name.starts_with("START_TIME")) name = "START_TIME";
    const auto found = std::ranges::find(kNames, std::string_view(name), [](const auto& pair) { return pair.first; });
    add(std::exchange(literal, {}), found == std::end(kNames) ? Field::Skip : found->second);
    at = end + 1;
  }
  while (literal.ends_with('\n')) literal.pop_back();
  tokens_.push_back({std::move(literal), Field::Skip, true});
  return {};
}

Result<LineFormat> LineFormat::create(std::string_view spec) {
  LineFormat format;
  const std::size_t colon = spec.find(':');
  const std::string_view name = spec.substr(0, colon);
  const std::string_view rest = colon == std::string_view::npos ? std::string_view() : spec.substr(colon + 1);
  format.name_ = name.empty() ? "auto" : std::string(name);
  if (!rest.empty() && name != "nginx" && name != "apache" && name != "envoy") return fail(Code::Invalid, fmt::format("format '{}' takes no format string: nginx, apache and envoy do", name));
  if (name == "plain" || name == "postgresql" || name == "mysql" || name == "redis") return format;
  if (name == "json") {
    format.kind_ = Kind::Json;
    return format;
  }
  if (name == "logfmt") {
    format.kind_ = Kind::Logfmt;
    return format;
  }
  format.kind_ = Kind::Access;
  if (name == "nginx" || (name == "apache" && rest.empty())) {
    TRY(format.compile_nginx(rest.empty() ? kNginxCombined : rest));
    return format;
  }
  if (name == "apache") {
    TRY(format.compile_apache(rest));
    return format;
  }
  if (name == "envoy") {
    if (!rest.empty()) {
      TRY(format.compile_envoy(rest));
      return format;
    }
    TRY(format.compile_envoy(kEnvoyDefault));
    LineFormat istio;
    istio.name_ = "envoy";
    istio.kind_ = Kind::Access;
    istio.strict_ = true;
    TRY(istio.compile_envoy(kEnvoyIstio));
    LineFormat both;
    both.name_ = "envoy";
    both.kind_ = Kind::Auto;
    both.tried_.push_back(std::move(istio));  // the longer one first: its lines begin like the other's
    both.tried_.push_back(std::move(format));
    return both;
  }
  if (name == "haproxy") {
    TRY(format.compile_nginx(kHaproxy));
    format.syslog_tag_ = "haproxy[";
    return format;
  }
  if (name == "auto" || name.empty()) {
    format.kind_ = Kind::Auto;
    for (const std::string_view each : {"json", "envoy", "haproxy", "nginx", "logfmt"}) {
      ASSIGN(LineFormat one, create(each));
      format.tried_.push_back(std::move(one));
    }
    return format;
  }
  return fail(Code::Invalid, fmt::format("no format '{}': auto, plain, json, logfmt, nginx, apache, envoy, haproxy, postgresql, mysql, redis", name.substr(0, 32)));
}

bool LineFormat::continues(std::string_view line) const {
  if (kind_ == Kind::Json || kind_ == Kind::Access || line.empty()) return false;
  if (line[0] == ' ' || line[0] == '\t') return true;
  return line.starts_with("Caused by:") || line.starts_with("Traceback (most") || line == "}" || line.starts_with("\tat ");
}

void LineFormat::read_plain(std::string_view line, const Context& context, stream::Event& event, Decoded& out) {
  event.body = bounded_text(line, kBodyBytesMax, out);
  event.severity = logs::severity_of(event.body);
  if (const auto wall = line_time(line, context.now_ns + context.wall_offset_ns)) event.time_ns = stream_time(*wall, context, out);
  (void)find_trace_id(event.body, event.trace_id, event.span_id);
}

bool LineFormat::read_json(std::string_view line, const Context& context, stream::Event& event, Decoded& out) {
  if (line.size() > (4U << 20U)) return false;
  thread_local JsonParser parser;
  const auto root = parser.parse(line);
  JsonObject object;
  if (!root || root->get(object) != simdjson::SUCCESS) return false;
  std::string message;
  for (const auto& [key, value] : object) {
    const bool is_text = value.is_string();
    const std::string text = any_text(value, kBodyBytesMax);
    take_field(key, text, is_text, context, event, message, out);
  }
  event.body = bounded_text(message.empty() ? line : std::string_view(message), kBodyBytesMax, out);
  if (event.trace_id[0] == 0 && event.trace_id[1] == 0) (void)find_trace_id(event.body, event.trace_id, event.span_id);
  return true;
}

bool LineFormat::read_logfmt(std::string_view line, const Context& context, stream::Event& event, Decoded& out) {
  std::string_view rest = line;
  std::string message;
  std::size_t pairs = 0;
  while (!rest.empty()) {
    while (rest.starts_with(' ')) rest.remove_prefix(1);
    const std::size_t equals = rest.find_first_of("= \"");
    if (equals == std::string_view::npos || equals == 0 || rest[equals] != '=') {
      if (pairs == 0) return false;  // words: no logfmt
      rest.remove_prefix(std::min(rest.size(), std::max<std::size_t>(1, std::min(rest.find(' '), rest.size()))));
      continue;
    }
    const std::string_view key = rest.substr(0, equals);
    rest.remove_prefix(equals + 1);
    std::string value;
    bool is_text = false;
    if (rest.starts_with('"')) {
      is_text = true;
      rest.remove_prefix(1);
      while (!rest.empty() && rest.front() != '"') {
        if (rest.front() == '\\' && rest.size() > 1) rest.remove_prefix(1);
        value += rest.front();
        rest.remove_prefix(1);
      }
      if (!rest.empty()) rest.remove_prefix(1);
    } else {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      value = rest.substr(0, end);
      rest.remove_prefix(end);
    }
    ++pairs;
    take_field(key, value, is_text, context, event, message, out);
  }
  if (pairs < 2) return false;
  event.body = bounded_text(message.empty() ? line : std::string_view(message), kBodyBytesMax, out);
  return true;
}

bool LineFormat::read_access(std::string_view line, const Context& context, stream::Event& event, Decoded& out) const {
  std::string_view rest = line;
  if (!syslog_tag_.empty()) {
    if (const std::size_t tag = rest.find(syslog_tag_); tag != std::string_view::npos) {
      const std::size_t colon = rest.find("]: ", tag);
      if (colon != std::string_view::npos) rest.remove_prefix(colon + 3);
    }
  }
  std::string_view request, method, path, status_text, flags, upstream, cluster, bytes, client, agent, host, request_id;
  double seconds = -1;
  std::int64_t wall = 0;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const Token& token = tokens_[i];
    if (!rest.starts_with(token.literal)) {
      if (token.last || (!strict_ && !status_text.empty())) break;  // more or less behind what matters is fine
      return false;
    }
    rest.remove_prefix(token.literal.size());
    if (token.last) break;
    const std::string& until = tokens_[i + 1].literal;
    std::size_t end = until.empty() ? (tokens_[i + 1].last ? rest.size() : std::string_view::npos) : rest.find(until);
    if (end == std::string_view::npos) {
      if (!tokens_[i + 1].last && (strict_ || (token.field != Field::Status && status_text.empty()))) return false;
      end = rest.size();
    }
    const std::string_view value = rest.substr(0, end);
    rest.remove_prefix(end);
    double number = 0;
    switch (token.field) {
      case Field::Skip: break;
      case Field::Time: wall = line_time(value, context.now_ns + context.wall_offset_ns).value_or(0); break;
      case Field::UnixTime: if (is_number(value, number)) wall = unix_wall_ns(number); break;
      case Field::Request: request = value; break;
      case Field::Method: method = value; break;
      case Field::Path: path = value; break;
      case Field::Status: status_text = value; break;
      case Field::Seconds: if (is_number(value, number)) seconds = number; break;
      case Field::Millis: if (is_number(value.starts_with('+') ? value.substr(1) : value, number)) seconds = number / 1e3; break;
      case Field::Micros: if (is_number(value, number)) seconds = number / 1e6; break;
      case Field::Flags: flags = value; break;
      case Field::Upstream: upstream = value; break;
      case Field::Cluster: cluster = value; break;
      case Field::Bytes: bytes = value; break;
      case Field::Client: client = value; break;
      case Field::Trace:
        if (!parse_trace_id(value, event.trace_id)) (void)find_trace_id(value, event.trace_id, event.span_id);
        break;
      case Field::RequestId: request_id = value; break;
      case Field::Host: host = value; break;
      case Field::Agent: agent = value; break;
    }
  }
  if (!request.empty() && method.empty()) {
    method = request.substr(0, request.find(' '));
    std::string_view target = request.substr(std::min(request.size(), method.size() + 1));
    path = target.substr(0, target.find(' '));
  }
  int status = 0;
  (void)std::from_chars(status_text.data(), status_text.data() + status_text.size(), status);
  // 0 and -1: the client went away before an answer.
  if (status_text.empty() || status > 999 || (status < 100 && status_text != "0" && status_text != "-1")) return false;
  const bool real_method = !method.empty() && method.size() <= 16 && std::ranges::all_of(method, [](char c) { return c >= 'A' && c <= 'Z'; });
  const std::string shown_method = real_method ? std::string(method) : "-";
  const std::string route = real_method ? path_template(path) : "-";
  const bool flagged = !flags.empty() && flags != "-" && flags != "----" && flags.size() <= 32;
  if (wall > 0) event.time_ns = stream_time(wall, context, out);
  event.severity = status >= 500 || status <= 0 ? stream::kError : status >= 400 ? stream::kWarn : stream::kInfo;
  event.body = bounded_text(without_query(line), kBodyBytesMax, out);
  const auto put = [&](std::string_view key, std::string_view value) {
    if (!value.empty() && value != "-") add_attribute(event.attributes, key, value, out);
  };
  put("log.format", name_);
  put("http.request.method", shown_method);
  put("http.route", route);
  put("http.response.status_code", fmt::to_string(std::max(0, status)));
  if (seconds >= 0) put("duration_s", fmt::format("{:.6g}", seconds));
  if (flagged) put("response.flags", flags);
  if (cluster != "-" && !cluster.empty()) put("upstream.cluster", cluster);
  put("upstream.address", upstream);
  put("client.address", client);
  put("server.host", host);
  put("http.request.id", request_id);
  put("user_agent.original", agent);
  put("template", fmt::format("{} {} {}{}{}", shown_method, route, status, flagged ? " " : "", flagged ? flags : std::string_view()));
  return true;
}

bool LineFormat::read(std::string_view line, const Context& context, stream::Event& event, Decoded& out) const {
  event.kind = stream::Kind::Log;
  event.value = 1;
  event.time_ns = context.now_ns;
  bool fits = true;
  switch (kind_) {
    case Kind::Plain: break;
    case Kind::Json: fits = read_json(line, context, event, out); break;
    case Kind::Logfmt: fits = read_logfmt(line, context, event, out); break;
    case Kind::Access: fits = read_access(line, context, event, out); break;
    case Kind::Auto: {
      if (tried_.front().kind_ == Kind::Access) {  // two layouts of one format
        fits = std::ranges::any_of(tried_, [&](const LineFormat& each) { return each.read_access(line, context, event, out); });
        break;
      }
      for (const LineFormat& each : tried_) {
        const bool likely = each.kind_ == Kind::Json ? line.starts_with('{') : each.kind_ == Kind::Logfmt ? line.find('=') != std::string_view::npos : line.find('"') != std::string_view::npos;
        if (likely && each.read(line, context, event, out)) return true;
        event.attributes.clear();
        event.entity.clear();
        event.body.clear();
      }
      read_plain(line, context, event, out);
      take_process(line, false, event, out);
      return true;  // every line is of this form
    }
  }
  if (kind_ == Kind::Plain || !fits) {
    read_plain(line, context, event, out);
    take_process(line, name_ == "postgresql", event, out);
  }
  return fits;
}

}  // namespace culprit::ingest
