// The embedded store against the plain SQLite table, on the same events: an hour of 500 series, one sample a second
// each, and a tenth as many log lines. `bench_stream [--json] [SECONDS]`; clocks are simulated, work is real.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "daemon/stream/embedded_store.h"
#include "daemon/stream/sqlite_store.h"

namespace culprit::stream {
namespace {

constexpr std::int64_t kSeries = 500, kLogs = 50;  // a second
constexpr std::int64_t kStartNs = 1000 * kNsPerSecond;

struct Result {
  double append_per_s = 0, slowest_append_ms = 0, series_hour_ms = 0, series_minute_ms = 0, scan_text_ms = 0,
         differs_ms = 0, disk_bytes = 0, open_ms = 0;
};

template <typename Work>
double milliseconds(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<Event> events_of(std::int64_t second) {
  std::vector<Event> events;
  const std::int64_t time = kStartNs + second * kNsPerSecond;
  for (std::int64_t i = 0; i < kSeries; ++i) {
    Event& event = events.emplace_back();
    event.time_ns = time + i * 1000;
    event.entity = fmt::format("service:shop-{}", i / 20);
    event.name = fmt::format("request.series.{}", i % 20);
    event.value = static_cast<double>((i * 7919 + second * 104729) % 1000) / (i % 3 == 0 ? 1 : 7);
  }
  for (std::int64_t i = 0; i < kLogs; ++i) {
    Event& event = events.emplace_back();
    event.time_ns = time + 500'000'000 + i;
    event.kind = Kind::Log;
    event.severity = kInfo;
    event.entity = fmt::format("service:shop-{}", i % 25);
    event.name = "t:00000000000000ff";
    event.attributes = {{"process.pid", fmt::format("{}", 4000 + i)}, {"thread.id", fmt::format("{}", 4000 + i)}};
    event.body = fmt::format("GET /items/{} took {} ms for user {}", second * i % 977, (second + i) % 31, second % 101);
  }
  return events;
}

template <typename Store>
Result run(const StoreOptions& options, std::int64_t seconds) {
  Result result;
  FakeClock clock(kStartNs, 1'700'000'000 * kNsPerSecond);
  auto opened = Store::open(options, clock);
  if (!opened) std::exit((std::fprintf(stderr, "%s\n", opened.error().message.c_str()), 1));
  auto store = std::move(*opened);
  double append_ms = 0;
  for (std::int64_t second = 0; second < seconds; ++second) {
    std::vector<Event> events = events_of(second);
    const double took = milliseconds([&] { (void)store->append(std::move(events)); });
    append_ms += took;
    result.slowest_append_ms = std::max(result.slowest_append_ms, took);
    clock.advance(kNsPerSecond);
  }
  append_ms += milliseconds([&] { (void)store->flush(); });
  result.append_per_s = static_cast<double>(seconds * (kSeries + kLogs)) / append_ms * 1000;
  const std::int64_t end = clock.now_ns();
  std::size_t points = 0;
  result.series_hour_ms = milliseconds([&] {
    for (const Series& series : *store->series({.from_ns = end - 3600 * kNsPerSecond})) points += series.points.size();
  });
  if (points != static_cast<std::size_t>(std::min<std::int64_t>(seconds, 3600) * kSeries)) {
    std::exit((std::fprintf(stderr, "series: %zu points\n", points), 1));
  }
  result.series_minute_ms = milliseconds([&] { (void)store->series({.from_ns = end - 60 * kNsPerSecond}); });
  result.scan_text_ms = milliseconds([&] {
    (void)store->scan({.kinds = {Kind::Log}, .text = "user 7", .limit = 100, .newest_first = true}, [](const Event&) { return true; });
  });
  result.differs_ms = milliseconds([&] {
    (void)store->differs({}, end - 600 * kNsPerSecond, end - 60 * kNsPerSecond, end - 60 * kNsPerSecond, end);
  });
  store.reset();
  for (const auto& file : std::filesystem::directory_iterator(options.folder)) result.disk_bytes += static_cast<double>(file.file_size());
  result.open_ms = milliseconds([&] { (void)Store::open(options, clock); });
  return result;
}

}  // namespace
}  // namespace culprit::stream

int main(int argc, char** argv) {
  using namespace culprit::stream;
  bool json = false;
  std::int64_t seconds = 3600;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--json") {
      json = true;
    } else {
      seconds = std::max(60L, std::atol(argv[i]));
    }
  }
  std::string folder = std::filesystem::temp_directory_path() / "culprit-bench-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  StoreOptions options;
  options.folder = folder + "/embedded";
  const Result ours = run<EmbeddedStore>(options, seconds);
  options.folder = folder + "/sqlite";
  const Result theirs = run<SqliteStore>(options, seconds);
  std::filesystem::remove_all(folder);

  const std::string workload = fmt::format("{} s of {} samples and {} log lines a second", seconds, kSeries, kLogs);
  const struct {
    const char *id, *unit;
    double Result::*value;
    double asked;  // 0: nothing asked; for rates at least, else at most
    bool more_is_better;
  } lines[] = {
      {"stream.append", "events/s", &Result::append_per_s, 200'000, true},
      {"stream.append.slowest", "ms", &Result::slowest_append_ms, 0, false},
      {"stream.series.hour", "ms", &Result::series_hour_ms, 300, false},
      {"stream.series.minute", "ms", &Result::series_minute_ms, 0, false},
      {"stream.scan.text", "ms", &Result::scan_text_ms, 0, false},
      {"stream.differs", "ms", &Result::differs_ms, 0, false},
      {"stream.disk", "bytes", &Result::disk_bytes, 0, false},
      {"stream.open", "ms", &Result::open_ms, 0, false},
  };
  for (const auto& line : lines) {
    const double a = ours.*line.value, b = theirs.*line.value;
    const double ratio = line.more_is_better ? a / b : b / a;  // above 1: ours is better
    const bool ok = line.asked == 0 || (line.more_is_better ? a >= line.asked : a <= line.asked);
    if (json) {
      const nlohmann::ordered_json document = {
          {"id", line.id},       {"workload", workload}, {"ours", a},
          {"opponent", b},       {"ratio", ratio},       {"unit", line.unit},
          {"asked", line.asked == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(line.asked)}, {"ok", ok}};
      fmt::print("{}\n", document.dump());
    } else {
      fmt::print("{:<22} {:>14.1f} {:<9} plain SQLite {:>14.1f}   {:>6.1f} times better{}\n", line.id, a, line.unit, b, ratio,
                 ok ? "" : fmt::format("   asked {}", line.asked));
    }
  }
  return 0;
}
