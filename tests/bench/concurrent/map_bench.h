#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace bench {

// What one round measures, and at which size.
struct Plan {
  std::vector<std::string_view> ids;  // M1, C2, ...; empty: all
  std::uint64_t series = 1'000'000;   // of the large map workloads
  std::size_t updates = 500'000;      // a measurement
  std::size_t items = 8'000'000;      // through a channel

  bool any(std::initializer_list<std::string_view> of) const {
    return ids.empty() || std::ranges::any_of(of, [&](std::string_view id) { return std::ranges::find(ids, id) != ids.end(); });
  }
};
// Each prints "workload;candidate;value" lines.
void map_round(const Plan& plan);
void channel_round(const Plan& plan);
void ring_round(const Plan& plan);

}  // namespace bench
