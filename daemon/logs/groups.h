// Groups: many small groups of templates by key, 8 bytes a member: a table of (part of the key, member) with linear probing.
// Two keys may share their part: who asks looks at the members again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace culprit::logs {

class Groups {
 public:
  void insert(std::uint64_t key, std::uint32_t member) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    put(part(key), member);
    ++used_;
  }
  void erase(std::uint64_t key, std::uint32_t member) {
    if (slots_.empty()) return;
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = part(key) & mask;
    while (slots_[at].member != kNobody && !(slots_[at].part == part(key) && slots_[at].member == member)) at = (at + 1) & mask;
    if (slots_[at].member == kNobody) return;
    --used_;
    // What stands behind moves up, unless it is at its own place already (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
    for (std::size_t next = (at + 1) & mask; slots_[next].member != kNobody; next = (next + 1) & mask) {
      const std::size_t home = slots_[next].part & mask;
      if (((next - home) & mask) < ((next - at) & mask)) continue;
      slots_[at] = slots_[next];
      at = next;
    }
    slots_[at].member = kNobody;
  }
  void find(std::uint64_t key, std::vector<std::uint32_t>& members) const {
    members.clear();
    if (slots_.empty()) return;
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = part(key) & mask; slots_[at].member != kNobody; at = (at + 1) & mask) {
      if (slots_[at].part == part(key)) members.push_back(slots_[at].member);
    }
  }

 private:
  static constexpr std::uint32_t kNobody = UINT32_MAX;
  struct Slot {
    std::uint32_t part = 0, member = kNobody;
  };
  static std::uint32_t part(std::uint64_t key) { return static_cast<std::uint32_t>(key * 0x9e3779b97f4a7c15u >> 32U); }
  void put(std::uint32_t part_of, std::uint32_t member) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = part_of & mask;
    while (slots_[at].member != kNobody) at = (at + 1) & mask;
    slots_[at] = {part_of, member};
  }
  void grow() {
    std::vector<Slot> before(std::max<std::size_t>(64, slots_.size() * 2));
    std::swap(before, slots_);
    for (const Slot& slot : before) {
      if (slot.member != kNobody) put(slot.part, slot.member);
    }
  }
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

}  // namespace culprit::logs
