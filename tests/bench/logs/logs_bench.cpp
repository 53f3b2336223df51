// Reads lines, mines them, and prints for each: the id it was given, the id it has in the end, the template's text
// in the end; then on stderr lines a second, at first sight and with known templates, and the 99th percentile of one known line
// [ns]. `bench_logs content|raw < lines`; tests/bench/logs/run scores it. `bench_logs full`: as many templates as are kept, twice
// over, each line a new one: bytes of memory, 99th percentile and longest time of one line [ns].
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <random>

#include "daemon/logs/miner.h"

namespace {

using Clock = std::chrono::steady_clock;

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::int64_t percentile(std::vector<std::int64_t>& times, double share) {
  const auto at = times.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(times.size() - 1));
  std::ranges::nth_element(times, at);
  return *at;
}

int full() {
  using namespace culprit::logs;
  std::mt19937 random(7);
  const std::size_t count = MinerOptions().templates_max;
  const auto line = [&] {
    std::string text;
    for (std::size_t word = 8 + random() % 9; word > 0; --word) {
      for (std::size_t letter = 4 + random() % 7; letter > 0; --letter) text += static_cast<char>('a' + random() % 26);
      text += word == 4 ? " 17 " : " ";
    }
    return text;
  };
  const std::int64_t before = resident_bytes();
  Miner miner;
  std::vector<std::int64_t> times;
  times.reserve(2 * count);
  for (std::size_t i = 0; i < 2 * count; ++i) {
    const std::string text = line();
    const auto begin = Clock::now();
    (void)miner.add(text);
    times.push_back((Clock::now() - begin).count());
  }
  const std::int64_t bytes = resident_bytes() - before - static_cast<std::int64_t>(times.size() * sizeof(times[0]));
  std::printf("%zu\t%lld\t%lld\t%lld\n", miner.stats().templates, static_cast<long long>(bytes), static_cast<long long>(percentile(times, 0.99)),
              static_cast<long long>(percentile(times, 1)));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace culprit::logs;
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "full") return full();
  if (mode != "content" && mode != "raw") {
    std::fputs("usage: bench_logs content|raw < lines, or bench_logs full\n", stderr);
    return 2;
  }
  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) lines.push_back(std::move(line));
  Miner miner({.headers = mode == "raw"});
  std::vector<std::uint64_t> ids;
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& line : lines) ids.push_back(miner.add(line).template_id);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::map<std::uint64_t, std::string> texts;
  for (const Template& each : miner.templates()) texts[each.id] = each.text;
  for (const std::uint64_t id : ids) {
    const std::uint64_t last = miner.resolve(id);
    std::printf("%016llx\t%016llx\t%s\n", static_cast<unsigned long long>(id), static_cast<unsigned long long>(last),
                texts[last].c_str());
  }
  // Again, now that all is known: the rate, then each line by itself.
  constexpr int kRounds = 10;
  const auto again = Clock::now();
  for (int round = 0; round < kRounds; ++round) {
    for (const std::string& line : lines) (void)miner.add(line);
  }
  const std::chrono::duration<double> known = Clock::now() - again;
  std::vector<std::int64_t> times;
  for (int round = 0; round < kRounds; ++round) {
    for (const std::string& line : lines) {
      const auto start = Clock::now();
      (void)miner.add(line);
      times.push_back((Clock::now() - start).count());
    }
  }
  std::fprintf(stderr, "%.0f\t%.0f\t%lld\n", static_cast<double>(lines.size()) / seconds.count(), kRounds * static_cast<double>(lines.size()) / known.count(),
               static_cast<long long>(percentile(times, 0.99)));
  return 0;
}
