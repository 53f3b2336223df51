// RuleWatch: keeps the rule book at what the rules folder says, while the daemon runs.
//
// A change in the folder (inotify) is taken up when nothing more was written for kSettleNs, or kSettleNsMax after the first
// write of a storm; ask() at once. A set with a mistake leaves the last good one in force; who asks sees why in the book's state.
// Threads: one of its own, an exception in which ends the process; ask() from any, also from a signal loop.
#pragma once

#include <memory>
#include <thread>

#include "daemon/base/clock.h"
#include "daemon/base/fd.h"
#include "daemon/base/result.h"
#include "rules/loader.h"

namespace culprit::app {

inline constexpr std::int64_t kSettleNs = 500 * kNsPerMs;
inline constexpr std::int64_t kSettleNsMax = 5 * kNsPerSecond;

class RuleWatch {
 public:
  // Without inotify (no instances left) only ask() reloads; that is logged.
  static Result<std::unique_ptr<RuleWatch>> start(rules::RuleBook& book, const Clock& clock);
  ~RuleWatch();
  void ask();

 private:
  struct Impl;
  explicit RuleWatch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::app
