#include "ui/cli/when.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "daemon/base/clock.h"

namespace culprit::cli {
namespace {

class WhenTest : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "XXX-2", 1);  // two hours east of UTC
    ::tzset();
  }
  void TearDown() override {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }
  const std::int64_t now_ns_ = *parse_wall("2026-11-23T14:03:00Z");  // 16:03 local
};

TEST_F(WhenTest, ReadsWhatPeopleType) {
  const struct {
    const char* text;
    const char* means;
  } cases[] = {
      {"16:02:08", "2026-11-23T14:02:08.000Z"},
      {"16:02:08.25", "2026-11-23T14:02:08.250Z"},
      {"16:02", "2026-11-23T14:02:00.000Z"},
      {"17:00", "2026-11-22T15:00:00.000Z"},  // later than now: yesterday's
      {"5m", "2026-11-23T13:58:00.000Z"},
      {"1h30m", "2026-11-23T12:33:00.000Z"},
      {"now", "2026-11-23T14:03:00.000Z"},
      {"2026-11-23 14:02:08", "2026-11-23T12:02:08.000Z"},
      {"2026-11-23 14:02:08.123456789", "2026-11-23T12:02:08.123Z"},
      {"2026-11-23T14:02", "2026-11-23T12:02:00.000Z"},
      {"2026-11-23T14:02:08.5Z", "2026-11-23T14:02:08.500Z"},
  };
  for (const auto& c : cases) {
    const auto when = parse_when(c.text, now_ns_);
    ASSERT_TRUE(when) << c.text;
    EXPECT_EQ(format_wall(*when), c.means) << c.text;
    EXPECT_EQ(check_when(c.text), "");
  }
}

TEST_F(WhenTest, RefusesTheRest) {
  for (const char* text : {"", "soon", "25:00", "14:60", "14:2:0x", "14:02:08.", "14:02:08.1x", "14:02:08.1234567890", "14:02.5", "14", "-5m", "2026-13-01 10:00",
                           "2026-11-23", "2026/11/23 10:00", "99999999d"}) {
    EXPECT_FALSE(parse_when(text, now_ns_)) << text;
    EXPECT_NE(check_when(text), "") << text;
  }
  for (const char* text : {"", "0s", "5", "5 m", "x", "-1s"}) EXPECT_FALSE(parse_window(text)) << text;
  EXPECT_EQ(parse_window("90s"), 90 * kNsPerSecond);
}

}  // namespace
}  // namespace culprit::cli
