#include "daemon/base/clock.h"

#include <gtest/gtest.h>

namespace culprit {
namespace {

// What format_wall writes, parse_wall reads; other RFC 3339 forms mean the same instant; anything else is
// refused.
TEST(Clock, ParsesRfc3339) {
  const std::int64_t wall_ns = 1'795'442'528'412'000'000;
  EXPECT_EQ(parse_wall(format_wall(wall_ns)), wall_ns);
  const struct {
    const char* text;
    std::optional<std::int64_t> expected;
  } cases[] = {
      {"1970-01-01T00:00:00Z", 0},
      {"1970-01-01T01:00:00.5+01:00", 500'000'000},
      {"1969-12-31T23:00:00-01:00", std::nullopt},  // before 1970 by its own date
      {"2024-02-29T00:00:00.123456789123Z", 1'709'164'800'123'456'789},
      {"2023-02-29T00:00:00Z", std::nullopt},
      {"2026-11-23T14:02:08", std::nullopt},
      {"2026-11-23T14:02:08.Z", std::nullopt},
      {"2026-11-23T24:00:00Z", std::nullopt},
      {"2026-11-23T14:02:08Zx", std::nullopt},
      {"2026-11-23T14:02:08+1:00", std::nullopt},
      {"9999-11-23T14:02:08Z", std::nullopt},
      {"", std::nullopt},
      {"now", std::nullopt},
  };
  for (const auto& c : cases) EXPECT_EQ(parse_wall(c.text), c.expected) << c.text;
}

}  // namespace
}  // namespace culprit
