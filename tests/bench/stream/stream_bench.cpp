// The embedded store against the plain SQLite table, on the same events in one run: `bench_stream [--json] [EVENTS]`,
// 1,000,000 unless told. Ingest takes events as fast as the store takes them, on the real clock; CPU time is that of the
// whole process, helper threads too, but for what this thread takes to make the events. Both stores take them in turns, into an empty folder each
// time; medians of five (three from 2 million on), and memory of the round that took most. Queries are medians of as many.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "daemon/concurrent/channel.h"
#include "daemon/stream/embedded_store.h"
#include "daemon/stream/sqlite_store.h"
#include "tests/bench/stream/events.h"

namespace culprit::stream {
namespace {

constexpr std::uint64_t kSeed = 42;
constexpr const char* kText = "could not reach payment gateway";
constexpr std::int64_t kVisibleSeconds = 10, kVisiblePerSecond = 20'000, kVisibleBatch = 100;

struct Ingest {
  std::int64_t begin_ns = 0;  // of the events
  std::size_t events = 0;
  double cpu_ns = 0, per_s = 0, memory_mb = 0;
};

struct Answers {
  double bytes = 0, aggregate_ms = 0, text_ms = 0, rare_text_ms = 0, differs_ms = 0, lookup_ms = 0, open_ms = 0;
};

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

template <typename T>
T need(Result<T> result) {
  if (!result) stop(result.error().message);
  return std::move(*result);
}

double wall_ms() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double cpu_ms(clockid_t of = CLOCK_PROCESS_CPUTIME_ID) {
  timespec now{};
  ::clock_gettime(of, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

double resident_mb() {
  std::ifstream status("/proc/self/statm");
  double total = 0, resident = 0;
  status >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1048576;
}

template <typename Work>
double median_ms(int times, Work&& work) {
  std::vector<double> all;
  for (int i = 0; i < times; ++i) {
    const double begin = wall_ms();
    work();
    all.push_back(wall_ms() - begin);
  }
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

void forget_cached(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const int fd = ::open(entry.path().c_str(), O_RDONLY);
    if (fd < 0) continue;
    ::fdatasync(fd);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

std::int64_t seconds_of(std::int64_t events) { return std::max<std::int64_t>(events / HostEvents::kPerSecond, 60); }

template <typename Store>
Ingest ingest(const StoreOptions& options, std::int64_t events) {
  std::filesystem::remove_all(options.folder);
  const SystemClock clock;
  const std::int64_t seconds = seconds_of(events);
  Ingest out{.begin_ns = clock.now_ns() - seconds * kNsPerSecond};
  auto store = need(Store::open(options, clock));
  HostEvents host(kSeed, out.begin_ns);
  const double base_mb = resident_mb();
  double making = 0, wall = 0;
  const double cpu_begin = cpu_ms();
  for (std::int64_t second = 0; second < seconds; ++second) {
    const double making_begin = cpu_ms(CLOCK_THREAD_CPUTIME_ID);
    std::vector<Event> batch = host.second();
    making += cpu_ms(CLOCK_THREAD_CPUTIME_ID) - making_begin;
    out.events += batch.size();
    const double wall_begin = wall_ms();
    (void)store->append(std::move(batch));
    wall += wall_ms() - wall_begin;
    if (second % 16 == 0) out.memory_mb = std::max(out.memory_mb, resident_mb() - base_mb);
  }
  const double wall_begin = wall_ms();
  (void)store->flush();
  store.reset();
  wall += wall_ms() - wall_begin;
  out.cpu_ns = (cpu_ms() - cpu_begin - making) * 1e6 / static_cast<double>(out.events);
  out.per_s = static_cast<double>(out.events) / wall * 1e3;
  return out;
}

template <typename Figure>
double median(std::vector<Ingest> rounds, Figure figure) {
  std::ranges::sort(rounds, {}, figure);
  return rounds[rounds.size() / 2].*figure;
}

// Of the events of the last round.
template <typename Store>
Answers ask(const StoreOptions& options, const Ingest& last, std::int64_t seconds, int repeats, std::vector<std::size_t>& answers) {
  Answers figures;
  const SystemClock clock;
  const std::int64_t begin = last.begin_ns;
  const std::size_t count = last.events;
  figures.open_ms = median_ms(1, [&] { (void)need(Store::open(options, clock)); });  // seals what is left
  for (const auto& file : std::filesystem::directory_iterator(options.folder)) figures.bytes += static_cast<double>(file.file_size());
  figures.bytes /= static_cast<double>(count);
  auto store = need(Store::open(options, clock));
  const std::int64_t end = begin + seconds * kNsPerSecond;
  if (store->stats().dropped.size() > 0) stop("events were dropped");

  Aggregation rate{.where = {.from_ns = begin, .to_ns = end, .kinds = {Kind::Sample}, .names = {"request.duration.mean"}}, .by = {"entity"}};
  std::size_t rows = 0;
  figures.aggregate_ms = median_ms(repeats, [&] { rows = need(store->aggregate(rate)).rows.size(); });
  answers.push_back(rows);
  const auto matches = [&](const std::string& text) {
    std::size_t found = 0;
    (void)need(store->scan({.kinds = {Kind::Log}, .text = text}, [&](const Event&) { return ++found > 0; }));
    return found;
  };
  figures.text_ms = median_ms(repeats, [&] { rows = matches(kText); });
  answers.push_back(rows);
  figures.rare_text_ms = median_ms(repeats, [&] { rows = matches("segmentation fault"); });
  answers.push_back(rows);
  const std::int64_t cut = end - (end - begin) / 30;
  figures.differs_ms = median_ms(repeats, [&] { rows = need(store->contrast({}, {begin, cut}, {cut, end}, 1000)).changes.size(); });
  answers.push_back(rows);
  // One entity, one minute, with nothing of the files in the page cache and no open connection.
  std::vector<double> lookups;
  for (int i = 0; i < 11; ++i) {
    store.reset();
    store = need(Store::open(options, clock));
    forget_cached(options.folder);
    const std::int64_t from = begin + (end - begin) * (i + 1) / 13;
    lookups.push_back(median_ms(1, [&] { rows = need(store->series({.from_ns = from, .to_ns = from + 60 * kNsPerSecond, .entities = {"service:checkout"}})).size(); }));
  }
  answers.push_back(rows);
  std::sort(lookups.begin(), lookups.end());
  figures.lookup_ms = lookups[lookups.size() / 2];
  return figures;
}

// Events go through a channel to the thread that appends; another asks the store all the time for the newest.
// Gives the 99th of 100 times from the send to the answer that holds the batch.
double visible_p99_ms(const std::filesystem::path& folder) {
  const SystemClock clock;
  auto store = need(EmbeddedStore::open({.folder = folder}, clock));
  concurrent::Channel<std::vector<Event>> channel({.name = "events", .capacity = 1024});
  std::jthread owner([&] {
    std::vector<Event> batch;
    std::int64_t flushed = clock.now_ns();
    while (channel.recv(batch) == concurrent::Outcome::Done) {
      (void)store->append(std::move(batch));
      if (clock.now_ns() - flushed > kNsPerSecond) {
        (void)store->flush();
        flushed = clock.now_ns();
      }
    }
  });
  std::vector<std::int64_t> sent;  // of each batch; the batch's marker has this time
  const std::int64_t batches = kVisibleSeconds * kVisiblePerSecond / kVisibleBatch;
  std::atomic<std::int64_t> newest_sent = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> seen;  // the newest marker of an answer, and when it came
  std::jthread asker([&](const std::stop_token& stopping) {
    std::int64_t newest = 0;
    while (!stopping.stop_requested()) {
      std::int64_t found = 0;
      (void)store->scan({.from_ns = clock.now_ns() - kNsPerSecond / 2, .names = {"marker"}, .limit = 1, .newest_first = true}, [&](const Event& event) {
        found = event.time_ns;
        return true;
      });
      if (found > newest) seen.emplace_back(newest = found, clock.now_ns());
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  });
  HostEvents host(kSeed, clock.now_ns());
  std::vector<Event> pool = host.second();
  std::size_t next = 0;
  const std::int64_t begin = clock.now_ns();
  for (std::int64_t i = 0; i < batches; ++i) {
    std::vector<Event> batch;
    for (std::int64_t j = 1; j < kVisibleBatch; ++j) {
      batch.push_back(pool[next++ % pool.size()]);
      batch.back().time_ns = clock.now_ns();
    }
    const std::int64_t due = begin + i * kVisibleBatch * kNsPerSecond / kVisiblePerSecond;
    if (const std::int64_t wait = due - clock.now_ns(); wait > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(wait));
    Event& marker = batch.emplace_back();
    marker.entity = "host";
    marker.name = "marker";
    marker.time_ns = clock.now_ns();
    sent.push_back(marker.time_ns);
    (void)channel.send(std::move(batch));
    newest_sent = sent.back();
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  (void)channel.close();
  owner.join();
  asker.request_stop();
  asker.join();
  std::vector<double> delays;
  auto answer = seen.begin();
  for (const std::int64_t time : sent) {
    while (answer != seen.end() && answer->first < time) ++answer;
    delays.push_back(answer == seen.end() ? 1e9 : static_cast<double>(answer->second - time) / 1e6);
  }
  std::sort(delays.begin(), delays.end());
  return delays[delays.size() * 99 / 100];
}

}  // namespace
}  // namespace culprit::stream

int main(int argc, char** argv) {
  using namespace culprit::stream;
  bool json = false;
  std::int64_t events = 1'000'000;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--json") {
      json = true;
    } else {
      events = std::clamp(std::atol(argv[i]), 200'000L, 100'000'000L);
    }
  }
  std::string folder = std::filesystem::temp_directory_path() / "culprit-bench-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  std::vector<std::size_t> answers, expected;
  const int repeats = events < 2'000'000 ? 5 : 3;
  const StoreOptions columns{.folder = folder + "/embedded", .disk_bytes = 0}, table{.folder = folder + "/sqlite", .disk_bytes = 0};
  std::vector<Ingest> ours_rounds, table_rounds;
  for (int round = 0; round < repeats; ++round) {
    ours_rounds.push_back(ingest<EmbeddedStore>(columns, events));
    table_rounds.push_back(ingest<SqliteStore>(table, events));
  }
  const Answers ours = ask<EmbeddedStore>(columns, ours_rounds.back(), seconds_of(events), 5, answers);
  const Answers theirs = ask<SqliteStore>(table, table_rounds.back(), seconds_of(events), repeats, expected);
  const double visible = visible_p99_ms(folder + "/visible");
  std::filesystem::remove_all(folder);
  if (answers != expected) {
    std::fprintf(stderr, "the stores answer differently: %s\n", fmt::format("{} and {}", fmt::join(answers, " "), fmt::join(expected, " ")).c_str());
    return 1;
  }
  const std::string workload = fmt::format("{} mixed events, seed {}, {} a second of their own time", events, kSeed, HostEvents::kPerSecond);
  const double none = std::nan("");
  const double ours_cpu_ns = median(ours_rounds, &Ingest::cpu_ns), table_cpu_ns = median(table_rounds, &Ingest::cpu_ns);
  const auto most_memory = [](const std::vector<Ingest>& rounds) { return std::ranges::max(rounds, {}, &Ingest::memory_mb).memory_mb; };
  const struct {
    const char *id, *unit;
    double ours, reference;
    double asked;      // NaN: nothing asked
    bool of_ratio;     // asked of how many times better than the reference it is
    bool more_is_better;
  } lines[] = {
      {"stream.ingest.cpu", "ns/event", ours_cpu_ns, table_cpu_ns, 6, true, false},
      {"stream.ingest.rate", "events/s", 1e9 / ours_cpu_ns, 1e9 / table_cpu_ns, 1e6, false, true},
      {"stream.ingest.wall", "events/s", median(ours_rounds, &Ingest::per_s), median(table_rounds, &Ingest::per_s), none, false, true},
      {"stream.ingest.memory", "MiB", most_memory(ours_rounds), most_memory(table_rounds), 256, false, false},
      {"stream.bytes", "B/event", ours.bytes, theirs.bytes, 20, false, false},
      {"stream.aggregate", "ms", ours.aggregate_ms, theirs.aggregate_ms, 20, true, false},
      {"stream.text", "ms", ours.text_ms, theirs.text_ms, 3, true, false},
      {"stream.text.absent", "ms", ours.rare_text_ms, theirs.rare_text_ms, none, true, false},
      {"stream.differs", "ms", ours.differs_ms, theirs.differs_ms, 1000, false, false},
      {"stream.lookup.cold", "ms", ours.lookup_ms, theirs.lookup_ms, 5, false, false},
      {"stream.open", "ms", ours.open_ms, theirs.open_ms, 2000, false, false},
      {"stream.visible.p99", "ms", visible, none, 9.3, false, false},
  };
  if (!json) fmt::print("{}\n{:<22}{:>14}{:>14}  {:<9}{:>8}  asked\n", workload, "", "columns", "plain SQLite", "", "ratio");
  bool all = true;
  for (const auto& line : lines) {
    const double ratio = line.more_is_better ? line.ours / line.reference : line.reference / line.ours;  // above 1: ours is better
    const double measured = line.of_ratio ? ratio : line.ours;
    const bool ok = std::isnan(line.asked) || (line.of_ratio || line.more_is_better ? measured >= line.asked : measured <= line.asked);
    all = all && ok;
    if (json) {
      const auto number = [](double value) { return std::isnan(value) ? nlohmann::ordered_json() : nlohmann::ordered_json(value); };
      const nlohmann::ordered_json document = {{"id", line.id},         {"workload", workload},        {"ours", line.ours},
                                               {"opponent", number(line.reference)}, {"ratio", number(ratio)}, {"unit", line.unit},
                                               {"asked", number(line.asked)},        {"asked_of", line.of_ratio ? "ratio" : "ours"}, {"ok", ok}};
      fmt::print("{}\n", document.dump());
    } else {
      fmt::print("{:<22}{:>14.1f}{:>14.1f}  {:<9}{:>8.1f}  {}\n", line.id, line.ours, line.reference, line.unit, ratio,
                 std::isnan(line.asked) ? "" : fmt::format("{} {:g}{}: {}", line.of_ratio || line.more_is_better ? "at least" : "at most", line.asked,
                                                           line.of_ratio ? " times" : "", ok ? "ok" : "MISSED"));
    }
  }
  return all ? 0 : 3;
}
