// concurrent_bench SERIES ITEMS [ID...]: one round of measurements, as raw lines for run. No ID: all.
#include <cstdlib>

#include "tests/bench/concurrent/map_bench.h"

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  bench::Plan plan;
  plan.series = std::strtoull(argv[1], nullptr, 10);
  plan.items = std::strtoull(argv[2], nullptr, 10);
  if (plan.series == 0 || plan.items == 0) return 2;
  plan.ids.assign(argv + 3, argv + argc);
  bench::map_round(plan);
  bench::channel_round(plan);
  bench::ring_round(plan);
  return 0;
}
