// Select: the first of several receives and sends, on channels of any types, as Go's select.
//
//   Receive records(record_channel, batch);       // up to batch.size() items
//   Receive commands(command_channel, command);   // one
//   Send answers(answer_channel, answer);         // moves from `answer` when it is chosen
//   switch (const Selected s = select({&records, &commands, &answers}, {.stop = stop}); s.index) ...
//
// Exactly one case happens, or none (TimedOut, Stopped; Empty with timeout 0). When several could, the choice
// rotates, so that no busy channel starves another. A closed channel is ready: its receive answers Closed,
// its send too. A case that is not `enabled` is never chosen (Go's nil channel). With no enabled case, only
// the timeout or the stop token ends the wait.
//
// How: all channels are locked in order of their addresses, each case is tried, and if none can happen each is
// queued in its channel before the locks are released; so no change is missed between looking and sleeping.
// A channel without a lock (direct.h) is looked at once more after queueing, and its peer only wakes the select,
// which then looks at all cases again.
#pragma once

#include <initializer_list>
#include <span>

#include "daemon/concurrent/channel.h"

namespace culprit::concurrent {

class SelectCase {
 public:
  SelectCase() = default;
  SelectCase(const SelectCase&) = delete;
  SelectCase& operator=(const SelectCase&) = delete;

  void enable(bool on) { enabled_ = on; }
  std::size_t count() const { return waiter_.moved; }  // items moved by the last select

 protected:
  ~SelectCase() = default;
  detail::Waiter waiter_;

 private:
  friend class Selection;
  virtual std::mutex& mutex() = 0;
  // The following with the channel's lock held.
  virtual Outcome attempt(detail::WakeList& wakes) = 0;  // Full or Empty: not now
  virtual detail::WaiterQueue& queue() = 0;
  virtual bool direct() const = 0;     // its peer wakes, but moves no items
  virtual bool may_go() const = 0;     // of a direct one
  virtual void note_parked() = 0;      // after a change of the queue

  bool enabled_ = true;
};

template <typename T, Ends E>
class Receive final : public SelectCase {
 public:
  Receive(Channel<T, E>& channel, std::span<T> items) : channel_(channel), items_(items) {}
  Receive(Channel<T, E>& channel, T& item) : Receive(channel, std::span<T>(&item, 1)) {}

 private:
  std::mutex& mutex() override { return channel_.mutex_; }
  Outcome attempt(detail::WakeList& wakes) override {
    Batch got;
    if (channel_.lanes_) {
      got = channel_.take_direct_locked(items_.data(), items_.size(), wakes);
    } else {
      got = channel_.recv_locked(items_.data(), items_.size(), wakes);
    }
    waiter_ = {.items = items_.data(), .wanted = items_.size(), .moved = got.count};
    return got.outcome;
  }
  detail::WaiterQueue& queue() override { return channel_.receivers_; }
  bool direct() const override { return channel_.lanes_ != nullptr; }
  bool may_go() const override { return channel_.lanes_->receiver_may_go(); }
  void note_parked() override { channel_.note_parked(); }

  Channel<T, E>& channel_;
  std::span<T> items_;
};

template <typename T, Ends E>
class Send final : public SelectCase {
 public:
  Send(Channel<T, E>& channel, T& item)
    requires(E != Ends::ManyToOne)
      : channel_(channel), lane_(channel.lane_), item_(item) {}
  Send(Sender<T>& sender, T& item)
    requires(E == Ends::ManyToOne)
      : channel_(*sender.channel_), lane_(sender.lane_), item_(item) {}

 private:
  std::mutex& mutex() override { return channel_.mutex_; }
  Outcome attempt(detail::WakeList& wakes) override {
    waiter_ = {.items = &item_, .wanted = 1};
    if (channel_.closed_) return Outcome::Closed;
    const Batch sent = lane_ != nullptr ? channel_.put_direct_locked(*lane_, &item_, 1, wakes)
                                        : channel_.send_locked(&item_, 1, false, wakes);
    waiter_.moved = sent.count;
    return sent.outcome;
  }
  detail::WaiterQueue& queue() override { return lane_ != nullptr ? lane_->senders : channel_.senders_; }
  bool direct() const override { return lane_ != nullptr; }
  bool may_go() const override { return lane_->sender_may_go(1); }
  void note_parked() override { channel_.note_parked(); }

  Channel<T, E>& channel_;
  typename detail::Lanes<T>::Lane* const lane_;
  T& item_;
};

// The item or span that is received into says nothing new: the channel names the type.
template <typename T, Ends E, typename Items>
Receive(Channel<T, E>&, Items&&) -> Receive<T, E>;
template <typename T>
Send(Sender<T>&, T&) -> Send<T, Ends::ManyToOne>;

struct Selected {
  std::size_t index = 0;  // of the case that happened; the number of cases if none did
  Outcome outcome = Outcome::Done;
};

Selected select(std::span<SelectCase* const> cases, const Wait& wait = {});
inline Selected select(std::initializer_list<SelectCase*> cases, const Wait& wait = {}) {
  return select(std::span<SelectCase* const>(cases.begin(), cases.size()), wait);
}

}  // namespace culprit::concurrent
