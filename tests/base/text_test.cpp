#include "daemon/base/text.h"

#include <gtest/gtest.h>

namespace culprit {
namespace {

TEST(TextTest, DurationsAreReadOrRefused) {
  const struct { std::string_view text; std::optional<std::int64_t> ns; } cases[] = {
      {"5m", 300'000'000'000}, {"90s", 90'000'000'000},     {"1h30m", 5'400'000'000'000},
      {"250ms", 250'000'000},  {"1.5s", 1'500'000'000},     {"2d", 172'800'000'000'000},
      {"", std::nullopt},      {"5", std::nullopt},         {"m", std::nullopt},
      {"5 m", std::nullopt},   {"99999999d", std::nullopt}, {"5mm", std::nullopt},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    EXPECT_EQ(parse_duration_ns(c.text), c.ns);
  }
}

TEST(TextTest, NearestOffersWhatAPersonMeant) {
  const std::vector<std::string> names = {"postgres", "redis", "shop", "shopping-cart", "nginx"};
  EXPECT_EQ(nearest("shpo", names), (std::vector<std::string>{"shop"}));
  EXPECT_EQ(nearest("postgress", names), (std::vector<std::string>{"postgres"}));
  EXPECT_TRUE(nearest("zzzzzz", names).empty());
}

TEST(TextTest, GlobMatches) {
  const struct { std::string_view pattern, text; bool matches; } cases[] = {
      {"*", "", true},          {"/a/*", "/a/b/c", true}, {"/a/?", "/a/b", true},  {"/a/?", "/a/", false},
      {"*.service", "x.service", true}, {"a*b*c", "a--b--c", true}, {"a*b*c", "a--b--", false}, {"", "x", false},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.pattern);
    EXPECT_EQ(glob_match(c.pattern, c.text), c.matches);
  }
}

TEST(TextTest, BytesFromOutsideBecomeValidUtf8) {
  const struct { std::string_view in, out; } cases[] = {
      {"plain\ttext", "plain\ttext"}, {"\x01", "\xEF\xBF\xBD"},         {"\xC3\xA9", "\xC3\xA9"},
      {"\xC3", "\xEF\xBF\xBD"},       {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
  };
  for (const auto& c : cases) EXPECT_EQ(sanitize_utf8(c.in), c.out);
}

TEST(TextTest, NumbersForPeople) {
  EXPECT_EQ(format_seconds(1.84), "1.84 s");
  EXPECT_EQ(format_seconds(0.02), "20 ms");
  EXPECT_EQ(format_seconds(0.0003), "300 us");
  EXPECT_EQ(format_seconds(0), "0 s");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(group_digits(1204), "1,204");
  EXPECT_EQ(group_digits(999), "999");
}

}  // namespace
}  // namespace culprit
