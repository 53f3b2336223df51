// Accounting: what was produced and what was lost, second by second, so that an answer can say how complete
// the evidence in its window is. Bounded: the last kSecondsMax seconds. Threads: any.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/mutex.h"
#include "daemon/explain/explanation.h"

namespace culprit::app {

class Accounting {
 public:
  static constexpr std::size_t kSecondsMax = 3600;

  // Cumulative totals at a time; `dropped` by reason.
  void add(std::int64_t time_ns, std::uint64_t produced, std::map<std::string, std::uint64_t> dropped);
  // The calls of the watched were not observed in so much of [from, to]: the budget of records was spent.
  void add_rest(std::int64_t from_ns, std::int64_t to_ns, std::int64_t rested_ns);
  // The probes were blind in [from, to]; open_gap says so while the end is not known yet.
  void open_gap(std::int64_t from_ns);
  void add_gap(std::int64_t from_ns, std::int64_t to_ns);
  // Programs that could not be attached, as "family (reason)"; replaces what was said before.
  void set_blind(std::vector<std::string> blind);

  explain::Completeness window(std::int64_t from_ns, std::int64_t to_ns) const;

 private:
  struct Second {
    std::int64_t time_ns;
    std::uint64_t produced;
    std::map<std::string, std::uint64_t> dropped;
  };
  struct Rest {
    std::int64_t from_ns, to_ns, rested_ns;
  };
  struct Gap {
    std::int64_t from_ns, to_ns;
  };
  mutable Mutex mutex_;
  std::deque<Second> seconds_ GUARDED_BY(mutex_);
  std::deque<Rest> rests_ GUARDED_BY(mutex_);
  std::deque<Gap> gaps_ GUARDED_BY(mutex_);
  std::optional<std::int64_t> open_gap_ns_ GUARDED_BY(mutex_);
  std::vector<std::string> blind_ GUARDED_BY(mutex_);
};

}  // namespace culprit::app
