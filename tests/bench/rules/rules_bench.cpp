// What rules cost: the share of one core that 200,000 events a second through N rules take, for N = 97 (the catalogue), 1,000
// and 4,000, and how long a reload of 1,000 rule files takes. The events are samples, log lines, requests and kernel events
// in the proportions of a busy host; about one in a hundred fits some clause.
#include <fmt/format.h>
#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "rules/engine.h"

namespace culprit {
namespace {

constexpr int kFiles = 1'000;
constexpr std::size_t kEvents = 400'000;
constexpr double kPerSecond = 200'000;
constexpr std::int64_t kSecondNs = 1'000'000'000;

double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// A made rule; four kinds in turn, as the catalogue has them.
std::string made(int n, std::string_view word) {
  const std::string head = fmt::format("rule: made-{}\nstatus: stable\nsummary: Made for measuring\nmatch:\n", n);
  const std::string tail = fmt::format(
      "blame: a.entity\ncause: application/crash\nexplain: \"seen {{a.value}}\"\nsource: made\ntests:\n  - {{name: miss, events: [{{metric: nothing}}], expect: none}}\n"
      "  - {{name: todo, todo: made, events: [], expect: fires}}\n  - {{name: hit, events: [{{metric: 'made.{0}', entity: s, value: 9}}, {{log: '', entity: s, body: 'w{0} failed with code 7'}}, {{kernel: process.exit, entity: s, attributes: "
      "{{exit.code: '{0}'}}}}, {{metric: cpu.time, entity: service:s, value: 1000000}}, {{log: '', entity: s, body: 'deep trouble {0} in module'}}], expect: fires}}\n",
      n);
  switch (n % 4) {
    case 0: return head + fmt::format("  - {{id: a, log: '', regex: '(?:{} )?w{} failed with code (?P<code>\\d+)'}}\n", word, n) + tail;
    case 1: return head + fmt::format("  - {{id: a, metric: 'made.{}', above: 5}}\n  - {{id: b, metric: cpu.time, above: {}, within: 30s around a, optional: true}}\n", n, 10 + n) + tail;
    case 2: return head + fmt::format("  - {{id: a, kernel: process.exit, where: {{exit.code: '{}'}}}}\n  - {{id: b, log: '', text: 'gave up on {}', within: 10s around a, optional: true}}\n", n, n) + tail;
    default: return head + fmt::format("  - {{id: a, log: '', text: 'deep trouble {} in module'}}\n", n) + tail;
  }
}

rules::RuleSetPtr set_of(int count) {
  const auto built_in = rules::built_in_rules();
  std::vector<rules::RuleText> texts(built_in.begin(), built_in.end());
  for (int i = static_cast<int>(texts.size()); i < count; ++i) texts.push_back({fmt::format("made-{}.yaml", i), made(i, "thread")});
  return rules::load_rules(texts).value();
}

std::vector<stream::Event> make_events() {
  std::mt19937 random(7);
  constexpr const char* kNames[] = {"cpu.time", "cpu.run_queue.mean", "disk.write.bytes", "fsync.mean", "memory.rss", "process.fds", "request.rate", "request.duration.p99",
                                    "client.rate", "client.wait.share", "tcp.rtt", "log.rate", "syscall.errors{errno=\"ENOENT\",syscall=\"openat\"}"};
  constexpr const char* kLines[] = {
      "10.0.0.7 - - [24/Nov/2026:10:00:00 +0000] \"GET /items/{} HTTP/1.1\" 200 612 \"-\" \"wrk\"",
      "INFO shop.api request finished method=GET path=/items/{} status=200 duration_ms=4.2 trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
      "2026-11-23 10:00:00.123 UTC [{}] shop@shop LOG:  duration: 12.345 ms  statement: SELECT id, name, price FROM items WHERE id = $1",
      "kernel: [12345.{}] veth1a2b: entered promiscuous mode, device up",
      "WARN worker {} retried a call after 20 ms, attempt 2 of 3, connection to upstream restored"};
  std::vector<stream::Event> events;
  events.reserve(kEvents);
  for (std::size_t i = 0; i < kEvents; ++i) {
    stream::Event event;
    event.time_ns = kSecondNs + static_cast<std::int64_t>(static_cast<double>(i) / kPerSecond * 1e9);
    event.entity = fmt::format("service:s{}", random() % 200);
    const unsigned kind = static_cast<unsigned>(random() % 100);
    if (kind < 70) {
      event.kind = stream::Kind::Sample;
      event.name = kNames[random() % std::size(kNames)];
      event.value = random() % 200 == 0 ? 5 : 0.001;  // seldom past a threshold
      if (random() % 5 == 0) event.entity = fmt::format("edge:s{}->s{}", random() % 200, random() % 200);
    } else if (kind < 90) {
      event.kind = stream::Kind::Log;
      event.name = "t:1f3a";
      event.body = fmt::format(fmt::runtime(kLines[random() % std::size(kLines)]), random() % 100'000);
      if (random() % 100 == 0) event.body = fmt::format("w{} failed with code {}", random() % 4'000, random() % 10);
    } else if (kind < 97) {
      event.kind = stream::Kind::Span;
      event.name = fmt::format("GET /items/{}", random() % 50);
    } else {
      event.kind = stream::Kind::Kernel;
      event.name = "process.exit";
      event.attributes = {{"service", event.entity.substr(8)}, {"exit.code", random() % 20 == 0 ? "1" : "0"}};
    }
    events.push_back(std::move(event));
  }
  return events;
}

bool as_json = false;

void print(std::string_view id, std::string_view workload, double value, std::string_view unit, std::optional<double> asked, std::string_view note = "") {
  const bool ok = !asked || value <= *asked;
  if (as_json) {
    fmt::print("{}\n", nlohmann::json{{"id", id}, {"workload", workload}, {"ours", value}, {"opponent", nullptr}, {"ratio", nullptr}, {"unit", unit}, {"asked", asked ? nlohmann::json(*asked) : nlohmann::json(nullptr)}, {"ok", ok}}.dump());
  } else {
    fmt::print("{:<14} {:<44} {:>9.2f} {:<12} {:<12} {}\n", id, workload, value, unit, asked ? fmt::format("asked {} {}", *asked, ok ? "ok" : "MISS") : "", note);
  }
}

void events_through(int count, const std::vector<stream::Event>& events, std::optional<double> asked) {
  const auto set = set_of(count);
  std::vector<double> shares;
  rules::EngineStats stats;
  for (int round = 0; round < 5; ++round) {
    rules::Engine engine(set);
    const double before = cpu_seconds();
    std::int64_t second = 0;
    for (const stream::Event& event : events) {
      if (event.time_ns - second >= kSecondNs) {
        second = event.time_ns;
        engine.advance(second);
      }
      engine.add(event);
    }
    engine.advance(events.back().time_ns);
    shares.push_back((cpu_seconds() - before) / static_cast<double>(events.size()) * kPerSecond * 100);
    stats = engine.stats();
  }
  std::ranges::sort(shares);
  print("rules-events", fmt::format("{} rules, 200,000 events/s", set->rules().size()), shares[2], "% of a core", asked,
        fmt::format("{:.0f} ns/event, {:.2f} % of events fit a clause, {} left out; from {:.2f} to {:.2f}", shares[2] / 100 / kPerSecond * 1e9, 100.0 * static_cast<double>(stats.matched) / static_cast<double>(stats.events), stats.left_out, shares[0], shares[4]));
}

bool reloads() {
  std::string name = (std::filesystem::temp_directory_path() / "culprit-bench-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  const auto write = [&](int number, std::string_view word) { std::ofstream(folder / fmt::format("made-{}.yaml", number)) << made(number, word); };
  for (int i = 0; i < kFiles; ++i) write(i, "worker");
  const auto known = graph::Knowledge::load({}).value();
  rules::RuleBook book(folder, known, std::make_shared<const rules::RuleSet>(std::vector<rules::RulePtr>{}, std::map<std::string, std::string>{}, ""));
  bool good = true;
  const auto reload = [&] {
    const auto done = book.reload(1);
    if (!done) fmt::print(stderr, "{}\n", done.error().message.substr(0, 2'000));
    good = good && done;
    return book.state().reload_s * 1e3;
  };
  const double first = reload();
  std::vector<double> one;
  for (int round = 0; round < 21; ++round) {
    write(round * 4, round % 2 == 0 ? "thread" : "worker");
    one.push_back(reload());
  }
  std::ranges::sort(one);
  const double same = reload();
  good = good && book.current()->rules().size() >= kFiles;
  std::filesystem::remove_all(folder);
  print("rules-load", "1,000 files and the catalogue, nothing known", first, "ms", std::nullopt, "parse, check and test all");
  print("rules-reload", "1,000 files, one changed", one[10], "ms", 50, fmt::format("from {:.1f} to {:.1f}", one.front(), one.back()));
  print("rules-reload", "1,000 files, none changed", same, "ms", 50);
  return good;
}

}  // namespace
}  // namespace culprit

int main(int argc, char** argv) {
  culprit::as_json = argc > 1 && std::string_view(argv[1]) == "--json";
  const auto events = culprit::make_events();
  culprit::events_through(0, events, std::nullopt);
  culprit::events_through(1'000, events, 20);
  culprit::events_through(4'000, events, std::nullopt);
  return culprit::reloads() ? 0 : 1;
}
