#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "daemon/concurrent/map.h"

namespace culprit::concurrent {
namespace {

// Keys that all agree in every bit of the hash: one segment takes them, the rest is refused and counted, and
// what is there stays reachable.
struct SameHash {
  std::uint64_t operator()(std::uint64_t, std::uint64_t) const { return 0x5151515151515151; }
};
TEST(MapLimitsTest, HostileKeysAreBoundedAndCounted) {
  Map<std::uint64_t, int, SameHash> map({.name = "m"});
  std::uint64_t taken = 0;
  for (std::uint64_t k = 0; k < 2000; ++k) {
    if (map.update(k, [&](int& v, bool) { v = static_cast<int>(k); })) ++taken;
  }
  const MapStats stats = map.stats();
  EXPECT_GE(taken, 400U);
  EXPECT_EQ(stats.entries, taken);
  EXPECT_EQ(stats.crowded, 2000 - taken);
  EXPECT_LT(stats.segments, 64U);
  EXPECT_LT(stats.bytes, 2U << 20);
  for (std::uint64_t k = 0; k < taken; ++k) ASSERT_EQ(map.find(k), static_cast<int>(k));
  for (std::uint64_t k = 0; k < taken; ++k) ASSERT_TRUE(map.erase(k));
  EXPECT_TRUE(map.update(5000, [](int&, bool fresh) { EXPECT_TRUE(fresh); }));
}

// Hashes that differ only in high bits, which no split looks at, behave the same.
struct LowBitsSame {
  std::uint64_t operator()(std::uint64_t key, std::uint64_t) const { return key << 40; }
};
TEST(MapLimitsTest, HostileLowBits) {
  Map<std::uint64_t, int, LowBitsSame> map({.name = "m"});
  std::uint64_t taken = 0;
  for (std::uint64_t k = 0; k < 1000; ++k) taken += map.update(k, [](int&, bool) {}) ? 1U : 0U;
  EXPECT_EQ(map.stats().crowded, 1000 - taken);
  EXPECT_EQ(map.size(), taken);
}

// At the limit of bytes inserts are refused, as they are when memory runs out, and updates go on.
TEST(MapLimitsTest, BytesAreBounded) {
  Map<std::uint64_t, std::array<std::uint64_t, 8>> map({.name = "m", .max_bytes = 1U << 20});
  std::uint64_t taken = 0;
  for (std::uint64_t k = 0; k < 50'000; ++k) taken += map.update(k, [](auto& v, bool) { ++v[0]; }) ? 1U : 0U;
  const MapStats stats = map.stats();
  EXPECT_EQ(stats.refused, 50'000 - taken);
  EXPECT_GT(taken, 5'000U);
  EXPECT_LT(stats.bytes, (1U << 20) * 3 / 2);
  for (std::uint64_t k = 0; k < taken; ++k) {
    ASSERT_TRUE(map.update(k, [](auto& v, bool fresh) {
      ASSERT_FALSE(fresh);
      ASSERT_EQ(v[0], 1U);
    }));
  }
}

// A function that throws leaves the entry as it was, and makes none.
template <typename Value>
void throwing_function() {
  Map<std::uint64_t, Value> map({.name = "m"});
  EXPECT_THROW(map.update(1, [](auto&, bool) { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_EQ(map.size(), 0U);
  EXPECT_EQ(map.stats().inserted, 0U);
  EXPECT_TRUE(map.update(1, [](auto&, bool fresh) { EXPECT_TRUE(fresh); }));
  EXPECT_THROW(map.update(1, [](auto&, bool) { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_TRUE(map.update(1, [](auto&, bool fresh) { EXPECT_FALSE(fresh); }));
  Cursor cursor;
  EXPECT_THROW(map.scan(cursor, 10, [](auto&&, auto&&) { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_TRUE(map.erase(1));
  EXPECT_EQ(map.size(), 0U);
}
TEST(MapLimitsTest, ThrowingFunctionsHoldNothing) {
  throwing_function<std::uint64_t>();
  throwing_function<std::string>();
}

struct ThrowingKey {
  int value = 0;
  std::shared_ptr<int> owned = std::make_shared<int>(0);
  static inline bool armed = false;
  explicit ThrowingKey(int v) : value(v) {}
  ThrowingKey(const ThrowingKey& other) : value(other.value), owned(other.owned) {
    if (armed) throw std::runtime_error("copy");
  }
  bool operator==(const ThrowingKey& other) const { return value == other.value; }
};
struct HashOfKey {
  std::uint64_t operator()(const ThrowingKey& key, std::uint64_t seed) const {
    return hash_bytes(&key.value, sizeof key.value, seed);
  }
};
TEST(MapLimitsTest, ThrowingKeyCopyInsertsNothing) {
  Map<ThrowingKey, int, HashOfKey> map({.name = "m"});
  ThrowingKey::armed = true;
  EXPECT_THROW(map.update(ThrowingKey(1), [](int&, bool) {}), std::runtime_error);
  ThrowingKey::armed = false;
  EXPECT_EQ(map.size(), 0U);
  EXPECT_FALSE(map.contains(ThrowingKey(1)));
  EXPECT_TRUE(map.update(ThrowingKey(1), [](int&, bool fresh) { EXPECT_TRUE(fresh); }));
}

TEST(MapLimitsTest, MoveOnlyValues) {
  Map<std::string, std::unique_ptr<int>> map({.name = "m"});
  map.update("a", [](auto& v, bool) { v = std::make_unique<int>(3); });
  int seen = 0;
  Cursor cursor;
  map.scan(cursor, 10, [&](const std::string&, const std::unique_ptr<int>& v) { seen = *v; });
  EXPECT_EQ(seen, 3);
  EXPECT_TRUE(map.erase("a"));
}

// The index grows by splits, shrinks by merges when entries go, and freed entries are used again.
TEST(MapLimitsTest, GrowsAndShrinks) {
  Map<std::uint64_t, std::uint64_t> map({.name = "m"});
  constexpr std::uint64_t kEntries = 40'000;
  MapStats first;
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t k = 0; k < kEntries; ++k) map.update(k, [&](auto& v, bool) { v = k; });
    const MapStats full = map.stats();
    if (round == 0) first = full;
    EXPECT_EQ(full.entries, kEntries);
    EXPECT_GT(full.segments, kEntries / 512);
    EXPECT_GT(full.load, 0.4);
    EXPECT_LE(full.bytes, first.bytes * 11 / 10);
    EXPECT_GT(full.longest_insert_ns, 0U);
    Cursor cursor;
    while (map.sweep(cursor, 1000, [](std::uint64_t k, std::uint64_t) { return k % 100 != 0; }).more) {}
    const MapStats swept = map.stats();
    EXPECT_EQ(swept.entries, kEntries / 100);
    EXPECT_LT(swept.segments, full.segments / 4);
    for (std::uint64_t k = 0; k < kEntries; ++k) ASSERT_EQ(map.contains(k), k % 100 == 0) << k;
  }
}

// Erasing and inserting at a steady size neither grows the map nor fills it with tombstones.
TEST(MapLimitsTest, ChurnIsSteady) {
  Map<std::uint64_t, std::uint64_t, KeyHash<std::uint64_t>, Writers::One> map({.name = "m"});
  constexpr std::uint64_t kLive = 3000;
  for (std::uint64_t k = 0; k < kLive; ++k) map.update(k, [](auto&, bool) {});
  const std::size_t bytes = map.stats().bytes;
  for (std::uint64_t k = 0; k < 100'000; ++k) {
    ASSERT_TRUE(map.erase(k));
    ASSERT_TRUE(map.update(k + kLive, [](auto&, bool fresh) { ASSERT_TRUE(fresh); }));
  }
  EXPECT_EQ(map.size(), kLive);
  EXPECT_LE(map.stats().bytes, bytes * 3 / 2);
  for (std::uint64_t k = 100'000; k < 100'000 + kLive; ++k) ASSERT_TRUE(map.contains(k));
}

}  // namespace
}  // namespace culprit::concurrent
