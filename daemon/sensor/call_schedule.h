// CallSchedule: when the programs on every system call of the host are attached.
//
// Being traced makes every system call slower, whoever makes it and whatever the program does (docs/performance.md), so
// nothing is attached without a reason:
//
//   returns (sys_exit: failures, payload, log lines)   while a target is watched, until the budget of records is spent
//   returns and entries (sys_enter: how long opens take)   in a short window of each period, so that failures
//       are known at any time, as rates; and without a pause while the daemon looks closely, because something is wrong
//
// A window also ends when so many calls were seen in it that more would say little: what a call costs more while it is traced is
// then bounded however many there are, and what is counted is scaled by the share of the time that was really observed.
// A window's place in its period is pseudo-random, so that it never keeps step with what it observes.
// Threads: one owner. Pure: the owner asks what is wanted at a time and when that changes next.
#pragma once

#include <cstdint>

namespace culprit::sensor {

class CallSchedule {
 public:
  struct Wanted {
    bool returns = false;
    bool entries = false;
    bool operator==(const Wanted&) const = default;
  };
  static constexpr std::int64_t kPeriodNs = 1'000'000'000;
  static constexpr std::int64_t kLookNs = 1'000'000;
  static constexpr std::uint64_t kCallsPerCpu = 2'000;  // of one window, in the mean of the CPUs, are enough

  // percent: share of each period that is observed without another reason, 0 to 100. seed: of the windows' places.
  CallSchedule(std::uint32_t percent, std::uint64_t seed) : percent_(percent < 100 ? percent : 100), seed_(seed) {}

  void set_watching(bool watching) { watching_ = watching; }
  // Observe everything until then; never shortens what was asked before.
  void look_closely(std::int64_t until_ns) { closely_until_ns_ = until_ns > closely_until_ns_ ? until_ns : closely_until_ns_; }

  // The budget of records is spent until then: nothing that is watched would be captured, and calls need not be slowed for it.
  void rest(std::int64_t until_ns) { rest_until_ns_ = until_ns; }

  // So many calls were seen: the window that is open, if one is, ends now. Not so at 100 %: who asks for all gets all.
  void enough(std::int64_t now_ns) { enough_ns_ = percent_ < 100 ? now_ns : enough_ns_; }

  Wanted wanted(std::int64_t now_ns) const;
  bool looking_closely(std::int64_t now_ns) const { return now_ns < closely_until_ns_; }
  // Calls are not observed now though a target is watched.
  bool resting(std::int64_t now_ns) const { return watching_ && !wanted(now_ns).returns; }
  // The next time at which wanted() may differ, later than now_ns.
  std::int64_t next_change_ns(std::int64_t now_ns) const;
  // When the owner should look again, later than now_ns: at the next change, or whether enough was seen.
  std::int64_t next_look_ns(std::int64_t now_ns) const;

 private:
  struct Window {
    std::int64_t from_ns = 0;
    std::int64_t to_ns = 0;
  };
  Window window_of(std::int64_t period) const;

  std::uint32_t percent_;
  std::uint64_t seed_;
  bool watching_ = false;
  std::int64_t closely_until_ns_ = 0;
  std::int64_t rest_until_ns_ = 0;
  std::int64_t enough_ns_ = 0;
};

}  // namespace culprit::sensor
