// whole: what a type can say comes out, the rest at its ends.
#include "daemon/base/whole.h"

#include <gtest/gtest.h>

#include <cmath>

namespace culprit {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max(), kLeast = std::numeric_limits<std::int64_t>::min();

TEST(Whole, GoesTowardsZero) {
  EXPECT_EQ(whole(2.9), 2);
  EXPECT_EQ(whole(-2.9), -2);
  EXPECT_EQ(whole<int>(2147483646.5), 2147483646);
  EXPECT_EQ(whole(9223372036854774784.0), 9223372036854774784);  // the largest double below 2^63
}

TEST(Whole, StaysInsideItsType) {
  EXPECT_EQ(whole<int>(10203e6), 2147483647);
  EXPECT_EQ(whole<int>(-1e300), -2147483648);
  EXPECT_EQ(whole<std::uint8_t>(-1), 0);
  EXPECT_EQ(whole<std::uint8_t>(255.5), 255);
  EXPECT_EQ(whole(9223372036854775808.0), kMost);
  EXPECT_EQ(whole(-9223372036854775808.0), kLeast);
  EXPECT_EQ(whole(HUGE_VAL), kMost);
  EXPECT_EQ(whole(-HUGE_VAL), kLeast);
  EXPECT_EQ(whole(std::nan("")), 0);
}

}  // namespace
}  // namespace culprit
