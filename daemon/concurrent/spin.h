// Short waits between running threads, and a lock of four bytes.
#pragma once

#include <atomic>
#include <cstdint>

#include "daemon/concurrent/park.h"

namespace culprit::concurrent::detail {

// For waits that end within a few instructions of another thread, unless it was preempted there: then yields,
// so that it gets the core back.
class Backoff {
 public:
  void pause() {
    if (++turns_ % kSpins == 0) {
      yield_core();
    } else {
      cpu_pause();
    }
  }

 private:
  static constexpr std::uint32_t kSpins = 64;
  std::uint32_t turns_ = 0;
};

// A mutex in one futex word (Drepper, "Futexes are tricky", 2011, mutex 2): 0 free, 1 held, 2 held and waited for.
class FutexLock {
 public:
  bool try_lock() {
    std::uint32_t free = 0;
    return word_.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void lock() {
    if (!try_lock()) lock_slowly();
  }
  void unlock() {
    if (word_.exchange(0, std::memory_order_release) == 2) futex_wake_one(word_);
  }

 private:
  void lock_slowly();
  std::atomic<std::uint32_t> word_{0};
};

}  // namespace culprit::concurrent::detail
