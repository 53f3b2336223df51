// Verdicts: what people said of earlier answers (feedback, confirm, reject), and the one way in which counts of it are
// learned from: the mean of a Beta distribution, of which the prior is worth kPriorVerdicts. So one verdict alone moves
// little, many approach their own share, and none changes nothing.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace culprit {

struct Verdicts {
  std::int64_t right = 0, wrong = 0, partly = 0;

  std::int64_t all() const { return right + wrong + partly; }
  bool operator==(const Verdicts&) const = default;
};

inline constexpr double kPriorVerdicts = 4.0;

// The chance that the next one is right; `prior`: before anybody said anything, 0 to 1. Partly right counts half.
inline double chance_after(double prior, const Verdicts& said) {
  if (said.all() <= 0) return prior;
  const double right = static_cast<double>(said.right) + static_cast<double>(said.partly) / 2;
  return (prior * kPriorVerdicts + right) / (kPriorVerdicts + static_cast<double>(said.all()));
}

// The same as log-odds for something that was as likely as not; within +-`most`, 0 without a verdict.
inline double log_odds_after(const Verdicts& said, double most) {
  const double chance = chance_after(0.5, said);
  return std::clamp(std::log(chance / (1 - chance)), -most, most);
}

}  // namespace culprit
