// Backend: what the API needs from the daemon, and all that it knows of it.
//
// Each method answers the document that docs/api.md gives for its request; the server adds nothing to it.
// main.cpp implements it over the live daemon, tests/api/fake_backend.h over fixed documents.
//
// Threads: called from up to kServeThreads server threads at once; implementations lock what they share.
// Errors become HTTP answers by their code: NotFound 404, Invalid 400, Denied 403, Busy and Exhausted 503,
// Unsupported 501, Corrupt and Io 500. The message is shown to a person as it is.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/stream/event.h"
#include "daemon/stream/filter.h"

namespace culprit::api {

using Json = nlohmann::json;

enum class IncidentId : std::int64_t {};

inline constexpr unsigned kServeThreads = 3;
inline constexpr double kWhySinceSecondsMax = 7 * 86400.0;
inline constexpr std::size_t kEventsLimitDefault = 100;
inline constexpr std::size_t kLogsLimitMax = 1'000, kSimilarLimitMax = 100;
inline constexpr std::size_t kEventsLimitMax = 10'000;

struct WhyRequest {
  std::string service;
  double since_s = 300;  // in (0, kWhySinceSecondsMax]
};

// Empty fields match everything. Times are
// wall-clock nanoseconds since the epoch, [from, to).
struct EventQuery {
  // Exact, or a prefix if it ends in '*'; "pid:4211" is the entity process:4211 or the attribute process.pid
  // = 4211.
  std::vector<std::string> entities;
  std::vector<stream::Kind> kinds;
  std::vector<std::string> names;  // exact, or a prefix if it ends in '*'
  std::string text;                // substring of the body, case-insensitive
  stream::Filter filter;           // the filter language of docs/events.md; `near` is not resolved yet
  std::uint8_t severity_min = stream::kUnset;
  std::optional<std::int64_t> from_wall_ns;
  std::optional<std::int64_t> to_wall_ns;
  std::size_t limit = kEventsLimitDefault;  // in [1, kEventsLimitMax]; newest first
};

inline constexpr std::size_t kChangesLimitDefault = 30, kChangesLimitMax = 1000;
inline constexpr std::size_t kSeriesLimitDefault = 100, kSeriesLimitMax = 1000, kPointsMax = 10'000;

// Two windows of wall-clock time, each [from, to).
struct DiffQuery {
  std::int64_t before_from_wall_ns = 0, before_to_wall_ns = 0, now_from_wall_ns = 0, now_to_wall_ns = 0;
  stream::Filter filter;
  std::size_t limit = kChangesLimitDefault;
};

struct SeriesQuery {
  stream::Filter filter;
  std::int64_t from_wall_ns = 0, to_wall_ns = 0;
  bool minutes = false;      // the one-minute summaries of what retention removed, instead of samples
  std::int64_t step_ns = 0;  // > 0: points of so many nanoseconds too, at most kPointsMax in all
  std::size_t limit = kSeriesLimitDefault;
};

enum class Verdict { Right, Wrong, Partly, Undo };

struct Feedback {
  std::int64_t rank = 0;  // of the candidate, from 1; 0 = the whole answer ("the cause was not among them")
  Verdict verdict = Verdict::Right;
  std::string note;  // a person's words; may be empty
  std::string who;   // account that says it; may be empty
};

// A file for the stream, whole.
struct ImportRequest {
  std::string name;    // of the file, for messages
  std::string format;  // auto, jaeger, zipkin, otlp, kubernetes, or one of the log formats
  std::string bytes;
};

// One more source: to be tried, or to be added.
struct SourceRequest {
  std::string type, name;
  std::map<std::string, std::string> options;
  bool add = false;
};

struct LogsQuery {
  std::string service;    // empty = all
  double since_s = 3600;  // in (0, kWhySinceSecondsMax]
  std::size_t limit = 50; // in [1, kLogsLimitMax]
};

struct SimilarQuery {
  std::string about;      // an incident's number, or words; not empty
  std::size_t limit = 5;  // in [1, kSimilarLimitMax]
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual Result<Json> summary() = 0;
  virtual Result<Json> services() = 0;
  // NotFound if no such service was ever seen; the server adds the nearest of service_names().
  virtual Result<Json> why(const WhyRequest& request) = 0;
  virtual Result<Json> incidents() = 0;
  virtual Result<Json> incident(IncidentId id) = 0;
  // The file for `culprit replay`, whole.
  virtual Result<std::string> export_incident(IncidentId id) = 0;
  // Answers the incident's row of `incidents` with the feedback remembered.
  virtual Result<Json> feedback(IncidentId id, const Feedback& feedback) = 0;
  // Confirmed incidents that are like an incident or like words. NotFound if no incident has that number.
  virtual Result<Json> similar(const SimilarQuery& query) = 0;
  virtual Result<Json> events(const EventQuery& query) = 0;
  // What differs most between two windows.
  virtual Result<Json> diff(const DiffQuery& query) = 0;
  virtual Result<Json> series(const SeriesQuery& query) = 0;
  virtual Result<Json> store() = 0;  // what the event store holds and what it lost
  virtual Result<Json> status() = 0;
  virtual Result<Json> doctor() = 0;
  // The rules in force, what each did, and how the last reload went.
  virtual Result<Json> rules() = 0;
  // Reads the rules folder now; answers as rules(). Invalid with every mistake; then the last good set stays.
  virtual Result<Json> reload_rules() = 0;
  // The effective configuration: each value with its origin.
  virtual Result<Json> config() = 0;
  // Where events of other tools come from: state, counters, how to reach each.
  virtual Result<Json> sources() = 0;
  virtual Result<Json> source(const SourceRequest& request) = 0;
  virtual Result<Json> import(const ImportRequest& request) = 0;
  // Kinds of log lines with counts, new ones first.
  virtual Result<Json> logs(const LogsQuery& query) = 0;
  // Spans and log lines of one trace, as a tree. NotFound; Invalid if it is no trace id.
  virtual Result<Json> trace(const std::string& id) = 0;
  // Prometheus text format 0.0.4.
  virtual Result<std::string> metrics_text() = 0;

  virtual std::vector<std::string> service_names() = 0;
};

}  // namespace culprit::api
