// Request parsing: bytes of a URL or body to the typed requests of backend.h. Everything here reads bytes
// that we did not write; every error says what was wrong and what would be right (code Invalid).
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/api/backend.h"

namespace culprit::api {

inline constexpr std::size_t kParametersMax = 64;

using Parameters = std::vector<std::pair<std::string, std::string>>;  // decoded, in order

struct Target {
  std::string path;  // decoded; starts with '/'
  Parameters parameters;
};

// "/api/v1/events?entity=a%20b&limit=5". Invalid: bad escapes, NUL bytes, no UTF-8, more than kParametersMax.
Result<Target> parse_target(std::string_view target);

Result<EventQuery> parse_event_query(const Parameters& parameters);
Result<SourceRequest> parse_source(std::string_view body);  // {"type": "file", "name": "", "path": "/x"}
Result<SimilarQuery> parse_similar_query(const Parameters& parameters);
Result<LogsQuery> parse_logs_query(const Parameters& parameters);
Result<DiffQuery> parse_diff_query(const Parameters& parameters);      // all four times are needed
Result<SeriesQuery> parse_series_query(const Parameters& parameters);  // both times are needed
Result<WhyRequest> parse_why(std::string_view body);
Result<Feedback> parse_feedback(std::string_view body);
Result<IncidentId> parse_incident_id(std::string_view text);

std::string_view kind_name(stream::Kind kind);

}  // namespace culprit::api
