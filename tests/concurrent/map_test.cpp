#include "daemon/concurrent/map.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace culprit::concurrent {
namespace {

struct Key {
  std::array<std::uint64_t, 5> words{};
  bool operator==(const Key&) const = default;
};
Key key(std::uint64_t i) { return {{i % 512, i << 32, ~i, i, i * 7}}; }

struct Value {
  std::uint64_t count = 0;
  std::uint64_t sum = 0;
  std::array<std::uint32_t, 14> bins{};
};

TEST(MapTest, UpdatesFindsAndErases) {
  Map<Key, Value> map({.name = "m"});
  EXPECT_FALSE(map.find(key(1)));
  EXPECT_TRUE(map.update(key(1), [](Value& v, bool fresh) {
    EXPECT_TRUE(fresh);
    EXPECT_EQ(v.count, 0U);
    v.count = 5;
  }));
  EXPECT_TRUE(map.update(key(1), [](Value& v, bool fresh) {
    EXPECT_FALSE(fresh);
    v.sum = ++v.count;
  }));
  ASSERT_TRUE(map.find(key(1)));
  EXPECT_EQ(map.find(key(1))->sum, 6U);
  EXPECT_TRUE(map.contains(key(1)));
  EXPECT_FALSE(map.contains(key(2)));
  EXPECT_EQ(map.size(), 1U);
  EXPECT_TRUE(map.erase(key(1)));
  EXPECT_FALSE(map.erase(key(1)));
  EXPECT_FALSE(map.find(key(1)));
  EXPECT_EQ(map.stats().inserted, 1U);
  EXPECT_EQ(map.stats().erased, 1U);
}

// A random history of all operations agrees with std::map at every step.
TEST(MapTest, AgreesWithAModel) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    Map<std::uint64_t, Value> map({.name = "m", .seed = seed});
    std::map<std::uint64_t, std::uint64_t> model;
    for (int step = 0; step < 4000; ++step) {
      const std::uint64_t range = step < 2000 ? 6000 : 300;
      switch (random() % 8) {
        case 0: {
          const std::uint64_t k = random() % range;
          EXPECT_EQ(map.erase(k), model.erase(k) == 1);
          break;
        }
        case 1: {
          const std::uint64_t k = random() % range;
          const auto found = map.find(k);
          ASSERT_EQ(found.has_value(), model.contains(k));
          ASSERT_TRUE(!found || found->count == model[k]);
          break;
        }
        case 2: {
          if (random() % 40 != 0) break;
          const std::uint64_t bar = random() % 4;
          Cursor cursor;
          for (bool more = true; more;) {
            more = map.sweep(cursor, 64, [&](std::uint64_t, const Value& v) { return v.count <= bar; }).more;
          }
          std::erase_if(model, [&](const auto& each) { return each.second <= bar; });
          break;
        }
        default: {
          std::vector<std::uint64_t> keys(1 + random() % 90);
          for (auto& k : keys) k = random() % range;
          const Updated done = map.update_n(std::span<const std::uint64_t>(keys), [&](std::size_t i, Value& v, bool fresh) {
            ASSERT_EQ(fresh, !model.contains(keys[i]));
            ASSERT_EQ(++v.count, ++model[keys[i]]);
          });
          ASSERT_EQ(done.updated + done.inserted, keys.size());
        }
      }
      ASSERT_EQ(map.size(), model.size());
    }
    std::map<std::uint64_t, std::uint64_t> seen;
    Cursor cursor;
    for (bool more = true; more;) {
      more = map.scan(cursor, 100, [&](std::uint64_t k, const Value& v) { EXPECT_TRUE(seen.emplace(k, v.count).second); });
    }
    EXPECT_EQ(seen, model);
  }
}

TEST(MapTest, LimitRefusesAndCounts) {
  Map<Key, Value> map({.name = "m", .max_entries = 10});
  std::vector<Key> keys;
  for (std::uint64_t i = 0; i < 15; ++i) keys.push_back(key(i));
  const Updated first = map.update_n(std::span<const Key>(keys), [](std::size_t, Value& v, bool) { ++v.count; });
  EXPECT_EQ(first.inserted, 10U);
  EXPECT_EQ(first.refused, 5U);
  EXPECT_FALSE(map.update(key(99), [](Value&, bool) { FAIL(); }));
  EXPECT_EQ(map.size(), 10U);
  EXPECT_EQ(map.stats().refused, 6U);
  EXPECT_TRUE(map.update(key(3), [](Value& v, bool fresh) {
    EXPECT_FALSE(fresh);
    EXPECT_EQ(v.count, 1U);
  }));
  EXPECT_TRUE(map.erase(key(3)));
  EXPECT_TRUE(map.update(key(99), [](Value&, bool fresh) { EXPECT_TRUE(fresh); }));
}

// Keys and values that own memory: nothing leaks, erased values are destroyed.
TEST(MapTest, OwningKeysAndValues) {
  Map<std::string, std::shared_ptr<int>> map({.name = "m"});
  const auto shared = std::make_shared<int>(1);
  for (int i = 0; i < 2000; ++i) {
    map.update("a key long enough to be on the heap " + std::to_string(i), [&](auto& v, bool) { v = shared; });
  }
  EXPECT_EQ(shared.use_count(), 2001);
  EXPECT_TRUE(map.erase("a key long enough to be on the heap 7"));
  EXPECT_EQ(shared.use_count(), 2000);
  Cursor cursor;
  while (map.sweep(cursor, 50, [](const std::string& k, const auto&) { return k.back() == '1'; }).more) {}
  EXPECT_EQ(shared.use_count(), 1800);
}

// Each entry that lives throughout a scan is seen exactly once, while others come and go and the map grows.
TEST(MapTest, ScanSeesLivingEntriesOnceDuringGrowth) {
  Map<std::uint64_t, Value> map({.name = "m"});
  constexpr std::uint64_t kStable = 5000;
  for (std::uint64_t i = 0; i < kStable; ++i) map.update(i, [&](Value& v, bool) { v.sum = i; });
  std::atomic<bool> stop{false};
  std::jthread writer([&] {
    std::mt19937_64 random(3);
    for (std::uint64_t i = kStable; !stop; ++i) {
      map.update(i % 60'000 + kStable, [&](Value& v, bool) { ++v.count; });
      map.erase(kStable + random() % 60'000);
      map.update(random() % kStable, [&](Value& v, bool) { ++v.count; });
    }
  });
  for (int round = 0; round < 5; ++round) {
    std::vector<int> seen(kStable);
    Cursor cursor;
    for (bool more = true; more;) {
      more = map.scan(cursor, 128, [&](std::uint64_t k, const Value& v) {
        if (k >= kStable) return;
        ++seen[k];
        EXPECT_EQ(v.sum, k);
      });
    }
    for (std::uint64_t i = 0; i < kStable; ++i) ASSERT_EQ(seen[i], 1) << i;
  }
  stop = true;
}

// Counts from many threads add up, and copies are never torn.
TEST(MapTest, ConcurrentUpdatesAddUp) {
  Map<Key, Value> map({.name = "m"});
  constexpr int kThreads = 4;
  constexpr std::uint64_t kKeys = 700;
  constexpr int kRounds = 60;
  std::atomic<bool> stop{false};
  std::jthread reader([&] {
    std::mt19937_64 random(5);
    while (!stop) {
      const auto v = map.find(key(random() % kKeys));
      ASSERT_TRUE(!v || v->sum == v->count * 3) << "torn";
    }
  });
  {
    std::vector<std::jthread> writers;
    for (int t = 0; t < kThreads; ++t) {
      writers.emplace_back([&] {
        std::vector<Key> keys;
        for (std::uint64_t i = 0; i < kKeys; ++i) keys.push_back(key(i));
        for (int round = 0; round < kRounds; ++round) {
          map.update_n(std::span<const Key>(keys), [](std::size_t, Value& v, bool) {
            ++v.count;
            v.sum += 3;
          });
        }
      });
    }
  }
  stop = true;
  reader.join();
  for (std::uint64_t i = 0; i < kKeys; ++i) ASSERT_EQ(map.find(key(i))->count, std::uint64_t{kThreads} * kRounds);
  EXPECT_EQ(map.stats().entries, kKeys);
}

}  // namespace
}  // namespace culprit::concurrent
