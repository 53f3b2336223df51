// Random histories of concurrent operations on a few keys, checked for linearizability: is there an order of all
// operations, consistent with real time, in which each gave the answer that one thread alone would have got?
// A map is linearizable if each key is (the property is local: Herlihy and Wing, 1990), so keys are checked one
// by one, by search with memory (Wing and Gong, 1993; Lowe, 2017).
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "daemon/concurrent/map.h"
#include "tests/concurrent/long.h"

namespace culprit::concurrent {
namespace {

struct Operation {
  enum class Kind : std::uint8_t { Update, Find, Erase } kind;
  std::uint64_t invoked;
  std::uint64_t returned;
  std::uint64_t result;  // Update: the count after it; Find: the count, 0 = none; Erase: 1 if there was one
};
using History = std::vector<std::vector<Operation>>;  // of each thread, in its order

// The state of one key is its count, 0 = absent. Answers false if the operation cannot have had its result.
bool apply(const Operation& operation, std::uint64_t& count) {
  switch (operation.kind) {
    case Operation::Kind::Update: return operation.result == ++count;
    case Operation::Kind::Find: return operation.result == count;
    case Operation::Kind::Erase: {
      const bool was_there = count != 0;
      count = 0;
      return operation.result == (was_there ? 1U : 0U);
    }
  }
  return false;
}

bool linearizable(const History& history) {
  using State = std::pair<std::vector<std::size_t>, std::uint64_t>;  // next of each thread, count
  std::set<State> seen;
  std::vector<State> open{{std::vector<std::size_t>(history.size()), 0}};
  while (!open.empty()) {
    const auto [next, count] = std::move(open.back());
    open.pop_back();
    std::uint64_t earliest_return = ~std::uint64_t{0};
    bool all = true;
    for (std::size_t t = 0; t < history.size(); ++t) {
      if (next[t] == history[t].size()) continue;
      all = false;
      earliest_return = std::min(earliest_return, history[t][next[t]].returned);
    }
    if (all) return true;
    for (std::size_t t = 0; t < history.size(); ++t) {
      // An operation that began after another returned cannot come before it.
      if (next[t] == history[t].size() || history[t][next[t]].invoked > earliest_return) continue;
      State state{next, count};
      if (!apply(history[t][next[t]], state.second)) continue;
      ++state.first[t];
      if (seen.insert(state).second) open.push_back(std::move(state));
    }
  }
  return false;
}

TEST(LinearizabilityCheckerTest, TellsRightFromWrong) {
  using Kind = Operation::Kind;
  EXPECT_TRUE(linearizable({{{Kind::Update, 1, 2, 1}, {Kind::Find, 3, 4, 1}}, {{Kind::Erase, 1, 9, 1}}}));
  EXPECT_FALSE(linearizable({{{Kind::Update, 1, 2, 1}}, {{Kind::Find, 3, 4, 0}}}));          // a lost insert
  EXPECT_FALSE(linearizable({{{Kind::Update, 1, 4, 1}}, {{Kind::Update, 1, 4, 1}}}));        // a lost update
  EXPECT_TRUE(linearizable({{{Kind::Update, 1, 4, 1}}, {{Kind::Update, 2, 3, 2}}}));
  EXPECT_FALSE(linearizable({{{Kind::Update, 1, 2, 1}, {Kind::Erase, 3, 4, 1}}, {{Kind::Find, 5, 6, 1}}}));
}

struct Value {
  std::uint64_t count = 0;
  std::uint64_t twin = 0;  // always the same: a torn copy shows
};

template <typename Key, typename V>
struct Subject {
  static Key key(std::uint64_t i);
  static std::uint64_t bump(V& value);
  static std::uint64_t count(const V& value);
};
template <>
struct Subject<std::uint64_t, Value> {
  static std::uint64_t key(std::uint64_t i) { return i; }
  static std::uint64_t bump(Value& value) {
    value.twin = ++value.count;
    return value.count;
  }
  static std::uint64_t count(const Value& value) {
    EXPECT_EQ(value.count, value.twin) << "torn";
    return value.count;
  }
};
template <>
struct Subject<std::string, std::vector<int>> {
  static std::string key(std::uint64_t i) { return "some key beyond the small string " + std::to_string(i); }
  static std::uint64_t bump(std::vector<int>& value) {
    value.push_back(1);
    return value.size();
  }
  static std::uint64_t count(const std::vector<int>& value) { return value.size(); }
};

// Threads work on few keys, so that they meet, while others of them make and erase many more: segments split,
// merge and are rebuilt all the time. With many entries beside them batches go through the map in stages.
template <typename Key, typename V>
void check(std::size_t threads, std::size_t operations, std::uint64_t seed, std::uint64_t beside = 0) {
  SCOPED_TRACE(testing::Message() << threads << " threads, seed " << seed << ", " << beside << " beside");
  constexpr std::size_t kKeys = 6;
  using S = Subject<Key, V>;
  Map<Key, V> map({.name = "m", .seed = seed});
  for (std::uint64_t i = 0; i < beside; ++i) map.update(S::key(100'000 + i), [](V& value, bool) { S::bump(value); });
  std::atomic<std::uint64_t> clock{1};
  std::vector<History> histories(kKeys, History(threads));
  std::atomic<bool> stop{false};
  {
    std::jthread churn([&] {
      std::mt19937_64 random(seed + 99);
      while (!stop) {
        for (std::uint64_t i = 0; i < 3'000 && !stop; ++i) map.update(S::key(100 + i), [](V&, bool) {});
        Cursor cursor;
        const auto stale = [&](const Key& k, const V& v) { return S::count(v) == 0 && k != S::key(0); };
        while (map.sweep(cursor, 256, stale).more) {}
      }
    });
    std::vector<std::jthread> workers;
    for (std::size_t t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        std::mt19937_64 random(seed * 131 + t);
        for (std::size_t n = 0; n < operations; ++n) {
          const std::size_t k = random() % kKeys;
          const Key key = S::key(k);
          Operation operation{};
          const std::uint64_t choice = random() % 16;
          operation.invoked = clock.fetch_add(1);
          if (choice < 2) {  // a batch, some keys of it more than once: as many operations, in order
            std::array<std::size_t, 7> which{};
            std::array<Operation, 7> batch{};
            std::vector<Key> keys;
            for (std::size_t& each : which) keys.push_back(S::key(each = random() % kKeys));
            map.update_n(std::span<const Key>(keys), [&](std::size_t i, V& value, bool fresh) {
              EXPECT_EQ(fresh, S::count(value) == 0);
              batch[i].result = S::bump(value);
            });
            operation.returned = clock.fetch_add(1);
            for (std::size_t i = 0; i < which.size(); ++i) {
              histories[which[i]][t].push_back({Operation::Kind::Update, operation.invoked, operation.returned, batch[i].result});
            }
            continue;
          }
          if (choice < 8) {
            operation.kind = Operation::Kind::Update;
            map.update(key, [&](V& value, bool fresh) {
              EXPECT_EQ(fresh, S::count(value) == 0);
              operation.result = S::bump(value);
            });
          } else if (choice < 12) {
            operation.kind = Operation::Kind::Find;
            const auto found = map.find(key);
            operation.result = found ? S::count(*found) : 0;
          } else if (choice < 13) {
            operation.kind = Operation::Kind::Find;
            map.find_n(std::span<const Key>(&key, 1), [&](std::size_t, const V* found) {
              operation.result = found != nullptr ? S::count(*found) : 0;
            });
          } else {
            operation.kind = Operation::Kind::Erase;
            operation.result = map.erase(key) ? 1 : 0;
          }
          operation.returned = clock.fetch_add(1);
          histories[k][t].push_back(operation);
        }
      });
    }
    workers.clear();
    stop = true;
  }
  for (std::size_t k = 0; k < kKeys; ++k) EXPECT_TRUE(linearizable(histories[k])) << "key " << k;
}

TEST(MapHistoryTest, WordsAreLinearizable) {
  for (const std::size_t threads : {1U, 2U, 3U, 4U, 8U}) {
    for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) check<std::uint64_t, Value>(threads, 3'000, seed, seed % 2 * 20'000);
  }
}

TEST(MapHistoryTest, ObjectsAreLinearizable) {
  for (const std::size_t threads : {2U, 4U, 8U}) {
    for (std::uint64_t seed = 1; seed <= seeds(2); ++seed) check<std::string, std::vector<int>>(threads, 1'000, seed);
  }
}

}  // namespace
}  // namespace culprit::concurrent
