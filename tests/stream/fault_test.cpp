// Faults: every n-th write fails, a process is killed while it writes, files are damaged.
#include <gmock/gmock.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <set>
#include <thread>

#include "daemon/base/log.h"
#include "daemon/stream/database.h"
#include "daemon/stream/maintenance.h"
#include "tests/stream/faulty_vfs.h"
#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

// What the process that is killed tells before: everything up to this event is durable.
struct Told {
  std::int64_t last;
  std::int64_t by_stats;  // 1, or 0 if by a flush
};

class FaultTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    log::set_level(log::Level::Error);  // each failure warns
    ASSERT_TRUE(register_faulty_vfs());
  }
  void SetUp() override { heal(); }
  static void heal() {
    std::fill(std::begin(faults.counts), std::end(faults.counts), 0);
    faults.failing = Faults::Write;
    faults.fail_at = faults.fail_from = -1;
    faults.code = SQLITE_FULL;
    faults.full_file.clear();
  }
  // A store and its clock; 40 batches of 25 events, 0.3 s apart.
  void fill(EmbeddedStore& store, int batches = 40) {
    for (int batch = 0; batch < batches; ++batch) {
      std::vector<Event> events;
      for (int i = 0; i < 25; ++i) {
        const auto time = static_cast<std::int64_t>(next_++);
        events.push_back(i % 2 == 0 ? sample(time, "host", "x", 1) : log_line(time, "service:shop", "a line"));
      }
      ASSERT_TRUE(store.append(std::move(events)));
      clock_.advance(kNsPerSecond * 3 / 10);
    }
  }

  TemporaryFolder folder_;
  FakeClock clock_{0, 1'700'000'000 * kNsPerSecond};
  std::size_t next_ = 0;
  StoreOptions options_ = [this] {
    StoreOptions options{.folder = folder_.path() / "state"};
    options.block_rows = 110;
    options.vfs = "faulty";
    options.background = false;  // so that the n-th write is always the same one
    return options;
  }();
};

// One operation of a fixed trace fails, whichever it is and wherever it falls: nothing is lost while the store
// runs, and after it everything it said was stored is there.
TEST_F(FaultTest, OneFailedOperationLosesNothing) {
  std::int64_t totals[Faults::kOperations];
  {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    fill(**store, 12);
    ASSERT_TRUE((*store)->flush());
    store->reset();
    std::copy(std::begin(faults.counts), std::end(faults.counts), totals);
  }
  ASSERT_GT(totals[Faults::Write], 20);
  ASSERT_GT(totals[Faults::Open], 1);
  const struct {
    const char* name;
    Faults::Operation operation;
    int code;
  } cases[] = {{"disk full", Faults::Write, SQLITE_FULL},
               {"write error", Faults::Write, SQLITE_IOERR_WRITE},
               {"sync error", Faults::Sync, SQLITE_IOERR_FSYNC},
               {"open error", Faults::Open, SQLITE_CANTOPEN},
               {"truncation error", Faults::Truncate, SQLITE_IOERR_TRUNCATE}};
  for (const auto& c : cases) {
    for (std::int64_t n = 1; n <= totals[c.operation] + 1; ++n) {
      SCOPED_TRACE(fmt::format("{}, operation {}", c.name, n));
      std::filesystem::remove_all(options_.folder);
      heal();
      faults.failing = c.operation;
      faults.fail_at = n;
      faults.code = c.code;
      next_ = 0;
      {
        auto store = EmbeddedStore::open(options_, clock_);
        ASSERT_TRUE(store) << store.error().message;
        fill(**store, 12);
        clock_.advance(60 * kNsPerSecond);
        // A question whose own open failed says so; the next one answers.
        std::size_t seen = 0;
        for (int tries = 0; tries < 2 && seen != next_; ++tries) {
          seen = 0;
          const auto answered = (*store)->scan({}, [&](const Event&) { return ++seen > 0; });
          EXPECT_TRUE(answered || (c.operation == Faults::Open && tries == 0));
        }
        EXPECT_EQ(seen, next_);
        for (int tries = 0; tries < 3 && !(*store)->flush(); ++tries) clock_.advance(60 * kNsPerSecond);
        const StoreStats stats = (*store)->stats();
        EXPECT_EQ(stats.pending, 0u);
        EXPECT_TRUE(stats.dropped.empty());
        EXPECT_EQ(stats.stored, next_);
        expect_conserved(stats);
      }
      heal();
      auto again = EmbeddedStore::open(options_, clock_);
      ASSERT_TRUE(again);
      EXPECT_EQ(scan_all(**again).size(), next_);
      if (HasFailure()) return;
    }
  }
}

// A question for samples reads their columns alone, not the lines of text that share their block.
TEST_F(FaultTest, ReadsOnlyTheColumnsThatAreAsked) {
  RandomEvents random(7);
  std::int64_t body_bytes = 0;
  {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    std::vector<Event> events;
    for (int i = 0; i < 50; ++i) {
      std::string body;
      for (int j = 0; j < 10'000; ++j) body.push_back(static_cast<char>('!' + random.below(90)));
      body_bytes += 10'000;
      events.push_back(log_line(i, "service:shop", body));
      events.push_back(sample(i, "host", "x", i));
    }
    ASSERT_TRUE((*store)->append(std::move(events)));
  }
  ASSERT_TRUE(EmbeddedStore::open(options_, clock_));  // seals
  auto store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  faults.read_bytes = 0;
  EXPECT_EQ(series_all(**store).size(), 1u);
  EXPECT_GT(faults.read_bytes, 0);
  EXPECT_LT(faults.read_bytes, body_bytes / 4);
  EXPECT_EQ(scan_all(**store).size(), 100u);
  EXPECT_GT(faults.read_bytes, body_bytes / 2);
}

// Events are taken, made durable and found while a day that goes is summed up; then it is gone, and its minutes are there.
TEST_F(FaultTest, IngestGoesOnWhileADayIsSummedUp) {
  options_.background = true;  // as it ships
  auto opened = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(opened);
  EmbeddedStore& store = **opened;
  fill(store);
  ASSERT_TRUE(store.flush());
  clock_.advance(86'400 * kNsPerSecond);
  ASSERT_TRUE(store.flush());  // the next day's file begins
  fill(store, 1);
  ASSERT_TRUE(store.flush());
  faults.hold_summaries = true;
  ASSERT_TRUE(store.prune(clock_.now_ns() - 3600 * kNsPerSecond));
  fill(store, 8);
  ASSERT_TRUE(store.flush());
  EXPECT_EQ(store.stats().pending, 0u);
  ASSERT_TRUE(store.prune(clock_.now_ns() - 3600 * kNsPerSecond));
  EXPECT_EQ(scan_all(store).size(), next_);
  EXPECT_TRUE(series_all(store, {.minutes = true}).empty());
  EXPECT_FALSE(faults.held_too_long);
  faults.hold_summaries = false;
  while (scan_all(store).size() == next_ && !HasFailure()) {
    clock_.advance(kNsPerSecond);
    ASSERT_TRUE(store.flush());
  }
  EXPECT_EQ(scan_all(store).size(), 9u * 25);
  EXPECT_EQ(series_all(store, {.minutes = true}).size(), 4u);
  expect_conserved(store.stats());
}

// A daemon that ends while a day is summed up does not wait for it, and the next one does it again.
TEST_F(FaultTest, AnUnfinishedSummaryIsMadeAgain) {
  options_.background = true;
  {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    fill(**store);
    ASSERT_TRUE((*store)->flush());
    clock_.advance(86'400 * kNsPerSecond);
    ASSERT_TRUE((*store)->flush());  // the next day's file begins
    fill(**store, 1);
    ASSERT_TRUE((*store)->flush());
    faults.fail_from = faults.counts[Faults::Write].load();  // the summary cannot be written, nor is the day removed before
    faults.hold_summaries = true;
    ASSERT_TRUE((*store)->prune(clock_.now_ns() - 3600 * kNsPerSecond));
    faults.hold_summaries = false;
  }
  heal();
  options_.background = false;
  auto store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  EXPECT_EQ(scan_all(**store).size(), next_);
  fill(**store, 1);
  ASSERT_TRUE((*store)->flush());
  ASSERT_TRUE((*store)->prune(clock_.now_ns() - 3600 * kNsPerSecond));
  EXPECT_EQ(scan_all(**store).size(), 50u);
  EXPECT_EQ(series_all(**store, {.minutes = true}).size(), 4u);
}

// A disk that stays full: memory serves up to its limit, then the oldest go, counted as disk_full; when there
// is room again, what is left is saved.
TEST_F(FaultTest, FullDiskIsCountedAndHeals) {
  options_.memory_bytes = 300'000;
  auto store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  fill(**store, 4);
  faults.fail_from = faults.counts[Faults::Write].load();
  fill(**store, 4);
  EXPECT_EQ(scan_all(**store).size(), next_);
  EXPECT_EQ((*store)->flush().error().code, Code::Exhausted);
  EXPECT_GT((*store)->stats().pending, 0u);
  fill(**store, 200);
  StoreStats stats = (*store)->stats();
  EXPECT_GT(stats.dropped.at("disk_full"), 0u);
  EXPECT_GT(stats.commit_failures, 0u);
  EXPECT_LE(stats.in_memory_bytes, options_.memory_bytes);
  expect_conserved(stats);
  EXPECT_EQ(scan_all(**store).size(), stats.stored);
  heal();
  clock_.advance(60 * kNsPerSecond);
  EXPECT_TRUE((*store)->flush());
  stats = (*store)->stats();
  EXPECT_EQ(stats.pending, 0u);
  EXPECT_EQ(scan_all(**store).size(), stats.stored);
  expect_conserved(stats);
}

// Killed at any moment: what was told to be durable is there, a prefix of what was appended, and nothing twice. It is told by
// a flush that worked and by stats(), of which nothing is pending; the blocks are sealed from groups that are durable
// already, or at once, from more rows than a group takes, by a helper thread that is killed too.
TEST_F(FaultTest, KilledProcessLosesAtMostWhatWasNotCommitted) {
  RandomEvents random(test_seed());
  options_.vfs = "";
  options_.background = true;  // as it ships
  options_.commit_ns = 1'000'000;
  std::size_t told_by_stats = 0;
  for (int round = 0; round < 50; ++round) {
    const std::int64_t together = std::array{1, 10, 70, 250}[static_cast<std::size_t>(round % 4)];  // of blocks of 110, groups of 55
    std::filesystem::remove_all(options_.folder);
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const SystemClock clock;
      auto store = EmbeddedStore::open(options_, clock);
      std::int64_t next = 0;
      for (int step = 0; store; ++step) {
        std::vector<Event> events;
        for (std::int64_t i = 0; i < together; ++i) events.push_back(sample(next++, "host", "x", 1));
        (void)(*store)->append(std::move(events));
        const bool flushes = step % 10 == 9;
        const bool durable = flushes ? (*store)->flush().has_value() : (*store)->stats().pending == 0;
        const Told told{next - 1, flushes ? 0 : 1};
        if (durable) (void)!::write(pipe_ends[1], &told, sizeof told);
      }
      ::_exit(1);
    }
    ::close(pipe_ends[1]);
    std::int64_t committed = -1;
    const std::int64_t enough = static_cast<std::int64_t>(random.below(600)) * std::max<std::int64_t>(together / 10, 1);
    Told got{};
    const auto hear = [&] {
      const bool heard = ::read(pipe_ends[0], &got, sizeof got) == sizeof got;
      if (heard) committed = got.last;
      told_by_stats += heard ? static_cast<std::size_t>(got.by_stats) : 0;
      return heard;
    };
    while (committed < enough && hear()) {}
    ::kill(child, SIGKILL);
    while (hear()) {}
    ::waitpid(child, nullptr, 0);
    ::close(pipe_ends[0]);
    const SystemClock clock;
    auto store = EmbeddedStore::open(options_, clock);
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ((*store)->stats().files_set_aside, 0u);
    const auto series = (*store)->series({});
    ASSERT_TRUE(series);
    ASSERT_EQ(series->size(), 1u);
    const auto& points = series->front().points;
    EXPECT_GT(static_cast<std::int64_t>(points.size()), committed);
    for (std::size_t i = 0; i < points.size(); ++i) ASSERT_EQ(points[i].time_ns, static_cast<std::int64_t>(i));
  }
  EXPECT_GT(told_by_stats, 0u);
}

TEST_F(FaultTest, DamagedFileIsSetAsideAndTheStoreGoesOn) {
  std::filesystem::path file;
  {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    fill(**store);
  }
  for (const auto& entry : std::filesystem::directory_iterator(options_.folder)) {
    if (entry.path().extension() == ".db") file = entry.path();
  }
  std::ofstream(file, std::ios::binary | std::ios::trunc) << std::string(20'000, 'x');
  auto store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  EXPECT_EQ((*store)->stats().files_set_aside, 1u);
  EXPECT_TRUE(std::filesystem::exists(file.string() + ".corrupt-1"));
  fill(**store, 4);
  EXPECT_TRUE((*store)->flush());
  EXPECT_EQ(scan_all(**store).size(), 100u);
}

// Files that are not ours, or of a newer release: a clear refusal, and not a byte of them changes.
TEST_F(FaultTest, StrangeFilesAreRefusedAndLeftAlone) {
  std::filesystem::create_directory(options_.folder);
  const auto file = options_.folder / "stream-2023-11-14.db";
  const struct {
    const char* sql;
    const char* says;
  } cases[] = {{"CREATE TABLE theirs(x); INSERT INTO theirs VALUES('precious')", "no event file of culprit"},
               {"PRAGMA application_id = 0x43554C50; PRAGMA user_version = 999; CREATE TABLE blocks(x)", "newer release"}};
  const auto bytes_of = [&] {
    std::ifstream in(file, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.says);
    std::filesystem::remove(file);
    {
      auto database = Database::open(file, Database::Mode::Write, {});
      ASSERT_TRUE(database);
      ASSERT_TRUE(database->execute(c.sql));
    }
    const std::string before = bytes_of();
    const auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code, Code::Unsupported);
    EXPECT_THAT(store.error().message, ::testing::HasSubstr(c.says));
    EXPECT_THAT(store.error().message, ::testing::HasSubstr(file.string()));
    EXPECT_EQ(bytes_of(), before);
    const auto reports = verify_store(options_.folder);
    ASSERT_TRUE(reports);
    EXPECT_THAT(reports->front().refused, ::testing::HasSubstr(c.says));
    EXPECT_TRUE(repair_store(options_.folder));
    EXPECT_EQ(bytes_of(), before);
  }
}

// The wall clock steps an hour forth and back, and events come up to ten minutes late, twice, and out of order: all are
// there, in order of their time, also after a restart and a reboot.
TEST_F(FaultTest, ClockStepsAndLateEventsLoseNothing) {
  RandomEvents random(test_seed());
  options_.boot_id = "first";
  std::multiset<std::int64_t> expected;
  std::int64_t offset = 1'700'000'000 * kNsPerSecond;
  auto opened = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(opened);
  for (int step = 0; step < 60; ++step) {
    std::vector<Event> events;
    for (int i = 0; i < 20; ++i) {
      const std::int64_t late = random.below(5) == 0 ? static_cast<std::int64_t>(random.below(600)) * kNsPerSecond : 0;
      const std::int64_t time = clock_.now_ns() + 1000 * kNsPerSecond - late + static_cast<std::int64_t>(random.below(1000));
      for (std::size_t twice = random.below(10) == 0 ? 2 : 1; twice > 0; --twice) {
        events.push_back(random.below(2) == 0 ? sample(time, "host", "x", 1) : log_line(time, "service:shop", "late"));
        expected.insert(time);
      }
    }
    ASSERT_TRUE((*opened)->append(std::move(events)));
    if (step % 10 == 5) offset += (step % 20 == 5 ? 1 : -1) * 3600 * kNsPerSecond;  // sometimes over midnight
    clock_ = FakeClock(clock_.now_ns() + 20 * kNsPerSecond, offset);
    if (step % 17 == 16) {
      opened->reset();
      opened = EmbeddedStore::open(options_, clock_);
      ASSERT_TRUE(opened);
    }
  }
  const auto times = [&] {
    std::vector<std::int64_t> all;
    EXPECT_TRUE((*opened)->scan({}, [&](const Event& event) {
      all.push_back(event.time_ns);
      return true;
    }));
    return all;
  };
  EXPECT_EQ(times(), std::vector<std::int64_t>(expected.begin(), expected.end()));
  opened->reset();
  opened = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(opened);
  EXPECT_EQ(times(), std::vector<std::int64_t>(expected.begin(), expected.end()));
}

// The day ends while the block of its last rows is being encoded: it is saved into its own day, and writing goes on.
TEST_F(FaultTest, ADayEndsWhileItsLastBlockIsEncoded) {
  constexpr std::int64_t kToMidnight = 6400 * kNsPerSecond;  // of 2023-11-14, from where the clock begins
  constexpr std::size_t kRows = 60'000;                      // takes longer to encode than a file to create
  options_.background = true;  // as it ships
  options_.block_rows = 2 * kRows;
  options_.memory_bytes = 1u << 30;
  clock_.advance(kToMidnight - kNsPerSecond);
  auto store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  std::vector<Event> events;
  for (std::size_t i = 0; i < kRows; ++i) {
    events.push_back(log_line(clock_.now_ns(), "service:shop", fmt::format("order {} of {} was packed", i, i * 7919 % kRows)));
  }
  ASSERT_TRUE((*store)->append(std::move(events)));
  ASSERT_TRUE((*store)->flush());
  clock_.advance(2 * kNsPerSecond);
  ASSERT_TRUE((*store)->append({log_line(clock_.now_ns(), "service:shop", "a new day")}));
  const auto flushed = (*store)->flush();
  EXPECT_TRUE(flushed) << flushed.error().message;
  const StoreStats stats = (*store)->stats();
  EXPECT_EQ(stats.commit_failures, 0u);
  EXPECT_EQ(stats.pending, 0u);
  expect_conserved(stats);
  store->reset();
  store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  EXPECT_EQ(scan_all(**store).size(), kRows + 1);
}

// A day whose last block could not be saved yet cannot go; nothing that should outlive it goes in its place.
TEST_F(FaultTest, NothingGoesInPlaceOfADayThatWaits) {
  constexpr std::int64_t kDay = 86'400 * kNsPerSecond;
  options_.disk_bytes = 300'000;  // more than a day of which little is kept and a summary have, less than the day with the long lines
  auto opened = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(opened);
  EmbeddedStore& store = **opened;
  fill(store, 1);
  ASSERT_TRUE(store.flush());
  clock_.advance(kDay);
  ASSERT_TRUE(store.flush());
  ASSERT_TRUE(store.prune(clock_.now_ns() - kDay / 2));
  ASSERT_EQ(series_all(store, {.minutes = true}).size(), 4U);
  RandomEvents random(7);
  constexpr int kLines = 130;  // a block, and so few more that they are a group, which waits for its block
  std::string body(4000, '\0');
  for (int i = 0; i < kLines; ++i) {
    for (char& c : body) c = static_cast<char>('!' + random.below(90));
    ASSERT_TRUE(store.append({log_line(clock_.now_ns(), "service:shop", body)}));
  }
  ASSERT_TRUE(store.flush());
  faults.full_file = day_of(clock_.wall_ns(clock_.now_ns()));
  clock_.advance(kDay);
  ASSERT_TRUE(store.append({log_line(clock_.now_ns(), "service:shop", "a new day")}));
  EXPECT_EQ(store.flush().error().code, Code::Exhausted);
  EXPECT_GT(store.stats().on_disk_bytes, options_.disk_bytes);
  ASSERT_TRUE(store.prune(INT64_MIN));
  EXPECT_EQ(series_all(store, {.minutes = true}).size(), 4U);
  EXPECT_EQ(scan_all(store).size(), kLines + 1U);
  heal();
  clock_.advance(60 * kNsPerSecond);
  ASSERT_TRUE(store.flush());
  ASSERT_TRUE(store.prune(INT64_MIN));
  EXPECT_EQ(series_all(store, {.minutes = true}).size(), 4U);
  EXPECT_EQ(scan_all(store).size(), 0U);  // the new day's line is in the last block of the day before
  EXPECT_LE(store.stats().on_disk_bytes, options_.disk_bytes);
  expect_conserved(store.stats());
}

// Any damaged page: opening and reading give fewer events and a count, never a crash or an event that never was.
TEST_F(FaultTest, DamagedPagesCostOnlyWhatTheyHeld) {
  {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    fill(**store);
  }
  std::filesystem::path file;
  for (const auto& entry : std::filesystem::directory_iterator(options_.folder)) {
    if (entry.path().extension() == ".db") file = entry.path();
  }
  const std::uint64_t seed = test_seed();
  RandomEvents random(seed);
  const auto size = std::filesystem::file_size(file);
  const auto copy = folder_.path() / "good";
  std::filesystem::copy_file(file, copy);
  std::size_t found = 0;
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(fmt::format("seed {}, round {}", seed, round));
    std::filesystem::remove_all(options_.folder);
    std::filesystem::create_directory(options_.folder);
    std::filesystem::copy_file(copy, file);
    {
      std::fstream bytes(file, std::ios::binary | std::ios::in | std::ios::out);
      bytes.seekp(static_cast<std::streamoff>(random.below(size - 64)));
      for (int i = 0; i < 64; ++i) bytes.put(static_cast<char>(random.below(256)));
    }
    auto store = EmbeddedStore::open(options_, clock_);
    if (!store) {
      EXPECT_EQ(store.error().code, Code::Unsupported);  // the version itself was hit
      continue;
    }
    std::size_t read = 0;
    std::int64_t last = -1;
    (void)(*store)->scan({}, [&](const Event& event) {
      EXPECT_GT(event.time_ns, last);
      last = event.time_ns;
      ++read;
      return true;
    });
    const StoreStats stats = (*store)->stats();
    found += stats.files_set_aside + stats.blocks_unreadable > 0 ? 1 : 0;
    EXPECT_LE(read, next_);
  }
  EXPECT_GT(found, 0u);
}

}  // namespace
}  // namespace culprit::stream
