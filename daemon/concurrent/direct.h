// Direct: the ring between one sender and one receiver, without a lock.
//
// The sender owns `send_index_`, the receiver `recv_index_`, each on its own cache line with a copy of the
// other's index as last seen, so that a side looks at the other's line only when its copy says full or empty.
// An index is published once a batch. The top bit of send_index_ says closed: since the sender publishes by
// compare-exchange, either its batch is in before the close, and will be drained, or none of it is.
//
// Parking (the waiter's half is in channel.h). A waiter sets its side's `parked` flag and then looks at the
// index once more; a publisher stores its index and then looks at the flag. All four are sequentially consistent, so
// in their single order one of the two sees the other: no wake-up is lost (Dekker's argument; all
// interleavings are tried in tests/concurrent/parking_model_test.cpp).
//
//   sender                                   receiver
//   senders_parked = true                    recv_index = r        (release: slots before r are free)
//   load recv_index: room? then no sleep     load senders_parked: true? then wake
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "daemon/concurrent/ring.h"
#include "daemon/concurrent/waiter.h"

namespace culprit::concurrent::detail {

template <typename T>
class Direct {
 public:
  explicit Direct(std::size_t capacity) : capacity_(capacity), ring_(capacity) {}
  Direct(const Direct&) = delete;
  Direct& operator=(const Direct&) = delete;
  ~Direct() { ring_.destroy(recv_local_, static_cast<std::size_t>(sent() - recv_local_)); }

  // The sender: puts what there is room for. Done, Full or Closed.
  Batch put(T* items, std::size_t n) {
    if ((send_index_.load(std::memory_order_relaxed) & kClosed) != 0) return {0, Outcome::Closed};
    std::size_t room = capacity_ - static_cast<std::size_t>(send_local_ - recv_seen_);
    if (room < n) {
      recv_seen_ = recv_index_.load(std::memory_order_acquire);
      room = capacity_ - static_cast<std::size_t>(send_local_ - recv_seen_);
    }
    const std::size_t count = std::min(n, room);
    if (count == 0) return {0, n == 0 ? Outcome::Done : Outcome::Full};
    ring_.put(send_local_, items, count);
    std::uint64_t expected = send_local_;
    if (!send_index_.compare_exchange_strong(expected, send_local_ + count, std::memory_order_seq_cst)) {
      ring_.take(send_local_, items, count);  // closed meanwhile: give them back
      return {0, Outcome::Closed};
    }
    send_local_ += count;
    if (count == room) note_length(static_cast<std::size_t>(send_local_ - recv_seen_));
    return {count, count == n ? Outcome::Done : Outcome::Full};
  }
  // Anybody, once; false if it was closed already.
  bool close() { return (send_index_.fetch_or(kClosed, std::memory_order_seq_cst) & kClosed) == 0; }

  // The receiver: takes what is there. Done, Empty or Closed.
  Batch take(T* items, std::size_t n) {
    bool closed = false;
    if (send_seen_ - recv_local_ < n) {
      const std::uint64_t index = send_index_.load(std::memory_order_acquire);
      closed = (index & kClosed) != 0;
      send_seen_ = index & ~kClosed;
      note_length(static_cast<std::size_t>(send_seen_ - recv_local_));
    }
    const std::size_t count = std::min(n, static_cast<std::size_t>(send_seen_ - recv_local_));
    if (count == 0) return {0, n == 0 ? Outcome::Done : closed ? Outcome::Closed : Outcome::Empty};
    ring_.take(recv_local_, items, count);
    recv_local_ += count;
    recv_index_.store(recv_local_, std::memory_order_seq_cst);
    return {count, Outcome::Done};
  }

  // What a waiter asks, after it has set its flag; the side's own thread only.
  bool sender_may_go(std::size_t wanted) const {
    const std::uint64_t used = send_local_ - recv_index_.load(std::memory_order_seq_cst);
    return capacity_ - used >= std::min(wanted, capacity_) || closed();
  }
  bool receiver_may_go() const { return send_index_.load(std::memory_order_seq_cst) != recv_local_; }

  // Any thread, for the peer's waiter and for stats.
  bool closed() const { return (send_index_.load(std::memory_order_seq_cst) & kClosed) != 0; }
  std::uint64_t sent() const { return send_index_.load(std::memory_order_seq_cst) & ~kClosed; }
  std::uint64_t received() const { return recv_index_.load(std::memory_order_seq_cst); }
  std::size_t high_water() const { return high_water_.load(std::memory_order_relaxed); }

  alignas(64) std::atomic<bool> senders_parked{false};  // written under the channel's lock
  std::atomic<bool> receivers_parked{false};
  std::atomic<std::uint64_t> dropped{0};

 private:
  static constexpr std::uint64_t kClosed = std::uint64_t{1} << 63;

  // Exact when a side has just looked at the other's index, which is when the ring may be full or empty.
  void note_length(std::size_t length) {
    std::size_t most = high_water_.load(std::memory_order_relaxed);
    while (length > most && !high_water_.compare_exchange_weak(most, length, std::memory_order_relaxed)) {
    }
  }

  const std::size_t capacity_;
  Ring<T> ring_;
  std::atomic<std::size_t> high_water_{0};
  alignas(64) std::atomic<std::uint64_t> send_index_{0};
  std::uint64_t send_local_ = 0;  // the sender's: the index without the bit
  std::uint64_t recv_seen_ = 0;
  alignas(64) std::atomic<std::uint64_t> recv_index_{0};
  std::uint64_t recv_local_ = 0;  // the receiver's
  std::uint64_t send_seen_ = 0;
};

}  // namespace culprit::concurrent::detail
