// Reads lines, mines them, and prints for each: the id it was given, the id it has in the end, the template's text
// in the end; then on stderr lines a second. `bench_logs content|raw < lines`; tests/bench/logs/run scores it.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>

#include "daemon/logs/miner.h"

int main(int argc, char** argv) {
  using namespace culprit::logs;
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode != "content" && mode != "raw") {
    std::fputs("usage: bench_logs content|raw < lines\n", stderr);
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
  std::fprintf(stderr, "%.0f\n", static_cast<double>(lines.size()) / seconds.count());
  return 0;
}
