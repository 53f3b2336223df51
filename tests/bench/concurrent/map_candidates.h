// The map and its opponents behind one face: update(events, n), read(key, out), scan, sweep, erase, size.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "daemon/concurrent/map.h"
#include "tests/bench/concurrent/workload.h"

#if __has_include(<boost/unordered/concurrent_flat_map.hpp>)
#include <boost/unordered/concurrent_flat_map.hpp>
#define BENCH_BOOST 1
#endif
#if __has_include(<tbb/concurrent_hash_map.h>)
#include <tbb/concurrent_hash_map.h>
#define BENCH_TBB 1
#endif
#if !defined(NO_URCU) && __has_include(<urcu/rculfhash.h>)
#include <urcu/urcu-memb.h>
#include <urcu/rculfhash.h>
#define BENCH_URCU 1
#endif
#if !defined(NO_ABSL) && __has_include(<absl/container/flat_hash_map.h>)
#include <absl/container/flat_hash_map.h>
#define BENCH_ABSL 1
#endif

namespace bench {

template <culprit::concurrent::Writers W, bool kHuge = true>
struct Ours {
  culprit::concurrent::Map<Key, Aggregate, SeededHash, W> map{{.name = "bench", .huge_pages = kHuge}};
  void update(const Event* events, std::size_t n) {
    map.update_n(std::span(events, n), [](const Event& e) -> const Key& { return e.key; },
                 [&](std::size_t i, Aggregate& a, bool) { a.add(events[i].value, events[i].time); });
  }
  bool read(const Key& key, Aggregate& out) { return map.find(key, out); }
  std::uint64_t read_n(const Key* keys, std::size_t n) {
    std::uint64_t sum = 0;
    map.find_n(std::span(keys, n), [&](std::size_t, const Aggregate* a) { sum += a != nullptr ? a->count : 0; });
    return sum;
  }
  template <typename F>
  void scan(F&& use) {
    for (culprit::concurrent::Cursor at; map.scan(at, 1024, use);) {
    }
  }
  void sweep(std::uint64_t before) {
    for (culprit::concurrent::Cursor at;
         map.sweep(at, 1024, [&](const Key&, const Aggregate& a) { return a.last < before; }).more;) {
    }
  }
  bool erase(const Key& key) { return map.erase(key); }
  std::size_t size() { return map.size(); }
};
// The same one key at a time.
struct OursSingle : Ours<culprit::concurrent::Writers::Many> {
  void update(const Event* events, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      map.update(events[i].key, [&](Aggregate& a, bool) { a.add(events[i].value, events[i].time); });
    }
  }
};

struct StdMutex {
  std::mutex mutex;
  std::unordered_map<Key, Aggregate, PlainHash> map;
  void update(const Event* events, std::size_t n) {
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < n; ++i) map[events[i].key].add(events[i].value, events[i].time);
  }
  bool read(const Key& key, Aggregate& out) {
    const std::lock_guard lock(mutex);
    const auto at = map.find(key);
    if (at != map.end()) out = at->second;
    return at != map.end();
  }
};

#ifdef BENCH_BOOST
struct BoostSingle {
  boost::concurrent_flat_map<Key, Aggregate, PlainHash> map;
  void update(const Event* events, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      const Event& e = events[i];
      auto add = [&](auto& entry) { entry.second.add(e.value, e.time); };
      if (!map.visit(e.key, add)) {
        Aggregate a;
        a.add(e.value, e.time);
        map.try_emplace_or_visit(e.key, a, add);
      }
    }
  }
  bool read(const Key& key, Aggregate& out) {
    return map.cvisit(key, [&](const auto& entry) { out = entry.second; }) != 0;
  }
  std::uint64_t read_n(const Key* keys, std::size_t n) {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < n; at += map.bulk_visit_size) {
      map.cvisit(keys + at, keys + std::min(n, at + map.bulk_visit_size),
                 [&](const auto& entry) { sum += Aggregate(entry.second).count; });
    }
    return sum;
  }
  template <typename F>
  void scan(F&& use) {
    map.cvisit_all([&](const auto& entry) {
      const Aggregate copy = entry.second;
      use(entry.first, copy);
    });
  }
  void sweep(std::uint64_t before) {
    map.erase_if([&](const auto& entry) { return entry.second.last < before; });
  }
  bool erase(const Key& key) { return map.erase(key) != 0; }
  std::size_t size() { return map.size(); }
};
// An iterator over the keys of events.
struct KeyAt {
  using iterator_category = std::forward_iterator_tag;
  using value_type = Key;
  using difference_type = std::ptrdiff_t;
  using pointer = const Key*;
  using reference = const Key&;
  const Event* at;
  const Key& operator*() const { return at->key; }
  const Key* operator->() const { return &at->key; }
  KeyAt& operator++() {
    ++at;
    return *this;
  }
  KeyAt operator++(int) { return {at++}; }
  bool operator==(const KeyAt&) const = default;
};
// Bulk visit calls back in the order of its range. While the map is being filled keys are missing, so that the
// callback could not tell whose turn it is: then one by one.
struct BoostBulk : BoostSingle {
  void update(const Event* events, std::size_t n) {
    if (!full) return BoostSingle::update(events, n);
    for (std::size_t base = 0; base < n; base += map.bulk_visit_size) {
      const std::size_t end = std::min(n, base + map.bulk_visit_size);
      std::size_t next = base;
      map.visit(KeyAt{events + base}, KeyAt{events + end}, [&](auto& entry) {
        entry.second.add(events[next].value, events[next].time);
        ++next;
      });
      if (next != end) std::abort();
    }
  }
  bool full = false;
};
#endif

#ifdef BENCH_TBB
struct Tbb {
  struct Compare {
    std::size_t hash(const Key& key) const { return hash_key(key, 0); }
    bool equal(const Key& a, const Key& b) const { return a == b; }
  };
  tbb::concurrent_hash_map<Key, Aggregate, Compare> map;
  void update(const Event* events, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      decltype(map)::accessor at;
      map.insert(at, events[i].key);
      at->second.add(events[i].value, events[i].time);
    }
  }
  bool read(const Key& key, Aggregate& out) {
    decltype(map)::const_accessor at;
    if (!map.find(at, key)) return false;
    out = at->second;
    return true;
  }
};
#endif

#ifdef BENCH_URCU
// The lock-free hash table of liburcu. It protects nodes from being freed; an aggregate needs a lock of its own.
struct Urcu {
  struct Node {
    cds_lfht_node node;
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    Key key;
    Aggregate value;
    Aggregate read() {
      lock();
      const Aggregate copy = value;
      unlock();
      return copy;
    }
    void add(const Event& e) {
      lock();
      value.add(e.value, e.time);
      unlock();
    }
    void lock() {
      while (busy.test_and_set(std::memory_order_acquire)) __builtin_ia32_pause();
    }
    void unlock() { busy.clear(std::memory_order_release); }
  };
  struct Reader {  // a thread that reads must be known
    Reader() { urcu_memb_register_thread(); }
    ~Reader() { urcu_memb_unregister_thread(); }
  };
  cds_lfht* const table = cds_lfht_new_flavor(1024, 1024, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, &urcu_memb_flavor, nullptr);
  Urcu() = default;
  Urcu(const Urcu&) = delete;
  Urcu& operator=(const Urcu&) = delete;
  ~Urcu() {
    known();
    cds_lfht_iter at{};
    urcu_memb_read_lock();
    for (cds_lfht_first(table, &at); cds_lfht_node* const node = cds_lfht_iter_get_node(&at);) {
      cds_lfht_next(table, &at);
      cds_lfht_del(table, node);
      doomed.emplace_back(of(node));
    }
    urcu_memb_read_unlock();
    urcu_memb_synchronize_rcu();
    cds_lfht_destroy(table, nullptr);
  }
  std::vector<std::unique_ptr<Node>> doomed;

  static void known() { static thread_local Reader reader; }
  static Node* of(cds_lfht_node* node) { return reinterpret_cast<Node*>(node); }  // its first member
  static int same(cds_lfht_node* node, const void* key) { return of(node)->key == *static_cast<const Key*>(key) ? 1 : 0; }
  Node* find(const Key& key) const {
    cds_lfht_iter at{};
    cds_lfht_lookup(table, hash_key(key, 0), same, &key, &at);
    cds_lfht_node* const node = cds_lfht_iter_get_node(&at);
    return node != nullptr ? of(node) : nullptr;
  }
  void update(const Event* events, std::size_t n) {
    known();
    urcu_memb_read_lock();
    for (std::size_t i = 0; i < n; ++i) {
      Node* node = find(events[i].key);
      if (node == nullptr) {
        auto made = std::make_unique<Node>();
        made->key = events[i].key;
        cds_lfht_node_init(&made->node);
        node = of(cds_lfht_add_unique(table, hash_key(made->key, 0), same, &made->key, &made->node));
        if (node == made.get()) (void)made.release();
      }
      node->add(events[i]);
    }
    urcu_memb_read_unlock();
  }
  bool read(const Key& key, Aggregate& out) {
    known();
    urcu_memb_read_lock();
    Node* const node = find(key);
    if (node != nullptr) out = node->read();
    urcu_memb_read_unlock();
    return node != nullptr;
  }
};
#endif

#ifdef BENCH_ABSL
struct AbslSharded {
  struct alignas(64) Shard {
    std::mutex mutex;
    absl::flat_hash_map<Key, Aggregate, PlainHash> map;
  };
  std::array<Shard, 64> shards;
  Shard& shard(const Key& key) { return shards[hash_key(key, 0) >> 58]; }
  void update(const Event* events, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      Shard& s = shard(events[i].key);
      const std::lock_guard lock(s.mutex);
      s.map[events[i].key].add(events[i].value, events[i].time);
    }
  }
  bool read(const Key& key, Aggregate& out) {
    Shard& s = shard(key);
    const std::lock_guard lock(s.mutex);
    const auto at = s.map.find(key);
    if (at != s.map.end()) out = at->second;
    return at != s.map.end();
  }
};
#endif

}  // namespace bench
