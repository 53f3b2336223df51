#include "daemon/explain/json.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/headline.h"

namespace culprit::explain {

namespace {

using nlohmann::json;

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::Explained: return "explained";
    case Verdict::Inconclusive: return "inconclusive";
    case Verdict::Healthy: break;
  }
  return "healthy";
}

std::string_view name_of(detect::IncidentState state) {
  return state == detect::IncidentState::Open ? "open" : "closed";
}

json symptom_json(const detect::Symptom& symptom, std::int64_t offset_ns) {
  return {{"entity", symptom.entity}, {"series", symptom.series}, {"since", format_wall(symptom.since_ns + offset_ns)},
          {"value", symptom.value},   {"normal", symptom.normal}, {"unit", symptom.unit},
          {"score", symptom.score},   {"text", symptom.text}};
}

json cause_json(const RankedCause& cause, std::int64_t offset_ns) {
  json evidence = json::array();
  for (const Evidence& item : cause.evidence) {
    // Of alerts without times nobody knows since when.
    evidence.push_back({{"time", item.time_ns == 0 ? json(nullptr) : json(format_wall(item.time_ns + offset_ns))}, {"text", item.text}, {"sources", item.sources},
                        {"weight", item.weight}, {"for", item.supports}});
  }
  json trigger = nullptr;
  if (cause.trigger) trigger = {{"time", format_wall(cause.trigger->time_ns + offset_ns)}, {"text", cause.trigger->text}};
  return {{"rank", cause.rank},
          {"entity", cause.entity},
          {"service", cause.service},
          {"pid", cause.pid != 0 ? json(cause.pid) : json(nullptr)},
          {"process", cause.process},
          {"failure_mode", cause.failure_mode},
          {"also", cause.also},
          {"title", cause.title},
          {"confidence", cause.confidence},
          {"trigger", std::move(trigger)},
          {"evidence", std::move(evidence)},
          {"ruled_out", cause.ruled_out},
          {"next", cause.next}};
}

// The one place that meets nlohmann's exceptions: a record from outside may be anything.
template <typename T>
Result<T> field(const json& record, const char* name) {
  const auto found = record.find(name);
  if (found == record.end()) return fail(Code::Invalid, fmt::format("field \"{}\" is missing", name));
  // nlohmann turns a float into an integer without asking whether it fits; integers too long for 64 bits come as floats.
  if (std::is_integral_v<T> && found->is_number_float()) return fail(Code::Invalid, fmt::format("field \"{}\": {} is no 64-bit integer", name, found->dump()));
  try {
    return found->template get<T>();
  } catch (const json::exception& error) {
    return fail(Code::Invalid, fmt::format("field \"{}\": {}", name, error.what()));
  }
}

}  // namespace

json to_json(const Explanation& explanation) {
  const std::int64_t offset = explanation.wall_offset_ns;
  json symptoms = json::array(), candidates = json::array();
  for (const detect::Symptom& symptom : explanation.symptoms) symptoms.push_back(symptom_json(symptom, offset));
  for (const RankedCause& cause : explanation.candidates) candidates.push_back(cause_json(cause, offset));
  json fired = json::array();
  for (const RuleHit& hit : explanation.rules_fired) {
    fired.push_back({{"rule", hit.rule}, {"time", format_wall(hit.time_ns + offset)}, {"entity", hit.entity}, {"failure_mode", hit.failure_mode}, {"weight", hit.weight}, {"text", hit.text}});
  }
  const Completeness& seen = explanation.completeness;
  return {{"api", 1},
          {"incident", explanation.incident != 0 ? json(explanation.incident) : json(nullptr)},
          {"service", explanation.service},
          {"state", name_of(explanation.state)},
          {"verdict", name_of(explanation.verdict)},
          {"headline", explanation.headline},
          {"symptoms", std::move(symptoms)},
          {"candidates", std::move(candidates)},
          {"rules", {{"hash", explanation.rules_hash}, {"fired", std::move(fired)}}},
          {"completeness", {{"share", seen.share}, {"text", seen.text}, {"dropped", seen.dropped}, {"blind", seen.blind}}},
          {"inconclusive", explanation.inconclusive ? json(*explanation.inconclusive) : json(nullptr)}};
}

json to_json(const detect::Incident& incident, std::int64_t wall_offset_ns) {
  json symptoms = json::array();
  for (const detect::Symptom& symptom : incident.symptoms) symptoms.push_back(symptom_json(symptom, wall_offset_ns));
  return {{"id", incident.id},
          {"service", incident.service},
          {"services", incident.services},
          {"state", name_of(incident.state)},
          {"since", format_wall(incident.onset_ns + wall_offset_ns)},
          {"opened", format_wall(incident.opened_ns + wall_offset_ns)},
          {"closed", incident.closed_ns != 0 ? json(format_wall(incident.closed_ns + wall_offset_ns)) : json(nullptr)},
          {"headline", incident_headline(incident, wall_offset_ns)},
          {"symptoms", std::move(symptoms)}};
}

json incident_to_record(const detect::Incident& incident) {
  json symptoms = json::array();
  for (const detect::Symptom& s : incident.symptoms) {
    symptoms.push_back({{"entity", s.entity}, {"series", s.series}, {"since_ns", s.since_ns}, {"last_ns", s.last_ns}, {"value", s.value},
                        {"normal", s.normal}, {"unit", s.unit}, {"score", s.score}, {"text", s.text}});
  }
  return {{"id", incident.id},
          {"state", name_of(incident.state)},
          {"service", incident.service},
          {"services", incident.services},
          {"onset_ns", incident.onset_ns},
          {"wave_ns", incident.wave_ns},
          {"opened_ns", incident.opened_ns},
          {"last_symptom_ns", incident.last_symptom_ns},
          {"closed_ns", incident.closed_ns},
          {"symptoms", std::move(symptoms)}};
}

Result<detect::Incident> incident_from_record(const json& record) {
  if (!record.is_object()) return fail(Code::Invalid, "an incident is an object");
  detect::Incident incident;
  ASSIGN(incident.id, field<std::uint64_t>(record, "id"));
  ASSIGN(const std::string state, field<std::string>(record, "state"));
  if (state != "open" && state != "closed") return fail(Code::Invalid, fmt::format("state \"{}\" is neither open nor closed", state));
  incident.state = state == "open" ? detect::IncidentState::Open : detect::IncidentState::Closed;
  ASSIGN(incident.service, field<std::string>(record, "service"));
  ASSIGN(incident.services, field<std::vector<std::string>>(record, "services"));
  std::ranges::sort(incident.services);
  ASSIGN(incident.onset_ns, field<std::int64_t>(record, "onset_ns"));
  incident.wave_ns = incident.onset_ns;
  if (record.contains("wave_ns")) {
    ASSIGN(incident.wave_ns, field<std::int64_t>(record, "wave_ns"));
  }
  ASSIGN(incident.opened_ns, field<std::int64_t>(record, "opened_ns"));
  ASSIGN(incident.last_symptom_ns, field<std::int64_t>(record, "last_symptom_ns"));
  ASSIGN(incident.closed_ns, field<std::int64_t>(record, "closed_ns"));
  ASSIGN(const std::vector<json> symptoms, field<std::vector<json>>(record, "symptoms"));
  for (const json& one : symptoms) {
    if (!one.is_object()) return fail(Code::Invalid, "a symptom is an object");
    detect::Symptom s;
    ASSIGN(s.entity, field<std::string>(one, "entity"));
    ASSIGN(s.series, field<std::string>(one, "series"));
    ASSIGN(s.since_ns, field<std::int64_t>(one, "since_ns"));
    ASSIGN(s.last_ns, field<std::int64_t>(one, "last_ns"));
    ASSIGN(s.value, field<double>(one, "value"));
    ASSIGN(s.normal, field<double>(one, "normal"));
    ASSIGN(s.unit, field<std::string>(one, "unit"));
    ASSIGN(s.score, field<double>(one, "score"));
    ASSIGN(s.text, field<std::string>(one, "text"));
    incident.symptoms.push_back(std::move(s));
  }
  return incident;
}

std::string incident_headline(const detect::Incident& incident, std::int64_t wall_offset_ns) {
  const detect::Symptom* symptom = leading_symptom(incident, incident.service);
  if (symptom == nullptr) return fmt::format("{} shows no symptom", incident.service);
  const std::string name = symptom->entity.starts_with("service:") ? symptom->entity.substr(8) : symptom->entity;
  return fmt::format("{} {} since {}", name, symptom->text, format_wall_time(symptom->since_ns + wall_offset_ns));
}

}  // namespace culprit::explain
