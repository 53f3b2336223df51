#include "daemon/concurrent/index.h"

#include <bit>
#include <mutex>
#include <new>

namespace culprit::concurrent::detail {

Index::Index() : directory_(nullptr) {
  directories_.reserve(kMaxDepth + 1);  // so that deepening never has to
  directories_.push_back(make_directory(0));
  Segment* const first = new_segment();
  if (directories_.back() == nullptr || first == nullptr) throw std::bad_alloc();
  first->become(0, 0);
  directories_.back()->slots[0].store(first, std::memory_order_relaxed);
  directory_.store(directories_.back().get(), std::memory_order_release);
}

Index::~Index() = default;

std::unique_ptr<Index::Directory> Index::make_directory(std::uint32_t depth) {
  auto slots = std::unique_ptr<std::atomic<Segment*>[]>(new (std::nothrow) std::atomic<Segment*>[std::size_t{1} << depth]);
  if (slots == nullptr) return nullptr;
  return std::unique_ptr<Directory>(
      new (std::nothrow) Directory{depth, (std::uint64_t{1} << depth) - 1, std::move(slots)});
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
  const Directory& old = *directories_.back();
  if (old.depth >= kMaxDepth || old.depth >= std::bit_width(live_segments_) + kSlack) return Room::Crowded;
  auto next = make_directory(old.depth + 1);
  if (next == nullptr) return Room::NoMemory;
  for (std::uint64_t i = 0; i <= next->mask; ++i) {
    next->slots[i].store(old.slots[i & old.mask].load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  directories_.push_back(std::move(next));
  directory_.store(directories_.back().get(), std::memory_order_release);
  return Room::Made;
}

void Index::point(std::uint32_t depth, std::uint32_t prefix, Segment& segment) {
  Directory& directory = *directories_.back();
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
  if (segment.depth() == directories_.back()->depth) {
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
  Segment& buddy = *directories_.back()->slots[buddy_prefix].load(std::memory_order_relaxed);
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
    for (const auto& directory : directories_) shape.bytes += (directory->mask + 1) * sizeof(void*);
  }
  // Without the lock, which splits wait for: segments stay where they are.
  const std::uint32_t segments = segments_.size();
  shape.bytes += std::size_t{segments} * sizeof(Segment);
  for (std::uint32_t i = 0; i < segments; ++i) shape.tombstones += segments_[i].erased();
  return shape;
}

}  // namespace culprit::concurrent::detail
