#include "daemon/concurrent/select.h"

#include <vector>

namespace culprit::concurrent {

// One run of select, and all that may touch the inside of a case.
class Selection {
 public:
  explicit Selection(std::span<SelectCase* const> cases) : cases_(cases) {
    for (SelectCase* const each : cases) {
      if (each->enabled_) mutexes_.push_back(&each->mutex());
    }
    std::ranges::sort(mutexes_);
    const auto repeated = std::ranges::unique(mutexes_);
    mutexes_.erase(repeated.begin(), repeated.end());
  }

  Selected run(const Wait& wait) {
    const std::int64_t deadline_ns = wait.timeout_ns <= 0 ? wait.timeout_ns : monotonic_ns() + wait.timeout_ns;
    while (true) {
      detail::Ticket ticket;
      {
        detail::WakeList wakes;
        lock_all();
        if (const Selected now = attempt_all(wakes); now.index != cases_.size() || wait.timeout_ns == 0) {
          unlock_all();
          return now;
        }
        enqueue_all(ticket);
        if (any_direct_may_go()) {
          leave_all();
          unlock_all();
          continue;
        }
        unlock_all();
      }
      if (const Selected got = sleep(ticket, wait.stop, deadline_ns);
          got.index == cases_.size() || !cases_[got.index]->direct()) {
        return got;
      }
    }
  }

 private:
  void lock_all() {
    for (std::mutex* const mutex : mutexes_) mutex->lock();
  }
  void unlock_all() {
    for (std::mutex* const mutex : mutexes_) mutex->unlock();
  }

  Selected attempt_all(detail::WakeList& wakes) {
    // Where the search starts: rotates per thread, so that ready cases take turns.
    static thread_local std::size_t turn = 0;
    ++turn;
    for (std::size_t step = 0; step < cases_.size(); ++step) {
      const std::size_t i = (turn + step) % cases_.size();
      if (!cases_[i]->enabled_) continue;
      const Outcome outcome = cases_[i]->attempt(wakes);
      if (outcome != Outcome::Empty && outcome != Outcome::Full) return {i, outcome};
    }
    return {cases_.size(), Outcome::Empty};
  }

  void enqueue_all(detail::Ticket& ticket) {
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      SelectCase& each = *cases_[i];
      each.waiter_.ticket = &ticket;
      each.waiter_.index = static_cast<std::uint32_t>(i);
      if (!each.enabled_) continue;
      each.queue().push(each.waiter_);
      each.note_parked();
    }
  }
  void leave_all() {
    for (SelectCase* const each : cases_) {
      if (!each->enabled_) continue;
      each->queue().remove(each->waiter_);
      each->note_parked();
    }
  }
  bool any_direct_may_go() const {
    if (std::ranges::none_of(cases_, [](const SelectCase* each) { return each->enabled_ && each->direct(); })) return false;
    fence_.heavy();  // the flags are set: whoever publishes after this sees them
    return std::ranges::any_of(cases_, [](const SelectCase* each) {
      return each->enabled_ && each->direct() && each->may_go();
    });
  }

  Selected sleep(detail::Ticket& ticket, const std::stop_token& stop, std::int64_t deadline_ns) {
    Parker::Word word{};
    {
      const detail::StopWatch watch(stop, ticket.parker);
      word = ticket.parker.sleep(deadline_ns);
    }
    const bool cancelled = word != Parker::kWoken && ticket.claim(detail::Ticket::kCancelled);
    if (!cancelled) ticket.parker.await_wake();
    lock_all();
    leave_all();
    unlock_all();
    if (cancelled) {
      return {cases_.size(), word == Parker::kInterrupted ? Outcome::Stopped : Outcome::TimedOut};
    }
    return {ticket.winner.load(std::memory_order_relaxed), ticket.outcome};
  }

  std::span<SelectCase* const> cases_;
  std::vector<std::mutex*> mutexes_;
  const detail::Fence fence_;
};

Selected select(std::span<SelectCase* const> cases, const Wait& wait) { return Selection(cases).run(wait); }

}  // namespace culprit::concurrent
