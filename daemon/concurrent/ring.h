// Ring: raw storage for items, addressed by ever-growing indexes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace culprit::concurrent::detail {

// Moves n items between live objects. Copies when that is the same, which lets the compiler use wide moves.
template <typename T>
void move_assign(T* to, T* from, std::size_t n) {
  if constexpr (std::is_trivially_copyable_v<T>) {
    if (n != 0) std::memcpy(static_cast<void*>(to), from, n * sizeof(T));
  } else {
    for (std::size_t i = 0; i < n; ++i) to[i] = std::move(from[i]);
  }
}

template <typename T>
class Ring {
 public:
  // Room for `capacity` items; the storage is the next power of two so that an index needs only a mask.
  explicit Ring(std::size_t capacity)
      : slots_(capacity == 0 ? 0 : std::bit_ceil(capacity)),
        mask_(slots_ == 0 ? 0 : slots_ - 1),
        storage_(slots_ == 0 ? nullptr : static_cast<T*>(::operator new(slots_ * sizeof(T), kAlign))) {}
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (storage_ != nullptr) ::operator delete(storage_, kAlign);
  }

  // Makes items [index, index + n) by moving from `from`.
  void put(std::uint64_t index, T* from, std::size_t n) {
    for_runs(index, n, [&](T* slots, std::size_t at, std::size_t run) {
      if constexpr (std::is_trivially_copyable_v<T>) {
        std::memcpy(static_cast<void*>(slots), from + at, run * sizeof(T));
      } else {
        for (std::size_t i = 0; i < run; ++i) std::construct_at(slots + i, std::move(from[at + i]));
      }
    });
  }

  // Moves items [index, index + n) out and destroys them.
  void take(std::uint64_t index, T* to, std::size_t n) {
    for_runs(index, n, [&](T* slots, std::size_t at, std::size_t run) {
      move_assign(to + at, slots, run);
      std::destroy_n(slots, run);
    });
  }

  // Has the lines of items [index, index + n) on their way from the core that wrote them.
  void fetch(std::uint64_t index, std::size_t n) {
    for_lines(index, n, [](T* line) { __builtin_prefetch(line); });
  }
  // Has them on their way from the core that read them, to be written: else the stores wait for one line after the other.
  void fetch_to_write(std::uint64_t index, std::size_t n) {
    for_lines(index, n, [](T* line) {
#if defined(__x86_64__)
      asm volatile("prefetchw %0" : : "m"(*reinterpret_cast<std::byte*>(line)));  // the compiler's own is one to read, for the baseline
#else
      __builtin_prefetch(line, 1);
#endif
    });
  }

  // Goes on with another capacity, which has room for the items [index, index + n). False without memory for it.
  bool resize(std::size_t capacity, std::uint64_t index, std::size_t n) try {
    Ring next(capacity);
    for (std::uint64_t at = index; at != index + n; ++at) {
      T* const from = storage_ + (at & mask_);
      std::construct_at(next.storage_ + (at & next.mask_), std::move(*from));
      std::destroy_at(from);
    }
    std::swap(slots_, next.slots_);
    std::swap(mask_, next.mask_);
    std::swap(storage_, next.storage_);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }

  void destroy(std::uint64_t index, std::size_t n) {
    for_runs(index, n, [](T* slots, std::size_t, std::size_t run) { std::destroy_n(slots, run); });
  }

 private:
  template <typename F>
  void for_lines(std::uint64_t index, std::size_t n, F&& use) {
    constexpr std::size_t kStep = sizeof(T) < 64 ? 64 / sizeof(T) : 1;
    for (std::size_t i = 0; i < n; i += kStep) use(storage_ + ((index + i) & mask_));
  }
  // At most two runs: up to the end of the storage, and from its start.
  template <typename F>
  void for_runs(std::uint64_t index, std::size_t n, F&& use) {
    const std::size_t first = static_cast<std::size_t>(index) & mask_;
    const std::size_t run = n < slots_ - first ? n : slots_ - first;
    if (run != 0) use(storage_ + first, std::size_t{0}, run);
    if (run != n) use(storage_, run, n - run);
  }

  // Of a cache line: no two batches of items of that size share one between the sides.
  static constexpr std::align_val_t kAlign{alignof(T) > 64 ? alignof(T) : 64};

  std::size_t slots_;
  std::size_t mask_;
  T* storage_;
};

}  // namespace culprit::concurrent::detail
