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

void Segment::become(std::uint32_t depth, std::uint32_t prefix) {
  depth_.store(depth, std::memory_order_release);
  prefix_.store(prefix, std::memory_order_release);
  for (auto& word : tags_) word.store(0, std::memory_order_release);
  used_ = 0;
  erased_.store(0, std::memory_order_relaxed);
}

void Segment::copy_used(Copy& copy) const {
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    const std::uint64_t word = tags_[slot / 8].load(std::memory_order_relaxed);
    const auto tag = static_cast<std::uint8_t>(word >> (slot % 8 * 8));
    copy.tags[copy.count] = tag;
    copy.numbers[copy.count] = numbers_[slot].load(std::memory_order_relaxed);
    copy.hashes[copy.count] = hashes_[slot].load(std::memory_order_relaxed);
    copy.count += tag > kErased ? 1 : 0;
  }
}

void Segment::rebuild() {
  Copy copy;
  copy_used(copy);
  become(depth(), prefix());
  for (std::uint32_t i = 0; i < copy.count; ++i) place(copy.tags[i], copy.hashes[i], copy.numbers[i]);
}

void Segment::split_into(Segment& other) {
  Copy copy;
  copy_used(copy);
  const std::uint32_t bit = depth();
  other.become(bit + 1, prefix() | 1U << bit);
  become(bit + 1, prefix());
  for (std::uint32_t i = 0; i < copy.count; ++i) {
    Segment& home = (copy.hashes[i] >> bit & 1) != 0 ? other : *this;
    home.place(copy.tags[i], copy.hashes[i], copy.numbers[i]);
  }
}

void Segment::absorb(Segment& other) {
  Copy mine, theirs;
  copy_used(mine);
  other.copy_used(theirs);
  const std::uint32_t bit = depth() - 1;
  become(bit, prefix() & ((1U << bit) - 1));
  for (const Copy* copy : {&mine, &theirs}) {
    for (std::uint32_t i = 0; i < copy->count; ++i) place(copy->tags[i], copy->hashes[i], copy->numbers[i]);
  }
}

}  // namespace culprit::concurrent::detail
