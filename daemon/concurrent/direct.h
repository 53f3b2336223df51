// Direct: the queue between one sender and one receiver, a ring without a lock.
//
// The sender owns `send_index_`, the receiver `recv_index_`, each on its own cache line with a copy of the
// other's index as last seen, so that a side looks at the other's line only when its copy says full or empty.
// An index is published once a batch, by a plain store: released here and acquired there, so that slots are written
// before they are read, and read before they are written again.
//
// Parking (the waiter's half is in channel.h). A waiter sets its side's `parked` flag and then looks at the
// index once more; a publisher stores its index and then looks at the flag. Between the two each passes a fence
// (fence.h): the publisher the light one, the waiter the heavy one. So one of the two sees the other, and no wake-up is
// lost (Dekker's argument; all interleavings are tried in tests/concurrent/parking_model_test.cpp).
//
// Closing. A sender says that it is putting and then looks whether the ring is closed; who closes says so, and then
// looks whether somebody is putting: the same two fences. Whoever closes waits for a batch that is on its way, a copy of
// at most the ring, and says last that the end is final (release). So a batch is in before the end, and will be
// drained, or refused; a receiver that knows the end to be final and then finds the ring empty has had all.
//
// The items lie in a block. When the capacity changes, the sender goes on in a new one: it notes in the old block
// where that ends, links the new one (release), and only then publishes an index beyond (release). A receiver that
// sees such an index therefore sees the link, takes the rest of the old block, and frees it. Order is kept, nothing
// is copied, and the sender never looks back.
//
//   sender                                   receiver
//   senders_parked = true                    recv_index = r        (release: slots before r are free)
//   heavy fence                              light fence
//   load recv_index: room? then no sleep     load senders_parked: true? then wake
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "daemon/concurrent/capacity.h"
#include "daemon/concurrent/fence.h"
#include "daemon/concurrent/ring.h"
#include "daemon/concurrent/spin.h"
#include "daemon/concurrent/waiter.h"

namespace culprit::concurrent::detail {

// One thread at a time uses a side. Two would corrupt the ring without a word: debug builds end the program instead.
class Side {
 public:
#ifdef NDEBUG
  struct Use {
    explicit Use(Side&) {}
    ~Use() {}  // not trivial, so that it is no unused variable
  };
#else
  class Use {
   public:
    explicit Use(Side& side) : side_(side) {
      const bool taken = side_.busy_.exchange(true, std::memory_order_relaxed);
      assert(!taken && "two threads at one end of a channel that allows one");
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { side_.busy_.store(false, std::memory_order_relaxed); }

   private:
    Side& side_;
  };

 private:
  std::atomic<bool> busy_{false};
#endif
};

template <typename T>
class Direct {
 public:
  explicit Direct(const Capacity& capacity)
      : send_block_(new Block(capacity.now())), capacity_(capacity), recv_block_(send_block_) {}
  Direct(const Direct&) = delete;
  Direct& operator=(const Direct&) = delete;
  ~Direct() {
    while (recv_block_ != nullptr) {
      Block* const next = recv_block_->next.load(std::memory_order_relaxed);
      const std::uint64_t end = next != nullptr ? recv_block_->end : sent();
      recv_block_->ring.destroy(recv_local_, static_cast<std::size_t>(end - recv_local_));
      recv_local_ = end;
      delete recv_block_;
      recv_block_ = next;
    }
  }

  // The sender: puts what there is room for. Done, Full or Closed.
  Batch put(T* items, std::size_t n) {
    const Side::Use use(send_side_);
    const Putting putting(putting_);
    fence_.light();
    if (closed_.load(std::memory_order_relaxed)) return {0, Outcome::Closed};
    if (capacity_.moves()) recv_seen_ = recv_index_.load(std::memory_order_acquire);  // the length is measured
    std::size_t room = room_after(recv_seen_);
    if (room < n) {
      recv_seen_ = recv_index_.load(std::memory_order_acquire);
      room = room_after(recv_seen_);
      if (room < n && capacity_.moves()) room = grow(n);
    }
    const std::size_t count = std::min(n, room);
    if (count == 0) return {0, n == 0 ? Outcome::Done : Outcome::Full};
    send_block_->ring.put(send_local_, items, count);
    send_local_ += count;
    send_index_.store(send_local_, std::memory_order_release);
    send_block_->ring.fetch_to_write(send_local_, std::min(n, room - count));  // what the next batch is probably put into
    if (count == room) note_length(static_cast<std::size_t>(send_local_ - recv_seen_));
    if (capacity_.moves()) shrink();
    return {count, count == n ? Outcome::Done : Outcome::Full};
  }
  // Anybody but a sender in `put`; again does nothing.
  void close() {
    closed_.store(true, std::memory_order_relaxed);
    fence_.heavy();
    Backoff backoff;
    while (putting_.load(std::memory_order_acquire)) backoff.pause();
    final_.store(true, std::memory_order_release);
  }

  // The receiver: takes what is there. Done, Empty or Closed.
  Batch take(T* items, std::size_t n) {
    const Side::Use use(recv_side_);
    bool closed = false;
    if (send_seen_ - recv_local_ < n) {
      closed = final_.load(std::memory_order_acquire);  // first: then the index is the last
      send_seen_ = send_index_.load(std::memory_order_acquire);
      note_length(static_cast<std::size_t>(send_seen_ - recv_local_));
    }
    const std::size_t count = std::min(n, static_cast<std::size_t>(send_seen_ - recv_local_));
    if (count == 0) return {0, n == 0 ? Outcome::Done : closed ? Outcome::Closed : Outcome::Empty};
    for (std::size_t done = 0; done < count;) {
      Block* const next = recv_block_->next.load(std::memory_order_acquire);
      const std::uint64_t end = next != nullptr ? recv_block_->end : send_seen_;
      const std::size_t run = std::min(count - done, static_cast<std::size_t>(end - recv_local_));
      // The next batch comes while this one is copied and used.
      recv_block_->ring.fetch(recv_local_ + run, std::min(n, static_cast<std::size_t>(end - recv_local_) - run));
      recv_block_->ring.take(recv_local_, items + done, run);
      recv_local_ += run;
      done += run;
      if (done == count) break;
      delete recv_block_;
      recv_block_ = next;
    }
    recv_index_.store(recv_local_, std::memory_order_release);
    return {count, Outcome::Done};
  }

  // What a publisher asks afterwards: does the peer sleep?
  bool parked(const std::atomic<bool>& peer) const {
    fence_.light();
    return peer.load(std::memory_order_relaxed);
  }
  // What a waiter asks, after it has set its flag and passed the heavy fence; the side's own thread only.
  bool sender_may_go(std::size_t wanted) const { return room_after(received()) >= std::min(wanted, capacity()) || closed(); }
  bool receiver_may_go() const {
    return final_.load(std::memory_order_acquire) || send_index_.load(std::memory_order_acquire) != recv_local_;
  }

  // Any thread, for the peer's waiter and for stats.
  bool closed() const { return closed_.load(std::memory_order_relaxed); }
  std::uint64_t sent() const { return send_index_.load(std::memory_order_acquire); }
  std::uint64_t received() const { return recv_index_.load(std::memory_order_acquire); }
  std::size_t high_water() const { return high_water_.load(std::memory_order_relaxed); }
  std::size_t capacity() const { return capacity_.now(); }

  alignas(64) std::atomic<bool> senders_parked{false};  // written under the channel's lock
  std::atomic<std::uint64_t> dropped{0};

 private:
  class Putting {
   public:
    explicit Putting(std::atomic<bool>& flag) : flag_(flag) { flag_.store(true, std::memory_order_relaxed); }
    Putting(const Putting&) = delete;
    Putting& operator=(const Putting&) = delete;
    ~Putting() { flag_.store(false, std::memory_order_release); }

   private:
    std::atomic<bool>& flag_;
  };

  struct Block {
    explicit Block(std::size_t capacity) : ring(capacity) {}
    Ring<T> ring;
    std::uint64_t end = 0;  // the index at which the next block starts, once there is one
    std::atomic<Block*> next{nullptr};
  };

  // Nothing while more is queued than a capacity that has shrunk.
  std::size_t room_after(std::uint64_t received) const {
    const auto length = static_cast<std::size_t>(send_local_ - received);
    return capacity() > length ? capacity() - length : 0;
  }
  // Answers the room that there is then.
  std::size_t grow(std::size_t wanted) {
    const std::size_t before = capacity();
    while (room_after(recv_seen_) < wanted) {
      const std::size_t larger = capacity_.larger(recv_seen_);
      if (larger == 0) break;
      capacity_.set(larger);
    }
    if (capacity() != before && !go_on_in_a_block_of(capacity())) capacity_.set(before);
    return room_after(recv_seen_);
  }
  void shrink() {
    const std::size_t smaller = capacity_.smaller(static_cast<std::size_t>(send_local_ - recv_seen_));
    if (smaller != 0 && go_on_in_a_block_of(smaller)) capacity_.set(smaller);
  }
  bool go_on_in_a_block_of(std::size_t capacity) {
    try {
      auto* const block = new Block(capacity);
      send_block_->end = send_local_;
      send_block_->next.store(block, std::memory_order_release);
      send_block_ = block;
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }

  // Exact when a side has just looked at the other's index, which is when the ring may be full or empty.
  void note_length(std::size_t length) {
    std::size_t most = high_water_.load(std::memory_order_relaxed);
    while (length > most && !high_water_.compare_exchange_weak(most, length, std::memory_order_relaxed)) {
    }
  }

  // Each index is alone on its line, since the other side looks at it; what only one side touches is on lines of its own:
  // a store there would wait for the line to come back, and hold up those to the slots behind it.
  const Fence fence_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> final_{false};  // closed, and nobody is putting
  std::atomic<std::size_t> high_water_{0};
  alignas(64) std::atomic<std::uint64_t> send_index_{0};
  alignas(64) std::uint64_t send_local_ = 0;  // the sender's, as the rest up to the next line
  std::uint64_t recv_seen_ = 0;
  std::atomic<bool> putting_{false};
  Block* send_block_;
  Capacity capacity_;
  [[no_unique_address]] Side send_side_;
  alignas(64) std::atomic<std::uint64_t> recv_index_{0};
  alignas(64) std::uint64_t recv_local_ = 0;  // the receiver's, as the rest
  std::uint64_t send_seen_ = 0;
  Block* recv_block_;
  [[no_unique_address]] Side recv_side_;
};

// Lanes: the rings of a channel's senders, one each, in front of its one receiver.
//
// Lanes are made under the channel's lock and stay until the channel goes; one whose sender left is given to the
// next, behind what is still in it. The receiver takes from all in turn and starts each time after the last it took
// from, so that no sender starves another. `receivers_parked` is shared by the lanes: every sender looks at it.
template <typename T>
class Lanes {
 public:
  static constexpr std::size_t kMost = 64;
  struct Lane : Direct<T> {
    using Direct<T>::Direct;
    WaiterQueue senders;  // under the channel's lock, as the next
    bool taken = false;
  };

  // With the channel's lock held (or nobody else there). Null: all are taken.
  Lane* acquire(const Capacity& capacity) {
    const std::size_t count = size();
    for (std::size_t i = 0; i < count; ++i) {
      if (Lane& lane = *lanes_[i]; !lane.taken) {
        lane.taken = true;
        return &lane;
      }
    }
    if (count == kMost) return nullptr;
    lanes_[count] = std::make_unique<Lane>(capacity);
    lanes_[count]->taken = true;
    count_.store(count + 1, std::memory_order_release);
    return lanes_[count].get();
  }
  std::size_t size() const { return count_.load(std::memory_order_acquire); }
  Lane& operator[](std::size_t i) const { return *lanes_[i]; }

  // The receiver. Done, Empty, or (all are closed and drained) Closed. `senders_wait`: one of them may go now.
  Batch take(T* items, std::size_t n, bool& senders_wait) {
    const std::size_t count = size();
    std::size_t done = 0, closed = 0;
    for (std::size_t step = 0; step < count && done < n; ++step) {
      Lane& lane = *lanes_[turn_ < count ? turn_ : 0];
      turn_ = turn_ + 1 < count ? turn_ + 1 : 0;
      const Batch got = lane.take(items + done, n - done);
      done += got.count;
      if (got.outcome == Outcome::Closed) ++closed;
      if (got.count != 0 && lane.parked(lane.senders_parked)) senders_wait = true;
    }
    if (done != 0 || n == 0) return {done, Outcome::Done};
    return {0, closed == count && closed_.load(std::memory_order_acquire) ? Outcome::Closed : Outcome::Empty};
  }
  // With the channel's lock held; whoever makes a lane later closes it too.
  void close() {
    for (std::size_t i = 0; i < size(); ++i) lanes_[i]->close();
    closed_.store(true, std::memory_order_release);
  }
  bool receiver_may_go() const {
    if (closed_.load(std::memory_order_acquire)) return true;
    for (std::size_t i = 0; i < size(); ++i) {
      if (lanes_[i]->receiver_may_go()) return true;
    }
    return false;
  }

  const Fence fence;
  alignas(64) std::atomic<bool> receivers_parked{false};  // written under the channel's lock, as the next
  // Somebody was woken, and neither side goes to sleep before: see Parker::kArrivalNs.
  alignas(64) std::atomic<std::int64_t> stay_until_ns{0};

 private:
  std::array<std::unique_ptr<Lane>, kMost> lanes_;  // below count_: never changes
  std::atomic<std::size_t> count_{0};
  std::atomic<bool> closed_{false};
  std::size_t turn_ = 0;  // the receiver's
};

}  // namespace culprit::concurrent::detail
