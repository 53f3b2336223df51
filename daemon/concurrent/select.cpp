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
    detail::WakeList wakes;
    lock_all();
    if (const Selected now = attempt_all(wakes); now.index != cases_.size() || wait.timeout_ns == 0) {
      unlock_all();
      return now;
    }
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      SelectCase& each = *cases_[i];
      each.waiter_.ticket = &ticket_;
      each.waiter_.index = static_cast<std::uint32_t>(i);
      if (each.enabled_) each.queue().push(each.waiter_);
    }
    unlock_all();
    return sleep(wait);
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

  Selected sleep(const Wait& wait) {
    const std::int64_t deadline_ns = wait.timeout_ns < 0 ? Wait::kForever : monotonic_ns() + wait.timeout_ns;
    Parker::Word word{};
    {
      const detail::StopWatch watch(wait.stop, ticket_.parker);
      word = ticket_.parker.sleep(deadline_ns);
    }
    const bool cancelled = word != Parker::kWoken && ticket_.claim(detail::Ticket::kCancelled);
    if (!cancelled) ticket_.parker.await_wake();
    lock_all();
    for (SelectCase* const each : cases_) {
      if (each->enabled_) each->queue().remove(each->waiter_);
    }
    unlock_all();
    if (cancelled) {
      return {cases_.size(), word == Parker::kInterrupted ? Outcome::Stopped : Outcome::TimedOut};
    }
    return {ticket_.winner.load(std::memory_order_relaxed), ticket_.outcome};
  }

  std::span<SelectCase* const> cases_;
  std::vector<std::mutex*> mutexes_;
  detail::Ticket ticket_;
};

Selected select(std::span<SelectCase* const> cases, const Wait& wait) { return Selection(cases).run(wait); }

}  // namespace culprit::concurrent
