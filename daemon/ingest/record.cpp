#include "daemon/ingest/record.h"

#include <algorithm>
#include <charconv>

#include <simdjson.h>

#include "daemon/base/text.h"

namespace culprit::ingest {
namespace {

bool hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool lower(char c) { return c >= 'a' && c <= 'z'; }

bool parse_hex(std::string_view text, std::uint64_t& out) {
  if (text.empty() || text.size() > 16 || !std::ranges::all_of(text, hex_digit)) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  return error == std::errc();
}

// What may stand between a name and its value: ":", "=", quotes and spaces.
std::string_view value_after(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && at < 6 && (text[at] == '"' || text[at] == '\'' || text[at] == ':' || text[at] == '=' || text[at] == ' ' || text[at] == '\\')) ++at;
  text.remove_prefix(at);
  std::size_t end = 0;
  while (end < text.size() && end < 64 && hex_digit(text[end])) ++end;
  return text.substr(0, end);
}

// Position after the name, matched without regard of case and of what joins its two words (trace_id, traceId, trace.id).
std::size_t after_name(std::string_view text, std::string_view first, std::size_t from) {
  for (std::size_t at = from; at + first.size() + 2 <= text.size(); ++at) {
    const void* next = std::memchr(text.data() + at, first[0], text.size() - at);
    const void* upper = std::memchr(text.data() + at, first[0] - 'a' + 'A', text.size() - at);
    if (next == nullptr || (upper != nullptr && upper < next)) next = upper;
    if (next == nullptr) return std::string_view::npos;
    at = static_cast<std::size_t>(static_cast<const char*>(next) - text.data());
    if (at + first.size() + 2 > text.size()) return std::string_view::npos;
    bool same = true;
    for (std::size_t i = 1; i < first.size() && same; ++i) same = (text[at + i] | 0x20) == first[i];
    if (!same) continue;
    std::size_t end = at + first.size();
    if (text[end] == '_' || text[end] == '.' || text[end] == '-') ++end;
    if (end + 2 <= text.size() && (text[end] | 0x20) == 'i' && (text[end + 1] | 0x20) == 'd') return end + 2;
  }
  return std::string_view::npos;
}

}  // namespace

std::int64_t stream_time(std::int64_t wall_ns, const Context& context, Decoded& out) {
  if (wall_ns > 0) {
    const std::int64_t time_ns = wall_ns - context.wall_offset_ns;
    if (time_ns <= context.now_ns) return time_ns;
  }
  ++out.times_corrected;
  return context.now_ns;
}

std::string bounded_text(std::string_view text, std::size_t limit, Decoded& out) {
  if (text.size() > limit) {
    ++out.cut;
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) --limit;
    text = text.substr(0, limit);
  }
  // A store and a JSON answer take UTF-8 only; most text is, and then costs one fast look.
  if (!simdjson::validate_utf8(text.data(), text.size())) return sanitize_utf8(text);
  return std::string(text);
}

std::string workload_of_pod(std::string_view pod) {
  const auto tail = [&](auto&& fits) {
    const std::size_t dash = pod.rfind('-');
    if (dash == std::string_view::npos || dash == 0) return false;
    const std::string_view last = pod.substr(dash + 1);
    if (!fits(last)) return false;
    pod = pod.substr(0, dash);
    return true;
  };
  // Kubernetes draws suffixes from letters and digits without vowels, 0, 1 and 3 (apimachinery, util/rand).
  const auto random_of = [](std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return std::string_view("bcdfghjklmnpqrstvwxz2456789").find(c) != std::string_view::npos; });
  };
  const auto ordinal = [](std::string_view text) { return !text.empty() && text.size() <= 4 && std::ranges::all_of(text, digit); };
  if (tail(ordinal)) return std::string(pod);
  if (tail([&](std::string_view text) { return text.size() == 5 && random_of(text); })) {
    tail([&](std::string_view text) { return (text.size() >= 8 && text.size() <= 10 && random_of(text)) || (text.size() >= 8 && std::ranges::all_of(text, digit)); });
  }
  return std::string(pod);
}

Origin origin_of(const stream::Attributes& resource, const Context& context) {
  std::string_view service, pid, container, host, deployment, pod, unit, container_name;
  for (const auto& [key, value] : resource) {
    if (key == "service.name") service = value;
    else if (key == "process.pid") pid = value;
    else if (key == "container.id") container = value;
    else if (key == "host.name") host = value;
    else if (key == "k8s.deployment.name" || key == "k8s.statefulset.name" || key == "k8s.daemonset.name" || key == "k8s.cronjob.name") deployment = value;
    else if (key == "k8s.pod.name") pod = value;
    else if (key == "systemd.unit") unit = value;
    else if (key == "container.name") container_name = value;
  }
  Origin origin;
  std::string name;
  if (context.resolver != nullptr) {
    if (!container.empty()) name = context.resolver->service_of_container(container);
    // A pid means something only on this host, outside of containers.
    if (name.empty() && container.empty() && pod.empty() && !pid.empty() && !host.empty() && host == context.resolver->host_name()) {
      std::uint32_t number = 0;
      const auto [end, error] = std::from_chars(pid.data(), pid.data() + pid.size(), number);
      if (error == std::errc()) name = context.resolver->service_of_pid(number);
    }
  }
  // The kernel's name for it wins over what it calls itself, so that both kinds of evidence meet.
  if (name.empty() && !service.empty() && !service.starts_with("unknown_service")) name = service;
  if (name.empty() && !deployment.empty()) name = deployment;
  if (name.empty() && !pod.empty()) name = workload_of_pod(pod);
  if (name.empty() && unit.ends_with(".service")) name = unit.substr(0, unit.size() - 8);
  if (name.empty() && !container_name.empty()) name = container_name;
  if (name.empty() && service.starts_with("unknown_service:")) name = service.substr(16);
  if (name.size() > kNameBytesMax) name.resize(kNameBytesMax);
  if (!name.empty()) origin.entity = "service:" + name;
  static constexpr std::string_view kKept[] = {"service.name",  "service.version", "service.instance.id", "process.pid", "container.id",
                                               "host.name",     "k8s.pod.name",    "k8s.namespace.name",  "deployment.environment"};
  for (const auto& [key, value] : resource) {
    if (value.empty() || (key == "service.name" && value == name)) continue;
    if (std::ranges::find(kKept, std::string_view(key)) != std::end(kKept)) origin.kept.emplace_back(key, value);
  }
  return origin;
}

bool parse_trace_id(std::string_view hex, std::uint64_t (&out)[2]) {
  std::uint64_t high = 0, low = 0;
  if (hex.size() == 16) {  // 64-bit ids of Zipkin and Jaeger
    if (!parse_hex(hex, low)) return false;
  } else if (hex.size() != 32 || !parse_hex(hex.substr(0, 16), high) || !parse_hex(hex.substr(16), low)) {
    return false;
  }
  if (high == 0 && low == 0) return false;
  out[0] = high;
  out[1] = low;
  return true;
}

bool parse_span_id(std::string_view hex, std::uint64_t& out) {
  std::uint64_t id = 0;
  if (hex.size() != 16 || !parse_hex(hex, id) || id == 0) return false;
  out = id;
  return true;
}

bool find_trace_id(std::string_view text, std::uint64_t (&trace_id)[2], std::uint64_t& span_id) {
  text = text.substr(0, 8192);
  // traceparent: 00-<32 hex>-<16 hex>-<2 hex>
  for (std::size_t at = text.find("00-"); at != std::string_view::npos; at = text.find("00-", at + 1)) {
    const std::string_view rest = text.substr(at + 3);
    if (rest.size() < 49 || rest[32] != '-') continue;
    std::uint64_t id[2];
    if (!parse_trace_id(rest.substr(0, 32), id) || !parse_span_id(rest.substr(33, 16), span_id)) continue;
    trace_id[0] = id[0];
    trace_id[1] = id[1];
    return true;
  }
  for (std::size_t at = after_name(text, "trace", 0); at != std::string_view::npos; at = after_name(text, "trace", at)) {
    if (!parse_trace_id(value_after(text.substr(at)), trace_id)) continue;
    const std::size_t span = after_name(text, "span", 0);
    if (span != std::string_view::npos) (void)parse_span_id(value_after(text.substr(span)), span_id);
    return true;
  }
  return false;
}

std::string path_template(std::string_view path) {
  path = path.substr(0, path.find_first_of("?#;"));
  if (const std::size_t scheme = path.find("://"); scheme < 8) {
    const std::size_t slash = path.find('/', scheme + 3);
    path = slash == std::string_view::npos ? std::string_view("/") : path.substr(slash);
  }
  std::string out;
  std::size_t segments = 0;
  while (!path.empty()) {
    const bool slash = path.front() == '/';
    if (slash) path.remove_prefix(1);
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    if (slash) out += '/';
    if (++segments > 12) {
      out += '*';
      break;
    }
    const auto digits = std::ranges::count_if(segment, digit);
    const bool version = segment.size() <= 3 && segment.size() >= 2 && segment[0] == 'v' && digit(segment[1]);
    const bool file = segment.find('.') != std::string_view::npos;
    const bool plain = digits == 0 || version || (file && digits < 4) || (digits <= 2 && segment.size() > 3 && lower(segment[0]));
    out += plain && segment.size() <= 48 ? segment : std::string_view("{id}");
  }
  return out.empty() ? "/" : out.substr(0, 256);
}

}  // namespace culprit::ingest
