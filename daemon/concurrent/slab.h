// Slab: an array that grows without moving its elements, so that a reader without a lock may follow an old
// number safely: what it finds is always an element of the same type, until the slab goes.
//
// Chunk k holds kFirst << k elements: 32-bit numbers need a table of few pointers, a small slab stays small,
// and of a large chunk only the pages in use cost memory.
#pragma once

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

namespace culprit::concurrent::detail {

template <typename T, std::uint32_t kFirst>
class Slab {
  static_assert(std::has_single_bit(kFirst));

 public:
  static constexpr std::uint32_t kNone = ~0U;

  Slab() = default;
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  ~Slab() {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      for (std::uint32_t n = 0; n < frontier_.load(std::memory_order_relaxed); ++n) std::destroy_at(&(*this)[n]);
    }
    for (std::size_t k = 0; k < chunks_.size(); ++k) {
      ::operator delete(chunks_[k].load(std::memory_order_relaxed), alignment(k));
    }
  }

  // Any number below size(), or one that was read from memory that such a number was published through.
  T& operator[](std::uint32_t number) const {
    const std::uint64_t place = std::uint64_t{number} + kFirst;
    const auto chunk = static_cast<std::size_t>(std::bit_width(place) - std::bit_width(kFirst));
    return chunks_[chunk].load(std::memory_order_acquire)[place - (std::uint64_t{kFirst} << chunk)];
  }

  std::uint32_t size() const { return frontier_.load(std::memory_order_acquire); }

  // Makes one more element. kNone if there is no memory or no number left. One thread at a time.
  // Large chunks may ask for huge pages: far fewer TLB misses, against pauses while the kernel clears 2 MB.
  std::uint32_t make(bool huge_pages = false) {
    const std::uint32_t number = frontier_.load(std::memory_order_relaxed);
    if (number >= kNone - 1) return kNone;
    const std::uint64_t place = std::uint64_t{number} + kFirst;
    const auto chunk = static_cast<std::size_t>(std::bit_width(place) - std::bit_width(kFirst));
    if (chunks_[chunk].load(std::memory_order_relaxed) == nullptr) {
      void* const memory = ::operator new(bytes(chunk), alignment(chunk), std::nothrow);
      if (memory == nullptr) return kNone;
      if (huge_pages && bytes(chunk) >= kHuge) (void)madvise(memory, bytes(chunk), MADV_HUGEPAGE);  // only a wish
      chunks_[chunk].store(static_cast<T*>(memory), std::memory_order_release);
    }
    std::construct_at(&(*this)[number]);
    frontier_.store(number + 1, std::memory_order_release);
    return number;
  }

 private:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kHuge = std::size_t{2} << 20;
  static constexpr std::size_t bytes(std::size_t chunk) { return (std::size_t{kFirst} << chunk) * sizeof(T); }
  static constexpr std::align_val_t alignment(std::size_t chunk) {
    return std::align_val_t{bytes(chunk) >= kHuge ? kHuge : kPage};
  }
  std::array<std::atomic<T*>, 33> chunks_{};
  std::atomic<std::uint32_t> frontier_{0};
};

}  // namespace culprit::concurrent::detail
