// Climb: since when something has been filling up that is noticed only when it is full (a leak, a disk).
//
// Two-phase regression (Hinkley, Journal of the American Statistical Association 1971, with a level first phase): flat until a row, a straight rise
// from there, up to where it is full: what stays so then, or is emptied by a restart, tells nothing.
#pragma once

#include <cstdint>
#include <vector>

namespace culprit::explain {

// `values` may lack some (NaN); rows after `until_ns` are not looked at. 0 = it does not climb, or did before the first row.
std::int64_t climb_since(const std::vector<std::int64_t>& times_ns, const std::vector<double>& values, std::int64_t until_ns);

}  // namespace culprit::explain
