#include "daemon/concurrent/spin.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace culprit::concurrent {
namespace {

// Answers when the word changed, at the deadline, on a signal, or for no reason: the caller looks again.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::int64_t deadline_ns) {
  timespec deadline{};
  if (deadline_ns >= 0) {
    deadline.tv_sec = deadline_ns / 1'000'000'000;
    deadline.tv_nsec = deadline_ns % 1'000'000'000;
  }
  // WAIT_BITSET takes an absolute CLOCK_MONOTONIC time, WAIT a relative one.
  (void)syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, seen, deadline_ns >= 0 ? &deadline : nullptr, nullptr,
                FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

namespace detail {

void futex_wake_one(std::atomic<std::uint32_t>& word) {
  (void)syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void yield_core() { (void)sched_yield(); }

void FutexLock::lock_slowly() {
  for (int i = 0; i < 100; ++i) {  // held for a few microseconds at most, if its holder runs
    cpu_pause();
    if (word_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
  }
  while (word_.exchange(2, std::memory_order_acquire) != 0) futex_wait(word_, 2, Wait::kForever);
}

}  // namespace detail

std::int64_t monotonic_ns() {
  timespec now{};
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

Parker::Word Parker::sleep(std::int64_t deadline_ns, bool spin) {
  auto read = [this] { return static_cast<Word>(word_.load(std::memory_order_acquire)); };
  const std::int64_t spin_until = spin ? monotonic_ns() + kSpinNs : 0;
  while (spin && monotonic_ns() < spin_until) {
    for (int i = 0; i < 8; ++i) {
      if (const Word word = read(); word != kAwake) return word;
      detail::cpu_pause();
    }
  }
  std::uint32_t word = kAwake;
  if (!word_.compare_exchange_strong(word, kAsleep, std::memory_order_acquire)) return static_cast<Word>(word);
  while (true) {
    futex_wait(word_, kAsleep, deadline_ns);
    if (const Word seen = read(); seen != kAsleep) return seen;
    if (deadline_ns >= 0 && monotonic_ns() >= deadline_ns) return kAwake;
  }
}

void Parker::await_wake() {
  while (true) {
    const std::uint32_t word = word_.load(std::memory_order_acquire);
    if (word == kWoken) return;
    if (word != kAsleep) {
      detail::cpu_pause();  // the waker is between its claim and wake(), a few instructions; or it was preempted there
      std::uint32_t seen = word;
      (void)word_.compare_exchange_strong(seen, kAsleep, std::memory_order_acquire);
      continue;
    }
    futex_wait(word_, kAsleep, Wait::kForever);
  }
}

void Parker::wake() {
  if (word_.exchange(kWoken, std::memory_order_acq_rel) == kAsleep) detail::futex_wake_one(word_);
}

void Parker::interrupt() {
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  while (word == kAwake || word == kAsleep) {
    if (word_.compare_exchange_weak(word, kInterrupted, std::memory_order_acq_rel, std::memory_order_relaxed)) {
      if (word == kAsleep) detail::futex_wake_one(word_);
      return;
    }
  }
}

}  // namespace culprit::concurrent
