// Attributes: what is put in comes out, in order, whatever it is.
#include "daemon/stream/attributes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace culprit::stream {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(Attributes, KeepNamesAndTextsInOrder) {
  Attributes all = {{"process.pid", "7"}, {"note", ""}, {"", "no name"}, {"note", "again"}};
  EXPECT_THAT(all, ElementsAre(Pair("process.pid", "7"), Pair("note", ""), Pair("", "no name"), Pair("note", "again")));
  EXPECT_EQ(all.size(), 4U);
  EXPECT_EQ(all.front().second, "7");
  EXPECT_EQ(all.find("process.pid"), "7");
  EXPECT_EQ(all.find("note"), "");
  EXPECT_NE(all.find("note").data(), nullptr);  // there, and empty
  EXPECT_EQ(all.find("pid").data(), nullptr);
  all.erase_if([](const auto& one) { return one.first == "note"; });
  EXPECT_EQ(all, (Attributes{{"process.pid", "7"}, {"", "no name"}}));
  all.append({{"a", "b"}});
  EXPECT_EQ(all.size(), 3U);
  EXPECT_EQ(Attributes::of(all.coded()), all);
  all.clear();
  EXPECT_TRUE(all.empty());
  EXPECT_EQ(all, Attributes());
}

// A text may be one that is in there already, also where its memory moves.
TEST(Attributes, MayBeAddedToThemselves) {
  Attributes all = {{"k", "seed"}};
  for (int i = 0; i < 200; ++i) all.emplace_back(all.front().second, all.find("k"));
  EXPECT_EQ(all.size(), 201U);
  for (auto at = ++all.begin(); at != all.end(); ++at) EXPECT_THAT(*at, Pair("seed", "seed"));
}

TEST(Attributes, HoldTextsOfAnyLength) {
  std::mt19937_64 random(7);
  std::vector<std::pair<std::string, std::string>> expected;
  Attributes all;
  for (int i = 0; i < 300; ++i) {
    expected.emplace_back(std::string(random() % 40, static_cast<char>('a' + i % 26)), std::string(random() % 3 == 0 ? random() % 20'000 : random() % 40, static_cast<char>(i)));
    all.emplace_back(expected.back().first, expected.back().second);
  }
  ASSERT_EQ(all.size(), expected.size());
  std::size_t at = 0;
  for (const auto& [name, text] : all) {
    EXPECT_EQ(name, expected[at].first);
    EXPECT_EQ(text, expected[at].second);
    ++at;
  }
}

// Bytes that nobody coded end the list; nothing is read behind them.
TEST(Attributes, DamagedBytesEndTheList) {
  EXPECT_EQ(Attributes::of(std::string_view("\x01\x61\x05\x62", 4)).size(), 0U);
  EXPECT_EQ(Attributes::of(std::string_view("\x01\x61\x01\x62\xff", 5)).size(), 1U);
}

}  // namespace
}  // namespace culprit::stream
