#include "daemon/app/accounting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace culprit::app {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

// Counters are cumulative; a window's loss is what was added within it.
TEST(AccountingTest, AWindowCountsWhatWasLostInIt) {
  Accounting accounting;
  accounting.add(1 * kSecond, 1000, {{"ring_full", 100}});
  accounting.add(2 * kSecond, 2000, {{"ring_full", 100}});
  accounting.add(3 * kSecond, 3000, {{"ring_full", 350}, {"budget", 50}});
  const auto quiet = accounting.window(2 * kSecond, 2 * kSecond + 1);
  EXPECT_DOUBLE_EQ(quiet.share, 1.0);
  EXPECT_TRUE(quiet.dropped.empty());
  const auto lossy = accounting.window(3 * kSecond, 4 * kSecond);
  EXPECT_DOUBLE_EQ(lossy.share, 0.7);
  EXPECT_EQ(lossy.dropped, (std::map<std::string, std::uint64_t>{{"budget", 50}, {"ring_full", 250}}));
}

// A new sensor counts from zero again; nothing may become negative.
TEST(AccountingTest, ARestartedSensorCountsFromZero) {
  Accounting accounting;
  accounting.add(1 * kSecond, 5000, {{"ring_full", 500}});
  accounting.add(2 * kSecond, 100, {{"ring_full", 10}});
  const auto window = accounting.window(2 * kSecond, 3 * kSecond);
  EXPECT_DOUBLE_EQ(window.share, 0.9);
  EXPECT_EQ(window.dropped.at("ring_full"), 10U);
}

TEST(AccountingTest, BlindTimeLowersTheShare) {
  Accounting accounting;
  accounting.set_blind({"on_block (no such tracepoint)"});
  accounting.add_gap(10 * kSecond, 15 * kSecond);
  const auto half = accounting.window(10 * kSecond, 20 * kSecond);
  EXPECT_DOUBLE_EQ(half.share, 0.5);
  EXPECT_THAT(half.blind, testing::ElementsAre("on_block (no such tracepoint)", testing::HasSubstr("5 s")));
  EXPECT_DOUBLE_EQ(accounting.window(20 * kSecond, 30 * kSecond).share, 1.0);
}

TEST(AccountingTest, RestsLowerTheShare) {
  Accounting accounting;
  accounting.add_rest(9 * kSecond, 10 * kSecond, kSecond);  // before the window
  accounting.add_rest(10 * kSecond, 11 * kSecond, kSecond);
  accounting.add_rest(11 * kSecond, 12 * kSecond, 0);
  const auto window = accounting.window(10 * kSecond, 14 * kSecond);
  EXPECT_DOUBLE_EQ(window.share, 0.75);
  EXPECT_THAT(window.blind, testing::ElementsAre(testing::HasSubstr("1 s: more than payload_per_second")));
}

// An outage counts while it lasts, not only once the next sensor is there.
TEST(AccountingTest, AnOutageCountsFromItsBegin) {
  Accounting accounting;
  accounting.open_gap(15 * kSecond);
  const auto during = accounting.window(10 * kSecond, 20 * kSecond);
  EXPECT_DOUBLE_EQ(during.share, 0.5);
  EXPECT_THAT(during.blind, testing::ElementsAre(testing::HasSubstr("the sensor is gone")));
  accounting.add_gap(15 * kSecond, 20 * kSecond);
  EXPECT_DOUBLE_EQ(accounting.window(10 * kSecond, 20 * kSecond).share, 0.5);
  EXPECT_DOUBLE_EQ(accounting.window(20 * kSecond, 30 * kSecond).share, 1.0);
}

}  // namespace
}  // namespace culprit::app
