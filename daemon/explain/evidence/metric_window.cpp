#include "daemon/explain/evidence/metric_window.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace culprit::explain {

namespace {

constexpr std::int64_t kAfterglowNs = 300'000'000'000;  // how long an earlier incident spoils the baseline

}  // namespace

MetricWindows windows_of(const RecordedCase& c) {
  MetricWindows out;
  const MetricTable& table = c.metrics;
  std::vector<std::size_t> base_rows, now_rows;
  for (std::size_t row = 0; row < table.times_ns.size(); ++row) {
    const std::int64_t time_ns = table.times_ns[row];
    if (time_ns >= c.onset_ns) {
      now_rows.push_back(row);
      out.now_ns.push_back(time_ns);
      continue;
    }
    const bool spoiled = std::ranges::any_of(c.earlier_ns, [&](std::int64_t earlier) { return time_ns >= earlier && time_ns < earlier + kAfterglowNs; });
    if (!spoiled) base_rows.push_back(row);
  }
  std::map<std::pair<ServiceId, std::string_view>, const MetricColumn*> references;
  for (const MetricColumn& column : c.reference_metrics.columns) references[{column.service, column.name}] = &column;
  for (const MetricColumn& column : table.columns) {
    MetricSeries series;
    series.column = &column;
    for (const std::size_t row : base_rows) {
      if (std::isfinite(column.values[row])) series.base.push_back(column.values[row]);
    }
    if (const auto reference = references.find({column.service, column.name}); reference != references.end()) {
      for (const double value : reference->second->values) {
        if (std::isfinite(value)) series.base.push_back(value);
      }
    }
    for (const std::size_t row : now_rows) series.now.push_back(column.values[row]);
    out.series.push_back(std::move(series));
  }
  return out;
}

}  // namespace culprit::explain
