// From a real number that somebody else wrote to a whole one: without it, a number too large for the type is undefined behaviour.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>

namespace culprit {

// `value` towards 0, held inside what Whole can say; 0 for what is no number.
template <std::integral Whole = std::int64_t>
constexpr Whole whole(double value) {
  constexpr Whole kLeast = std::numeric_limits<Whole>::min(), kMost = std::numeric_limits<Whole>::max();
  if (value != value) return 0;
  if (value <= static_cast<double>(kLeast)) return kLeast;
  if (value >= static_cast<double>(kMost)) return kMost;  // 2^63 where the type's own most is one less
  return static_cast<Whole>(value);
}

}  // namespace culprit
