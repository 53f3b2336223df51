// Capacity: how many items a channel may hold: a fixed number, or one that follows the load up to a limit.
//
// What a channel needs is the rate of its senders times the longest pause of its receiver, and that product is what
// its length reaches: so the length is measured, not the two factors. A sender that finds no room doubles the
// capacity, if the receiver pauses (nothing left since the last growth) or had caught up in between (the length was
// below a quarter). A receiver that takes steadily but too slowly gets no more: room would only add delay. Once
// a second the capacity falls to twice the longest length of the last two seconds, if that is less than half of it.
//
// Threads: the sender's side only (its one thread, or the channel's lock); `now` from any.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "daemon/concurrent/park.h"

namespace culprit::concurrent::detail {

class Capacity {
 public:
  static constexpr std::size_t kLeast = 64;

  static Capacity fixed(std::size_t items) { return {items, items}; }
  static Capacity automatic(std::size_t most) { return {std::min(kLeast, most), most}; }
  Capacity(const Capacity& other) : now_(other.now()), least_(other.least_), most_(other.most_) {}

  std::size_t now() const { return now_.load(std::memory_order_relaxed); }
  bool moves() const { return least_ != most_; }

  // There is no room, and `received` items have left so far. Answers the larger capacity, or 0.
  std::size_t larger(std::uint64_t received) {
    if (now() >= most_ || !(caught_up_ || received == received_at_growth_)) return 0;
    received_at_growth_ = received;
    caught_up_ = false;
    return std::min(now() * 2, most_);
  }
  // After a put that made this length. Answers the smaller capacity that is enough, or 0.
  std::size_t smaller(std::size_t length) {
    high_ = std::max(high_, length);
    caught_up_ |= length * 4 <= now();
    if (++puts_ % kLookEvery != 0) return 0;
    const std::int64_t time_ns = monotonic_ns();
    if (time_ns < window_ends_ns_) return 0;
    const std::size_t enough = std::clamp(std::bit_ceil(std::max(high_, high_before_) * 2), least_, most_);
    const bool first = window_ends_ns_ == 0;
    window_ends_ns_ = time_ns + kWindowNs;
    high_before_ = high_;
    high_ = length;
    return !first && enough <= now() / 2 ? enough : 0;
  }
  void set(std::size_t items) { now_.store(items, std::memory_order_relaxed); }

 private:
  static constexpr std::int64_t kWindowNs = 1'000'000'000;
  static constexpr std::uint32_t kLookEvery = 16;  // puts a look at the clock

  Capacity(std::size_t least, std::size_t most) : now_(least), least_(least), most_(most) {}

  std::atomic<std::size_t> now_;
  std::size_t least_;
  std::size_t most_;
  bool caught_up_ = true;
  std::uint64_t received_at_growth_ = 0;
  std::size_t high_ = 0;
  std::size_t high_before_ = 0;
  std::uint32_t puts_ = 0;
  std::int64_t window_ends_ns_ = 0;
};

}  // namespace culprit::concurrent::detail
