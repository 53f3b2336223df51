// concurrent_bench maps|channels [scale]: one round of measurements, as raw lines for run.
#include <cstdlib>
#include <string_view>

#include "tests/bench/concurrent/map_bench.h"

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  const std::uint64_t scale = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1'000'000;
  if (what == "maps") {
    bench::map_round({.large = scale, .ops = 500'000});
  } else if (what == "channels") {
    bench::channel_round(scale);
  } else {
    return 2;
  }
  return 0;
}
