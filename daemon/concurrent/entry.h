// Entry: one key with its value, in a place that never moves. It is reused, but never anything else.
//
// Two kinds with one interface. WordEntry holds trivially copyable keys and values as atomic
// words under a sequence number, so that readers copy without a lock and never see half an update.
// ObjectEntry holds any others; its readers take the entry's lock.
//
// The sequence number: odd while somebody changes the entry; the change ends with the next even number.
// Writers store each word with release order after the odd number; readers load each with acquire order
// and then the number again. A reader that saw a word of a change therefore sees a different number.
//
// Threads: `lock`/`unlock` bracket changes (one writer at a time; with `exclusive` false the caller promises
// that there is no other writer). An entry becomes live, and dead again, only under its segment's lock too.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "daemon/concurrent/spin.h"

namespace culprit::concurrent::detail {

// What both kinds share: sequence number, life, and the link of the list of free entries.
class EntryHead {
 public:
  static constexpr std::uint32_t kLive = ~0U;

  // Answers the even number from before.
  std::uint32_t lock() {
    Backoff backoff;
    while (true) {
      std::uint32_t number = sequence_.load(std::memory_order_relaxed);
      if (number % 2 == 0 && sequence_.compare_exchange_weak(number, number + 1, std::memory_order_acquire,
                                                             std::memory_order_relaxed)) {
        return number;
      }
      backoff.pause();
    }
  }
  std::uint32_t lock_alone() {
    const std::uint32_t number = sequence_.load(std::memory_order_relaxed);
    sequence_.store(number + 1, std::memory_order_relaxed);
    return number;
  }
  void unlock(std::uint32_t number, bool changed) {
    sequence_.store(changed ? number + 2 : number, std::memory_order_release);
  }

  // kLive, or the link of a free entry.
  std::uint32_t link() const { return link_.load(std::memory_order_acquire); }
  bool live() const { return link() == kLive; }
  void set_link(std::uint32_t link) { link_.store(link, std::memory_order_release); }

 protected:
  std::atomic<std::uint32_t> sequence_{0};
  std::atomic<std::uint32_t> link_{0};
};

template <typename Key, typename Value>
class WordEntry : public EntryHead {
 public:
  static constexpr bool kLockedReads = false;

  // ---- under the lock

  bool holds(const Key& key) const { return live() && same(key); }
  // Changes take place in a copy: if `apply` throws, nothing happened.
  template <typename F>
  void change(F&& apply) {
    Scratch<Value> value;
    load(kKeyWords, value);
    apply(value.get());
    store(kKeyWords, value.get());
  }
  template <typename F>
  void make(const Key& key, F&& apply) {
    Value value{};
    apply(value);
    store(0, key);
    store(kKeyWords, value);
  }
  template <typename F>
  bool test(F&& ask) const {
    Scratch<Key> key;
    Scratch<Value> value;
    load(0, key);
    load(kKeyWords, value);
    return ask(std::as_const(key.get()), std::as_const(value.get()));
  }
  void clear() {}

  // ---- no lock

  // Copies the value if the entry holds the key and nobody changes it just now: nearly always enough, and so small that
  // a core keeps several in flight.
  bool read_once(const Key& key, Value& value) const {
    const std::uint32_t before = sequence_.load(std::memory_order_acquire);
    if (!live() || !same(key)) return false;
    load_words<sizeof(Value)>(kKeyWords, std::addressof(value));
    return before % 2 == 0 && sequence_.load(std::memory_order_relaxed) == before;
  }
  // Copies the value if the entry holds the key. If not, that was true at one moment.
  bool read(const Key& key, Value& value) const {
    Backoff backoff;
    while (true) {
      const std::uint32_t before = sequence_.load(std::memory_order_acquire);
      if (before % 2 == 0) {
        const bool mine = live() && same(key);
        if (mine) load_words<sizeof(Value)>(kKeyWords, std::addressof(value));
        if (sequence_.load(std::memory_order_relaxed) == before) return mine;
      }
      backoff.pause();
    }
  }
  // Calls use(key, value, sequence number) with a copy if the entry is live.
  template <typename F>
  bool visit(F&& use) const {
    if (!live()) return false;
    Backoff backoff;
    while (true) {
      const std::uint32_t before = sequence_.load(std::memory_order_acquire);
      if (before % 2 == 0) {
        const bool alive = live();
        Scratch<Key> key;
        Scratch<Value> value;
        load(0, key);
        load(kKeyWords, value);
        if (sequence_.load(std::memory_order_relaxed) == before) {
          if (alive) use(std::as_const(key.get()), std::as_const(value.get()), before);
          return alive;
        }
      }
      backoff.pause();
    }
  }

 private:
  static constexpr std::size_t kKeyWords = (sizeof(Key) + 7) / 8;
  static constexpr std::size_t kWords = kKeyWords + (sizeof(Value) + 7) / 8;

  // Room for an object that needs no default constructor. Words are copied straight between the entry and the
  // object: through an intermediate array the compiler would read with wider moves what was just written with
  // narrow ones, and each such read stalls (measured: 25 ns an update).
  template <typename T>
  class Scratch {
   public:
    T& get() { return *std::launder(reinterpret_cast<T*>(bytes_.data())); }
    void* data() { return bytes_.data(); }

   private:
    alignas(T) std::array<std::byte, sizeof(T)> bytes_;
  };

  // Calls use(i, bytes in the word) for each word of an object of kSize bytes, unrolled. Always inlined, as what is
  // handed in must be: left to itself, the compiler keeps a function here that finds every word through
  // pointers in memory (measured: 4 ns an update).
  template <std::size_t kSize, typename F>
  [[gnu::always_inline]] static void each_word(F&& use) {
    constexpr std::size_t kUnrolled = 32;
    if constexpr (kSize <= kUnrolled * 8) {
      [&]<std::size_t... kAt>(std::index_sequence<kAt...>) __attribute__((always_inline)) {
        (use(kAt, std::integral_constant<std::size_t, std::min<std::size_t>(8, kSize - kAt * 8)>{}), ...);
      }(std::make_index_sequence<(kSize + 7) / 8>{});
    } else {
      for (std::size_t i = 0; i < (kSize + 7) / 8; ++i) use(i, std::min<std::size_t>(8, kSize - i * 8));
    }
  }

  template <typename T>
  void load(std::size_t first, Scratch<T>& to) const {
    load_words<sizeof(T)>(first, to.data());
  }
  template <std::size_t kSize>
  void load_words(std::size_t first, void* to) const {
    each_word<kSize>([&](std::size_t i, auto size) __attribute__((always_inline)) {
      const std::uint64_t word = words_[first + i].load(std::memory_order_acquire);
      std::memcpy(static_cast<std::byte*>(to) + i * 8, &word, size);
    });
  }
  template <typename T>
  void store(std::size_t first, const T& object) {
    const void* const from = std::addressof(object);
    each_word<sizeof(T)>([&](std::size_t i, auto size) __attribute__((always_inline)) {
      std::uint64_t word = 0;
      std::memcpy(&word, static_cast<const std::byte*>(from) + i * 8, size);
      words_[first + i].store(word, std::memory_order_release);
    });
  }
  // Keys without padding are compared by their bytes, others by their operator.
  bool same(const Key& key) const {
    if constexpr (std::has_unique_object_representations_v<Key>) {
      const void* const bytes = std::addressof(key);
      std::uint64_t different = 0;
      each_word<sizeof(Key)>([&](std::size_t i, auto size) __attribute__((always_inline)) {
        std::uint64_t word = 0;
        std::memcpy(&word, static_cast<const std::byte*>(bytes) + i * 8, size);
        different |= word ^ words_[i].load(std::memory_order_acquire);
      });
      return different == 0;
    } else {
      Scratch<Key> mine;
      load(0, mine);
      return mine.get() == key;
    }
  }

  std::array<std::atomic<std::uint64_t>, kWords> words_;
};

template <typename Key, typename Value>
class ObjectEntry : public EntryHead {
 public:
  static constexpr bool kLockedReads = true;

  bool holds(const Key& key) const { return live() && objects_->first == key; }
  template <typename F>
  void change(F&& apply) {
    apply(objects_->second);
  }
  template <typename F>
  void make(const Key& key, F&& apply) {
    objects_.emplace(std::piecewise_construct, std::forward_as_tuple(key), std::forward_as_tuple());
    struct Undo {
      std::optional<std::pair<Key, Value>>* objects;
      ~Undo() {
        if (objects != nullptr) objects->reset();
      }
    } undo{&objects_};
    apply(objects_->second);
    undo.objects = nullptr;
  }
  template <typename F>
  bool test(F&& ask) const {
    return ask(objects_->first, objects_->second);
  }
  void clear() { objects_.reset(); }

  // Not const inside: reading takes the lock.
  bool read(const Key& key, Value& value) {
    const Held held(*this);
    if (!live() || !(objects_->first == key)) return false;
    value = objects_->second;
    return true;
  }
  bool read_once(const Key& key, Value& value) { return read(key, value); }
  template <typename F>
  bool visit(F&& use) {
    if (!live()) return false;
    const Held held(*this);
    if (live()) use(std::as_const(objects_->first), std::as_const(objects_->second), held.number);
    return live();
  }

 private:
  struct Held {
    explicit Held(ObjectEntry& of) : entry(of), number(of.lock()) {}
    ~Held() { entry.unlock(number, false); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ObjectEntry& entry;
    std::uint32_t number;
  };
  std::optional<std::pair<Key, Value>> objects_;
};

template <typename Key, typename Value>
inline constexpr bool kAsWords = std::is_trivially_copyable_v<Key> && std::is_trivially_copyable_v<Value>;

template <typename Key, typename Value>
using Entry = std::conditional_t<kAsWords<Key, Value>, WordEntry<Key, Value>, ObjectEntry<Key, Value>>;

}  // namespace culprit::concurrent::detail
