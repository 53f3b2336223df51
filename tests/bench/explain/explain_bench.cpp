// How long one answer takes and what it holds in memory: an hour of a made-up host with 2,000 series and 200,000 events (log
// lines and kernel events) beside its samples, then a lock in its database.
//   bench_explain make FOLDER           writes the hour into an event store there
//   bench_explain why FOLDER [--json]   a process of its own answers from it
#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "daemon/base/clock.h"
#include "daemon/explain/json.h"
#include "daemon/stream/embedded_store.h"
#include "tests/explain/faults.h"

namespace culprit::test {
namespace {

constexpr int kHourS = 3600;
constexpr int kSeries = 2000;       // with those of the made-up host
constexpr int kHostSeries = 90;     // about so many are its own
constexpr int kEventsASecond = 56;  // 200,000 in an hour
constexpr const char* kBoot = "bench-explain";

[[noreturn]] void stop(const Error& error) {
  fmt::print(stderr, "bench_explain: {}\n", error.message);
  std::exit(1);
}

void more(std::int64_t second_ns, std::vector<stream::Event>& events) {
  for (int i = 0; i < kSeries - kHostSeries; ++i) {
    stream::Event& event = events.emplace_back();
    event.time_ns = second_ns + i;
    event.entity = fmt::format("service:worker-{}", i / 20);
    event.name = fmt::format("queue.depth{{lane=\"{}\"}}", i % 20);
    event.value = static_cast<double>((i * 7919 + second_ns / 1'000'000'000 * 104729) % 97);
  }
  for (int i = 0; i < kEventsASecond; ++i) {
    stream::Event event = World::log(fmt::format("worker-{}", i % 90), fmt::format("job {} took {} ms", i * 31, (i * 17 + second_ns / 1'000'000'000) % 90), stream::kInfo);
    event.time_ns = second_ns + 500'000'000 + i;
    events.push_back(std::move(event));
  }
}

void make(const std::string& folder) {
  World world(5);
  world.run(kHourS);
  if (!world.break_with(faults::pg_lock(world), 20)) stop({Code::Invalid, "no incident opened"});
  FakeClock clock(world.now_ns(), 1'700'000'000 * kNsPerSecond);
  auto store = stream::EmbeddedStore::open({.folder = folder, .boot_id = kBoot}, clock);
  if (!store) stop(store.error());
  std::vector<stream::Event> batch;
  std::int64_t second = 0;
  const auto flush = [&] {
    if (batch.empty()) return;
    more(second, batch);
    if (auto done = (*store)->append(std::move(batch)); !done) stop(done.error());
    batch.clear();
  };
  (void)world.store.scan({}, [&](const stream::Event& event) {
    const std::int64_t at = event.time_ns / kNsPerSecond * kNsPerSecond;
    if (at != second) flush();
    second = at;
    batch.push_back(event);
    return true;
  });
  flush();
  if (auto done = (*store)->flush(); !done) stop(done.error());
  std::ofstream(folder + "/incident.json") << nlohmann::json{{"incident", explain::incident_to_record(world.incident())}, {"now_ns", world.now_ns()}}.dump();
}

// Peak resident memory, from the kernel.
double peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  }
  return 0;
}

void why(const std::string& folder, bool as_json) {
  std::ifstream file(folder + "/incident.json");
  const auto saved = nlohmann::json::parse(std::string(std::istreambuf_iterator<char>(file), {}), nullptr, false);
  if (!saved.is_object()) stop({Code::NotFound, "no incident there: run make first"});
  auto incident = explain::incident_from_record(saved["incident"]);
  if (!incident) stop(incident.error());
  FakeClock clock(saved["now_ns"].get<std::int64_t>(), 1'700'000'000 * kNsPerSecond);
  auto store = stream::EmbeddedStore::open({.folder = folder, .boot_id = kBoot}, clock);
  if (!store) stop(store.error());
  explain::ExplainOptions options;
  options.now_ns = clock.now_ns();
  double best_s = 1e9;
  std::string first, mode;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    auto answer = explain::explain(**store, *incident, options);
    if (!answer) stop(answer.error());
    best_s = std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    const std::string document = explain::to_json(*answer).dump();
    if (i == 0) first = document;
    if (document != first) stop({Code::Invalid, "the same question got another answer"});
    mode = answer->candidates.empty() ? "nothing" : answer->candidates.front().failure_mode;
  }
  const double memory = peak_mb();
  if (!as_json) {
    fmt::print("why: {:.3f} s (asked < 1 s), peak memory {:.0f} MB (asked < 300 MB), answer {}\n", best_s, memory, mode);
    return;
  }
  const auto row = [](const char* id, double ours, const char* unit, double asked) {
    fmt::print("{}\n", nlohmann::json{{"id", id}, {"workload", "one hour, 2,000 series, 200,000 events"}, {"ours", ours}, {"opponent", nullptr}, {"ratio", nullptr}, {"unit", unit}, {"asked", asked}, {"ok", ours < asked}}.dump());
  };
  row("explain.why", best_s, "s", 1);
  row("explain.memory", memory, "MB", 300);
}

}  // namespace
}  // namespace culprit::test

int main(int argc, char** argv) {
  const std::string command = argc > 2 ? argv[1] : "";
  if (command == "make") culprit::test::make(argv[2]);
  else if (command == "why") culprit::test::why(argv[2], argc > 3 && std::string(argv[3]) == "--json");
  else return fmt::print(stderr, "bench_explain make|why FOLDER\n"), 2;
  return 0;
}
