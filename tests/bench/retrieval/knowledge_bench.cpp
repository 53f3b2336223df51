// knowledge_bench: the cost of knowing, one JSON object a line: a line matched against all packs, a line embedded,
// 1,000 rules loaded from nothing and after one file changed.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "embed/model.h"
#include "graph/knowledge.h"
#include "rules/loader.h"

namespace {

using namespace culprit;
using Clock = std::chrono::steady_clock;

constexpr int kRules = 1'000;

template <typename Work>
double seconds(Work work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void print(std::string_view id, std::string_view workload, double ours, std::string_view unit, double asked) {
  fmt::print(R"({{"id":"{}","workload":"{}","ours":{:.3f},"opponent":null,"ratio":null,"unit":"{}","asked":{},"ok":{}}})" "\n", id, workload, ours, unit, asked, ours < asked);
}

std::string rule(int number, std::string_view word) {
  return fmt::format(
      "rule: made-{0}\nstatus: incubating\nsummary: Rule {0} of the benchmark\nmatch:\n"
      "  - {{id: line, log: '', regex: '{1} (?P<pid>\\d+) failed {0}'}}\n  - {{id: load, metric: request.duration.p99, above: 0.5, within: 60s around line, optional: true}}\n"
      "blame: line.entity\ncause: redis/down\nexplain: 'process {{line.pid}} failed'\nsource: benchmark\n"
      "tests:\n  - name: it fires\n    events: [{{log: '', entity: 'service:s', body: '{1} 7 failed {0}'}}]\n    expect: fires\n",
      number, word);
}

int run() {
  std::shared_ptr<const graph::Knowledge> known;
  const double load_s = seconds([&] { known = graph::Knowledge::load({}).value(); });
  print("knowledge-load", fmt::format("{} failure modes", known->mode_count()), load_s * 1e3, "ms", 500);

  const std::string_view lines[] = {
      R"(127.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET /items/7?page=2 HTTP/1.1" 200 512 "-" "wrk/4.1" 0.012)",
      "2026-11-23 10:00:00.123 UTC [4211] shop@shop LOG:  duration: 12.345 ms  statement: SELECT id, name, price FROM items WHERE id = $1",
      "2026-11-23 10:00:00.123 UTC [4212] shop@shop FATAL:  sorry, too many clients already",
      "INFO shop.api request finished method=GET path=/items/12 status=200 duration_ms=4.2 trace_id=4bf92f3577b34da6a3ce929d0e0e4736"};
  constexpr int kRounds = 20'000;
  std::size_t matches = 0;
  const double match_s = seconds([&] {
    for (int i = 0; i < kRounds; ++i) matches += known->match(lines[static_cast<std::size_t>(i) % std::size(lines)]).size();
  });
  print("match", fmt::format("log lines, {} of {} match", matches, kRounds), match_s / kRounds * 1e6, "us/line", 10);

  embed::Model model;
  std::vector<std::string_view> bodies;
  for (const auto& document : known->documents()) bodies.push_back(document.body);
  model.learn(bodies);
  float sum = 0;
  const double embed_s = seconds([&] {
    for (int i = 0; i < kRounds; ++i) sum += model.vector(lines[static_cast<std::size_t>(i) % std::size(lines)])[0];
  });
  print("embed", sum == 12345 ? "" : "log lines", embed_s / kRounds * 1e6, "us/line", 50);

  std::string name = (std::filesystem::temp_directory_path() / "culprit-bench-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  const auto write = [&](int number, std::string_view word) { std::ofstream(folder / fmt::format("made-{}.yaml", number)) << rule(number, word); };
  for (int i = 0; i < kRules; ++i) write(i, "worker");
  rules::RuleBook book(std::make_shared<const rules::RuleSet>(std::vector<rules::Rule>{}, ""));
  bool good = true;
  const double first_s = seconds([&] { good = good && book.reload(folder, known.get()).has_value(); });
  std::vector<double> changed;
  for (int round = 0; round < 11; ++round) {
    write(round, "thread");
    changed.push_back(seconds([&] { good = good && book.reload(folder, known.get()).has_value(); }));
  }
  good = good && book.current()->rules().size() >= kRules && book.current()->find("made-3")->match[0].regex.starts_with("thread");
  std::filesystem::remove_all(folder);
  print("rules-load", "1,000 files, nothing known", first_s * 1e3, "ms", 1000);
  print("rules-reload", "1,000 files, one changed", median(changed) * 1e3, "ms", 50);
  return good ? 0 : 1;
}

}  // namespace

int main() { return run(); }
