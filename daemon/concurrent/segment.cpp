#include "daemon/concurrent/segment.h"

namespace culprit::concurrent::detail {

// The first slot that is unused or erased along the search's own path.
void Segment::place(std::uint8_t tag, std::uint32_t low_hash, std::uint32_t number) {
  std::uint32_t at = first_group(low_hash);
  while (true) {
    const Group tags = group(at);
    const std::uint32_t unused = tags.match(kUnused);
    const std::uint32_t open = unused | tags.match(kErased);
    if (open != 0) {
      const auto bit = static_cast<std::uint32_t>(std::countr_zero(open));
      if ((unused >> bit & 1) == 0) erased_.store(erased() - 1, std::memory_order_relaxed);
      const std::uint32_t slot = at * Group::kSlots + bit;
      hashes_[slot].store(low_hash, std::memory_order_relaxed);
      numbers_[slot].store(number, std::memory_order_release);
      set_tag(slot, tag);
      ++used_;
      return;
    }
    at = (at + 1) % kGroups;
  }
}

void Segment::remove(std::uint32_t slot) {
  const bool passed = group(slot / Group::kSlots).match(kUnused) == 0;
  set_tag(slot, passed ? kErased : kUnused);
  --used_;
  if (passed) erased_.store(erased() + 1, std::memory_order_relaxed);
}

// What a segment is going to hold, put together without atomics and without looking at what it holds: p99.5 of an insert,
// which is a split, fell from 8.5 to 6.9 us so.
struct Segment::Image {
  std::array<std::uint8_t, kSlots> tags{};
  std::array<std::uint32_t, kSlots> numbers{};
  std::array<std::uint32_t, kSlots> hashes{};
  std::array<std::uint8_t, kGroups> used{};
  std::uint32_t count = 0;

  void add(std::uint8_t tag, std::uint32_t low_hash, std::uint32_t number) {
    std::uint32_t at = first_group(low_hash);
    while (used[at] == Group::kSlots) at = (at + 1) % kGroups;
    const std::uint32_t slot = at * Group::kSlots + used[at]++;
    tags[slot] = tag;
    numbers[slot] = number;
    hashes[slot] = low_hash;
    ++count;
  }
};

// Calls use(tag, low hash, number) for each used slot.
template <typename F>
void Segment::each_used(F&& use) const {
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    const auto tag = static_cast<std::uint8_t>(tags_[slot / 8].load(std::memory_order_relaxed) >> (slot % 8 * 8));
    if (tag > kErased) use(tag, hashes_[slot].load(std::memory_order_relaxed), numbers_[slot].load(std::memory_order_relaxed));
  }
}

void Segment::become(std::uint32_t depth, std::uint32_t prefix, const Image& image) {
  depth_.store(depth, std::memory_order_release);
  prefix_.store(prefix, std::memory_order_release);
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    hashes_[slot].store(image.hashes[slot], std::memory_order_relaxed);
    numbers_[slot].store(image.numbers[slot], std::memory_order_release);
  }
  for (std::uint32_t word = 0; word < kSlots / 8; ++word) {
    std::uint64_t tags = 0;
    for (std::uint32_t i = 8; i-- > 0;) tags = tags << 8 | image.tags[word * 8 + i];
    tags_[word].store(tags, std::memory_order_release);
  }
  used_ = image.count;
  erased_.store(0, std::memory_order_relaxed);
}

void Segment::become(std::uint32_t depth, std::uint32_t prefix) { become(depth, prefix, {}); }

void Segment::rebuild() {
  Image image;
  each_used([&](std::uint8_t tag, std::uint32_t hash, std::uint32_t number) { image.add(tag, hash, number); });
  become(depth(), prefix(), image);
}

void Segment::split_into(Segment& other) {
  std::array<Image, 2> halves;
  const std::uint32_t bit = depth();
  each_used([&](std::uint8_t tag, std::uint32_t hash, std::uint32_t number) { halves[hash >> bit & 1].add(tag, hash, number); });
  other.become(bit + 1, prefix() | 1U << bit, halves[1]);
  become(bit + 1, prefix(), halves[0]);
}

void Segment::absorb(Segment& other) {
  Image image;
  for (const Segment* const each : {const_cast<const Segment*>(this), const_cast<const Segment*>(&other)}) {
    each->each_used([&](std::uint8_t tag, std::uint32_t hash, std::uint32_t number) { image.add(tag, hash, number); });
  }
  const std::uint32_t bit = depth() - 1;
  become(bit, prefix() & ((1U << bit) - 1), image);
}

}  // namespace culprit::concurrent::detail
