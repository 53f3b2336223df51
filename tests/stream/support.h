// What the stream's tests share: a temporary folder, random events, answers as comparable text.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fmt/format.h>
#include <random>

#include "daemon/stream/codec.h"
#include "daemon/stream/embedded_store.h"
#include "daemon/stream/sqlite_store.h"

namespace culprit::stream {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "culprit-stream-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A new seed each run, printed, or CULPRIT_SEED to repeat one.
inline std::uint64_t test_seed() {
  const char* given = ::getenv("CULPRIT_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  ::testing::Test::RecordProperty("seed", std::to_string(seed));
  std::printf("CULPRIT_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

inline Event sample(std::int64_t time_ns, std::string entity, std::string name, double value) {
  Event event;
  event.time_ns = time_ns;
  event.entity = std::move(entity);
  event.name = std::move(name);
  event.value = value;
  return event;
}

inline Event log_line(std::int64_t time_ns, std::string entity, std::string body, std::uint8_t severity = kInfo) {
  Event event;
  event.time_ns = time_ns;
  event.kind = Kind::Log;
  event.severity = severity;
  event.entity = std::move(entity);
  event.name = "t:1";
  event.body = std::move(body);
  return event;
}

// Few names and times, so that ties, prefixes and empty answers all happen.
class RandomEvents {
 public:
  explicit RandomEvents(std::uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  std::string one_of(std::initializer_list<const char*> texts) { return *(texts.begin() + below(texts.size())); }
  std::string letters(std::size_t count) {  // which hardly compress
    std::string out(count, '\0');
    for (char& c : out) c = static_cast<char>('a' + below(26));
    return out;
  }

  Event event(std::int64_t around_ns) {
    Event event;
    event.time_ns = around_ns + static_cast<std::int64_t>(below(50)) * kNsPerSecond / 10;
    event.kind = below(10) < 6 ? Kind::Sample : static_cast<Kind>(1 + below(6));
    event.entity = one_of({"host", "service:shop", "service:redis", "process:7", "edge:shop->redis", ""});
    event.name = one_of({"cpu.time", "cpu.count", "request.rate", "t:1f", "process.exit", ""});
    event.value = below(20) == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(below(1000)) / 7.0;
    if (event.kind != Kind::Sample || below(10) == 0) {
      event.severity = static_cast<std::uint8_t>(below(25));
      if (below(2) == 0) event.body = one_of({"could not connect", "COULD NOT read", "\xff\x00raw", "fine", "x"});
      if (below(3) == 0) event.attributes.emplace_back("pid", one_of({"7", "8", "9"}));
      if (below(3) == 0) event.attributes.emplace_back("service", one_of({"shop", "redis"}));
      if (below(4) == 0) event.trace_id[below(2)] = below(3), event.span_id = below(1000);
    }
    return event;
  }

  std::string filter() {
    const auto term = [&] {
      return one_of({"kind = log", "kind != sample", "severity >= warn", "entity = service:*", "entity in (host, process:7)", "name = cpu.*", "pid = 7",
                     "service = shop", "value > 50", "has trace_id", "\"could\"", "\"not co\"", "body ~ \"[fF]ine\"", "not pid = 8", "has pid", "pid >= 8",
                     "span_id = 0000000000000001"});
    };
    std::string text = term();
    for (std::size_t more = below(3); more > 0; --more) {
      text = below(3) == 0 ? fmt::format("({}) or {}", text, term()) : fmt::format("({}) and not {}", text, term());
    }
    return text;
  }

  Query query(std::int64_t newest_ns) {
    Query query;
    if (below(2) == 0) query.from_ns = newest_ns - static_cast<std::int64_t>(below(60)) * kNsPerSecond;
    if (below(2) == 0) query.to_ns = newest_ns - static_cast<std::int64_t>(below(60)) * kNsPerSecond;
    if (below(3) == 0) query.kinds = {static_cast<Kind>(1 + below(6)), Kind::Sample};
    if (below(6) == 0) query.kinds = {Kind::Log};
    if (below(3) == 0) query.entities = {one_of({"host", "service:*", "*", "process:7", "none"})};
    if (below(6) == 0) query.entities.push_back(one_of({"", "edge:*"}));
    if (below(3) == 0) query.names = {one_of({"cpu.*", "request.rate", "t:*", "process.exit"})};
    if (below(4) == 0) query.text = one_of({"could", "COULD NOT", "e", "absent"});
    if (below(4) == 0) query.severity_min = static_cast<std::uint8_t>(below(25));
    if (below(5) == 0) query.attributes = {{"pid", one_of({"7", "8"})}};
    if (below(3) == 0) query.limit = below(40);
    query.newest_first = below(2) == 0;
    if (below(8) == 0) query.sample = 2;
    if (below(2) == 0) query.filter = parse_filter(filter()).value();
    return query;
  }

 private:
  std::mt19937_64 random_;
};

inline std::vector<std::string> scan_all(const EventStore& store, const Query& query = {}) {
  std::vector<std::string> lines;
  const auto done = store.scan(query, [&](const Event& event) {
    lines.push_back(encode_json(event));
    return true;
  });
  EXPECT_TRUE(done) << done.error().message;
  return lines;
}

inline std::vector<std::string> series_all(const EventStore& store, const Query& query = {}) {
  std::vector<std::string> lines;
  const auto all = store.series(query);
  EXPECT_TRUE(all);
  for (const Series& series : *all) {
    std::string line = series.entity + "|" + series.name;
    for (const Point& point : series.points) line += fmt::format(" {}={}", point.time_ns, point.value);
    lines.push_back(std::move(line));
  }
  return lines;
}

inline std::vector<std::string> group_all(const EventStore& store, const Query& query = {}) {
  std::vector<std::string> lines;
  const auto all = store.group(query);
  EXPECT_TRUE(all);
  for (const Group& g : *all) {
    lines.push_back(fmt::format("{}|{} {} {} {} {} {} {} {} {}", g.entity, g.name, g.count, g.sum, g.min, g.max, g.p50,
                                g.p99, g.first_ns, g.last_ns));
  }
  return lines;
}

inline void expect_conserved(const StoreStats& stats) {
  std::uint64_t dropped = 0;
  for (const auto& [reason, count] : stats.dropped) dropped += count;
  EXPECT_EQ(stats.appended, stats.stored + dropped);
}

}  // namespace culprit::stream
