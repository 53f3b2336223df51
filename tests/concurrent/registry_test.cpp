#include "daemon/concurrent/registry.h"

#include <gtest/gtest.h>

#include "daemon/concurrent/channel.h"
#include "daemon/concurrent/map.h"

namespace culprit::concurrent {
namespace {

// Objects are listed in order of creation while they live, and never after.
TEST(RegistryTest, ListsWhatLives) {
  Registry registry;
  Channel<int> first({.name = "first", .capacity = 4, .registry = &registry});
  {
    Channel<int, Ends::OneToOne> second({.name = "second", .registry = &registry});
    Map<std::uint64_t, int> map({.name = "series", .max_entries = 9, .registry = &registry});
    map.update(7, [](int& value, bool) { value = 1; });
    ASSERT_EQ(first.send(1), Outcome::Done);
    const Registry::Snapshot both = registry.snapshot();
    ASSERT_EQ(both.channels.size(), 2U);
    EXPECT_EQ(both.channels[0].name, "first");
    EXPECT_EQ(both.channels[0].length, 1U);
    EXPECT_EQ(both.channels[1].name, "second");
    ASSERT_EQ(both.maps.size(), 1U);
    EXPECT_EQ(both.maps[0].name, "series");
    EXPECT_EQ(both.maps[0].entries, 1U);
    EXPECT_EQ(both.maps[0].max_entries, 9U);
  }
  EXPECT_EQ(registry.snapshot().channels.size(), 1U);
  EXPECT_TRUE(registry.snapshot().maps.empty());
}

}  // namespace
}  // namespace culprit::concurrent
