#include "daemon/concurrent/index.h"

#include <bit>
#include <memory>
#include <mutex>
#include <new>

namespace culprit::concurrent::detail {

// slot(i): the segment that slot i names.
template <typename F>
Index::Directory* Index::make_directory(std::uint32_t depth, F&& slot) {
  using Slot = std::atomic<Segment*>;
  const std::uint32_t slots = std::uint32_t{1} << depth;
  const std::uint32_t first = slots_.make_n(slots, [&](Slot* place, std::size_t i) { std::construct_at(place, slot(i)); });
  if (first == slots_.kNone) return nullptr;
  directories_[count_] = {.depth = depth, .mask = slots - 1, .slots = &slots_[first]};
  return &directories_[count_++];
}

Index::Index() : directory_(nullptr) {
  Segment* const first = new_segment();
  if (first == nullptr) throw std::bad_alloc();
  first->become(0, 0);
  Directory* const directory = make_directory(0, [&](std::size_t) { return first; });
  if (directory == nullptr) throw std::bad_alloc();
  directory_.store(directory, std::memory_order_release);
}

void Index::follow(Ahead& ahead) {
  segments_.follow(ahead);
  slots_.follow(ahead);
}

Segment* Index::new_segment() {
  if (retired_ != nullptr) {
    Segment* const again = retired_;
    retired_ = again->next_retired;
    ++live_segments_;
    return again;
  }
  const std::uint32_t number = segments_.make();
  if (number == segments_.kNone) return nullptr;
  ++live_segments_;
  return &segments_[number];
}

Index::Room Index::deepen() {
  const Directory& old = newest();
  if (old.depth >= kMaxDepth || old.depth >= std::bit_width(live_segments_) + kSlack) return Room::Crowded;
  Directory* const next = make_directory(old.depth + 1, [&](std::size_t i) {
    return old.slots[i & old.mask].load(std::memory_order_relaxed);
  });
  if (next == nullptr) return Room::NoMemory;
  directory_.store(next, std::memory_order_release);
  return Room::Made;
}

void Index::point(std::uint32_t depth, std::uint32_t prefix, Segment& segment) {
  const Directory& directory = newest();
  for (std::uint64_t i = prefix; i <= directory.mask; i += std::uint64_t{1} << depth) {
    directory.slots[i].store(&segment, std::memory_order_release);
  }
}

Index::Room Index::make_room(Segment& segment) {
  if (segment.erased() > Segment::kSlots / 8) {  // a split would double the index only to move tombstones
    segment.begin_move();
    segment.rebuild();
    segment.end_move();
    return Room::Made;
  }
  const std::lock_guard lock(shape_lock_);
  if (segment.depth() == newest().depth) {
    if (const Room room = deepen(); room != Room::Made) return room;
  }
  Segment* const other = new_segment();
  if (other == nullptr) return Room::NoMemory;
  // A segment that retired may still be found through an old directory. Who locks it so learns that it covers
  // nothing and lets go, waiting for nothing; so this wait is short.
  const std::lock_guard other_lock(other->lock);
  ++splits_;
  other->begin_move();
  segment.begin_move();
  segment.split_into(*other);
  point(other->depth(), other->prefix(), *other);
  other->end_move();
  segment.end_move();
  return Room::Made;
}

void Index::try_merge(Segment& segment) {
  const std::uint32_t depth = segment.depth();
  if (depth == 0 || depth == Segment::kRetired) return;
  const std::lock_guard lock(shape_lock_);
  const std::uint32_t buddy_prefix = segment.prefix() ^ (1U << (depth - 1));
  Segment& buddy = *newest().slots[buddy_prefix].load(std::memory_order_relaxed);
  if (!buddy.lock.try_lock()) return;  // waiting here, against the order of locks, could wait for ever
  if (buddy.depth() == depth && buddy.prefix() == buddy_prefix && buddy.used() + segment.used() <= kMergedMax) {
    segment.begin_move();
    buddy.begin_move();
    segment.absorb(buddy);
    buddy.retire();
    point(segment.depth(), segment.prefix(), segment);
    buddy.next_retired = retired_;
    retired_ = &buddy;
    --live_segments_;
    ++merges_;
    buddy.end_move();
    segment.end_move();
  }
  buddy.lock.unlock();
}

Index::Shape Index::shape() const {
  Shape shape;
  {
    const std::lock_guard lock(shape_lock_);
    shape.segments = live_segments_;
    shape.splits = splits_;
    shape.merges = merges_;
    shape.bytes += std::size_t{slots_.size()} * sizeof(void*);
  }
  // Without the lock, which splits wait for: segments stay where they are.
  const std::uint32_t segments = segments_.size();
  shape.bytes += std::size_t{segments} * sizeof(Segment);
  for (std::uint32_t i = 0; i < segments; ++i) shape.tombstones += segments_[i].erased();
  return shape;
}

}  // namespace culprit::concurrent::detail
