#include "daemon/logs/sightings.h"

#include <gtest/gtest.h>

namespace culprit::logs {
namespace {

// First, last and count are per template and entity, also over a restart and for lines that come out of order.
TEST(SightingsTest, AreOfATemplateAtAnEntity) {
  Sightings before;
  before.add(7, "service:shop", 200);
  before.add(7, "service:shop", 100);
  before.add(7, "service:cart", 300);
  const auto after = Sightings::load(before.save());
  ASSERT_TRUE(after) << after.error().message;
  const Sightings& loaded = *after;
  for (const Sightings* each : {static_cast<const Sightings*>(&before), &loaded}) {
    const Sighting* shop = each->find(7, "service:shop");
    ASSERT_NE(shop, nullptr);
    EXPECT_EQ(shop->first_wall_ns, 100);
    EXPECT_EQ(shop->last_wall_ns, 200);
    EXPECT_EQ(shop->lines, 2U);
    EXPECT_EQ(each->find(7, "service:cart")->first_wall_ns, 300);
    EXPECT_EQ(each->find(8, "service:shop"), nullptr);
    EXPECT_EQ(each->began_wall_ns(), 100);
  }
}

// What becomes part of another template brings its first sight along.
TEST(SightingsTest, MergedTemplatesKeepTheirPast) {
  Sightings sightings;
  sightings.add(1, "service:shop", 100);
  sightings.add(1, "service:cart", 150);
  sightings.add(2, "service:shop", 200);
  sightings.merge(1, 2);
  EXPECT_EQ(sightings.find(1, "service:shop"), nullptr);
  EXPECT_EQ(sightings.find(2, "service:shop")->first_wall_ns, 100);
  EXPECT_EQ(sightings.find(2, "service:shop")->last_wall_ns, 200);
  EXPECT_EQ(sightings.find(2, "service:shop")->lines, 2U);
  EXPECT_EQ(sightings.find(2, "service:cart")->first_wall_ns, 150);
  EXPECT_EQ(sightings.size(), 2U);
}

// When full, what was not seen for longest is forgotten and counted.
TEST(SightingsTest, TheOldestMakeRoom) {
  Sightings sightings(100);
  for (std::int64_t i = 0; i < 1000; ++i) {
    sightings.add(static_cast<std::uint64_t>(i), "host", 1000 + i);
    sightings.add(0, "host", 1000 + i);
  }
  EXPECT_LE(sightings.size(), 100U);
  EXPECT_EQ(sightings.size() + sightings.forgotten(), 1000U);
  EXPECT_EQ(sightings.find(0, "host")->first_wall_ns, 1000);
  EXPECT_NE(sightings.find(999, "host"), nullptr);
}

TEST(SightingsTest, BrokenOnesAreRefused) {
  Sightings some;
  for (std::uint64_t i = 0; i < 5; ++i) some.add(i, "host", 5);
  const std::string saved = some.save();
  for (std::size_t cut = 0; cut < saved.size(); ++cut) EXPECT_FALSE(Sightings::load(saved.substr(0, cut))) << cut;
  EXPECT_FALSE(Sightings::load(saved + "x"));
}

}  // namespace
}  // namespace culprit::logs
