// Both stores answer alike: random events, random queries, with seals, commits, restarts and reboots between.
#include <cmath>

#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

struct Pair {
  TemporaryFolder folder;
  FakeClock clock{1000 * kNsPerSecond, 1'700'000'000 * kNsPerSecond};
  StoreOptions embedded_options, sqlite_options;
  std::unique_ptr<EmbeddedStore> embedded;
  std::unique_ptr<SqliteStore> sqlite;

  void open() {
    auto first = EmbeddedStore::open(embedded_options, clock);
    auto second = SqliteStore::open(sqlite_options, clock);
    ASSERT_TRUE(first) << first.error().message;
    ASSERT_TRUE(second) << second.error().message;
    embedded = std::move(*first);
    sqlite = std::move(*second);
  }
  void close() {
    embedded.reset();
    sqlite.reset();
  }
  void expect_equal(const Query& query) const {
    EXPECT_EQ(scan_all(*embedded, query), scan_all(*sqlite, query));
    EXPECT_EQ(series_all(*embedded, query), series_all(*sqlite, query));
    EXPECT_EQ(group_all(*embedded, query), group_all(*sqlite, query));
  }
  // Sums in another order may differ in their last digits: everything else is equal.
  void expect_equal(const Aggregation& what) const {
    const auto ours = embedded->aggregate(what), theirs = sqlite->aggregate(what);
    ASSERT_TRUE(ours && theirs);
    ASSERT_EQ(ours->rows.size(), theirs->rows.size());
    EXPECT_EQ(ours->groups_left_out, theirs->groups_left_out);
    for (std::size_t i = 0; i < ours->rows.size(); ++i) {
      const AggregateRow &a = ours->rows[i], &b = theirs->rows[i];
      EXPECT_EQ(std::tie(a.group, a.bucket_ns, a.count, a.min, a.max, a.first_ns, a.last_ns), std::tie(b.group, b.bucket_ns, b.count, b.min, b.max, b.first_ns, b.last_ns));
      EXPECT_TRUE(a.latest == b.latest || (std::isnan(a.latest) && std::isnan(b.latest)));
      EXPECT_NEAR(a.sum, b.sum, 1e-9 * std::max(1.0, std::abs(a.sum)));
      for (const double share : {0.0, 0.5, 0.99, 1.0}) EXPECT_EQ(a.values.quantile(share), b.values.quantile(share));
    }
  }
  void expect_equal(const Query& filter, Window before, Window now) const {
    const auto ours = embedded->contrast(filter, before, now, 50), theirs = sqlite->contrast(filter, before, now, 50);
    ASSERT_TRUE(ours && theirs);
    ASSERT_EQ(ours->changes.size(), theirs->changes.size());
    EXPECT_EQ(ours->left_out, theirs->left_out);
    for (std::size_t i = 0; i < ours->changes.size(); ++i) {
      const Contrast &a = ours->changes[i], &b = theirs->changes[i];
      EXPECT_EQ(std::tie(a.field, a.value, a.before, a.now), std::tie(b.field, b.value, b.before, b.now));
      EXPECT_NEAR(a.effect, b.effect, 1e-6);
      EXPECT_NEAR(a.now_mean, b.now_mean, 1e-9 * std::max(1.0, std::abs(a.now_mean)));
    }
  }
};

void run(std::uint64_t seed, std::size_t block_rows, std::size_t memory_bytes) {
  RandomEvents random(seed);
  Pair stores;
  stores.embedded_options = {.folder = stores.folder.path() / "a", .memory_bytes = memory_bytes};
  stores.embedded_options.memory_ns = 20 * kNsPerSecond;
  stores.embedded_options.block_rows = block_rows;
  stores.embedded_options.boot_id = "first";
  stores.sqlite_options = {.folder = stores.folder.path() / "b"};
  stores.sqlite_options.boot_id = "first";
  ASSERT_NO_FATAL_FAILURE(stores.open());
  for (int round = 0; round < 25; ++round) {
    std::vector<Event> events;
    for (std::size_t i = random.below(120); i > 0; --i) events.push_back(random.event(stores.clock.now_ns()));
    ASSERT_TRUE(stores.embedded->append(events));
    ASSERT_TRUE(stores.sqlite->append(events));
    stores.clock.advance(static_cast<std::int64_t>(random.below(3000)) * kNsPerMs);
    if (random.below(10) == 0) {  // restart
      stores.close();
      ASSERT_NO_FATAL_FAILURE(stores.open());
    }
    if (random.below(8) == 0) {  // reboot: CLOCK_BOOTTIME starts again, the wall clock goes on
      stores.close();
      const std::int64_t wall = stores.clock.wall_ns(stores.clock.now_ns()) + 30 * kNsPerSecond;
      stores.clock = FakeClock(20 * kNsPerSecond, wall - 20 * kNsPerSecond);
      stores.embedded_options.boot_id = stores.sqlite_options.boot_id = fmt::format("boot {}", round);
      ASSERT_NO_FATAL_FAILURE(stores.open());
    }
    for (int i = 0; i < 4; ++i) {
      const Query query = random.query(stores.clock.now_ns());
      stores.expect_equal(query);
      Aggregation what{.where = query};
      for (std::size_t fields = random.below(4); fields > 0; --fields) what.by.push_back(random.one_of({"entity", "name", "kind", "severity", "pid", "service"}));
      if (random.below(2) == 0) what.bucket_ns = static_cast<std::int64_t>(1 + random.below(20)) * kNsPerSecond;
      what.order = static_cast<Aggregation::Order>(random.below(2));
      if (random.below(3) == 0) what.top = random.below(10);
      stores.expect_equal(what);
      const auto middle = stores.clock.now_ns() - static_cast<std::int64_t>(random.below(30)) * kNsPerSecond;
      stores.expect_equal(query, {middle - 40 * kNsPerSecond, middle}, {middle, middle + 60 * kNsPerSecond});
    }
    const auto now = stores.clock.now_ns();
    const auto first = stores.embedded->differs({}, now - 40 * kNsPerSecond, now - 9, now - 9, now + 99 * kNsPerSecond);
    const auto second = stores.sqlite->differs({}, now - 40 * kNsPerSecond, now - 9, now - 9, now + 99 * kNsPerSecond);
    ASSERT_TRUE(first && second);
    ASSERT_EQ(first->size(), second->size());
    for (std::size_t i = 0; i < first->size(); ++i) {
      const Difference &a = (*first)[i], &b = (*second)[i];
      EXPECT_EQ(std::tie(a.entity, a.name, a.before_per_s, a.now_per_s, a.before_mean, a.now_mean, a.first_now_ns),
                std::tie(b.entity, b.name, b.before_per_s, b.now_per_s, b.before_mean, b.now_mean, b.first_now_ns));
    }
    expect_conserved(stores.embedded->stats());
    expect_conserved(stores.sqlite->stats());
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << "round " << round << ", seed " << seed;
      return;
    }
  }
  stores.expect_equal(Query{});
  EXPECT_TRUE(stores.embedded->stats().dropped.empty());
}

TEST(PropertyTest, EmbeddedAnswersLikeSqlite) { run(test_seed(), 65'536, 48 << 20); }
TEST(PropertyTest, AlsoWithManySmallBlocks) { run(test_seed(), 97, 48 << 20); }
TEST(PropertyTest, AlsoWithHardlyAnyMemory) { run(test_seed(), 211, 200'000); }

}  // namespace
}  // namespace culprit::stream
