// One round of the map workloads M1-M9; every candidate in turn, in random order.
#include "tests/bench/concurrent/map_bench.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "tests/bench/concurrent/map_candidates.h"

namespace bench {
namespace {

using culprit::concurrent::Writers;
constexpr std::size_t kBatch = 64;

std::mt19937_64& dice() {
  static std::mt19937_64 random(std::random_device{}());
  return random;
}
void run_shuffled(std::vector<std::function<void()>>& jobs) {
  std::shuffle(jobs.begin(), jobs.end(), dice());
  for (auto& job : jobs) job();
  jobs.clear();
}

template <typename M>
void feed(M& map, const std::vector<Event>& events) {
  for (std::size_t i = 0; i < events.size(); i += kBatch) map.update(&events[i], std::min(kBatch, events.size() - i));
}
template <typename M>
std::unique_ptr<M> filled(std::uint64_t series) {
  auto map = std::make_unique<M>();
  std::vector<Event> batch(kBatch);
  for (std::uint64_t i = 0; i < series; i += kBatch) {
    const std::size_t n = std::min<std::uint64_t>(kBatch, series - i);
    for (std::size_t j = 0; j < n; ++j) batch[j] = {make_key(i + j), i & 0xffff, 1, 0};
    map->update(batch.data(), n);
  }
  return map;
}

// ns an update, over a stream of events; the first pass warms.
template <typename M>
void updates(const char* workload, const char* name, M& map, const std::vector<std::vector<Event>>& streams) {
  const double each = static_cast<double>(streams[0].size());
  if (streams.size() == 1) return report(workload, name, cpu_s([&] { feed(map, streams[0]); }) / each * 1e9);
  const Parts parts = together(static_cast<int>(streams.size()), [&](int t) { feed(map, streams[static_cast<std::size_t>(t)]); });
  report(workload, name, std::ranges::max(parts, {}, &Part::wall_s).wall_s / each * 1e9, parts);
}

struct Candidates {
  std::uint64_t series;
  std::unique_ptr<Ours<Writers::Many>> many;
  std::unique_ptr<Ours<Writers::One>> one;
  std::unique_ptr<Ours<Writers::Many, false>> small_pages = filled<Ours<Writers::Many, false>>(series);
  std::unique_ptr<StdMutex> standard = filled<StdMutex>(series);
#ifdef BENCH_URCU
  std::unique_ptr<Urcu> urcu = filled<Urcu>(series);
#endif
#ifdef BENCH_BOOST
  std::unique_ptr<BoostBulk> boost;
#endif
#ifdef BENCH_TBB
  std::unique_ptr<Tbb> tbb;
#endif
#ifdef BENCH_ABSL
  std::unique_ptr<AbslSharded> absl;
#endif
  explicit Candidates(std::uint64_t n) : series(n), many(filled<Ours<Writers::Many>>(n)), one(filled<Ours<Writers::One>>(n)) {
#ifdef BENCH_BOOST
    boost = filled<BoostBulk>(n);
    boost->full = true;
#endif
#ifdef BENCH_TBB
    tbb = filled<Tbb>(n);
#endif
#ifdef BENCH_ABSL
    absl = filled<AbslSharded>(n);
#endif
  }
};

void update_round(Candidates& c, const std::string& id, std::uint64_t series, std::size_t ops, bool zipf, int threads) {
  std::vector<std::vector<Event>> streams;
  for (int t = 0; t < threads; ++t) streams.push_back(make_events(ops, series, zipf, dice()()));
  std::vector<std::function<void()>> jobs;
  jobs.push_back([&] { updates(id.c_str(), "ours", *c.many, streams); });
  if (threads == 1) jobs.push_back([&] { updates(id.c_str(), "ours-one-writer", *c.one, streams); });
  jobs.push_back([&] { updates(id.c_str(), "ours-small-pages", *c.small_pages, streams); });
  jobs.push_back([&] { updates(id.c_str(), "ours-single", static_cast<OursSingle&>(*c.many), streams); });
#ifdef BENCH_BOOST
  jobs.push_back([&] { updates(id.c_str(), "boost-bulk", *c.boost, streams); });
  jobs.push_back([&] { updates(id.c_str(), "boost", static_cast<BoostSingle&>(*c.boost), streams); });
#endif
  jobs.push_back([&] { updates(id.c_str(), "std-mutex", *c.standard, streams); });
#ifdef BENCH_URCU
  jobs.push_back([&] { updates(id.c_str(), "urcu", *c.urcu, streams); });
#endif
#ifdef BENCH_TBB
  jobs.push_back([&] { updates(id.c_str(), "tbb", *c.tbb, streams); });
#endif
#ifdef BENCH_ABSL
  jobs.push_back([&] { updates(id.c_str(), "absl-64-mutexes", *c.absl, streams); });
#endif
  run_shuffled(jobs);
}

// 95 % reads, ns an operation.
template <typename M>
void mixed(const char* workload, const char* name, M& map, const std::vector<Event>& events, unsigned reads_percent) {
  std::uint64_t sum = 0;
  const double seconds = cpu_s([&] {
    std::uint32_t lcg = 12345;
    Aggregate out;
    for (const Event& event : events) {
      lcg = lcg * 1664525U + 1013904223U;
      if ((lcg >> 16) % 100 < reads_percent) {
        sum += map.read(event.key, out) ? out.count : 0;
      } else {
        map.update(&event, 1);
      }
    }
  });
  asm volatile("" ::"r"(sum));
  report(workload, name, seconds / static_cast<double>(events.size()) * 1e9);
}
template <typename M>
void batch_reads(const char* workload, const char* name, M& map, const std::vector<Key>& keys) {
  std::uint64_t sum = 0;
  const double seconds = cpu_s([&] {
    for (std::size_t i = 0; i + kBatch <= keys.size(); i += kBatch) sum += map.read_n(&keys[i], kBatch);
  });
  asm volatile("" ::"r"(sum));
  report(workload, name, seconds / static_cast<double>(keys.size()) * 1e9);
}
void read_round(Candidates& c, const std::string& size, std::uint64_t series, std::size_t ops) {
  const std::vector<Event> events = make_events(ops, series, true, dice()());
  std::vector<Key> keys;
  for (const Event& event : events) keys.push_back(event.key);
  const std::string point = "M7 95% reads " + size;
  const std::string batch = "M7 batch reads " + size;
  const std::string writes = "M9 5% reads " + size;
  std::vector<std::function<void()>> jobs;
  auto add = [&](const char* name, auto& map) {
    jobs.push_back([&, name] { mixed(point.c_str(), name, map, events, 95); });
    jobs.push_back([&, name] { mixed(writes.c_str(), name, map, events, 5); });
    if constexpr (requires { map.read_n(keys.data(), 1); }) {
      jobs.push_back([&, name] { batch_reads(batch.c_str(), name, map, keys); });
    }
  };
  add("ours", *c.many);
  add("ours-small-pages", *c.small_pages);
  add("std-mutex", *c.standard);
#ifdef BENCH_URCU
  add("urcu", *c.urcu);
#endif
#ifdef BENCH_BOOST
  add("boost", static_cast<BoostSingle&>(*c.boost));
#endif
#ifdef BENCH_TBB
  add("tbb", *c.tbb);
#endif
#ifdef BENCH_ABSL
  add("absl-64-mutexes", *c.absl);
#endif
  run_shuffled(jobs);
}

// A scan beside an updater for 0.4 s: ns a series of the scan, and the updater's ns an update.
template <typename M>
void scan_beside(const char* name, M& map, const std::vector<Event>& events, double alone_ns) {
  alignas(64) std::atomic<bool> stop{false};
  struct alignas(64) Count {
    std::uint64_t done = 0;
  };
  std::array<Count, 2> counts;
  const Parts parts = together(2, [&](int thread) {
    std::uint64_t done = 0;
    std::uint64_t sum = 0;
    if (thread == 0) {
      while (!stop) {
        map.scan([&](const Key& key, const Aggregate& a) {
          sum += key.words[0] + a.count;
          ++done;
        });
      }
    } else {
      const double start = wall_s();
      while (wall_s() - start < 0.4) {
        map.update(&events[done % (events.size() - kBatch)], kBatch);
        done += kBatch;
      }
      stop = true;
    }
    asm volatile("" ::"r"(sum));
    counts[static_cast<std::size_t>(thread)].done = done;
  });
  const double scan_ns = parts[0].wall_s / static_cast<double>(counts[0].done) * 1e9;
  const double update_ns = parts[1].wall_s / static_cast<double>(counts[1].done) * 1e9;
  report("M6 scan beside updates, ns a series", name, scan_ns, parts);
  report("M6 writer alone, ns an update", name, alone_ns);
  report("M6 writer beside the scan, ns an update", name, update_ns, parts);
  report("M6 writer's speed kept", name, alone_ns / update_ns, parts);
}
template <typename M>
void scan_job(const char* name, M& map, const std::vector<Event>& events) {
  feed(map, events);  // warms: alone it is as fast as beside, but for the scan
  const double start = wall_s();
  feed(map, events);
  const double alone = (wall_s() - start) / static_cast<double>(events.size()) * 1e9;
  scan_beside(name, map, events, alone);
}

// Sweeps half of the series, then makes new ones and erases the oldest. Leaves the map unusable for more.
template <typename M>
void sweep_and_churn(const char* name, M& map, std::uint64_t series) {
  std::vector<Event> touch(1);
  for (std::uint64_t i = 0; i < series; i += 2) {
    touch[0] = {make_key(i), 1, 2, 0};
    map.update(touch.data(), 1);
  }
  const double swept = cpu_s([&] { map.sweep(2); });
  report("M8 sweep, ns a series", name, swept / static_cast<double>(series) * 1e9);
  const std::uint64_t rounds = std::min<std::uint64_t>(series / 2, 300'000);
  const double churned = cpu_s([&] {
    for (std::uint64_t i = 0; i < rounds; ++i) {
      const Event event{make_key(series + i), 1, 3, 0};
      map.update(&event, 1);
      map.erase(make_key(i * 2));
    }
  });
  report("M8 churn, ns a pair", name, churned / static_cast<double>(rounds) * 1e9);
}

// In a child, so that memory figures are its own: growth one insert at a time.
template <typename M>
void grow(const std::string& size, const char* name, std::uint64_t series) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    rusage before{};
    getrusage(RUSAGE_SELF, &before);
    std::vector<float> took(series, 0.0F);
    for (auto& each : took) each = 1;  // touched before the count of memory starts
    auto resident_kb = [] {
      long pages = 0, resident = 0;
      std::FILE* const file = std::fopen("/proc/self/statm", "r");
      if (file == nullptr || std::fscanf(file, "%ld %ld", &pages, &resident) != 2) std::abort();
      std::fclose(file);
      return static_cast<double>(resident) * 4;
    };
    const double start_kb = resident_kb();
    double peak_kb = start_kb;
    auto map = std::make_unique<M>();
    for (std::uint64_t i = 0; i < series; ++i) {
      const Event event{make_key(i), i & 0xffff, 1, 0};
      const double start = thread_s();  // without the time in which others had the core
      map->update(&event, 1);
      took[i] = static_cast<float>((thread_s() - start) * 1e6);
    }
    getrusage(RUSAGE_SELF, &before);
    peak_kb = std::max(peak_kb, static_cast<double>(before.ru_maxrss));
    const double final_kb = resident_kb();
    std::sort(took.begin(), took.end());
    report(("M4 worst insert, us, " + size).c_str(), name, took.back());
    report(("M4 p99.99 insert, us, " + size).c_str(), name, took[series - 1 - series / 10'000]);
    report(("M5 final bytes a series, " + size).c_str(), name, (final_kb - start_kb) * 1024 / static_cast<double>(series));
    report(("M5 peak / final, " + size).c_str(), name, (peak_kb - start_kb) / (final_kb - start_kb));
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
}
// What the harness itself pays: page faults, clock reads, interruptions.
struct Floor {
  std::vector<Aggregate> all = std::vector<Aggregate>(1);
  void update(const Event* events, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) all[0].add(events[i].value, events[i].time);
  }
};

}  // namespace

void map_round(const Plan& plan) {
  std::vector<std::function<void()>> jobs;
  auto grow_all = [&](const std::string& size, std::uint64_t series) {
    jobs.push_back([&] { grow<Ours<Writers::Many>>(size, "ours", series); });
    jobs.push_back([&] { grow<Floor>(size, "floor", series); });
#ifdef BENCH_BOOST
    jobs.push_back([&] { grow<BoostSingle>(size, "boost", series); });
#endif
    run_shuffled(jobs);
  };
  if (plan.any({"M4", "M5"})) grow_all("1M", plan.series);
  if (plan.any({"M4-10M"})) grow_all("10M", plan.series * 10);
  for (const auto& [name, series] : {std::pair{"1k", std::uint64_t{1'000}}, {"100k", std::uint64_t{100'000}},
                                     {"1M", plan.series}}) {
    const std::string size = name;
    const bool large = size == "1M";
    const bool updating = plan.any({large ? "M1" : "M2"});
    const bool reading = size != "1k" && plan.any({"M7", "M9"});
    if (!updating && !reading && !(large && plan.any({"M3", "M6", "M8"}))) continue;
    Candidates c(series);
    update_round(c, "warm " + size, series, plan.updates / 4, true, 1);
    if (updating) {
      update_round(c, (large ? "M1 zipf " : "M2 zipf ") + size, series, plan.updates, true, 1);
      update_round(c, (large ? "M1 uniform " : "M2 uniform ") + size, series, plan.updates, false, 1);
    }
    if (reading) read_round(c, size, series, plan.updates);
    if (!large) continue;
    if (plan.any({"M3"})) update_round(c, "M3 two threads zipf 1M", series, plan.updates, true, 2);
    if (plan.any({"M6"})) {
      const std::vector<Event> events = make_events(plan.updates, series, true, 5);
      jobs.push_back([&] { scan_job("ours", *c.many, events); });
#ifdef BENCH_BOOST
      jobs.push_back([&] { scan_job("boost", static_cast<BoostSingle&>(*c.boost), events); });
#endif
      run_shuffled(jobs);
    }
    if (plan.any({"M8"})) {
      jobs.push_back([&] { sweep_and_churn("ours", *c.many, series); });
#ifdef BENCH_BOOST
      jobs.push_back([&] { sweep_and_churn("boost", static_cast<BoostSingle&>(*c.boost), series); });
#endif
      run_shuffled(jobs);
    }
  }
}

}  // namespace bench
