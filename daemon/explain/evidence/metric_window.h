// The two windows of a table of metrics: healthy rows and rows of the incident.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct MetricSeries {
  const MetricColumn* column = nullptr;
  std::vector<double> base;        // finite values of the healthy past
  std::vector<double> now;         // one for each row of the incident; NaN = missing
};

struct MetricWindows {
  std::vector<MetricSeries> series;     // in the order of the columns
  std::vector<std::int64_t> now_ns;     // the rows of the incident
};

// Healthy: the reference, else what is before the onset, without the minutes after earlier incidents.
MetricWindows windows_of(const RecordedCase& c);

}  // namespace culprit::explain
