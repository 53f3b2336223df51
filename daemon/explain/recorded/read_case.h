// Reads recorded cases.
//
// A directory holds case.json {id, services, inject_time, window, reference, prior_incident_times, alert} and beside it,
// each optional, plain or .gz: metrics.csv (time, then "<service>|<metric>"), edges.csv (time, "<caller>-><callee>|<metric>"),
// traces.csv (trace_id, span_id, parent_id, service, operation, start_ns, duration_us, and optionally status, error),
// logs.jsonl {ts_ns, service, trace_id, span_id, level, msg}, changes.jsonl {ts, kind, ...}, topology.csv (caller, callee).
// `reference` names a directory, beside the case's, with the same files from a healthy time. Times without "_ns" are seconds.
//
// A file of cases holds one JSON object a line: {id, services, edges: [[caller, callee]], alerts: {metrics, traces, logs}}.
//
// One bad row of a table is skipped and counted; a file that is not what it should be at all is an error with its place.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "daemon/base/result.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

inline constexpr std::size_t kServicesMax = 100'000;
inline constexpr std::size_t kSpansMax = 5'000'000;
inline constexpr std::size_t kLogsMax = 2'000'000;
inline constexpr std::size_t kCellsMax = 50'000'000;  // of a table of metrics

// Errors: NotFound, Invalid, Corrupt, Exhausted, Io; each with file and line.
Result<RecordedCase> read_case(const std::filesystem::path& directory);

// One line of a file of cases. Errors: Invalid.
Result<RecordedCase> parse_case_line(std::string_view line);
// Calls `each` for every case of the file, in its order, with one case in memory at a time.
Result<void> read_case_lines(const std::filesystem::path& file, const std::function<Result<void>(RecordedCase&&)>& each);

}  // namespace culprit::explain
