#include "daemon/app/span_waits.h"

#include <gtest/gtest.h>

#include "daemon/base/clock.h"
#include "daemon/stream/embedded_store.h"

namespace culprit::app {
namespace {

constexpr std::int64_t kSecond = kNsPerSecond;

// A request gets of a second's sums what its own time is of all own time there; together never more than its own time.
TEST(SpanWaitsTest, OwnTimeIsSplitByTheSecondsSums) {
  const Seconds alone = {{11 * kSecond, {{"cpu.time", 0.1}, {"cpu.run_queue.wait", 0.2}, {"disk.wait", 0.3}, {"request.rate", 1}, {"request.self.mean", 0.8}}}};
  const Seconds busy = {{11 * kSecond, {{"cpu.time", 0.1}, {"cpu.run_queue.wait", 0.2}, {"disk.wait", 0.3}, {"request.rate", 10}, {"request.self.mean", 0.8}}}};
  const Seconds read_late = {{11 * kSecond, {{"request.rate", 3}, {"request.self.mean", 0.8}}}, {12 * kSecond, {{"cpu.time", 0.4}, {"request.rate", 1}, {"request.self.mean", 0.8}}}};
  const Seconds overloaded = {{11 * kSecond, {{"cpu.time", 2}, {"cpu.run_queue.wait", 6}}}};
  const struct {
    const char* name;
    const Seconds& seconds;
    double self_s, slow_s, network, cpu, run_queue, disk, lock;
  } cases[] = {
      {"the only request", alone, 0.8, 0, 0.1, 0.1, 0.2, 0.3, 0.2},
      {"one of ten", busy, 0.8, 0, 0.1, 0.01, 0.02, 0.03, 0.74},
      {"a slow fsync of its own", busy, 0.8, 0.5, 0.1, 0.01, 0.02, 0.5, 0.27},
      {"read in the next second, with that one's own", read_late, 0.8, 0, 0.1, 0.1, 0, 0, 0.7},
      {"many threads wait", overloaded, 0.8, 0, 0.1, 0.2, 0.6, 0, 0},
      {"nothing is known", {}, 0.8, 0, 0.1, 0, 0, 0, 0.8},
      {"all of it was a callee's", alone, 0, 0, 0.9, 0, 0, 0, 0},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const SpanWaits waits = split_own_time(10 * kSecond + kSecond / 20, 11 * kSecond - kSecond / 20, {.self_s = c.self_s, .slow_s = c.slow_s, .timed_s = c.slow_s / 2}, c.seconds);
    EXPECT_FALSE(waits.run_queue_exact);
    EXPECT_NEAR(waits.network_s, c.network, 1e-9);
    EXPECT_NEAR(waits.cpu_s, c.cpu, 1e-9);
    EXPECT_NEAR(waits.run_queue_s, c.run_queue, 1e-9);
    EXPECT_NEAR(waits.disk_s, c.disk, 1e-9);
    EXPECT_NEAR(waits.lock_s, c.lock, 1e-9);
    EXPECT_NEAR(waits.timed_s, c.slow_s / 2, 1e-9);
  }
}

// Where the kernel's sum of the thread was read at both ends the run queue is no share of anybody's; what of it was spent before a callee's
// answer was read is not the network's.
TEST(SpanWaitsTest, TheRunQueueOfOneThreadIsExact) {
  const Seconds seconds = {{11 * kSecond, {{"cpu.time", 0.5}, {"cpu.run_queue.wait", 0.9}, {"request.rate", 1}, {"request.self.mean", 0.6}}}};
  const struct {
    const char* name;
    OwnTime own;
    double network, cpu, run_queue, disk, lock;
  } cases[] = {
      {"some of it in calls", {.self_s = 0.6, .run_queue_s = 0.15, .run_queue_calls_s = 0.05}, 0.25, 0.5, 0.15, 0, 0},
      {"none", {.self_s = 0.6, .run_queue_s = 0}, 0.3, 0.5, 0, 0, 0.1},
      {"with a slow call of its own", {.self_s = 0.6, .slow_s = 0.3, .timed_s = 0.3, .run_queue_s = 0.2}, 0.3, 0.1, 0.2, 0.3, 0},
      {"more than its own time", {.self_s = 0.6, .slow_s = 0.3, .run_queue_s = 2}, 0.3, 0, 0.6, 0, 0},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const SpanWaits waits = split_own_time(10 * kSecond + kSecond / 20, 11 * kSecond - kSecond / 20, c.own, seconds);
    EXPECT_TRUE(waits.run_queue_exact);
    EXPECT_NEAR(waits.network_s, c.network, 1e-9);
    EXPECT_NEAR(waits.cpu_s, c.cpu, 1e-9);
    EXPECT_NEAR(waits.run_queue_s, c.run_queue, 1e-9);
    EXPECT_NEAR(waits.disk_s, c.disk, 1e-9);
    EXPECT_NEAR(waits.lock_s, c.lock, 1e-9);
  }
}

// Only slow calls of the request's own process, within it, are its disk time; those of its own thread are no estimate.
TEST(SpanWaitsTest, SlowCallsWithinTheSpanCount) {
  FakeClock clock(100 * kSecond);
  auto store = stream::EmbeddedStore::open({}, clock).value();
  std::vector<stream::Event> events;
  const struct { std::int64_t end_ns; const char *pid, *tid; double value; } calls[] = {
      {12 * kSecond, "7", "71", 0.4}, {12 * kSecond, "7", "72", 0.3}, {12 * kSecond, "8", "71", 0.4}, {40 * kSecond, "7", "71", 0.4}};
  for (const auto& call : calls) {
    stream::Event event;
    event.time_ns = call.end_ns;
    event.kind = stream::Kind::Kernel;
    event.entity = "service:shop";
    event.name = "syscall.slow";
    event.value = call.value;
    event.attributes = {{"process.pid", call.pid}, {"thread.id", call.tid}};
    events.push_back(std::move(event));
  }
  ASSERT_TRUE(store->append(std::move(events)));
  const auto reader = SpanWaitsReader::read(*store, {"service:shop"}, 10 * kSecond, 13 * kSecond, kSecond).value();
  EXPECT_FALSE(reader.knows("service:shop"));  // no sample of any second
  const struct { const char *name, *tid; std::int64_t end_ns; double disk, timed; } cases[] = {
      {"its thread is known", "71", 13 * kSecond, 0.7, 0.4}, {"and is another one", "73", 13 * kSecond, 0.7, 0}, {"it is not known", "", 13 * kSecond, 0.7, 0}, {"before the calls", "71", 11 * kSecond, 0, 0}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const SpanWaits waits = reader.of("service:shop", "7", c.tid, 10 * kSecond, c.end_ns, {.self_s = 1});
    EXPECT_NEAR(waits.disk_s, c.disk, 1e-9);
    EXPECT_NEAR(waits.timed_s, c.timed, 1e-9);
  }
}

}  // namespace
}  // namespace culprit::app
