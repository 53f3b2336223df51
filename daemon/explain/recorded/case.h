// Recorded case: one incident that somebody wrote down as files, in memory. Plain data: read_case.h fills it, the
// evidence blocks (evidence/*.h) read it.
//
// Names of services are small numbers (an index into `names`); those that may be blamed are `candidates`. Times are
// Unix nanoseconds, as the files have them. What is not there is empty: every block must do without.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::explain {

using ServiceId = std::int32_t;
inline constexpr ServiceId kNoService = -1;

struct MetricColumn {
  ServiceId service = kNoService;
  std::string name;            // "cpu.usage"
  std::vector<double> values;  // one for each row; NaN = missing
  double matters = 0;          // the least difference that a person would call one, in the metric's unit; 0 = not known
};

struct MetricTable {
  std::vector<std::int64_t> times_ns;
  std::vector<MetricColumn> columns;
};

struct RecordedSpan {
  std::uint64_t trace = 0, id = 0, parent = 0;  // hashes; parent 0 = a root
  ServiceId service = kNoService;
  std::uint32_t operation = 0;                  // index into RecordedCase::words
  std::int64_t start_ns = 0, duration_ns = 0;
  bool failed = false;
  enum class Kind : std::uint8_t { Unknown, Client, Server };
  Kind kind = Kind::Unknown;                    // as the recorder said
  std::int64_t own_ns = -1;                     // without its callees, if the recorder knew better than the children tell; -1 = it did not
  std::uint32_t error = 0;                      // word; 0 = none
};

struct RecordedLog {
  std::int64_t time_ns = 0;
  ServiceId service = kNoService;
  std::uint64_t trace = 0, span = 0;  // 0 = none
  std::string level, text;
};

struct RecordedAlert {
  enum class Source : std::uint8_t { Metric, Trace, Log };
  Source source = Source::Metric;
  ServiceId service = kNoService;  // that raised it; of a call: the caller
  ServiceId callee = kNoService;   // of a call
  std::string name;                // metric, operation or template
  std::string kind;                // "up", "down", "PD", "ERROR", "500"
};

struct RecordedChange {
  enum class Kind : std::uint8_t { Commit, Deploy, Flag, Other };
  Kind kind = Kind::Other;
  std::int64_t time_ns = 0;
  std::string id;       // of a commit; of a deploy: the commit that was deployed
  std::string service;  // of a deploy or flag
  std::string text;     // message, or the flag and how it changed
  std::string diff;
  std::vector<std::string> files;
};

struct FiredAlert {
  ServiceId service = kNoService;
  std::int64_t time_ns = 0;  // 0 = not said
  std::string metric, text;
};

struct RecordedCase {
  std::string id;
  std::vector<std::string> names;       // of services; also of those that are no candidates
  std::vector<ServiceId> candidates;    // sorted by name
  std::vector<std::string> words{""};   // operations and error texts
  std::int64_t onset_ns = 0;            // when it began, as well as the recorder knew; 0 = not said
  std::vector<std::int64_t> earlier_ns; // onsets of earlier incidents: what follows them is no baseline
  MetricTable metrics, reference_metrics;
  std::vector<RecordedSpan> spans, reference_spans;  // by trace, then start
  std::vector<RecordedLog> logs, reference_logs;     // by time
  std::vector<std::pair<ServiceId, ServiceId>> calls;  // (caller, callee), as declared
  std::vector<RecordedAlert> alerts;
  std::vector<RecordedChange> changes;               // by time
  FiredAlert fired;
  std::map<std::string, std::uint64_t> skipped;      // rows that could not be read, by file

  ServiceId service(std::string_view name) const;    // kNoService if there is none
  const std::string& name(ServiceId who) const { return names[static_cast<std::size_t>(who)]; }
  // The place of a service among the candidates; -1 = it is none.
  std::int32_t candidate(ServiceId who) const;
  // Who calls whom: declared, or seen in traces. Sorted, once each.
  std::vector<std::pair<ServiceId, ServiceId>> all_calls() const;

  std::vector<std::int32_t> candidate_of;            // by ServiceId
};

}  // namespace culprit::explain
