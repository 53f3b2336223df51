#include "daemon/api/query.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <span>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::api {
namespace {

constexpr std::size_t kNoteBytesMax = 4096;
constexpr std::size_t kWhoBytesMax = 256;

struct KindName {
  stream::Kind kind;
  std::string_view name;
};
constexpr KindName kKinds[] = {
    {stream::Kind::Sample, "sample"}, {stream::Kind::Log, "log"},       {stream::Kind::Span, "span"},
    {stream::Kind::Kernel, "kernel"}, {stream::Kind::Change, "change"}, {stream::Kind::Alert, "alert"},
};

struct SeverityName {
  std::uint8_t severity;
  std::string_view name;
};
constexpr SeverityName kSeverities[] = {
    {stream::kTrace, "trace"}, {stream::kDebug, "debug"}, {stream::kInfo, "info"},
    {stream::kWarn, "warn"},   {stream::kError, "error"}, {stream::kFatal, "fatal"},
};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Percent-decoding; '+' is a space only in the query part. No control bytes, valid UTF-8.
Result<std::string> decode(std::string_view text, bool plus_is_space) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      result += ' ';
    } else if (text[i] == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return fail(Code::Invalid, "the URL holds a '%' that is no %XX escape");
      result += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      result += text[i];
    }
  }
  if (sanitize_utf8(result) != result)
    return fail(Code::Invalid, "the URL holds bytes that are no UTF-8 text");
  return result;
}

// "a,b" or "\"a,b\",c": parts separated by commas, quotes protect commas. Series names hold commas in braces.
void split_list(std::string_view text, std::vector<std::string>& parts) {
  std::string part;
  bool quoted = false;
  int braces = 0;
  for (const char c : text) {
    if (c == '"' && braces == 0) {
      quoted = !quoted;
    } else if (c == ',' && !quoted && braces == 0) {
      if (!part.empty()) parts.push_back(std::move(part));
      part.clear();
    } else {
      if (c == '{') ++braces;
      if (c == '}' && braces > 0) --braces;
      part += c;
    }
  }
  if (!part.empty()) parts.push_back(std::move(part));
}

template <typename Names>
std::string known(const Names& names) {
  std::string text;
  for (const auto& entry : names) text += fmt::format("{}{}", text.empty() ? "" : ", ", entry.name);
  return text;
}

Result<std::int64_t> parse_time(std::string_view name, std::string_view text) {
  if (const auto wall_ns = parse_wall(text)) return *wall_ns;
  return fail(Code::Invalid,
              fmt::format("'{}={}' is no RFC 3339 time such as 2026-11-23T14:02:08Z", name, text));
}

Result<std::size_t> parse_limit(std::string_view text, std::size_t max) {
  std::size_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error == std::errc{} && end == text.data() + text.size() && limit >= 1 && limit <= max) return limit;
  return fail(Code::Invalid, fmt::format("'limit={}' is no number from 1 to {}", text, max));
}

// One named time of a window; `seen` remembers which are there.
struct NamedTime {
  std::string_view name;
  std::int64_t* wall_ns;
  bool seen = false;
};

Result<bool> take_time(std::span<NamedTime> times, const std::string& name, const std::string& value) {
  for (NamedTime& time : times) {
    if (time.name != name) continue;
    ASSIGN(*time.wall_ns, parse_time(name, value));
    time.seen = true;
    return true;
  }
  return false;
}

Result<void> check_windows(std::span<const NamedTime> times) {
  for (const NamedTime& time : times) {
    if (!time.seen) return fail(Code::Invalid, fmt::format("parameter '{}' is missing", time.name));
  }
  for (std::size_t i = 0; i + 1 < times.size(); i += 2) {
    if (*times[i].wall_ns >= *times[i + 1].wall_ns) {
      return fail(Code::Invalid, fmt::format("'{}' is not before '{}'", times[i].name, times[i + 1].name));
    }
  }
  return {};
}

bool is_pid(std::string_view text) {
  std::int32_t pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  return error == std::errc{} && end == text.data() + text.size() && pid > 0;
}

Result<void> apply(EventQuery& query, const std::string& name, const std::string& value) {
  if (value.empty()) return {};
  if (name == "entity") {
    const std::size_t before = query.entities.size();
    split_list(value, query.entities);
    for (std::size_t i = before; i < query.entities.size(); ++i) {
      const std::string& entity = query.entities[i];
      if (entity.starts_with("pid:") && !is_pid(std::string_view(entity).substr(4))) {
        return fail(Code::Invalid, fmt::format("'entity={}' is no process: use pid:4211", entity));
      }
    }
  } else if (name == "name") {
    split_list(value, query.names);
  } else if (name == "text") {
    query.text = value;
  } else if (name == "kind") {
    std::vector<std::string> parts;
    split_list(value, parts);
    for (const std::string& part : parts) {
      const auto* kind = std::ranges::find(kKinds, part, &KindName::name);
      if (kind == std::end(kKinds))
        return fail(Code::Invalid, fmt::format("no kind '{}': use {}", part, known(kKinds)));
      query.kinds.push_back(kind->kind);
    }
  } else if (name == "severity") {
    const auto* severity = std::ranges::find(kSeverities, value, &SeverityName::name);
    if (severity == std::end(kSeverities)) {
      return fail(Code::Invalid, fmt::format("no severity '{}': use {}", value, known(kSeverities)));
    }
    query.severity_min = severity->severity;
  } else if (name == "from") {
    ASSIGN(query.from_wall_ns, parse_time(name, value));
  } else if (name == "to") {
    ASSIGN(query.to_wall_ns, parse_time(name, value));
  } else if (name == "filter") {
    ASSIGN(query.filter, stream::parse_filter(value));
  } else if (name == "limit") {
    ASSIGN(query.limit, parse_limit(value, kEventsLimitMax));
  } else {
    return fail(
        Code::Invalid,
        fmt::format("no parameter '{}': use filter, entity, kind, name, text, severity, from, to, limit", name));
  }
  return {};
}

Result<Json> parse_object(std::string_view body, std::string_view example) {
  Json document = Json::parse(body, nullptr, false);
  if (document.is_discarded() || !document.is_object()) {
    return fail(Code::Invalid, fmt::format("the body is no JSON object such as {}", example));
  }
  return document;
}

constexpr std::string_view kWhyExample = R"({"service": "shop", "since_s": 300})";
constexpr std::string_view kFeedbackExample = R"({"rank": 1, "verdict": "right"})";

}  // namespace

Result<Target> parse_target(std::string_view target) {
  if (target.empty() || target.front() != '/') return fail(Code::Invalid, "the URL has no path");
  Target result;
  const std::size_t mark = target.find('?');
  ASSIGN(result.path, decode(target.substr(0, mark), false));
  if (mark == std::string_view::npos) return result;
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (pair.empty()) continue;
    if (result.parameters.size() == kParametersMax) {
      return fail(Code::Invalid, fmt::format("more than {} parameters", kParametersMax));
    }
    const std::size_t equals = pair.find('=');
    ASSIGN(std::string name, decode(pair.substr(0, equals), true));
    std::string value;
    if (equals != std::string_view::npos) {
      ASSIGN(value, decode(pair.substr(equals + 1), true));
    }
    result.parameters.emplace_back(std::move(name), std::move(value));
  }
  return result;
}

Result<EventQuery> parse_event_query(const Parameters& parameters) {
  EventQuery query;
  for (const auto& [name, value] : parameters) TRY(apply(query, name, value));
  if (query.from_wall_ns && query.to_wall_ns && *query.from_wall_ns > *query.to_wall_ns) {
    return fail(Code::Invalid, "'from' is later than 'to'");
  }
  return query;
}

Result<SourceRequest> parse_source(std::string_view body) {
  ASSIGN(const Json document, parse_object(body, R"({"type": "file", "path": "/var/log/x.log"})"));
  SourceRequest request;
  for (const auto& [key, value] : document.items()) {
    if (!value.is_string()) return fail(Code::Invalid, fmt::format("'{}' is no string", sanitize_utf8(key)));
    if (key == "type") request.type = value.get<std::string>();
    else if (key == "name") request.name = value.get<std::string>();
    else request.options[key] = value.get<std::string>();
  }
  return request;
}

Result<SimilarQuery> parse_similar_query(const Parameters& parameters) {
  SimilarQuery query;
  for (const auto& [name, value] : parameters) {
    if (name == "about") {
      query.about = value;
    } else if (name == "limit") {
      ASSIGN(query.limit, parse_limit(value, kSimilarLimitMax));
    } else {
      return fail(Code::Invalid, fmt::format("unknown parameter '{}': about, limit", sanitize_utf8(name)));
    }
  }
  if (query.about.empty()) return fail(Code::Invalid, "'about' is missing: an incident's number, or words");
  return query;
}

Result<LogsQuery> parse_logs_query(const Parameters& parameters) {
  LogsQuery query;
  for (const auto& [name, value] : parameters) {
    const auto number = [&](auto& to) {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), to);
      return error == std::errc() && end == value.data() + value.size();
    };
    if (name == "service") {
      query.service = value;
    } else if (name == "since_s") {
      if (!number(query.since_s) || !(query.since_s > 0) || query.since_s > kWhySinceSecondsMax) return fail(Code::Invalid, fmt::format("'since_s' is not between 0 and {}", kWhySinceSecondsMax));
    } else if (name == "limit") {
      if (!number(query.limit) || query.limit < 1 || query.limit > kLogsLimitMax) return fail(Code::Invalid, fmt::format("'limit' is not between 1 and {}", kLogsLimitMax));
    } else {
      return fail(Code::Invalid, fmt::format("unknown parameter '{}': service, since_s, limit", sanitize_utf8(name)));
    }
  }
  return query;
}

Result<DiffQuery> parse_diff_query(const Parameters& parameters) {
  DiffQuery query;
  NamedTime times[] = {{"before_from", &query.before_from_wall_ns},
                       {"before_to", &query.before_to_wall_ns},
                       {"now_from", &query.now_from_wall_ns},
                       {"now_to", &query.now_to_wall_ns}};
  for (const auto& [name, value] : parameters) {
    ASSIGN(const bool time, take_time(times, name, value));
    if (time) continue;
    if (name == "filter") {
      ASSIGN(query.filter, stream::parse_filter(value));
    } else if (name == "limit") {
      ASSIGN(query.limit, parse_limit(value, kChangesLimitMax));
    } else {
      return fail(Code::Invalid, fmt::format("no parameter '{}': use before_from, before_to, now_from, now_to, filter, limit", name));
    }
  }
  TRY(check_windows(times));
  return query;
}

Result<SeriesQuery> parse_series_query(const Parameters& parameters) {
  SeriesQuery query;
  NamedTime times[] = {{"from", &query.from_wall_ns}, {"to", &query.to_wall_ns}};
  for (const auto& [name, value] : parameters) {
    ASSIGN(const bool time, take_time(times, name, value));
    if (time) continue;
    if (name == "filter") {
      ASSIGN(query.filter, stream::parse_filter(value));
    } else if (name == "limit") {
      ASSIGN(query.limit, parse_limit(value, kSeriesLimitMax));
    } else if (name == "minutes") {
      if (value != "0" && value != "1") return fail(Code::Invalid, fmt::format("'minutes={}' is neither 0 nor 1", value));
      query.minutes = value == "1";
    } else if (name == "step") {
      const auto step = parse_duration_ns(value);
      if (!step || *step < kNsPerSecond) return fail(Code::Invalid, fmt::format("'step={}' is no length of a second or more: use 10s, 5m", value));
      query.step_ns = *step;
    } else {
      return fail(Code::Invalid, fmt::format("no parameter '{}': use from, to, filter, minutes, step, limit", name));
    }
  }
  TRY(check_windows(times));
  return query;
}

Result<WhyRequest> parse_why(std::string_view body) {
  ASSIGN(const Json document, parse_object(body, kWhyExample));
  WhyRequest request;
  for (const auto& [key, value] : document.items()) {
    if (key == "service") {
      if (!value.is_string()) return fail(Code::Invalid, "'service' is no string");
      request.service = value.get<std::string>();
    } else if (key == "since_s") {
      if (!value.is_number()) return fail(Code::Invalid, "'since_s' is no number of seconds");
      request.since_s = value.get<double>();
    } else {
      return fail(Code::Invalid,
                  fmt::format("unknown key '{}': the body is {}", sanitize_utf8(key), kWhyExample));
    }
  }
  if (request.service.empty())
    return fail(Code::Invalid, fmt::format("'service' is missing: the body is {}", kWhyExample));
  if (!(request.since_s > 0) || request.since_s > kWhySinceSecondsMax) {
    return fail(Code::Invalid, fmt::format("'since_s' is not between 0 and {}", kWhySinceSecondsMax));
  }
  return request;
}

Result<Feedback> parse_feedback(std::string_view body) {
  ASSIGN(const Json document, parse_object(body, kFeedbackExample));
  Feedback feedback;
  bool judged = false;
  bool ranked = false;
  for (const auto& [key, value] : document.items()) {
    if (key == "rank") {
      if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > 1000) {
        return fail(Code::Invalid, "'rank' is no candidate's rank (1, 2, ... or 0 for the whole answer)");
      }
      feedback.rank = value.get<std::int64_t>();
      ranked = true;
    } else if (key == "verdict") {
      const std::string verdict = value.is_string() ? value.get<std::string>() : "";
      if (verdict == "right")
        feedback.verdict = Verdict::Right;
      else if (verdict == "wrong")
        feedback.verdict = Verdict::Wrong;
      else if (verdict == "partly")
        feedback.verdict = Verdict::Partly;
      else if (verdict == "undo")
        feedback.verdict = Verdict::Undo;
      else
        return fail(Code::Invalid, "'verdict' is none of right, wrong, partly, undo");
      judged = true;
    } else if (key == "note") {
      if (!value.is_string() || value.get_ref<const std::string&>().size() > kNoteBytesMax) {
        return fail(Code::Invalid, fmt::format("'note' is no text of at most {} bytes", kNoteBytesMax));
      }
      feedback.note = value.get<std::string>();
    } else if (key == "who") {
      if (!value.is_string() || value.get_ref<const std::string&>().size() > kWhoBytesMax) {
        return fail(Code::Invalid, fmt::format("'who' is no text of at most {} bytes", kWhoBytesMax));
      }
      feedback.who = value.get<std::string>();
    } else {
      return fail(Code::Invalid,
                  fmt::format("unknown key '{}': the body is {}", sanitize_utf8(key), kFeedbackExample));
    }
  }
  if (!judged || !ranked)
    return fail(Code::Invalid,
                fmt::format("'rank' or 'verdict' is missing: the body is {}", kFeedbackExample));
  return feedback;
}

Result<IncidentId> parse_incident_id(std::string_view text) {
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || end != text.data() + text.size() || id < 1) {
    return fail(Code::Invalid, fmt::format("'{}' is no incident number", sanitize_utf8(text)));
  }
  return IncidentId{id};
}

std::string_view kind_name(stream::Kind kind) {
  const auto* entry = std::ranges::find(kKinds, kind, &KindName::kind);
  return entry == std::end(kKinds) ? "?" : entry->name;
}

}  // namespace culprit::api
