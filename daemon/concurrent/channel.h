// Channel: a bounded queue between threads with the meaning of a Go channel.
//
// Items leave in the order in which they came. `send` waits while the channel is full, `recv` while it is
// empty; those who wait are served in order of arrival. With capacity 0 there is no buffer: a send completes
// when a receiver takes the item (a rendezvous). `close` says that no more will come: receivers drain what is
// there and then get Outcome::Closed; sending after close, or closing twice, is an error. What happens when
// the channel is full is the owner's choice (WhenFull), and every item given up is counted by reason.
//
// The batch forms are the native ones: `send_n` takes many items with one look at the shared state, `recv_n`
// gives as many as there are (at least one). One-item forms are batches of one. `select` (select.h) waits for
// the first of several sends and receives.
//
//   Channel<Record> records({.name = "records", .capacity = 4096, .when_full = WhenFull::DropNewest});
//   records.send_n(batch);                                  // producer
//   std::array<Record, 64> batch;                           // consumer
//   while (const Batch got = records.recv_n(batch, {.stop = stop}); got.count != 0) use(batch, got.count);
//
// Items: movable without throwing (a copy may throw: it is made before the channel is touched). Items that
// were not sent stay with the caller, unmoved; items still in the ring are destroyed with the channel.
// Threads: any number on both sides with Ends::Many, one sender and one receiver at a time with Ends::OneToOne; with
// Ends::ManyToOne one receiver, and each sending thread through a Sender of its own, which must not outlive the
// channel. The destructor comes after the last use, anybody may close.
//
// How it works. OneToOne goes through a ring without a lock, ManyToOne through one a Sender (direct.h), unless
// there is no buffer or it overwrites, where both sides change both ends. All else is Go's hchan: one short lock, a
// ring, and two queues of waiters whose items are moved directly, so that a waiter sleeps once however many it has.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "daemon/base/result.h"
#include "daemon/concurrent/capacity.h"
#include "daemon/concurrent/direct.h"
#include "daemon/concurrent/registry.h"
#include "daemon/concurrent/ring.h"
#include "daemon/concurrent/spin.h"
#include "daemon/concurrent/stats.h"
#include "daemon/concurrent/waiter.h"

namespace culprit::concurrent {

enum class WhenFull : std::uint8_t {
  Wait,             // the sender waits
  DropNewest,       // the item is given up, counted as DropReason::Full
  OverwriteOldest,  // the oldest item is given up, counted as DropReason::Overwritten
};

// How many threads may use each side at a time. ManyToOne keeps the order of each sender, Many that of all.
enum class Ends : std::uint8_t { Many, OneToOne, ManyToOne };

struct ChannelOptions {
  std::string name;               // shown by `culprit status`
  std::size_t capacity = 1024;    // items (ManyToOne: of each sender); 0 = rendezvous
  std::size_t bytes_max = 0;      // not 0: the capacity follows the load, with at most so many bytes of items (capacity.h)
  WhenFull when_full = WhenFull::Wait;
  Registry* registry = nullptr;   // where the channel lists itself; must outlive it
};

template <typename T>
class Sender;

template <typename T, Ends E = Ends::Many>
class Channel {
  static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                    std::is_nothrow_destructible_v<T>,
                "an item that throws while it is moved would be lost half-way");

 public:
  explicit Channel(ChannelOptions options)
      : options_(std::move(options)),
        capacity_(options_.bytes_max == 0 ? detail::Capacity::fixed(options_.capacity)
                                          : detail::Capacity::automatic(std::max<std::size_t>(options_.bytes_max / sizeof(T), 1))),
        ring_(is_direct() ? 0 : capacity_.now()),
        lanes_(is_direct() ? new detail::Lanes<T> : nullptr),
        lane_(lanes_ && E == Ends::OneToOne ? lanes_->acquire(capacity_) : nullptr),
        registration_(options_.registry, std::function<ChannelStats()>([this] { return stats(); })) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    registration_.leave();
    ring_.destroy(recv_index_, length());
  }

  // A new sender of a ManyToOne channel. Error: Exhausted if as many as there can be (detail::Lanes::kMost) are there.
  Result<Sender<T>> sender()
    requires(E == Ends::ManyToOne);

  // Sends all items, moving from them, and answers how many were taken. Outcome: Done; Closed, TimedOut,
  // Stopped or (timeout 0) Full: the rest is untouched; Dropped: the rest was given up and counted.
  Batch send_n(std::span<T> items, const Wait& wait = {})
    requires(E != Ends::ManyToOne)
  {
    return send_some(lane_, items.data(), items.size(), wait);
  }
  // The same, copying.
  Batch send_n(std::span<const T> items, const Wait& wait = {})
    requires(E != Ends::ManyToOne && std::is_trivially_copyable_v<T>)
  {
    return send_some(lane_, const_cast<T*>(items.data()), items.size(), wait);  // moving from it only copies it
  }
  [[nodiscard]] Outcome send(T&& item, const Wait& wait = {})
    requires(E != Ends::ManyToOne)
  {
    return send_some(lane_, &item, 1, wait).outcome;
  }
  [[nodiscard]] Outcome send(const T& item, const Wait& wait = {})
    requires(E != Ends::ManyToOne && std::is_copy_constructible_v<T>)
  {
    T copy(item);
    return send_some(lane_, &copy, 1, wait).outcome;
  }
  [[nodiscard]] Outcome try_send(T&& item) { return send(std::move(item), {.timeout_ns = 0}); }
  [[nodiscard]] Outcome try_send(const T& item)
    requires std::is_copy_constructible_v<T>
  {
    return send(item, {.timeout_ns = 0});
  }

  // Receives what is there, at least one item and at most items.size(), by assigning to items[0..count).
  // Outcome: Done; with count 0: Closed (and drained), TimedOut, Stopped, or (timeout 0) Empty.
  Batch recv_n(std::span<T> items, const Wait& wait = {}) { return recv_some(items.data(), items.size(), wait); }
  [[nodiscard]] Outcome recv(T& item, const Wait& wait = {}) { return recv_some(&item, 1, wait).outcome; }
  [[nodiscard]] Outcome try_recv(T& item) { return recv(item, {.timeout_ns = 0}); }

  // No more sends. Parked senders return Closed with what was not taken. Error: Invalid if closed already.
  Result<void> close() {
    detail::WakeList wakes;
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(Code::Invalid, "channel '" + options_.name + "' is closed already");
    closed_ = true;
    const auto wake_all = [&](detail::WaiterQueue& queue) {
      while (detail::Waiter* const waiter = queue.front()) {
        queue.remove(*waiter);
        if (waiter->ticket->claim(waiter->index)) wakes.add(*waiter->ticket, Outcome::Closed);
      }
    };
    if (lanes_) {  // those who are woken look at the ring again
      lanes_->close();
      for (std::size_t i = 0; i < lanes_->size(); ++i) wake_all((*lanes_)[i].senders);
    }
    wake_all(senders_);
    wake_all(receivers_);
    note_parked();
    return {};
  }

  const std::string& name() const { return options_.name; }
  std::size_t capacity() const { return lane_ != nullptr ? lane_->capacity() : capacity_.now(); }
  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }

  ChannelStats stats() const {
    const std::lock_guard lock(mutex_);
    if (lanes_) return direct_stats();
    return {.name = options_.name, .capacity = capacity_.now(), .length = length(), .send_index = send_index_,
            .recv_index = recv_index_, .parked_senders = senders_.size(), .parked_receivers = receivers_.size(),
            .sent = sent_, .received = received_, .dropped = dropped_, .high_water = high_water_,
            .blocked_ns = blocked_ns_, .idle_ns = idle_ns_, .closed = closed_};
  }

 private:
  template <typename> friend class Sender;
  template <typename, Ends> friend class Receive;
  template <typename, Ends> friend class Send;

  std::size_t length() const { return static_cast<std::size_t>(send_index_ - recv_index_); }
  using Lane = typename detail::Lanes<T>::Lane;

  std::size_t room() const { return capacity_.now() - length(); }

  bool is_direct() const {
    return E != Ends::Many && (options_.capacity != 0 || options_.bytes_max != 0) &&
           options_.when_full != WhenFull::OverwriteOldest;
  }

  Batch send_some(Lane* lane, T* items, std::size_t n, const Wait& wait) {
    if constexpr (E != Ends::Many) {
      if (lane != nullptr) return send_direct(*lane, items, n, wait);
    }
    detail::WakeList wakes;  // woken after the lock is released, which is destroyed first
    std::unique_lock lock(mutex_);
    if (closed_) return {0, Outcome::Closed};
    const Batch now = send_locked(items, n, wait.timeout_ns == 0, wakes);
    if (now.count == n || now.outcome != Outcome::Full || wait.timeout_ns == 0) return now;
    detail::Ticket ticket;
    detail::Waiter self{.ticket = &ticket, .items = items + now.count, .wanted = n - now.count};
    const Outcome outcome = park(lock, senders_, self, wakes, wait, blocked_ns_);
    return {now.count + self.moved, outcome};
  }

  Batch recv_some(T* items, std::size_t n, const Wait& wait) {
    if constexpr (E != Ends::Many) {
      if (lanes_) return recv_direct(items, n, wait);
    }
    detail::WakeList wakes;
    std::unique_lock lock(mutex_);
    const Batch now = recv_locked(items, n, wakes);
    if (now.outcome != Outcome::Empty || wait.timeout_ns == 0 || n == 0) return now;
    detail::Ticket ticket;
    detail::Waiter self{.ticket = &ticket, .items = items, .wanted = n};
    const Outcome outcome = park(lock, receivers_, self, wakes, wait, idle_ns_);
    return {self.moved, outcome};
  }

  // Whatever can be sent now, by the channel's policy. Outcome Full: the caller may park.
  Batch send_locked(T* items, std::size_t n, bool trying, detail::WakeList& wakes) {
    std::size_t done = 0;
    while (done < n && !receivers_.empty()) {  // somebody waits, so the ring is empty: hand over
      detail::Waiter& waiter = *receivers_.front();
      receivers_.remove(waiter);
      if (!waiter.ticket->claim(waiter.index)) continue;  // its select ended otherwise
      waiter.moved = std::min(n - done, waiter.wanted);
      detail::move_assign(static_cast<T*>(waiter.items), items + done, waiter.moved);
      done += waiter.moved;
      received_ += waiter.moved;
      wakes.add(*waiter.ticket, Outcome::Done);
    }
    if (room() < n - done && capacity_.moves()) grow(n - done);
    const std::size_t put = std::min(n - done, room());
    ring_.put(send_index_, items + done, put);
    send_index_ += put;
    done += put;
    sent_ += done;
    high_water_ = std::max(high_water_, length());
    if (capacity_.moves()) shrink();
    if (done == n) return {n, Outcome::Done};
    if (options_.when_full == WhenFull::OverwriteOldest && capacity_.now() != 0) {
      overwrite(items + done, n - done);
      return {n, Outcome::Done};
    }
    if (options_.when_full == WhenFull::Wait) return {done, Outcome::Full};
    if (trying && options_.when_full == WhenFull::OverwriteOldest) return {done, Outcome::Full};
    dropped_[static_cast<std::size_t>(DropReason::Full)] += n - done;
    return {done, Outcome::Dropped};
  }

  void grow(std::size_t wanted) {
    const std::size_t before = capacity_.now();
    while (room() < wanted) {
      const std::size_t larger = capacity_.larger(recv_index_);
      if (larger == 0) break;
      capacity_.set(larger);
    }
    if (capacity_.now() != before && !ring_.resize(capacity_.now(), recv_index_, length())) capacity_.set(before);
  }
  void shrink() {
    const std::size_t smaller = capacity_.smaller(length());
    if (smaller != 0 && length() <= smaller && ring_.resize(smaller, recv_index_, length())) capacity_.set(smaller);
  }

  // The ring is full; only the last `capacity` of old and new items stay.
  void overwrite(T* items, std::size_t n) {
    sent_ += n;
    dropped_[static_cast<std::size_t>(DropReason::Overwritten)] += n;
    const std::size_t keep = std::min(n, capacity_.now());
    ring_.destroy(recv_index_, keep);
    recv_index_ += keep;
    ring_.put(send_index_, items + (n - keep), keep);
    send_index_ += keep;
  }

  // Whatever is there now. Outcome Empty: the caller may park.
  Batch recv_locked(T* items, std::size_t n, detail::WakeList& wakes) {
    std::size_t done = std::min(n, length());
    ring_.take(recv_index_, items, done);
    recv_index_ += done;
    // Senders park only when the ring is full: their items come after those in the ring.
    while (done < n && !senders_.empty()) done += take_from_sender(n - done, wakes, [&](T* from, std::size_t count) {
      detail::move_assign(items + done, from, count);
    });
    while (room() != 0 && !senders_.empty()) {
      send_index_ += take_from_sender(room(), wakes, [&](T* from, std::size_t count) {
        ring_.put(send_index_, from, count);
      });
    }
    received_ += done;
    if (done != 0 || n == 0) return {done, Outcome::Done};
    return {0, closed_ ? Outcome::Closed : Outcome::Empty};
  }

  // Moves up to `limit` items out of the first parked sender; it is woken when all of its items are gone.
  template <typename F>
  std::size_t take_from_sender(std::size_t limit, detail::WakeList& wakes, F&& move) {
    detail::Waiter& waiter = *senders_.front();
    const std::size_t count = std::min(limit, waiter.wanted - waiter.moved);
    if (waiter.moved + count == waiter.wanted) {
      senders_.remove(waiter);
      if (!waiter.ticket->claim(waiter.index)) return 0;
    }
    move(static_cast<T*>(waiter.items) + waiter.moved, count);
    waiter.moved += count;
    sent_ += count;
    if (waiter.moved == waiter.wanted) wakes.add(*waiter.ticket, Outcome::Done);
    return count;
  }

  // ---- through rings without a lock

  Batch send_direct(Lane& lane, T* items, std::size_t n, const Wait& wait) {
    const std::int64_t deadline_ns = deadline(wait);
    std::size_t done = 0;
    while (true) {
      const Batch put = put_by_policy(lane, items + done, n - done);
      if (put.count != 0 && lane.parked(lanes_->receivers_parked)) serve_direct();
      done += put.count;
      if (put.outcome != Outcome::Full) return {done, put.outcome};
      if (wait.timeout_ns == 0) return {done, Outcome::Full};
      const std::size_t wanted = n - done;
      const Outcome outcome = park_direct(lane.senders, lane.senders_parked, wanted, wait.stop, deadline_ns,
                                          blocked_ns_, [&] { return lane.sender_may_go(wanted); });
      if (outcome != Outcome::Done) return {done, outcome};
    }
  }
  Batch put_direct_locked(Lane& lane, T* items, std::size_t n, detail::WakeList& wakes) {
    const Batch put = put_by_policy(lane, items, n);
    if (put.count != 0 && lane.parked(lanes_->receivers_parked)) serve_direct_locked(wakes);
    return put;
  }
  Batch put_by_policy(Lane& lane, T* items, std::size_t n) {
    Batch put = lane.put(items, n);
    if (put.outcome == Outcome::Full && options_.when_full == WhenFull::DropNewest) {
      lane.dropped.fetch_add(n - put.count, std::memory_order_relaxed);
      put.outcome = Outcome::Dropped;
    }
    return put;
  }

  Batch recv_direct(T* items, std::size_t n, const Wait& wait) {
    const std::int64_t deadline_ns = deadline(wait);
    while (true) {
      bool senders_wait = false;
      const Batch got = lanes_->take(items, n, senders_wait);
      if (senders_wait) serve_direct();
      if (got.outcome != Outcome::Empty || wait.timeout_ns == 0) return got;
      const Outcome outcome = park_direct(receivers_, lanes_->receivers_parked, 1, wait.stop, deadline_ns,
                                          idle_ns_, [&] { return lanes_->receiver_may_go(); });
      if (outcome != Outcome::Done) return {0, outcome};
    }
  }
  Batch take_direct_locked(T* items, std::size_t n, detail::WakeList& wakes) {
    bool senders_wait = false;
    const Batch got = lanes_->take(items, n, senders_wait);
    if (senders_wait) serve_direct_locked(wakes);
    return got;
  }

  void serve_direct() {
    detail::WakeList wakes;
    const std::lock_guard lock(mutex_);
    serve_direct_locked(wakes);
  }
  // With the lock held: wakes those whose wait is over, to look again. A sender sleeps until all that it still has
  // fits (or the ring is empty): waking it for less would cost a wake-up an item.
  void serve_direct_locked(detail::WakeList& wakes) {
    const auto serve = [&](detail::WaiterQueue& queue) {
      detail::Waiter& waiter = *queue.front();
      queue.remove(waiter);
      if (!waiter.ticket->claim(waiter.index)) return;
      wakes.add(*waiter.ticket, Outcome::Done);
      lanes_->stay_until_ns.store(monotonic_ns() + Parker::kArrivalNs, std::memory_order_relaxed);
    };
    bool items_there = false;
    for (std::size_t i = 0; i < lanes_->size(); ++i) {
      Lane& lane = (*lanes_)[i];
      const std::uint64_t received = lane.received();  // first: it never passes the other
      const auto length = static_cast<std::size_t>(lane.sent() - received);
      const std::size_t capacity = lane.capacity();
      items_there |= length != 0;
      while (!lane.senders.empty() && length + std::min(lane.senders.front()->wanted, capacity) <= capacity) {
        serve(lane.senders);
      }
    }
    while (items_there && !receivers_.empty()) serve(receivers_);
    note_parked();
  }

  // With the lock held, after each change of the queues. Whoever goes to sleep passes the heavy fence afterwards.
  void note_parked() {
    if (!lanes_) return;
    for (std::size_t i = 0; i < lanes_->size(); ++i) {
      Lane& lane = (*lanes_)[i];
      lane.senders_parked.store(!lane.senders.empty(), std::memory_order_relaxed);
    }
    lanes_->receivers_parked.store(!receivers_.empty(), std::memory_order_relaxed);
  }

  // Sleeps until somebody says that it is worth another look (Done), or the wait ends.
  template <typename MayGo>
  Outcome park_direct(detail::WaiterQueue& queue, std::atomic<bool>& parked, std::size_t wanted, const std::stop_token& stop,
                      std::int64_t deadline_ns, std::uint64_t& waited_ns, MayGo&& may_go) {
    const auto wait_between = [] {  // each look takes the index from the peer, whose next store to it waits for the line
      for (int i = 0; i < 8; ++i) detail::cpu_pause();
    };
    const auto spin = [&] {  // 0.2 us: most waits end here, without a look at the clock
      for (int i = 0; i < 2; ++i) {
        if (may_go()) return true;
        wait_between();
      }
      return false;
    };
    wait_between();
    if (spin()) return Outcome::Done;
    const std::int64_t start_ns = monotonic_ns();
    const auto spin_until = [&](std::int64_t end_ns) {
      if (deadline_ns >= 0) end_ns = std::min(end_ns, deadline_ns);
      do {
        if (spin()) return true;
      } while (monotonic_ns() < end_ns);
      return false;
    };
    if (spin_until(start_ns + Parker::kSpinNs)) return Outcome::Done;  // a peer that runs answers sooner than the kernel
    if (const std::int64_t stay_ns = lanes_->stay_until_ns.load(std::memory_order_relaxed); stay_ns > monotonic_ns()) {
      detail::yield_core();  // once: the peer that was woken may wait for this very core
      if (spin_until(stay_ns)) return Outcome::Done;
    }
    detail::Ticket ticket;
    detail::Waiter self{.ticket = &ticket, .wanted = wanted};
    std::unique_lock lock(mutex_);
    queue.push(self);
    parked.store(true, std::memory_order_relaxed);
    lanes_->fence.heavy();
    if (may_go()) {
      queue.remove(self);
      note_parked();
      return Outcome::Done;
    }
    lock.unlock();
    const detail::StopWatch watch(stop, ticket.parker);
    const Parker::Word word = ticket.parker.sleep(deadline_ns, false);
    lock.lock();
    const std::int64_t now_ns = monotonic_ns();
    waited_ns += static_cast<std::uint64_t>(now_ns - start_ns);
    lanes_->stay_until_ns.store(now_ns + Parker::kReturnNs, std::memory_order_relaxed);
    if (word == Parker::kWoken) return Outcome::Done;
    if (ticket.claim(detail::Ticket::kCancelled)) {
      queue.remove(self);
      note_parked();
      return word == Parker::kInterrupted ? Outcome::Stopped : Outcome::TimedOut;
    }
    lock.unlock();
    ticket.parker.await_wake();
    return Outcome::Done;
  }

  ChannelStats direct_stats() const {
    ChannelStats stats{.name = options_.name, .parked_receivers = receivers_.size(), .blocked_ns = blocked_ns_,
                       .idle_ns = idle_ns_, .closed = closed_};
    for (std::size_t i = 0; i < lanes_->size(); ++i) {
      const Lane& lane = (*lanes_)[i];
      const std::uint64_t received = lane.received();  // first: it never passes the other
      const std::uint64_t sent = lane.sent();
      stats.capacity += lane.capacity();
      stats.length += std::min(static_cast<std::size_t>(sent - received), std::max(lane.capacity(), lane.high_water()));  // both moved on
      stats.sent += sent;
      stats.received += received;
      stats.parked_senders += lane.senders.size();
      stats.high_water += lane.high_water();
      stats.dropped[static_cast<std::size_t>(DropReason::Full)] += lane.dropped.load(std::memory_order_relaxed);
    }
    stats.send_index = stats.sent;
    stats.recv_index = stats.received;
    return stats;
  }

  // ---- through the lock

  static std::int64_t deadline(const Wait& wait) {
    return wait.timeout_ns <= 0 ? wait.timeout_ns : monotonic_ns() + wait.timeout_ns;
  }

  // Queues `self`, sleeps until it is served, and answers how it ended. The lock is held on entry only.
  Outcome park(std::unique_lock<std::mutex>& lock, detail::WaiterQueue& queue, detail::Waiter& self,
               detail::WakeList& wakes, const Wait& wait, std::uint64_t& waited_ns) {
    queue.push(self);
    lock.unlock();
    wakes.wake_all();
    const std::int64_t start_ns = monotonic_ns();
    const detail::StopWatch watch(wait.stop, self.ticket->parker);
    const Parker::Word word = self.ticket->parker.sleep(
        wait.timeout_ns < 0 ? Wait::kForever : start_ns + wait.timeout_ns);
    lock.lock();
    waited_ns += static_cast<std::uint64_t>(monotonic_ns() - start_ns);
    if (word == Parker::kWoken) return self.ticket->outcome;
    if (self.ticket->claim(detail::Ticket::kCancelled)) {
      queue.remove(self);
      return word == Parker::kInterrupted ? Outcome::Stopped : Outcome::TimedOut;
    }
    lock.unlock();  // served meanwhile: the one who did so is about to wake us
    self.ticket->parker.await_wake();
    return self.ticket->outcome;
  }

  const ChannelOptions options_;
  mutable std::mutex mutex_;  // guards all below
  detail::Capacity capacity_;
  detail::Ring<T> ring_;  // unused while there are lanes
  std::uint64_t send_index_ = 0;
  std::uint64_t recv_index_ = 0;
  detail::WaiterQueue senders_;
  detail::WaiterQueue receivers_;
  bool closed_ = false;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
  std::array<std::uint64_t, kDropReasons> dropped_{};
  std::size_t high_water_ = 0;
  std::uint64_t blocked_ns_ = 0;
  std::uint64_t idle_ns_ = 0;
  const std::unique_ptr<detail::Lanes<T>> lanes_;  // not guarded
  Lane* const lane_;                               // OneToOne: the only one
  Registration registration_;  // last: it lists the channel once all else exists
};

// One of the senders of a ManyToOne channel; one thread at a time. Leaving gives its place to a later one.
template <typename T>
class Sender {
 public:
  Sender(Sender&& other) noexcept : channel_(std::exchange(other.channel_, nullptr)), lane_(other.lane_) {}
  Sender& operator=(Sender&&) = delete;
  ~Sender() {
    if (channel_ == nullptr || lane_ == nullptr) return;
    const std::lock_guard lock(channel_->mutex_);
    lane_->taken = false;
  }

  Batch send_n(std::span<T> items, const Wait& wait = {}) {
    return channel_->send_some(lane_, items.data(), items.size(), wait);
  }
  [[nodiscard]] Outcome send(T&& item, const Wait& wait = {}) {
    return channel_->send_some(lane_, &item, 1, wait).outcome;
  }
  [[nodiscard]] Outcome try_send(T&& item) { return send(std::move(item), {.timeout_ns = 0}); }

 private:
  using C = Channel<T, Ends::ManyToOne>;
  friend C;
  template <typename, Ends> friend class Send;
  Sender(C& channel, typename detail::Lanes<T>::Lane* lane) : channel_(&channel), lane_(lane) {}

  C* channel_;
  typename detail::Lanes<T>::Lane* lane_;  // null: the channel has no lanes
};

template <typename T, Ends E>
Result<Sender<T>> Channel<T, E>::sender()
  requires(E == Ends::ManyToOne)
{
  if (!lanes_) return Sender<T>(*this, nullptr);
  const std::lock_guard lock(mutex_);
  Lane* const lane = lanes_->acquire(capacity_);
  if (lane == nullptr) return fail(Code::Exhausted, "channel '" + options_.name + "' has all the senders it can have");
  if (closed_) lane->close();
  return Sender<T>(*this, lane);
}

}  // namespace culprit::concurrent
