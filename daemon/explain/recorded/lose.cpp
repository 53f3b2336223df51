#include "daemon/explain/recorded/lose.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "daemon/explain/recorded/builder.h"

namespace culprit::explain {

namespace {

bool kept(std::uint64_t id, double share) {
  const std::uint64_t mixed = (id ^ (id >> 31U)) * 0x9e3779b97f4a7c15ULL;
  return static_cast<double>(mixed >> 11U) / static_cast<double>(1ULL << 53U) < share;
}

void thin(MetricTable& table, double share) {
  for (std::size_t k = 0; k < table.columns.size(); ++k) {
    for (std::size_t row = 0; row < table.columns[k].values.size(); ++row) {
      if (!kept(k * 1'000'003 + row + 1, share)) table.columns[k].values[row] = std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace

Result<void> mark_lost(Loss& loss, std::string_view modality) {
  if (modality == "metrics") loss.metrics = true;
  else if (modality == "traces") loss.traces = true;
  else if (modality == "logs") loss.logs = true;
  else if (modality == "topology") loss.topology = true;
  else if (modality == "reference") loss.reference = true;
  else return fail(Code::Invalid, fmt::format("'{}' is no modality: metrics, traces, logs, topology, reference", modality));
  return {};
}

void lose(RecordedCase& c, const Loss& loss) {
  if (loss.metrics) c.metrics = {}, c.reference_metrics = {};
  if (loss.traces) c.spans.clear(), c.reference_spans.clear();
  if (loss.logs) c.logs.clear(), c.reference_logs.clear();
  if (loss.topology) c.calls.clear();
  if (loss.reference) c.reference_metrics = {}, c.reference_spans.clear(), c.reference_logs.clear();
  std::erase_if(c.alerts, [&](const RecordedAlert& alert) {
    return (alert.source == RecordedAlert::Source::Metric && loss.metrics) || (alert.source == RecordedAlert::Source::Trace && loss.traces) ||
           (alert.source == RecordedAlert::Source::Log && loss.logs);
  });
  if (loss.spans_kept < 1) {
    for (auto* spans : {&c.spans, &c.reference_spans}) std::erase_if(*spans, [&](const RecordedSpan& span) { return !kept(span.id ^ span.trace, loss.spans_kept); });
  }
  if (loss.lines_kept < 1) {
    for (auto* lines : {&c.logs, &c.reference_logs}) {
      std::erase_if(*lines, [&](const RecordedLog& line) { return !kept(hash_id(line.text) ^ static_cast<std::uint64_t>(line.time_ns), loss.lines_kept); });
    }
  }
  if (loss.alerts_kept < 1) {
    std::erase_if(c.alerts, [&](const RecordedAlert& alert) {
      return !kept(hash_id(fmt::format("{} {} {} {} {}", c.id, alert.service, alert.callee, alert.name, alert.kind)), loss.alerts_kept);
    });
  }
  if (loss.samples_kept < 1) {
    thin(c.metrics, loss.samples_kept);
    thin(c.reference_metrics, loss.samples_kept);
  }
}

}  // namespace culprit::explain
