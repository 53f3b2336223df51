// When system calls are observed: without a reason only a small share of the time, with one all of it.
#include "daemon/sensor/call_schedule.h"

#include <gtest/gtest.h>

namespace culprit::sensor {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kSecond = 1'000 * kMs;
constexpr std::int64_t kStart = 5'000 * kSecond + 123 * kMs;

struct Observed {
  double returns = 0, entries = 0;  // shares of the time
  std::int64_t changes = 0;
};

// Follows the schedule from change to change, as the sensor does.
Observed follow(const CallSchedule& schedule, std::int64_t from, std::int64_t to) {
  Observed observed;
  for (std::int64_t now = from; now < to; ++observed.changes) {
    const std::int64_t next = std::min(schedule.next_change_ns(now), to);
    EXPECT_GT(next, now);
    if (next <= now) break;
    const auto wanted = schedule.wanted(now);
    EXPECT_EQ(wanted, schedule.wanted(next - 1)) << "changed without being announced";
    const double share = static_cast<double>(next - now) / static_cast<double>(to - from);
    observed.returns += wanted.returns ? share : 0;
    observed.entries += wanted.entries ? share : 0;
    now = next;
  }
  return observed;
}

TEST(CallScheduleTest, SharesOfTime) {
  const struct {
    const char* name;
    std::uint32_t percent;
    bool watching;
    double returns, entries;
  } cases[] = {{"nothing at all", 0, false, 0, 0},     {"a sample", 5, false, 0.05, 0.05}, {"half", 50, false, 0.5, 0.5},
               {"always", 100, false, 1, 1},           {"more than all", 250, false, 1, 1}, {"watched", 5, true, 1, 0.05},
               {"watched, no windows", 0, true, 1, 0}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    CallSchedule schedule(c.percent, 7);
    schedule.set_watching(c.watching);
    const Observed observed = follow(schedule, kStart, kStart + 200 * kSecond);
    EXPECT_NEAR(observed.returns, c.returns, 1e-3);
    EXPECT_NEAR(observed.entries, c.entries, 1e-3);
    EXPECT_LE(observed.changes, 1000);
  }
}

TEST(CallScheduleTest, LooksCloselyUntilThen) {
  CallSchedule schedule(0, 7);
  schedule.look_closely(kStart + 10 * kSecond);
  schedule.look_closely(kStart + 2 * kSecond);  // does not shorten
  const Observed observed = follow(schedule, kStart, kStart + 20 * kSecond);
  EXPECT_NEAR(observed.returns, 0.5, 1e-9);
  EXPECT_NEAR(observed.entries, 0.5, 1e-9);
}

// With nothing left to capture the watched are left alone, but for the windows, and not when something is wrong.
TEST(CallScheduleTest, RestsWhenTheBudgetIsSpent) {
  CallSchedule schedule(5, 7);
  schedule.rest(kStart + 10 * kSecond);
  EXPECT_FALSE(schedule.resting(kStart));  // nothing is watched
  schedule.set_watching(true);
  const Observed rested = follow(schedule, kStart, kStart + 20 * kSecond);
  EXPECT_NEAR(rested.returns, 0.5 + 0.5 * 0.05, 0.005);
  schedule.look_closely(kStart + 20 * kSecond);
  const Observed closely = follow(schedule, kStart, kStart + 20 * kSecond);
  EXPECT_NEAR(closely.returns, 1, 1e-9);
  EXPECT_FALSE(schedule.resting(kStart));
}

// A window that saw enough is over; the next one begins as ever, and looking closely goes on.
TEST(CallScheduleTest, EnoughEndsTheWindow) {
  CallSchedule schedule(5, 7);
  std::int64_t now = kStart;
  while (!schedule.wanted(now).entries) now = schedule.next_change_ns(now);
  const std::int64_t ends = schedule.next_change_ns(now);
  now += 4 * kMs;
  schedule.enough(now);
  EXPECT_EQ(schedule.wanted(now), (CallSchedule::Wanted{false, false}));
  EXPECT_GT(schedule.next_change_ns(now), ends);
  EXPECT_TRUE(schedule.wanted(schedule.next_change_ns(now)).entries);
  EXPECT_NEAR(follow(schedule, now, now + 200 * kSecond).entries, 0.05, 1e-3);
  schedule.look_closely(now + kSecond);
  schedule.enough(now + kMs);
  EXPECT_TRUE(schedule.wanted(now + kMs).entries);
  CallSchedule always(100, 7);
  always.enough(now);
  EXPECT_TRUE(always.wanted(now).entries);
}

// Whether enough was seen is looked at while entries are observed for a window's sake, else only what changes.
TEST(CallScheduleTest, LooksWhileAWindowIsOpen) {
  CallSchedule schedule(5, 7);
  schedule.set_watching(true);
  std::int64_t now = kStart;
  while (!schedule.wanted(now).entries) {
    EXPECT_EQ(schedule.next_look_ns(now), schedule.next_change_ns(now));
    now = schedule.next_change_ns(now);
  }
  EXPECT_EQ(schedule.next_look_ns(now), now + CallSchedule::kLookNs);
  schedule.look_closely(now + kSecond / 2);
  EXPECT_EQ(schedule.next_look_ns(now), schedule.next_change_ns(now));
}

// What happens at the same moment of every second is seen now and then, not always and not never.
TEST(CallScheduleTest, WindowsDoNotKeepStep) {
  const CallSchedule schedule(5, 42);
  int seen = 0;
  for (std::int64_t second = 0; second < 2000; ++second) seen += schedule.wanted(kStart + second * kSecond).returns ? 1 : 0;
  EXPECT_GT(seen, 50);
  EXPECT_LT(seen, 200);
}

}  // namespace
}  // namespace culprit::sensor
