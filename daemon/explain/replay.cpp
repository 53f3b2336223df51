#include "daemon/explain/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/json.h"
#include "daemon/explain/memory_store.h"
#include "daemon/stream/codec.h"

namespace culprit::explain {

namespace {

using nlohmann::json;

constexpr std::int64_t kVerdictsMax = 1'000'000'000;  // of one kind
constexpr std::int64_t kTimeMax = std::int64_t{1} << 61;  // beyond, sums of times could overflow

json options_record(const ExplainOptions& options) {
  json hits = json::array();
  for (const RuleHit& hit : options.rule_hits) {
    hits.push_back({{"time_ns", hit.time_ns}, {"rule", hit.rule}, {"entity", hit.entity}, {"failure_mode", hit.failure_mode}, {"text", hit.text}, {"weight", hit.weight}});
  }
  json verdicts = json::object();
  for (const auto& [mode, said] : options.verdicts) verdicts[mode] = {{"right", said.right}, {"partly", said.partly}, {"wrong", said.wrong}};
  return {{"now_ns", options.now_ns},
          {"wall_offset_ns", options.wall_offset_ns},
          {"focus", options.focus},
          {"candidates_max", options.candidates_max},
          {"completeness", {{"share", options.completeness.share}, {"text", options.completeness.text}, {"dropped", options.completeness.dropped}, {"blind", options.completeness.blind}}},
          {"rule_hits", std::move(hits)},
          {"rules_hash", options.rules_hash},
          {"verdicts", std::move(verdicts)},
          {"excluded", options.excluded}};
}

// nlohmann turns a float into an integer without asking whether it fits: in the options only two fields may be one.
Result<void> check_numbers(const json& value, const std::string& key, int depth = 0) {
  constexpr int kDepthMax = 8;
  if (depth > kDepthMax) return fail(Code::Invalid, fmt::format("line 1: options: '{}' is nested too deeply", key));
  if (value.is_number_float() && key != "share" && key != "weight") {
    return fail(Code::Invalid, fmt::format("line 1: options: '{}': {} is no 64-bit integer", key, value.dump()));
  }
  if (!value.is_structured()) return {};
  for (const auto& [name, inner] : value.items()) TRY(check_numbers(inner, value.is_object() ? name : key, depth + 1));
  return {};
}

// nlohmann throws on a wrong type; the callers catch.
ExplainOptions options_of(const json& record) {
  ExplainOptions options;
  options.now_ns = record.at("now_ns").get<std::int64_t>();
  options.wall_offset_ns = record.value("wall_offset_ns", std::int64_t{0});
  options.focus = record.value("focus", std::string());
  options.candidates_max = std::min<std::size_t>(record.value("candidates_max", options.candidates_max), 100);
  if (const auto seen = record.find("completeness"); seen != record.end()) {
    options.completeness.share = seen->value("share", 1.0);
    options.completeness.text = seen->value("text", std::string());
    options.completeness.dropped = seen->value("dropped", std::map<std::string, std::uint64_t>());
    options.completeness.blind = seen->value("blind", std::vector<std::string>());
  }
  for (const json& hit : record.value("rule_hits", json::array())) {
    options.rule_hits.push_back({hit.at("time_ns").get<std::int64_t>(), hit.value("rule", std::string()), hit.value("entity", std::string()),
                                 hit.value("failure_mode", std::string()), hit.value("text", std::string()), hit.value("weight", 2.0)});
  }
  options.rules_hash = record.value("rules_hash", std::string());
  const json verdicts = record.value("verdicts", json::object());
  for (const auto& [mode, said] : verdicts.items()) {
    const auto count = [&said](const char* what) { return std::clamp<std::int64_t>(said.value(what, std::int64_t{0}), 0, kVerdictsMax); };
    options.verdicts[mode] = {.right = count("right"), .wrong = count("wrong"), .partly = count("partly")};
  }
  options.excluded = record.value("excluded", options.excluded);
  return options;
}

// nlohmann throws on a wrong type; the caller catches.
Result<std::vector<Said>> said_of(const json& records) {
  if (!records.is_array() || records.size() > kSaidMax) return fail(Code::Exhausted, fmt::format("line 1: said: no list of at most {} verdicts", kSaidMax));
  std::vector<Said> out;
  for (const json& one : records) {
    Said& said = out.emplace_back(Said{one.value("verdict", std::string()), one.value("service", std::string()), one.value("failure_mode", std::string())});
    if (said.verdict != "right" && said.verdict != "wrong" && said.verdict != "partly") {
      return fail(Code::Invalid, fmt::format("line 1: said: '{}' is none of right, wrong, partly", said.verdict));
    }
  }
  return out;
}

bool sane(std::int64_t time_ns) { return time_ns > -kTimeMax && time_ns < kTimeMax; }

Result<void> check_times(const Replayable& replay) {
  const detect::Incident& incident = replay.incident;
  for (const std::int64_t time_ns : {incident.onset_ns, incident.wave_ns, incident.opened_ns, incident.last_symptom_ns, incident.closed_ns,
                                     replay.options.now_ns, replay.options.wall_offset_ns}) {
    if (!sane(time_ns)) return fail(Code::Invalid, fmt::format("line 1: a time is out of range: {}", time_ns));
  }
  for (const detect::Symptom& symptom : incident.symptoms) {
    if (!sane(symptom.since_ns)) return fail(Code::Invalid, fmt::format("line 1: a time is out of range: {}", symptom.since_ns));
  }
  for (const auto& [from, to] : replay.options.excluded) {
    if (!sane(from) || !sane(to)) return fail(Code::Invalid, "line 1: a time is out of range");
  }
  return {};
}

Result<Replayable> parse_header(std::string_view line) {
  const json header = json::parse(line, nullptr, false);
  if (!header.is_object() || !header.contains("culprit_export")) {
    return fail(Code::Invalid, "line 1: not an export of culprit (no \"culprit_export\")");
  }
  const json& version = header["culprit_export"];
  if (!version.is_number_integer() || version != kExportVersion) {
    return fail(Code::Unsupported, fmt::format("line 1: export format {}; this culprit reads format {}", version.dump(), kExportVersion));
  }
  Replayable replay;
  auto incident = incident_from_record(header.value("incident", json()));
  if (!incident) return std::unexpected(incident.error().context("line 1: incident"));
  replay.incident = std::move(*incident);
  if (const auto options = header.find("options"); options != header.end()) TRY(check_numbers(*options, "options"));
  try {
    replay.options = options_of(header.at("options"));
    ASSIGN(replay.said, said_of(header.value("said", json::array())));
  } catch (const json::exception& error) {
    return fail(Code::Invalid, fmt::format("line 1: options or what was said: {}", error.what()));
  }
  TRY(check_times(replay));
  return replay;
}

}  // namespace

Result<std::string> export_incident(const stream::EventStore& store, const detect::Incident& incident, const ExplainOptions& options, const std::vector<Said>& said) {
  json labels = json::array();
  for (const Said& one : said) labels.push_back({{"verdict", one.verdict}, {"service", one.service}, {"failure_mode", one.failure_mode}});
  const json header = {{"culprit_export", kExportVersion}, {"incident", incident_to_record(incident)}, {"options", options_record(options)}, {"said", std::move(labels)}};
  std::string out = header.dump(-1, ' ', false, json::error_handler_t::replace);
  out += '\n';
  stream::Query query;
  query.from_ns = incident.onset_ns - kHistoryNs;
  query.to_ns = std::max(incident.onset_ns, std::min(options.now_ns, std::max(incident.onset_ns, incident.wave_ns) + kIncidentNsMax)) + 1;
  std::size_t count = 0;
  TRY(store.scan(query, [&](const stream::Event& event) {
    if (++count > kExportEventsMax) return false;
    out += stream::encode_json(event);
    out += '\n';
    return true;
  }));
  if (count > kExportEventsMax) {
    return fail(Code::Exhausted, fmt::format("the incident has more than {} events", group_digits(kExportEventsMax)));
  }
  return out;
}

Result<Replayable> import_incident(std::string_view text) {
  const auto next_line = [&text] {
    const auto end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return line;
  };
  ASSIGN(Replayable replay, parse_header(next_line()));
  std::vector<stream::Event> events;
  for (std::size_t number = 2; !text.empty(); ++number) {
    const std::string_view line = next_line();
    if (line.empty()) continue;
    if (events.size() >= kExportEventsMax) {
      return fail(Code::Exhausted, fmt::format("line {}: more than {} events", number, group_digits(kExportEventsMax)));
    }
    auto event = stream::decode_json(line);
    if (!event) return std::unexpected(event.error().context(fmt::format("line {}", number)));
    if (!sane(event->time_ns)) return fail(Code::Invalid, fmt::format("line {}: time_ns is out of range", number));
    events.push_back(std::move(*event));
  }
  replay.store = std::make_unique<MemoryStore>(std::move(events));
  return replay;
}

}  // namespace culprit::explain
