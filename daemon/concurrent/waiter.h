// Waiter and its queue: who waits on a channel, in order of arrival.
//
// A Waiter is one place in one channel's queue; a Ticket is the operation behind it: one waiter for a plain
// send or receive, one per case for a select. Whoever can complete the operation claims the ticket first
// (`claim`), moves the items, then wakes it; of several channels only the first claim wins.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "daemon/concurrent/park.h"

namespace culprit::concurrent {

// How an operation ended. Items that an operation did not take stay with the caller, untouched.
enum class Outcome : std::uint8_t {
  Done,
  Closed,    // receive: closed and drained; send: an error of the caller, counted
  Full,      // try: no room
  Empty,     // try: nothing there
  TimedOut,
  Stopped,   // the stop token asked
  Dropped,   // WhenFull::DropNewest: no room, counted
};

// The result of a batch: how many items moved, and why it did not move the rest.
struct Batch {
  std::size_t count = 0;
  Outcome outcome = Outcome::Done;
};

namespace detail {

struct Ticket {
  static constexpr std::uint32_t kOpen = ~0U;
  static constexpr std::uint32_t kCancelled = ~0U - 1;

  // Of all that would complete or cancel this operation, one wins. Relaxed is enough: the items are guarded
  // by the channel's lock, and the end is announced by the parker.
  bool claim(std::uint32_t who) {
    std::uint32_t open = kOpen;
    return winner.compare_exchange_strong(open, who, std::memory_order_relaxed);
  }

  std::atomic<std::uint32_t> winner{kOpen};
  Outcome outcome = Outcome::Done;  // written by the winner before it wakes
  Parker parker;
  Ticket* next_wake = nullptr;
};

struct Waiter {
  Ticket* ticket = nullptr;
  std::uint32_t index = 0;     // of the select's case
  void* items = nullptr;       // where to take from, or to put to
  std::size_t wanted = 0;
  std::size_t moved = 0;
  Waiter* previous = nullptr;
  Waiter* next = nullptr;
  bool queued = false;
};

class WaiterQueue {
 public:
  bool empty() const { return front_ == nullptr; }
  std::size_t size() const { return size_; }
  Waiter* front() const { return front_; }

  void push(Waiter& waiter) {
    waiter.previous = back_;
    waiter.next = nullptr;
    waiter.queued = true;
    (back_ != nullptr ? back_->next : front_) = &waiter;
    back_ = &waiter;
    ++size_;
  }

  // Nothing happens if the waiter has left already.
  void remove(Waiter& waiter) {
    if (!waiter.queued) return;
    (waiter.previous != nullptr ? waiter.previous->next : front_) = waiter.next;
    (waiter.next != nullptr ? waiter.next->previous : back_) = waiter.previous;
    waiter.queued = false;
    --size_;
  }

 private:
  Waiter* front_ = nullptr;
  Waiter* back_ = nullptr;
  std::size_t size_ = 0;
};

// Those to wake once the channel's lock is released.
class WakeList {
 public:
  WakeList() = default;
  WakeList(const WakeList&) = delete;
  WakeList& operator=(const WakeList&) = delete;
  ~WakeList() { wake_all(); }

  void add(Ticket& ticket, Outcome outcome) {
    ticket.outcome = outcome;
    ticket.next_wake = nullptr;
    *tail_ = &ticket;
    tail_ = &ticket.next_wake;
  }

  void wake_all() {
    Ticket* ticket = head_;
    head_ = nullptr;
    tail_ = &head_;
    while (ticket != nullptr) {
      Ticket* const next = ticket->next_wake;  // read first: a woken ticket is gone
      ticket->parker.wake();
      ticket = next;
    }
  }

 private:
  Ticket* head_ = nullptr;
  Ticket** tail_ = &head_;
};

}  // namespace detail
}  // namespace culprit::concurrent
