// Segment: a small open-addressing table of the map's index: 512 slots in 32 groups of 16.
//
// A slot is one tag byte (0 never used, 1 erased, else 8 bits of the hash), the number of an entry, and 32
// bits of the hash for when the segment splits. A search compares the 16 tags of a group at once, goes on to
// the next group while no tag of the group is 0, and touches an entry only where a tag matches. An erased
// slot becomes 0 again if its group has another 0: then no search ever went past this group.
//
// A segment covers the hashes whose low `depth` bits equal `prefix`. Changes need its lock; searches do not:
//
//   version   even: slots stay where they are; odd: a split, merge or rebuild moves them. Every datum is
//             stored with release and loaded with acquire order, so a searcher that saw one moved datum sees the
//             odd version when it looks again, and one that sees the same even version twice saw no move.
//   tag       stored (release) after the number of its slot: a searcher that sees the tag sees a number.
//             It may be the number of a later owner of the slot; the entry's own key decides.
//   miss      a search that missed counts only if the version did not change meanwhile and the segment
//             covers the hash.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "daemon/concurrent/spin.h"

namespace culprit::concurrent::detail {

// How the bits of a hash are used: 0-26 directory, 27-31 first group, 56-63 tag.
inline std::uint32_t first_group(std::uint32_t low_hash) { return low_hash >> 27; }
inline std::uint8_t tag_of(std::uint64_t hash) {
  const auto tag = static_cast<std::uint8_t>(hash >> 56);
  return tag < 2 ? static_cast<std::uint8_t>(tag + 2) : tag;
}

// The tags of one group, as they were when they were loaded.
class Group {
 public:
  static constexpr std::uint32_t kSlots = 16;

  Group(std::uint64_t low, std::uint64_t high) : low_(low), high_(high) {}

  // One bit a slot.
  std::uint32_t match(std::uint8_t tag) const {
#if defined(__SSE2__)
    const __m128i tags = _mm_set_epi64x(static_cast<long long>(high_), static_cast<long long>(low_));
    return static_cast<std::uint32_t>(
        _mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8(static_cast<char>(tag)))));
#else
    std::uint32_t bits = 0;
    for (std::uint32_t i = 0; i < kSlots; ++i) {
      const std::uint64_t word = i < 8 ? low_ : high_;
      if (static_cast<std::uint8_t>(word >> (i % 8 * 8)) == tag) bits |= 1U << i;
    }
    return bits;
#endif
  }

 private:
  std::uint64_t low_;
  std::uint64_t high_;
};

class alignas(64) Segment {
 public:
  static constexpr std::uint32_t kSlots = 512;
  static constexpr std::uint32_t kGroups = kSlots / Group::kSlots;
  static constexpr std::uint32_t kFull = kSlots / 8 * 7;  // used and erased slots; above, searches get long
  static constexpr std::uint32_t kNone = ~0U;
  static constexpr std::uint8_t kUnused = 0, kErased = 1;
  static constexpr std::uint32_t kRetired = 255;  // a depth that covers nothing

  FutexLock lock;
  std::atomic<std::uint32_t> version{0};
  Segment* next_retired = nullptr;  // the index's list, under its lock

  // ---- searches: any thread, no lock

  bool covers(std::uint64_t hash) const {
    const std::uint32_t bits = depth_.load(std::memory_order_acquire);
    return bits != kRetired && (hash & ((std::uint64_t{1} << bits) - 1)) == prefix_.load(std::memory_order_acquire);
  }

  void prefetch(std::uint64_t hash) const {
    const std::uint32_t slot = first_group(static_cast<std::uint32_t>(hash)) * Group::kSlots;
    __builtin_prefetch(&tags_[slot / 8]);
    __builtin_prefetch(&numbers_[slot]);
  }

  // All that an insert or erase of the hash touches.
  enum class Change : std::uint8_t { Insert, Erase };
  void prefetch_change(std::uint64_t hash, Change change) const {
    const std::uint32_t slot = first_group(static_cast<std::uint32_t>(hash)) * Group::kSlots;
    __builtin_prefetch(this, 1);
    __builtin_prefetch(&tags_[slot / 8], 1);
    __builtin_prefetch(&numbers_[slot], 1);
    if (change == Change::Insert) __builtin_prefetch(&hashes_[slot], 1);
  }

  // The slot of an entry that is in here.
  std::uint32_t slot_of(std::uint64_t hash, std::uint32_t number) const {
    std::uint32_t at = kNone;
    const std::uint32_t found = search(hash, [&](std::uint32_t each, std::uint32_t slot) {
      at = slot;
      return each == number;
    });
    return found == kNone ? kNone : at;
  }

  // Calls accept(number, slot) for each slot with the tag, until it says true or the search ends: then kNone.
  template <typename F>
  std::uint32_t search(std::uint64_t hash, F&& accept) const {
    const std::uint8_t tag = tag_of(hash);
    std::uint32_t at = first_group(static_cast<std::uint32_t>(hash));
    for (std::uint32_t step = 0; step < kGroups; ++step, at = (at + 1) % kGroups) {
      const Group tags = group(at);
      for (std::uint32_t bits = tags.match(tag); bits != 0; bits &= bits - 1) {
        const std::uint32_t slot = at * Group::kSlots + static_cast<std::uint32_t>(std::countr_zero(bits));
        const std::uint32_t number = numbers_[slot].load(std::memory_order_acquire);
        if (accept(number, slot)) return number;
      }
      if (tags.match(kUnused) != 0) break;
    }
    return kNone;
  }

  // The first with the tag in the group where searches begin: mostly the right one. kNone tells nothing.
  std::uint32_t search_first(std::uint64_t hash) const {
    const std::uint32_t at = first_group(static_cast<std::uint32_t>(hash));
    const std::uint32_t bits = group(at).match(tag_of(hash));
    if (bits == 0) return kNone;
    return numbers_[at * Group::kSlots + static_cast<std::uint32_t>(std::countr_zero(bits))].load(std::memory_order_acquire);
  }

  // The first with the tag, wherever it is.
  std::uint32_t search_any(std::uint64_t hash) const {
    return search(hash, [](std::uint32_t, std::uint32_t) { return true; });
  }

  // ---- changes: with the lock held

  std::uint32_t used() const { return used_; }
  std::uint32_t erased() const { return erased_.load(std::memory_order_relaxed); }  // any thread
  std::uint32_t depth() const { return depth_.load(std::memory_order_relaxed); }
  std::uint32_t prefix() const { return prefix_.load(std::memory_order_relaxed); }
  bool full() const { return used_ + erased() >= kFull; }

  void place(std::uint8_t tag, std::uint32_t low_hash, std::uint32_t number);
  void remove(std::uint32_t slot);

  // Between these two, searches wait.
  void begin_move() { version.store(version.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  void end_move() { version.store(version.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
  // Within begin_move..end_move (of each that searches can reach):
  void become(std::uint32_t depth, std::uint32_t prefix);  // empties it
  void retire() { become(kRetired, 0); }
  void rebuild();                   // without the erased slots
  void split_into(Segment& other);  // the half whose next hash bit is 1
  void absorb(Segment& other);      // everything of a buddy that `become`s nothing after

 private:
  struct Image;
  template <typename F>
  void each_used(F&& use) const;
  void become(std::uint32_t depth, std::uint32_t prefix, const Image& image);  // holds what that says

  Group group(std::uint32_t at) const {
    return {tags_[at * 2].load(std::memory_order_acquire), tags_[at * 2 + 1].load(std::memory_order_acquire)};
  }
  void set_tag(std::uint32_t slot, std::uint8_t tag) {
    const std::uint32_t shift = slot % 8 * 8;
    const std::uint64_t word = tags_[slot / 8].load(std::memory_order_relaxed);
    tags_[slot / 8].store((word & ~(std::uint64_t{0xff} << shift)) | (std::uint64_t{tag} << shift),
                          std::memory_order_release);
  }

  std::atomic<std::uint32_t> depth_{kRetired};
  std::atomic<std::uint32_t> prefix_{0};
  std::uint32_t used_ = 0;
  std::atomic<std::uint32_t> erased_{0};  // atomic only for who shows it
  alignas(64) std::array<std::atomic<std::uint64_t>, kSlots / 8> tags_{};
  alignas(64) std::array<std::atomic<std::uint32_t>, kSlots> numbers_{};
  std::array<std::atomic<std::uint32_t>, kSlots> hashes_{};
};

}  // namespace culprit::concurrent::detail
