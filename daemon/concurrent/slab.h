// Slab: an array that grows without moving its elements, so that a reader without a lock may follow an old
// number safely: what it finds is always an element of the same type, until the slab goes.
//
// Its address space is reserved at once (without memory behind it), so that an element is one multiplication away.
// Memory is committed behind the frontier in steps, and the kernel is asked to back it a little ahead of use, many
// pages at a time: a page that is first touched by an insert would cost it a fault (1.6 us on the measured machine,
// and the p99.9 of growth); 16 pages at once cost a third of 16 faults.
//
// Huge pages (2 MB, only a wish to the kernel): an access at random to a large slab in small pages misses the TLB each
// time, which costs a third of a point read. They begin `huge_from` bytes into the slab, so that a small one does
// not take 2 MB; what they waste is less than one. The kernel clears one in about 0.1 ms: a pause every 2 MB.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

namespace culprit::concurrent::detail {

template <typename T>
class Slab {
 public:
  static constexpr std::uint32_t kNone = ~0U;

  static constexpr std::size_t kNever = ~std::size_t{0};

  // `huge_from`: kNever for small pages only. Throws bad_alloc if the address space is not there.
  Slab(std::size_t elements_max, std::size_t huge_from)
      : reserved_(round_up(elements_max * sizeof(T), kHuge) + kHuge), huge_from_(huge_from) {
    void* const memory = mmap(nullptr, reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    start_ = memory_ + (kHuge - reinterpret_cast<std::uintptr_t>(memory_) % kHuge) % kHuge;
    const std::size_t usable = reserved_ - kHuge;
    if (huge_from < usable) (void)madvise(start_ + huge_from / kHuge * kHuge, usable - huge_from / kHuge * kHuge, MADV_HUGEPAGE);
  }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  ~Slab() {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      for (std::uint32_t n = 0; n < frontier_.load(std::memory_order_relaxed); ++n) std::destroy_at(&(*this)[n]);
    }
    (void)munmap(memory_, reserved_);
  }

  // Any number below size(), or one that was read from memory that such a number was published through.
  T& operator[](std::uint32_t number) const { return *std::launder(reinterpret_cast<T*>(start_) + number); }

  std::uint32_t size() const { return frontier_.load(std::memory_order_acquire); }

  // Makes one more element. kNone if there is no memory or no number left. One thread at a time.
  std::uint32_t make() {
    const std::uint32_t number = frontier_.load(std::memory_order_relaxed);
    const std::size_t end = (std::size_t{number} + 1) * sizeof(T);
    if (end > backed_ && !back(end)) return kNone;
    std::construct_at(reinterpret_cast<T*>(start_) + number);
    frontier_.store(number + 1, std::memory_order_release);
    return number;
  }

 private:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kHuge = std::size_t{2} << 20;
  static constexpr std::size_t kBackMax = 16 * kPage;  // about 10 us of page clearing

  static constexpr std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

  bool back(std::size_t end) {
    if (end > reserved_ - kHuge) return false;
    if (end > committed_) {
      // A huge page needs all of it.
      const std::size_t unit = end + kHuge > huge_from_ ? kHuge : kPage;
      const std::size_t next = std::min(round_up(end + std::min(committed_, kHuge), unit), reserved_ - kHuge);
      if (mprotect(start_ + committed_, next - committed_, PROT_READ | PROT_WRITE) != 0) return false;
      committed_ = next;
    }
    const std::size_t next = std::min(round_up(end + std::min(backed_, kBackMax), kPage), committed_);
#ifdef MADV_POPULATE_WRITE
    (void)madvise(start_ + backed_, next - backed_, MADV_POPULATE_WRITE);  // Linux 5.14; else faults
#endif
    backed_ = next;
    return true;
  }

  const std::size_t reserved_;
  const std::size_t huge_from_;
  std::byte* memory_ = nullptr;
  std::byte* start_ = nullptr;
  std::size_t committed_ = 0;  // bytes that may be used
  std::size_t backed_ = 0;     // bytes that have pages
  std::atomic<std::uint32_t> frontier_{0};
};

}  // namespace culprit::concurrent::detail
