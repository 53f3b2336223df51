// Whether something happens at another rate than before, counted: Dunning's log-likelihood ratio (Computational Linguistics 1993, eq. 3),
// which is right for the small counts that a normal approximation is wrong for.
#pragma once

#include <algorithm>
#include <cmath>

namespace culprit::explain {

// Signed square root of Dunning's G for k1 of n1 now and k2 of n2 before: about standard deviations; positive = more often now.
inline double rate_shift(double k1, double n1, double k2, double n2) {
  const auto part = [](double observed, double expected) { return observed > 0 ? observed * std::log(observed / expected) : 0.0; };
  const double p = (k1 + k2) / (n1 + n2);
  const double g = 2 * (part(k1, n1 * p) + part(n1 - k1, n1 * (1 - p)) + part(k2, n2 * p) + part(n2 - k2, n2 * (1 - p)));
  return (k1 / n1 > k2 / n2 ? 1 : -1) * std::sqrt(std::max(0.0, g));
}

}  // namespace culprit::explain
