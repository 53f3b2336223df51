#include <gmock/gmock.h>

#include <fstream>

#include "daemon/stream/day_file.h"
#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t kDay = 86'400 * kNsPerSecond;

class StoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<EmbeddedStore> open() {
    auto store = EmbeddedStore::open(options_, clock_);
    EXPECT_TRUE(store) << store.error().message;
    return store ? std::move(*store) : nullptr;
  }
  std::vector<std::filesystem::path> files(std::string_view part) const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(options_.folder)) {
      if (entry.path().filename().string().find(part) != std::string::npos) found.push_back(entry.path());
    }
    return found;
  }

  TemporaryFolder folder_;
  FakeClock clock_{5000 * kNsPerSecond, 1'700'000'000 * kNsPerSecond};
  StoreOptions options_{.folder = folder_.path() / "state"};
};

TEST_F(StoreTest, EventsAreSeenAtOnceInOrderOfTime) {
  const auto store = open();
  ASSERT_TRUE(store->append({sample(30, "host", "x", 3), sample(10, "host", "x", 1)}));
  ASSERT_TRUE(store->append({sample(20, "host", "x", 2), sample(20, "host", "y", 9)}));
  EXPECT_THAT(scan_all(*store), ElementsAre(HasSubstr("\"time_ns\":10"), HasSubstr("\"name\":\"x\",\"value\":2.0"),
                                            HasSubstr("\"name\":\"y\""), HasSubstr("\"time_ns\":30")));
  EXPECT_THAT(series_all(*store), ElementsAre("host|x 10=1 20=2 30=3", "host|y 20=9"));
  EXPECT_THAT(scan_all(*store, {.limit = 1, .newest_first = true}), ElementsAre(HasSubstr("\"time_ns\":30")));
  std::size_t visits = 0;
  ASSERT_TRUE(store->scan({}, [&](const Event&) { return ++visits < 2; }));
  EXPECT_EQ(visits, 2u);
}

TEST_F(StoreTest, FiltersMatchWhatTheySay) {
  const auto store = open();
  Event change = log_line(40, "service:redis", "");
  change.kind = Kind::Change;
  change.name = "service.restart";
  change.attributes = {{"old", "6"}, {"new", "7"}};
  ASSERT_TRUE(store->append({sample(10, "service:shop", "cpu.time", 1), log_line(20, "service:shop", "Could not connect", kError),
                             log_line(30, "service:redis", "all fine"), change}));
  const struct { const char* name; Query query; std::size_t matches; } cases[] = {
      {"all", {}, 4},
      {"window ends before its end", {.from_ns = 10, .to_ns = 30}, 2},
      {"empty window", {.from_ns = 20, .to_ns = 20}, 0},
      {"kind", {.kinds = {Kind::Log, Kind::Change}}, 3},
      {"entity", {.entities = {"service:shop"}}, 2},
      {"no prefix without a star", {.entities = {"service:"}}, 0},
      {"prefix", {.entities = {"service:*"}}, 4},
      {"name", {.names = {"cpu.time", "service.*"}}, 2},
      {"text in any case", {.text = "COULD not"}, 1},
      {"severity", {.severity_min = kWarn}, 1},
      {"attributes", {.attributes = {{"new", "7"}, {"old", "6"}}}, 1},
      {"one attribute differs", {.attributes = {{"new", "7"}, {"old", "5"}}}, 0},
      {"limit", {.limit = 2}, 2},
      {"no limit left", {.limit = 0}, 0},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(scan_all(*store, c.query).size(), c.matches);
  }
  EXPECT_TRUE(series_all(*store, {.kinds = {Kind::Log}}).empty());
}

TEST_F(StoreTest, GroupsAndDifferences) {
  const auto store = open();
  std::vector<Event> events;
  for (int i = 1; i <= 100; ++i) events.push_back(sample(i * kNsPerSecond, "host", "x", i));
  events.push_back(sample(60 * kNsPerSecond, "host", "new", 5));
  ASSERT_TRUE(store->append(events));
  const auto groups = store->group({.names = {"x"}});
  ASSERT_TRUE(groups);
  ASSERT_EQ(groups->size(), 1u);
  const Group& group = groups->front();
  EXPECT_EQ(std::tie(group.count, group.sum, group.min, group.max, group.p50, group.p99),
            std::make_tuple(std::uint64_t{100}, 5050.0, 1.0, 100.0, 50.0, 99.0));
  const auto differences = store->differs({}, 0, 50 * kNsPerSecond, 50 * kNsPerSecond, 150 * kNsPerSecond);
  ASSERT_TRUE(differences);
  ASSERT_EQ(differences->size(), 2u);
  EXPECT_EQ((*differences)[0].name, "new");
  EXPECT_EQ((*differences)[0].before_per_s, 0);
  EXPECT_EQ((*differences)[0].first_now_ns, 60 * kNsPerSecond);
  EXPECT_DOUBLE_EQ((*differences)[1].before_per_s, 49.0 / 50);
  EXPECT_DOUBLE_EQ((*differences)[1].before_mean, 25);
  EXPECT_DOUBLE_EQ((*differences)[1].now_per_s, 51.0 / 100);
  EXPECT_EQ(store->differs({}, 5, 5, 6, 7).error().code, Code::Invalid);
}

TEST_F(StoreTest, WhatWasCommittedIsThereAfterARestart) {
  {
    const auto store = open();
    ASSERT_TRUE(store->append({log_line(10, "a", "one"), sample(20, "a", "x", 1)}));
    EXPECT_EQ(store->stats().pending, 2u);
    ASSERT_TRUE(store->flush());
    EXPECT_EQ(store->stats().pending, 0u);
    ASSERT_TRUE(store->append({log_line(30, "a", "two")}));
  }
  for (int restart = 0; restart < 3; ++restart) {
    const auto store = open();
    EXPECT_EQ(scan_all(*store).size(), 3u);
    EXPECT_EQ(store->stats().appended, 0u);
    EXPECT_EQ(store->stats().newest_ns, 30);
  }
}

// CLOCK_BOOTTIME starts again at a reboot: older events then have negative times, an hour off the wall an hour off here.
TEST_F(StoreTest, EventsOfAnEarlierBootKeepTheirWallTime) {
  options_.boot_id = "first";
  { ASSERT_TRUE(open()->append({log_line(5000 * kNsPerSecond, "a", "before")})); }
  const std::int64_t wall = clock_.wall_ns(clock_.now_ns()) + 3600 * kNsPerSecond;
  clock_ = FakeClock(100 * kNsPerSecond, wall - 100 * kNsPerSecond);
  options_.boot_id = "second";
  for (int restart = 0; restart < 2; ++restart) {
    EXPECT_THAT(scan_all(*open(), {.to_ns = 0}), ElementsAre(HasSubstr("\"time_ns\":-3500000000000,")));
  }
}

TEST_F(StoreTest, OneProcessAtATime) {
  const auto store = open();
  const auto second = EmbeddedStore::open(options_, clock_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::Busy);
}

TEST_F(StoreTest, FolderThatCannotBeIsAnError) {
  options_.folder = folder_.path() / "no" / "such";
  EXPECT_EQ(EmbeddedStore::open(options_, clock_).error().code, Code::NotFound);
}

TEST_F(StoreTest, PruneDeletesWholeDaysAndTheOldestBeyondTheLimit) {
  auto store = open();
  for (int day = 0; day < 5; ++day) {
    ASSERT_TRUE(store->append({log_line(clock_.now_ns(), "a", fmt::format("day {}", day))}));
    ASSERT_TRUE(store->flush());
    clock_.advance(kDay);
  }
  EXPECT_EQ(files(".db").size() - files("-wal").size() - files("-shm").size(), 5u);
  ASSERT_TRUE(store->prune(clock_.now_ns() - 3 * kDay));
  EXPECT_THAT(scan_all(*store), ElementsAre(HasSubstr("day 2"), HasSubstr("day 3"), HasSubstr("day 4")));
  EXPECT_EQ(store->stats().pruned, 2u);
  expect_conserved(store->stats());
  store.reset();

  options_.disk_bytes = 1;
  store = open();
  EXPECT_EQ(scan_all(*store).size(), 3u);
  ASSERT_TRUE(store->append({log_line(clock_.now_ns(), "a", "today")}));
  ASSERT_TRUE(store->flush());
  ASSERT_TRUE(store->prune(INT64_MIN));
  EXPECT_THAT(scan_all(*store), ElementsAre(HasSubstr("today")));
}

// When a raw day goes, its samples stay as minutes, also after a restart, until their own time is over.
TEST_F(StoreTest, PrunedSamplesStayAsMinutes) {
  options_.background = false;  // prune() itself sums up then; fault_test.cpp has it as it ships
  options_.block_rows = 50;
  const auto fill = [&](EmbeddedStore& store) {
    for (int second = 0; second < 300; ++second) {
      ASSERT_TRUE(store.append({sample(clock_.now_ns(), "host", "x", second % 60), log_line(clock_.now_ns(), "a", "raw")}));
      clock_.advance(kNsPerSecond);
    }
  };
  {
    const auto store = open();
    fill(*store);
    clock_.advance(kDay);
    ASSERT_TRUE(store->append({log_line(clock_.now_ns(), "a", "today")}));
    ASSERT_TRUE(store->flush());
    ASSERT_TRUE(store->prune(clock_.now_ns() - kDay / 2));
    EXPECT_THAT(scan_all(*store), ElementsAre(HasSubstr("today")));
  }
  auto store = open();
  const auto series = store->series({.minutes = true});
  ASSERT_TRUE(series);
  ASSERT_EQ(series->size(), 4u);
  double counted = 0, greatest = 0;
  for (const Series& each : *series) {
    EXPECT_EQ(each.entity, "host");
    EXPECT_GE(each.points.size(), 5u);
    EXPECT_LE(each.points.size(), 6u);
    for (const Point& point : each.points) {
      EXPECT_EQ(clock_.wall_ns(point.time_ns) % (60 * kNsPerSecond), 0);
      if (each.name == "x:count") counted += point.value;
      if (each.name == "x:max") greatest = std::max(greatest, point.value);
      if (each.name == "x:mean" && &point != &each.points.front() && &point != &each.points.back()) {
        EXPECT_DOUBLE_EQ(point.value, 29.5);
      }
    }
  }
  EXPECT_EQ(counted, 300);
  EXPECT_EQ(greatest, 59);
  EXPECT_TRUE(series_all(*store).empty());
  clock_.advance(40 * kDay);
  ASSERT_TRUE(store->append({log_line(clock_.now_ns(), "a", "later")}));
  ASSERT_TRUE(store->flush());
  ASSERT_TRUE(store->prune(clock_.now_ns() - kDay));
  EXPECT_TRUE(series_all(*store, {.minutes = true}).empty());
  EXPECT_TRUE(files("minutes-").empty());
}

TEST_F(StoreTest, LimitInBytesAlsoHoldsWithinADay) {
  options_.block_rows = 1000;
  options_.disk_bytes = 2 << 20;
  const auto store = open();
  RandomEvents random(7);
  for (int i = 0; i < 40; ++i) {
    std::vector<Event> events;
    for (int j = 0; j < 1000; ++j) {
      events.push_back(log_line(clock_.now_ns(), "a", random.letters(300)));
    }
    ASSERT_TRUE(store->append(std::move(events)));
    ASSERT_TRUE(store->flush());
    clock_.advance(kNsPerSecond);
    ASSERT_TRUE(store->prune(INT64_MIN));
  }
  const StoreStats stats = store->stats();
  EXPECT_GT(stats.pruned, 10'000u);
  EXPECT_EQ(stats.appended, 40'000u);
  expect_conserved(stats);
  EXPECT_EQ(scan_all(*store).size(), stats.stored - stats.pruned);
}

// The log counts as well, and is emptied before any event goes for it.
TEST_F(StoreTest, LogBeyondTheLimitIsEmptied) {
  options_.block_rows = 1000;
  options_.disk_bytes = 1 << 20;
  options_.background = false;  // prune() itself empties the log then
  const auto store = open();
  RandomEvents random(7);
  const auto second = [&](std::size_t lines) {
    std::vector<Event> events;
    for (std::size_t j = 0; j < lines; ++j) {
      events.push_back(log_line(clock_.now_ns(), "a", random.letters(300)));
    }
    ASSERT_TRUE(store->append(std::move(events)));
    ASSERT_TRUE(store->flush());
    clock_.advance(kNsPerSecond);
  };
  for (int i = 0; i < 5; ++i) second(500);
  const auto path = day_files(options_.folder, kDayFilePrefix).at(0);
  ASSERT_GT(log_bytes(path), 300'000U);  // as much as the file itself will hold, in a log that is not cut when it is moved there
  ASSERT_GT(file_bytes(path), options_.disk_bytes);
  ASSERT_TRUE(store->prune(INT64_MIN));
  EXPECT_EQ(log_bytes(path), 0U);
  EXPECT_LE(file_bytes(path), options_.disk_bytes);
  EXPECT_EQ(store->stats().pruned, 0U);
  EXPECT_EQ(scan_all(*store).size(), 2500U);
}

// What is deleted goes through the log first: within the day that is written, too, the limit holds on disk.
TEST_F(StoreTest, LogOfWhatWasDeletedIsEmptied) {
  options_.block_rows = 1000;
  options_.disk_bytes = 1 << 20;
  options_.background = false;
  const auto store = open();
  RandomEvents random(7);
  for (int i = 0; i < 10; ++i) {
    std::vector<Event> events;
    for (int j = 0; j < 500; ++j) {
      events.push_back(log_line(clock_.now_ns(), "a", random.letters(300)));
    }
    ASSERT_TRUE(store->append(std::move(events)));
    ASSERT_TRUE(store->flush());
    clock_.advance(kNsPerSecond);
    ASSERT_TRUE(store->prune(INT64_MIN));
    const auto path = day_files(options_.folder, kDayFilePrefix).at(0);
    EXPECT_LE(log_bytes(path), options_.disk_bytes);
    EXPECT_TRUE(store->stats().pruned == 0 || log_bytes(path) == 0);
  }
  EXPECT_GT(store->stats().pruned, 0U);
  EXPECT_LE(store->stats().on_disk_bytes, options_.disk_bytes + (200u << 10));  // of one batch, before the next look
}

TEST_F(StoreTest, WhatIsLargerThanMemoryTakesFewWithIt) {
  options_ = {.memory_bytes = 4 << 20};
  const auto store = open();
  std::vector<Event> events;
  for (int i = 0; i < 1000; ++i) events.push_back(log_line(i, "a", "short"));
  events.push_back(log_line(1000, "a", std::string(8 << 20, 'x')));
  EXPECT_EQ(store->append(std::move(events)).error().code, Code::Exhausted);
  const StoreStats stats = store->stats();
  EXPECT_GE(stats.stored, 700U);
  EXPECT_EQ(stats.stored + stats.dropped.at("memory_limit"), 1001U);
  expect_conserved(stats);
  EXPECT_EQ(scan_all(*store).size(), stats.stored);
}

TEST_F(StoreTest, MemoryOnlyDropsTheOldestAndCountsThem) {
  options_ = {.memory_bytes = 1 << 20};
  options_.block_rows = 500;
  const auto store = open();
  for (int i = 0; i < 100; ++i) {
    std::vector<Event> events;
    for (int j = 0; j < 200; ++j) events.push_back(log_line(i * 1000 + j, "a", "some text that needs its own memory"));
    ASSERT_TRUE(store->append(std::move(events)));
    EXPECT_LE(store->stats().in_memory_bytes, std::size_t{1} << 20);
  }
  const StoreStats stats = store->stats();
  EXPECT_GT(stats.dropped.at("memory_limit"), 0u);
  EXPECT_EQ(stats.stored, stats.in_memory);
  expect_conserved(stats);
  EXPECT_EQ(scan_all(*store).size(), stats.stored);
  EXPECT_EQ(store->append({log_line(0, "a", std::string(2 << 20, 'x'))}).error().code, Code::Exhausted);
  expect_conserved(store->stats());
}

// Old blocks leave memory, not the answers.
TEST_F(StoreTest, OldEventsAreReadFromDisk) {
  options_.block_rows = 100;
  const auto store = open();
  for (int second = 0; second < 1200; ++second) {
    ASSERT_TRUE(store->append({sample(clock_.now_ns(), "host", "x", second)}));
    clock_.advance(kNsPerSecond);
  }
  const StoreStats stats = store->stats();
  EXPECT_LE(stats.in_memory, 701u);
  EXPECT_GE(stats.in_memory, 600u);
  const auto series = store->series({});
  ASSERT_TRUE(series);
  ASSERT_EQ(series->front().points.size(), 1200u);
  for (int second = 0; second < 1200; ++second) EXPECT_EQ(series->front().points[static_cast<std::size_t>(second)].value, second);
}

}  // namespace
}  // namespace culprit::stream
