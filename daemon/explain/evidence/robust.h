// Robust statistics of small samples: the median and its relatives, which a tenth of wild values does not move.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace culprit::explain {

// The value below which a share q of the sample lies (nearest rank); 0 for an empty sample. Reorders `values`.
inline double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::size_t>(std::lround(q * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

struct Center {
  double median = 0;
  double spread = 0;  // 1.4826 median absolute deviations: a standard deviation, were it normal
};

inline Center center_of(std::vector<double> values) {
  Center out;
  out.median = quantile(values, 0.5);
  for (double& value : values) value = std::fabs(value - out.median);
  out.spread = 1.4826 * quantile(values, 0.5);
  return out;
}

}  // namespace culprit::explain
