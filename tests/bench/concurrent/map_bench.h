#pragma once

#include <cstddef>
#include <cstdint>

namespace bench {

struct MapScale {
  std::uint64_t large = 1'000'000;  // series of the large workloads
  std::size_t ops = 500'000;        // updates a measurement
};
void map_round(const MapScale& scale);     // prints "workload;candidate;value" lines
void channel_round(std::size_t items);

}  // namespace bench
