// Map: a concurrent hash map for live series: millions of small aggregates, updated in batches, read and
// scanned meanwhile.
//
// `update_n` is the primary form: it takes a batch of keys, makes the missing entries (value-initialised) and
// calls a function on each value in place. Readers get copies. `scan` walks all entries in slices and gives
// each entry that lives throughout exactly once, also while the map grows; `sweep` walks in the same way and
// erases what is stale. Inserts beyond `max_entries` are refused and counted.
//
//   Map<SeriesKey, Aggregate> series({.name = "series", .max_entries = 1'000'000});
//   series.update_n(events, [](const Event& e) -> const SeriesKey& { return e.key; },
//                   [&](std::size_t i, Aggregate& a, bool fresh) { a.add(events[i].value); });
//   for (Cursor at; series.scan(at, 1024, [&](const SeriesKey& k, const Aggregate& a) { ... });) {}
//
// Functions that are handed in run while their entry is locked: short, without waiting, without touching the
// same map, and without keeping the reference. Threads: any. Keys: equality-comparable and copyable, hashed by
// Hash (seeded per map); values: default-constructible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/concurrent/hash.h"
#include "daemon/concurrent/park.h"
#include "daemon/concurrent/registry.h"
#include "daemon/concurrent/stats.h"

namespace culprit::concurrent {

struct MapOptions {
  std::string name;              // shown by `culprit status`
  std::size_t max_entries = 0;   // 0 = no limit
  std::uint64_t seed = 0;        // of the hash; 0 = random, so that nobody can prepare colliding keys
  Registry* registry = nullptr;  // where the map lists itself; must outlive it
};

// Where a walk stands. A fresh one starts at the beginning.
class Cursor {
 public:
  Cursor() = default;

 private:
  template <typename, typename, typename> friend class Map;
  std::uint64_t next_ = 0;
};

struct Updated {
  std::size_t updated = 0;   // entries that were there
  std::size_t inserted = 0;
  std::size_t refused = 0;   // for the limit; their function was not called
};

struct Swept {
  std::size_t erased = 0;
  bool more = false;  // the walk has not reached the end
};

template <typename Key, typename Value, typename Hash = KeyHash<Key>>
class Map {
 public:
  explicit Map(MapOptions options)
      : options_(std::move(options)),
        index_(0, Seeded{options_.seed != 0 ? options_.seed : random_seed()}),
        registration_(options_.registry, std::function<MapStats()>([this] { return stats(); })) {}
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;
  ~Map() { registration_.leave(); }

  // For each item i: finds or makes the entry of key_of(items[i]), then fn(i, value, fresh). In order for equal keys.
  template <typename Item, typename KeyOf, typename F>
  Updated update_n(std::span<const Item> items, KeyOf&& key_of, F&& fn) {
    Updated result;
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < items.size(); ++i) {
      bool fresh = false;
      Entry* const entry = find_or_make(key_of(items[i]), fresh);
      if (entry == nullptr) {
        ++result.refused;
        continue;
      }
      ++(fresh ? result.inserted : result.updated);
      fn(i, entry->value, fresh);
    }
    return result;
  }
  template <typename F>
  Updated update_n(std::span<const Key> keys, F&& fn) {
    return update_n(keys, [](const Key& key) -> const Key& { return key; }, std::forward<F>(fn));
  }

  // fn(value, fresh); false if refused for the limit.
  template <typename F>
  bool update(const Key& key, F&& fn) {
    const Updated result =
        update_n(std::span<const Key>(&key, 1), [&](std::size_t, Value& value, bool fresh) { fn(value, fresh); });
    return result.refused == 0;
  }

  std::optional<Value> find(const Key& key) const {
    const std::lock_guard lock(mutex_);
    const auto at = index_.find(key);
    if (at == index_.end()) return std::nullopt;
    return entries_[at->second]->value;
  }
  bool contains(const Key& key) const {
    const std::lock_guard lock(mutex_);
    return index_.contains(key);
  }
  // fn(i, const Value*): null if keys[i] has no entry. Answers how many had one.
  template <typename F>
  std::size_t find_n(std::span<const Key> keys, F&& fn) const {
    std::size_t found = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::optional<Value> value = find(keys[i]);
      if (value) ++found;
      fn(i, value ? &*value : nullptr);
    }
    return found;
  }

  bool erase(const Key& key) {
    const std::lock_guard lock(mutex_);
    const auto at = index_.find(key);
    if (at == index_.end()) return false;
    free_entry(at->second);
    index_.erase(at);
    return true;
  }

  // Calls fn(key, value) for the next `slice` places (used or not) and moves the cursor; false once at the end,
  // after the last call. No entry is locked between two slices.
  template <typename F>
  bool scan(Cursor& cursor, std::size_t slice, F&& fn) const {
    const std::lock_guard lock(mutex_);
    for (; slice != 0 && cursor.next_ < entries_.size(); --slice, ++cursor.next_) {
      if (const auto& entry = entries_[cursor.next_]) fn(std::as_const(entry->key), std::as_const(entry->value));
    }
    return cursor.next_ < entries_.size();
  }

  // The same walk; erases each entry for which stale(key, value) says so.
  template <typename Stale>
  Swept sweep(Cursor& cursor, std::size_t slice, Stale&& stale) {
    Swept result;
    const std::lock_guard lock(mutex_);
    for (; slice != 0 && cursor.next_ < entries_.size(); --slice, ++cursor.next_) {
      const auto& entry = entries_[cursor.next_];
      if (!entry || !stale(std::as_const(entry->key), std::as_const(entry->value))) continue;
      index_.erase(entry->key);
      free_entry(cursor.next_);
      ++result.erased;
    }
    result.more = cursor.next_ < entries_.size();
    return result;
  }

  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return index_.size();
  }
  const std::string& name() const { return options_.name; }

  MapStats stats() const {
    const std::lock_guard lock(mutex_);
    return {.name = options_.name, .entries = index_.size(), .max_entries = options_.max_entries, .segments = 1,
            .load = static_cast<double>(index_.load_factor()),
            .bytes = entries_.size() * sizeof(entries_[0]) + index_.size() * (sizeof(Key) + 4 * sizeof(void*)),
            .longest_insert_ns = longest_insert_ns_, .inserted = inserted_, .erased = erased_, .refused = refused_};
  }

 private:
  struct Entry {
    Key key;
    Value value;
  };
  struct Seeded {
    std::uint64_t seed;
    std::size_t operator()(const Key& key) const { return static_cast<std::size_t>(Hash{}(key, seed)); }
  };

  static std::uint64_t random_seed() {
    std::random_device device;
    return (std::uint64_t{device()} << 32) | device() | 1;
  }

  Entry* find_or_make(const Key& key, bool& fresh) {
    if (const auto at = index_.find(key); at != index_.end()) return &*entries_[at->second];
    if (options_.max_entries != 0 && index_.size() >= options_.max_entries) {
      ++refused_;
      return nullptr;
    }
    const std::int64_t start_ns = monotonic_ns();
    std::size_t place = entries_.size();
    if (!free_.empty()) {
      place = free_.back();
      free_.pop_back();
    } else {
      free_.reserve(entries_.size() + 1);
      entries_.emplace_back();
    }
    index_.emplace(key, place);
    entries_[place].emplace(Entry{key, Value{}});
    ++inserted_;
    fresh = true;
    longest_insert_ns_ = std::max(longest_insert_ns_, static_cast<std::uint64_t>(monotonic_ns() - start_ns));
    return &*entries_[place];
  }

  void free_entry(std::size_t place) {
    entries_[place].reset();
    free_.push_back(place);
    ++erased_;
  }

  const MapOptions options_;
  mutable std::mutex mutex_;  // guards all below
  std::unordered_map<Key, std::size_t, Seeded> index_;
  std::deque<std::optional<Entry>> entries_;  // an entry stays in its place: a walk by place misses none
  std::vector<std::size_t> free_;
  std::uint64_t longest_insert_ns_ = 0;
  std::uint64_t inserted_ = 0;
  std::uint64_t erased_ = 0;
  std::uint64_t refused_ = 0;
  Registration registration_;  // last: it lists the map once all else exists
};

}  // namespace culprit::concurrent
