// Map: a concurrent hash map for live series: millions of small aggregates, updated in batches, read and
// scanned meanwhile.
//
// `update_n` is the primary form: it takes a batch of keys, makes the missing entries (value-initialised) and
// calls a function on each value. Readers get copies, never half an update. `scan` walks all entries in slices
// and gives each entry that lives throughout exactly once, also while the map grows; `sweep` walks in the same
// way and erases what is stale. Inserts beyond `max_entries` are refused and counted.
//
//   Map<SeriesKey, Aggregate> series({.name = "series", .max_entries = 1'000'000});
//   series.update_n(std::span<const Event>(events), [](const Event& e) -> const SeriesKey& { return e.key; },
//                   [&](std::size_t i, Aggregate& a, bool fresh) { a.add(events[i].value); });
//   for (Cursor at; series.scan(at, 1024, [&](const SeriesKey& k, const Aggregate& a) { ... });) {}
//
// Functions that are handed in run while their entry is locked: short, without waiting, without touching the
// same map, and without keeping the reference. Threads: any (Writers::One: one that updates and erases, any that
// read). Keys: equality-comparable and copyable, hashed by Hash (seeded per map); values: default-constructible.
// Best are trivially copyable keys and values: then readers take no lock at all.
//
// How it works. Entries live in a slab and never move (entry.h); a segmented index of tag bytes finds them
// (segment.h, index.h). An insert that fills a segment splits that segment only, so no operation ever pays for
// the whole table and memory never doubles. In a map of more than a megabyte a thread of its own has the memory ready
// that inserts will need (ahead.h). A batch is handled in three passes, so that its cache misses
// overlap: hash all and prefetch the index, find all and prefetch the entries, update all. In a map that fits the
// core's own cache there is nothing to overlap, and the keys are handled one after the other.
//
// The functions of the fast path are flattened: all that they call (hash, search, copies, what the caller handed in)
// becomes one function, without closures in memory. That is a quarter of an update in a small map; the compiler
// alone gives up on it. Inserts and what is rare stay apart.
//
// Who locks what, in this order: a segment (insert, erase), then an entry (any change), then the free list or
// the shape of the index, alone. An update of an existing entry locks only the entry, and asks there whether the
// entry still holds the key: it may have been erased and reused since it was found. An entry becomes live, or
// dead, under both locks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "daemon/concurrent/ahead.h"
#include "daemon/concurrent/entry.h"
#include "daemon/concurrent/hash.h"
#include "daemon/concurrent/index.h"
#include "daemon/concurrent/park.h"
#include "daemon/concurrent/registry.h"
#include "daemon/concurrent/slab.h"
#include "daemon/concurrent/stats.h"

namespace culprit::concurrent {

// How many threads may change a map at a time. One saves an atomic exchange an update.
enum class Writers : std::uint8_t { Many, One };

struct MapOptions {
  std::string name;              // shown by `culprit status`
  std::size_t max_entries = 0;   // 0 = no limit
  std::size_t max_bytes = 0;     // of entries and index; 0 = no limit
  bool huge_pages = true;        // for what lies beyond the first 16 MB of entries: see slab.h
  std::uint64_t seed = 0;        // of the hash; 0 = random, so that nobody can prepare colliding keys
  Registry* registry = nullptr;  // where the map lists itself; must outlive it
};

// Where a walk stands. A fresh one starts at the beginning.
class Cursor {
 public:
  Cursor() = default;

 private:
  template <typename, typename, typename, Writers> friend class Map;
  std::uint32_t next_ = 0;
};

struct Updated {
  std::size_t updated = 0;   // entries that were there
  std::size_t inserted = 0;
  std::size_t refused = 0;   // for a limit or for want of memory: counted, their function was not called
};

struct Swept {
  std::size_t erased = 0;
  bool more = false;  // the walk has not reached the end
};

template <typename Key, typename Value, typename Hash = KeyHash<Key>, Writers W = Writers::Many>
class Map {
 public:
  explicit Map(MapOptions options)
      : options_(std::move(options)),
        entries_(options_.max_entries != 0 ? std::min(options_.max_entries, kEntriesMax) : kEntriesMax,
                 options_.huge_pages ? kHugeFrom : detail::Slab<Entry>::kNever, {.share = 4, .bytes_max = std::size_t{4} << 20}),
        seed_(options_.seed != 0 ? options_.seed : random_seed()),
        registration_(options_.registry, std::function<MapStats()>([this] { return stats(); })) {
    ahead_.serve({&entries_, &index_.segments(), &index_.slots()});
    entries_.follow(ahead_);
    index_.follow(ahead_);
  }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;
  ~Map() { registration_.leave(); }

  // For each item i: finds or makes the entry of key_of(items[i]), then fn(i, value, fresh). In order.
  template <typename Item, typename KeyOf, typename F>
  [[gnu::flatten]] Updated update_n(std::span<const Item> items, KeyOf&& key_of, F&& fn) {
    Updated result;
    pass(items.size(), [&](std::size_t i) -> decltype(auto) { return key_of(items[i]); },
         [&](std::size_t i, std::uint64_t hash, Entry* entry) {
           auto apply = [&](Value& value, bool fresh) { fn(i, value, fresh); };
           const Key& key = key_of(items[i]);
           if (entry != nullptr && change(*entry, key, apply)) [[likely]] {
             ++result.updated;
             return;
           }
           const Done done = find_or_make(hash, key, apply);
           ++(done == Done::Updated ? result.updated : done == Done::Inserted ? result.inserted : result.refused);
         });
    return result;
  }
  template <typename F>
  Updated update_n(std::span<const Key> keys, F&& fn) {
    return update_n(keys, [](const Key& key) -> const Key& { return key; }, std::forward<F>(fn));
  }

  // fn(value, fresh); false if refused for a limit.
  template <typename F>
  [[gnu::flatten]] bool update(const Key& key, F&& fn) {
    const std::uint64_t hash = Hash{}(key, seed_);
    const detail::Segment& segment = index_.locate(hash);
    segment.prefetch(hash);
    const std::uint32_t number = segment.search_any(hash);
    if (number != kNone) {
      prefetch(entries_[number]);
      if (change(entries_[number], key, fn)) return true;
    }
    return find_or_make(hash, key, fn) != Done::Refused;
  }

  std::optional<Value> find(const Key& key) const {
    std::optional<Value> value(std::in_place);
    if (!read(Hash{}(key, seed_), key, *value)) value.reset();
    return value;
  }
  // Into a value that is there already; false (and any value) if the key has no entry.
  bool find(const Key& key, Value& value) const { return read(Hash{}(key, seed_), key, value); }
  bool contains(const Key& key) const {
    Value value{};
    return find(key, value);
  }
  // fn(i, const Value*): null if keys[i] has no entry. Answers how many had one.
  template <typename F>
  [[gnu::flatten]] std::size_t find_n(std::span<const Key> keys, F&& fn) const {
    std::size_t found = 0;
    Value value{};
    pass(keys.size(), [&](std::size_t i) -> const Key& { return keys[i]; },
         [&](std::size_t i, std::uint64_t hash, Entry* entry) {
           const bool hit = (entry != nullptr && entry->read_once(keys[i], value)) || read(hash, keys[i], value);
           found += hit ? 1 : 0;
           fn(i, hit ? static_cast<const Value*>(std::addressof(value)) : nullptr);
         });
    return found;
  }

  bool erase(const Key& key) {
    const std::uint64_t hash = Hash{}(key, seed_);
    detail::Segment& segment = lock_segment(hash, detail::Segment::Change::Erase);
    const std::lock_guard lock(segment.lock, std::adopt_lock);
    std::uint32_t slot = 0;
    const std::uint32_t number = find_locked(segment, hash, key, slot);
    if (number == kNone || !erase_slot(segment, slot, number, [](const Entry&, std::uint32_t) { return true; })) return false;
    give_entries(std::span(&number, 1));
    return true;
  }

  // Calls fn(key, value) with copies of the entries in the next `slice` places (used or not) and moves the cursor;
  // false once at the end, after the last call. Blocks no writer.
  template <typename F>
  bool scan(Cursor& cursor, std::size_t slice, F&& fn) const {
    const std::uint32_t end = entries_.size();
    for (; slice != 0 && cursor.next_ < end; --slice, ++cursor.next_) {
      prefetch_ahead(cursor.next_);
      entries_[cursor.next_].visit([&](const Key& key, const Value& value, std::uint32_t) { fn(key, value); });
    }
    return cursor.next_ < end;
  }

  // The same walk; erases each entry for which stale(key, value) says so. It is asked of a copy, and again, with the entry
  // locked, if that changed meanwhile.
  template <typename Stale>
  Swept sweep(Cursor& cursor, std::size_t slice, Stale&& stale) {
    Swept result;
    const std::uint32_t end = entries_.size();
    while (slice != 0 && cursor.next_ < end) {
      std::array<Doomed, kStride> doomed;
      std::array<std::uint32_t, kStride> erased;
      std::size_t n = 0, gone = 0;
      for (; n < kStride && slice != 0 && cursor.next_ < end; --slice, ++cursor.next_) {
        prefetch_ahead(cursor.next_);
        entries_[cursor.next_].visit([&](const Key& key, const Value& value, std::uint32_t sequence) {
          if (!stale(key, value)) return;
          doomed[n] = {Hash{}(key, seed_), cursor.next_, sequence};
          index_.locate(doomed[n].hash).prefetch_change(doomed[n].hash, detail::Segment::Change::Erase);
          ++n;
        });
      }
      for (std::size_t i = 0; i < n; ++i) {
        if (erase_entry(doomed[i], stale)) erased[gone++] = doomed[i].number;
      }
      if (gone != 0) give_entries(std::span(erased).first(gone));
      result.erased += gone;
    }
    result.more = cursor.next_ < end;
    return result;
  }

  std::size_t size() const { return live_.load(std::memory_order_relaxed); }
  const std::string& name() const { return options_.name; }

  MapStats stats() const {
    const detail::Index::Shape shape = index_.shape();
    const std::size_t entries = size();
    return {.name = options_.name,
            .entries = entries,
            .max_entries = options_.max_entries,
            .segments = shape.segments,
            .load = static_cast<double>(entries) / static_cast<double>(shape.segments * detail::Segment::kSlots),
            .splits = shape.splits,
            .tombstones = shape.tombstones,
            .bytes = shape.bytes + std::size_t{entries_.size()} * sizeof(Entry),
            .longest_insert_ns = longest_insert_ns_.load(std::memory_order_relaxed),
            .inserted = inserted_.load(std::memory_order_relaxed),
            .erased = erased_.load(std::memory_order_relaxed),
            .refused = refused_.load(std::memory_order_relaxed),
            .crowded = crowded_.load(std::memory_order_relaxed)};
  }

 private:
  using Entry = detail::Entry<Key, Value>;
  enum class Done : std::uint8_t { Updated, Inserted, Refused };
  struct Probe {
    std::uint64_t hash;
    const detail::Segment* segment;
    Entry* entry;  // what the index names for the hash; null if nothing. Not yet known to hold the key.
  };
  static constexpr std::uint32_t kNone = detail::Segment::kNone;
  static constexpr std::size_t kHugeFrom = std::size_t{16} << 20;  // what they waste is then an eighth at most
  static constexpr std::size_t kEntriesMax = std::size_t{1} << 28;  // without max_entries: bounds the address space
  // Keys in flight at once: enough to cover a DRAM access (16 line fill buffers a core), few enough for L1.
  static constexpr std::size_t kStride = 32;
  static constexpr std::uint32_t kSmall = (std::size_t{512} << 10) / sizeof(Entry);  // half of a core's second cache

  static std::uint64_t random_seed() {
    std::random_device device;
    return (std::uint64_t{device()} << 32) | device() | 1;
  }

  static constexpr bool kExclusive = W == Writers::One && !Entry::kLockedReads;

  // An entry's lock, released with or without a change.
  struct Held {
    explicit Held(Entry& of) : entry(of), number(kExclusive ? of.lock_alone() : of.lock()) {}
    ~Held() { entry.unlock(number, changed); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    Entry& entry;
    std::uint32_t number;
    bool changed = false;
  };

  // Calls use(i, hash, what the index names for it or null) for each of n keys, a stride at a time: all of a stride are
  // hashed and their tags fetched, then all searched and their entries fetched, then all used. Keys are fetched two
  // strides ahead. While everything is in the core's own cache the stages cost more than they hide: then one key
  // after the other.
  template <typename KeyOf, typename Use>
  void pass(std::size_t n, KeyOf&& key_of, Use&& use) const {
    const bool small = entries_.size() <= kSmall;
    if (small || n == 1) {
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t hash = Hash{}(key_of(i), seed_);
        const detail::Segment& segment = index_.locate(hash);
        if (!small) segment.prefetch(hash);
        Entry* const entry = entry_or_null(segment.search_any(hash));
        if (!small && entry != nullptr) prefetch(*entry);
        use(i, hash, entry);
      }
      return;
    }
    auto fetch_keys = [&](std::size_t i, std::size_t end) {
      if constexpr (std::is_lvalue_reference_v<decltype(key_of(i))>) {
        for (; i < std::min(n, end); ++i) __builtin_prefetch(std::addressof(key_of(i)));
      }
    };
    fetch_keys(0, 2 * kStride);
    std::array<Probe, kStride> probes;
    for (std::size_t base = 0; base < n; base += kStride) {
      const std::size_t count = std::min(n - base, kStride);
      for (std::size_t i = 0; i < count; ++i) {
        Probe& probe = probes[i];
        probe.hash = Hash{}(key_of(base + i), seed_);
        probe.segment = &index_.locate(probe.hash);
        probe.segment->prefetch(probe.hash);
      }
      fetch_keys(base + 2 * kStride, base + 3 * kStride);
      for (std::size_t i = 0; i < count; ++i) {
        Probe& probe = probes[i];
        probe.entry = entry_or_null(probe.segment->search_any(probe.hash));
        if (probe.entry != nullptr) prefetch(*probe.entry);
      }
      for (std::size_t i = 0; i < count; ++i) use(base + i, probes[i].hash, probes[i].entry);
    }
  }
  Entry* entry_or_null(std::uint32_t number) const { return number == kNone ? nullptr : &entries_[number]; }
  // For a walk: the core's own prefetching ends with each page.
  void prefetch_ahead(std::uint32_t number) const {
    constexpr std::size_t kAhead = 4096;  // 0.2 us at 20 GB/s: an access to memory
    const auto* const bytes = reinterpret_cast<const char*>(&entries_[number]) + kAhead;
    for (std::size_t at = 0; at < sizeof(Entry); at += 64) __builtin_prefetch(bytes + at);
  }
  // All of the entry's lines at once, for writing: an atomic exchange on the first would hold up the others.
  static void prefetch(const Entry& entry) {
    const auto* const bytes = reinterpret_cast<const char*>(&entry);
    for (std::size_t at = 0; at < std::min<std::size_t>(sizeof(Entry), 256); at += 64) __builtin_prefetch(bytes + at, 1);
  }

  // Updates the entry if it is the key's.
  template <typename F>
  static bool change(Entry& entry, const Key& key, F&& apply) {
    Held held(entry);
    if (!entry.holds(key)) return false;
    entry.change([&](Value& value) { apply(value, false); });
    return held.changed = true;
  }

  // The segment that covers the hash, locked.
  detail::Segment& lock_segment(std::uint64_t hash, detail::Segment::Change change) const {
    while (true) {
      detail::Segment& segment = index_.locate(hash);
      segment.prefetch_change(hash, change);
      segment.lock.lock();
      if (segment.covers(hash)) return segment;
      segment.lock.unlock();  // split or merged since it was located
    }
  }
  // The number of the key's entry and its slot. With the segment locked, no entry of it comes or goes.
  std::uint32_t find_locked(const detail::Segment& segment, std::uint64_t hash, const Key& key, std::uint32_t& at) const {
    return segment.search(hash, [&](std::uint32_t number, std::uint32_t slot) {
      at = slot;
      prefetch(entries_[number]);
      return entries_[number].holds(key);
    });
  }

  template <typename F>
  [[gnu::noinline]] Done find_or_make(std::uint64_t hash, const Key& key, F&& apply) {
    std::int64_t start_ns = 0;
    while (true) {
      detail::Segment& segment = lock_segment(hash, detail::Segment::Change::Insert);
      const std::lock_guard lock(segment.lock, std::adopt_lock);
      std::uint32_t slot = 0;
      if (const std::uint32_t number = find_locked(segment, hash, key, slot); number != kNone) {
        Held held(entries_[number]);
        held.changed = true;
        entries_[number].change([&](Value& value) { apply(value, false); });
        return Done::Updated;
      }
      if (segment.full()) {
        if (start_ns == 0) start_ns = monotonic_ns();
        if (options_.max_bytes != 0 && bytes_estimate() >= options_.max_bytes) return refuse(refused_);
        const detail::Index::Room room = index_.make_room(segment);
        if (room == detail::Index::Room::Made) continue;
        return refuse(room == detail::Index::Room::Crowded ? crowded_ : refused_);
      }
      const std::uint32_t number = take_entry();
      if (number == kNone) return refuse(refused_);
      Giveback giveback{this, number};  // if a copy of the key, or the function, throws
      {
        Held held(entries_[number]);
        held.changed = true;
        entries_[number].make(key, [&](Value& value) { apply(value, true); });
        giveback.map = nullptr;
        // In its place before it lives: a thread whose earlier search named this entry, which had the key before, would
        // else find it, and one that comes after that thread would not.
        segment.place(detail::tag_of(hash), static_cast<std::uint32_t>(hash), number);
        entries_[number].set_link(Entry::kLive);
      }
      if (start_ns != 0) note_insert(start_ns);
      return Done::Inserted;
    }
  }
  static Done refuse(std::atomic<std::uint64_t>& counter) {
    counter.fetch_add(1, std::memory_order_relaxed);
    return Done::Refused;
  }

  [[gnu::flatten]] bool read(std::uint64_t hash, const Key& key, Value& value) const {
    const detail::Segment& segment = index_.locate(hash);
    segment.prefetch(hash);
    const std::uint32_t number = segment.search_first(hash);
    if (number != kNone && entries_[number].read_once(key, value)) [[likely]] return true;
    return read_surely(hash, key, value);
  }
  // A hit needs no second look: the entry held the key at one moment. A miss does (segment.h).
  [[gnu::noinline]] bool read_surely(std::uint64_t hash, const Key& key, Value& value) const {
    detail::Backoff backoff;
    while (true) {
      const detail::Segment& segment = index_.locate(hash);
      const std::uint32_t version = segment.version.load(std::memory_order_acquire);
      const bool covered = segment.covers(hash);
      const std::uint32_t number = segment.search(hash, [&](std::uint32_t candidate, std::uint32_t) {
        return entries_[candidate].read(key, value);
      });
      if (number != kNone) return true;
      if (covered && version % 2 == 0 && segment.version.load(std::memory_order_relaxed) == version) return false;
      backoff.pause();
    }
  }

  // An entry that is to go if it still has this hash, and is as it was or the condition still holds.
  struct Doomed {
    std::uint64_t hash;
    std::uint32_t number;
    std::uint32_t sequence;
  };
  template <typename Condition>
  bool erase_entry(const Doomed& doomed, Condition&& condition) {
    detail::Segment& segment = lock_segment(doomed.hash, detail::Segment::Change::Erase);
    const std::lock_guard lock(segment.lock, std::adopt_lock);
    const std::uint32_t slot = segment.slot_of(doomed.hash, doomed.number);
    return slot != kNone && erase_slot(segment, slot, doomed.number, [&](const Entry& entry, std::uint32_t sequence) {
      return sequence == doomed.sequence || entry.test(condition);
    });
  }
  // The entry is the segment's, which is locked. It goes if condition(entry, its sequence number) says so.
  template <typename Condition>
  bool erase_slot(detail::Segment& segment, std::uint32_t slot, std::uint32_t number, Condition&& condition) {
    Entry& entry = entries_[number];
    {
      Held held(entry);
      if (!condition(std::as_const(entry), held.number)) return false;
      held.changed = true;
      entry.set_link(0);  // dead
      entry.clear();
    }
    segment.remove(slot);
    if (segment.used() < detail::Index::kSparse) index_.try_merge(segment);
    return true;
  }

  // A place for an entry: one that was freed, or a new one. kNone at a limit.
  std::uint32_t take_entry() {
    const std::lock_guard lock(free_lock_);
    const std::size_t live = live_.load(std::memory_order_relaxed);
    if (options_.max_entries != 0 && live >= options_.max_entries) return kNone;
    std::uint32_t number = free_;
    if (number != kNone) {
      free_ = entries_[number].link() == 0 ? kNone : entries_[number].link() - 1;
    } else {
      if (options_.max_bytes != 0 && bytes_estimate() >= options_.max_bytes) return kNone;
      number = entries_.make();
      if (number == kNone) return kNone;
    }
    live_.store(live + 1, std::memory_order_relaxed);
    inserted_.store(inserted_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return number;
  }
  // Free entries are linked by number + 1; 0 ends the list.
  void give_entries(std::span<const std::uint32_t> numbers, bool were_live = true) {
    for (std::size_t i = 1; i < numbers.size(); ++i) entries_[numbers[i]].set_link(numbers[i - 1] + 1);
    const std::lock_guard lock(free_lock_);
    entries_[numbers[0]].set_link(free_ + 1);  // kNone + 1 = 0
    free_ = numbers.back();
    live_.store(live_.load(std::memory_order_relaxed) - numbers.size(), std::memory_order_relaxed);
    if (were_live) {
      erased_.store(erased_.load(std::memory_order_relaxed) + numbers.size(), std::memory_order_relaxed);
    } else {
      inserted_.store(inserted_.load(std::memory_order_relaxed) - numbers.size(), std::memory_order_relaxed);
    }
  }
  struct Giveback {
    Map* map;
    std::uint32_t number;
    ~Giveback() {
      if (map == nullptr) return;
      map->give_entries(std::span(&number, 1), false);
    }
  };

  // Without a look into the index, which has its own lock: 9.2 bytes a slot at the mean load of 0.6.
  std::size_t bytes_estimate() const { return std::size_t{entries_.size()} * (sizeof(Entry) + 15); }

  void note_insert(std::int64_t start_ns) {
    const auto took = static_cast<std::uint64_t>(monotonic_ns() - start_ns);
    std::uint64_t longest = longest_insert_ns_.load(std::memory_order_relaxed);
    while (took > longest && !longest_insert_ns_.compare_exchange_weak(longest, took, std::memory_order_relaxed)) {
    }
  }

  const MapOptions options_;
  detail::Slab<Entry> entries_;
  const std::uint64_t seed_;
  detail::Index index_;
  alignas(64) detail::FutexLock free_lock_;  // guards the list, and who changes live_
  std::uint32_t free_ = kNone;
  std::atomic<std::size_t> live_{0};
  std::atomic<std::uint64_t> inserted_{0};
  std::atomic<std::uint64_t> erased_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<std::uint64_t> crowded_{0};
  std::atomic<std::uint64_t> longest_insert_ns_{0};
  detail::Ahead ahead_;        // after what it serves
  Registration registration_;  // last: it lists the map once all else exists
};

}  // namespace culprit::concurrent
