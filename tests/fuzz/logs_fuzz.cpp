// The miner, the header splitter and the severity guesser take any bytes; limits hold, answers stay consistent.
#include <cstdlib>
#include <sstream>

#include "daemon/logs/miner.h"
#include "daemon/logs/sightings.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::logs;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const bool headers : {false, true}) {
    Miner miner({.templates_max = 16, .words_max = 12, .line_bytes_max = 200, .headers = headers, .parameters = true});
    std::istringstream lines(text);
    std::uint64_t count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      const Match match = miner.add(line);
      if (match.severity > 24 || miner.resolve(match.template_id) != match.template_id) std::abort();
      (void)severity_of(line);
    }
    std::uint64_t lines_of_templates = 0;
    for (const Template& each : miner.templates()) lines_of_templates += each.lines;
    const MinerStats stats = miner.stats();
    if (stats.lines != count || lines_of_templates + stats.evicted_lines != count || stats.templates > 16) std::abort();
    auto again = Miner::load(miner.save(), {.templates_max = 16, .words_max = 12, .line_bytes_max = 200});
    if (!again || again->save() != miner.save()) std::abort();
  }
  if (auto saved = Miner::load(text, {.templates_max = 16}); saved) (void)saved->add("one line more");
  if (text.size() > 20) {
    const std::string made = "culprit templates 1\n" + text;
    if (auto saved = Miner::load(made, {.templates_max = 16}); saved) (void)saved->add("one line more");
  }
  if (auto saved = Sightings::load("culprit sightings 1\n" + text, 16); saved) {
    saved->add(1, "host", 1);
    if (saved->size() > 17) std::abort();
  }
  return 0;
}
