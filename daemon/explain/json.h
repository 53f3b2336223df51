// The JSON forms of an explanation (docs/api.md) and of an incident (for exports).
#pragma once

#include <nlohmann/json.hpp>

#include "daemon/base/result.h"
#include "daemon/detect/incident.h"
#include "daemon/explain/explanation.h"

namespace culprit::explain {

nlohmann::json to_json(const Explanation& explanation);
// Times as RFC 3339 (add the offset); for lists: id, service, services, state, since, opened, closed, symptoms, headline.
nlohmann::json to_json(const detect::Incident& incident, std::int64_t wall_offset_ns);

// Exact round trip, times in nanoseconds: for exports and for keeping incidents over a restart.
nlohmann::json incident_to_record(const detect::Incident& incident);
Result<detect::Incident> incident_from_record(const nlohmann::json& record);

// "shop p99 1.84 s (normal 20 ms) since 14:02:10": one line about an incident without explaining it.
std::string incident_headline(const detect::Incident& incident, std::int64_t wall_offset_ns);

}  // namespace culprit::explain
