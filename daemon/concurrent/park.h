// Waiting: how a thread says how long it waits, and the futex word it sleeps on.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <stop_token>

namespace culprit::concurrent {

// How long an operation may wait: `{}` forever, `{.timeout_ns = 0}` not at all, `{.stop = token}` until stopped.
struct Wait {
  static constexpr std::int64_t kForever = -1;
  std::int64_t timeout_ns = kForever;
  std::stop_token stop = {};
};

// CLOCK_MONOTONIC; the clock of futex deadlines.
std::int64_t monotonic_ns();

// One sleep of one thread. It lives on the stack of the thread that sleeps; others reach it only through a
// queue under a channel's lock. The word goes kAwake -> kAsleep (its owner, before it asks the kernel), and from
// either to kWoken (once, by whoever completed the operation; after that the waker touches nothing of it) or to
// kInterrupted (by a stop request), which kWoken may overwrite. Only kAsleep costs the waker a system call.
//
// Memory order: wake() releases, sleep() acquires, so what the waker wrote before is seen after.
// The futex call after the store may reach a word whose owner has left already: the kernel then wakes
// nobody, or somebody who looks at its own word again, as every sleeper here does.
class Parker {
 public:
  enum Word : std::uint32_t { kAwake, kAsleep, kWoken, kInterrupted };

  // Sleeps until woken, interrupted, or `deadline_ns` (monotonic; Wait::kForever for none).
  // Answers kAwake at the deadline. Spins at most kSpinNs before it asks the kernel.
  Word sleep(std::int64_t deadline_ns, bool spin = true);
  // For a sleeper that learnt that its operation was completed: the waker is about to wake it.
  void await_wake();
  void wake();
  void interrupt();

  // A wake-up through the kernel costs 5-9 us on the measured machine; a peer that is running answers within
  // a few hundred nanoseconds. Longer spins only take the core from the peer when cores are short.
  static constexpr std::int64_t kSpinNs = 2'000;
  // How long a thread that was woken may be on its way (16 us in the median on the measured machine), and the one who
  // woke it on its way back from the kernel once the other is there. Neither goes to sleep meanwhile: both would wake
  // each other in turn for ever, each finding the queue full or empty (measured: 40 % of the time of C1).
  static constexpr std::int64_t kArrivalNs = 30'000;
  static constexpr std::int64_t kReturnNs = 5'000;

 private:
  std::atomic<std::uint32_t> word_{kAwake};
};

namespace detail {

// Tells the core that this thread spins.
inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}
void yield_core();
void futex_wake_one(std::atomic<std::uint32_t>& word);

// Interrupts a parker when stop is requested; a token that can never stop costs nothing.
class StopWatch {
 public:
  StopWatch(const std::stop_token& stop, Parker& parker) {
    if (stop.stop_possible()) callback_.emplace(stop, Interrupt{&parker});
  }

 private:
  struct Interrupt {
    Parker* parker;
    void operator()() const { parker->interrupt(); }
  };
  std::optional<std::stop_callback<Interrupt>> callback_;
};

}  // namespace detail
}  // namespace culprit::concurrent
