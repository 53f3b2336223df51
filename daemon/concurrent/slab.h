// Slab: an array that grows without moving its elements, so that a reader without a lock may follow an old
// number safely: what it finds is always an element of the same type, until the slab goes.
//
// Its address space is reserved at once (without memory behind it), so that an element is one multiplication away.
// Memory is committed behind the frontier in steps, and the kernel is asked to back it ahead of use, many pages at a
// time: a page that is first touched by an insert would cost it a fault (1.6 us on the measured machine, and the
// p99.9 of growth). A small slab does that itself, a few pages at a time; a larger one has it done by another thread
// (ahead.h), which keeps a lead before the frontier.
//
// Huge pages (2 MB): an access at random to a large slab in small pages misses the TLB each time, which costs a third of
// a point read. They begin `huge_from` bytes into the slab, so that a small one does not take 2 MB; what they waste is
// the lead and less than one. The kernel clears one in about 0.1 ms, and needs 4.6 ms where a hypervisor has to find
// the memory first, so only the other thread makes them, and only while it is well ahead. Where it was late there are
// small pages, which the kernel may join in time (khugepaged).
//
// Threads: `make` one at a time (its callers hold a lock), `prepare` from the thread that works ahead. What is committed
// and backed changes under `grow_lock_`; `backed_` is stored with release order once the pages are there and loaded
// with acquire order, so that pages touched there are touched before elements are made in them.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>

#include "daemon/concurrent/ahead.h"
#include "daemon/concurrent/spin.h"

namespace culprit::concurrent::detail {

template <typename T>
class Slab final : public Ahead::Place {
 public:
  static constexpr std::uint32_t kNone = ~0U;

  static constexpr std::size_t kNever = ~std::size_t{0};

  // How much memory is made ready before it is needed: this share of the slab, within limits.
  struct Lead {
    std::size_t share;
    std::size_t bytes_max;
    std::size_t from = std::size_t{1} << 20;  // below, a thread is not worth it
  };

  // `huge_from`: kNever for small pages only. Throws bad_alloc if the address space is not there.
  Slab(std::size_t elements_max, std::size_t huge_from, Lead lead)
      : reserved_(round_up(elements_max * sizeof(T), kHuge) + kHuge), lead_(lead), advised_(huge_from) {
    void* const memory = mmap(nullptr, reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<std::byte*>(memory);
    start_ = memory_ + (kHuge - reinterpret_cast<std::uintptr_t>(memory_) % kHuge) % kHuge;
    (void)madvise(start_, reserved_ - kHuge, MADV_NOHUGEPAGE);  // elsewhere they may be the rule
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

  std::size_t backed() const { return backed_.load(std::memory_order_relaxed); }  // bytes of memory
  std::uint32_t size() const { return frontier_.load(std::memory_order_acquire); }

  // Makes one more element. kNone if there is no memory or no number left. One thread at a time.
  std::uint32_t make() {
    return make_n(1, [](T* place, std::size_t) { std::construct_at(place); });
  }
  // Makes n in a row by construct(place, i), which must not throw. Answers the number of the first.
  template <typename F>
  std::uint32_t make_n(std::uint32_t n, F&& construct) {
    const std::uint32_t number = frontier_.load(std::memory_order_relaxed);
    const std::size_t end = (std::size_t{number} + n) * sizeof(T);
    if (end > plenty_ && !look(end)) return kNone;
    T* const places = reinterpret_cast<T*>(start_) + number;
    for (std::uint32_t i = 0; i < n; ++i) construct(places + i, i);
    frontier_.store(number + n, std::memory_order_release);
    return number;
  }

  // From now on `ahead` is asked for memory. It serves this slab, and ends before it.
  void follow(Ahead& ahead) { ahead_ = &ahead; }
  bool prepare() override {
    const std::lock_guard lock(grow_lock_);
    const std::size_t backed = backed_.load(std::memory_order_relaxed);
    const std::size_t end = std::size_t{size()} * sizeof(T), ahead = backed - end;
    const bool huge = backed >= advised_;
    // More than is asked for, so that not each small step is asked for.
    if (ahead >= lead(end) + (huge ? 0 : lead(end) / 2) || backed == reserved_ - kHuge) return false;
    if (!huge || backed % kHuge != 0 || ahead < lead(end) / 2) {
      return back(std::min(backed + kStep, round_up(backed + 1, kHuge)));
    }
    if (!commit(backed + kHuge)) return false;
    (void)madvise(start_ + advised_, backed + kHuge - advised_, MADV_HUGEPAGE);
    advised_ = backed + kHuge;
    return back(advised_);
  }

 private:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kHuge = std::size_t{2} << 20;
  static constexpr std::size_t kBackMax = 4 * kPage;  // about 6 us of page clearing
  static constexpr std::size_t kStep = std::size_t{64} << 10;  // how long the lock is held, but for a huge page

  static constexpr std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

  std::size_t lead(std::size_t end) const { return std::clamp(end / lead_.share, kStep, lead_.bytes_max); }

  // The frontier is about to come close to the end of what is backed, or beyond. False without memory.
  bool look(std::size_t end) {
    std::size_t backed = backed_.load(std::memory_order_acquire);
    if (end > backed) {
      const std::lock_guard lock(grow_lock_);  // held by who works ahead: then for what is needed here
      backed = backed_.load(std::memory_order_relaxed);
      if (end > backed && !back(end + std::min(backed, kBackMax))) return false;
      backed = backed_.load(std::memory_order_relaxed);
      if (end > backed) return false;
    }
    if (end < lead_.from || ahead_ == nullptr || backed == reserved_ - kHuge) {
      plenty_ = backed;
    } else {
      if (backed < end + lead(end)) ahead_->ask();
      plenty_ = std::max(end, backed - std::min(backed, lead(end)));
    }
    return true;
  }

  // With the lock held: backs memory up to `end` (in bytes) at least, or less if what is reserved ends before.
  bool back(std::size_t end) {
    const std::size_t usable = reserved_ - kHuge;
    const std::size_t backed = backed_.load(std::memory_order_relaxed);
    if (backed >= usable) return false;
    if (!commit(std::min(end, usable))) return false;
    const std::size_t next = std::min(round_up(end, kPage), usable);
#ifdef MADV_POPULATE_WRITE
    const bool populated = madvise(start_ + backed, next - backed, MADV_POPULATE_WRITE) == 0;  // Linux 5.14
#else
    const bool populated = false;
#endif
    for (std::size_t at = backed; !populated && at < next; at += kPage) start_[at] = std::byte{0};
    backed_.store(next, std::memory_order_release);
    return true;
  }

  bool commit(std::size_t end) {
    if (end <= committed_) return true;
    const std::size_t unit = end > kHuge ? kHuge : kPage;  // a huge page needs all of it
    const std::size_t next = std::min(round_up(end + std::min(committed_, kHuge), unit), reserved_ - kHuge);
    if (mprotect(start_ + committed_, next - committed_, PROT_READ | PROT_WRITE) != 0) return false;
    committed_ = next;
    return true;
  }

  const std::size_t reserved_;
  const Lead lead_;
  std::byte* memory_ = nullptr;
  std::byte* start_ = nullptr;
  FutexLock grow_lock_;                 // guards the next two, and who changes the third
  std::size_t committed_ = 0;           // bytes that may be used
  std::size_t advised_;                 // where the next huge page may be; a multiple of their size
  std::atomic<std::size_t> backed_{0};  // bytes that have pages
  std::size_t plenty_ = 0;              // of `make`: up to here there is no need to look
  Ahead* ahead_ = nullptr;              // as above
  std::atomic<std::uint32_t> frontier_{0};
};

}  // namespace culprit::concurrent::detail
