// Index: the map's directory of segments (extendible hashing), and all that changes its shape.
//
// The low bits of a hash pick a directory slot, which names the segment that covers the hash. A segment that
// fills splits in two, alone: 4.7 KB are rearranged, whatever the size of the map. When a segment is split
// that is as deep as the directory, the directory doubles (8 bytes a slot; the old one stays readable, so that
// no reader needs a lock; they lie one behind the other in a slab, whose lead has room for the next). A split needs no key: 32 bits of each hash are kept beside its slot. Two halves that
// emptied are merged again.
//
// Threads: `locate` from any. `split`, `rebuild` and `try_merge` with the segment's lock held by the caller.
// A segment that is found may be split or merged before it is locked: the holder asks `covers` again.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "daemon/concurrent/ahead.h"
#include "daemon/concurrent/segment.h"
#include "daemon/concurrent/slab.h"

namespace culprit::concurrent::detail {

class Index {
 public:
  Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // From now on `ahead`, which ends before the index, makes memory ready. What it has to serve:
  void follow(Ahead& ahead);
  Ahead::Place& segments() { return segments_; }
  Ahead::Place& slots() { return slots_; }

  Segment& locate(std::uint64_t hash) const {
    const Directory* const directory = directory_.load(std::memory_order_acquire);
    return *directory->slots[hash & directory->mask].load(std::memory_order_acquire);
  }

  // Makes room in a full segment: it rebuilds or splits it.
  enum class Room : std::uint8_t {
    Made,
    Crowded,   // its hashes agree in more bits than a directory of bearable size tells apart: hostile keys
    NoMemory,
  };
  Room make_room(Segment& segment);
  // Joins a segment that became sparse with its buddy, if that is free and sparse too.
  void try_merge(Segment& segment);
  static constexpr std::uint32_t kSparse = Segment::kSlots / 8;

  struct Shape {
    std::size_t segments = 0;
    std::size_t bytes = 0;
    std::size_t tombstones = 0;
    std::uint64_t splits = 0;
    std::uint64_t merges = 0;
  };
  Shape shape() const;

 private:
  struct Directory {
    std::uint32_t depth;
    std::uint64_t mask;
    std::atomic<Segment*>* slots;
  };
  // How many bits deeper than its number of segments demands a directory may get: 2^6 slots, 512 bytes, a segment.
  static constexpr std::uint32_t kSlack = 6;
  static constexpr std::uint32_t kMaxDepth = 26;  // of the 27 bits that a slot keeps for it
  // Buddies merge only if the result is far from full, so that a map that breathes does not split at once again.
  static constexpr std::uint32_t kMergedMax = Segment::kSlots * 3 / 8;

  template <typename F>
  Directory* make_directory(std::uint32_t depth, F&& slot);
  const Directory& newest() const { return directories_[count_ - 1]; }
  Segment* new_segment();
  Room deepen();
  void point(std::uint32_t depth, std::uint32_t prefix, Segment& segment);

  std::atomic<Directory*> directory_;
  mutable FutexLock shape_lock_;  // after a segment's lock; guards all below
  std::array<Directory, kMaxDepth + 1> directories_{};  // all there were: readers may be in any
  std::uint32_t count_ = 0;
  // Of all directories; a doubling takes as much as there is already, so that is the lead.
  Slab<std::atomic<Segment*>> slots_{std::size_t{2} << kMaxDepth, Slab<std::atomic<Segment*>>::kNever,
                                      {.share = 1, .bytes_max = std::size_t{4} << 20, .from = std::size_t{32} << 10}};
  static constexpr std::size_t kHugeFrom = std::size_t{2} << 20;  // a search is at random: two places of a segment
  static constexpr std::size_t kSegmentsMax = std::size_t{1} << 22;  // 20 GB: bounds only the address space
  Slab<Segment> segments_{kSegmentsMax, kHugeFrom, {.share = 8, .bytes_max = std::size_t{1} << 20}};
  Segment* retired_ = nullptr;  // to be used again
  std::size_t live_segments_ = 0;
  std::uint64_t splits_ = 0;
  std::uint64_t merges_ = 0;
};

}  // namespace culprit::concurrent::detail
