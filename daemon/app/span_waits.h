// SpanWaits: where the own time of a request went, in the kernel's terms: on a CPU, waiting for one, for the disk, for locks.
//
// The kernel keeps these times as sums per process (nothing of ours runs at a context switch), read once a second. A request gets
// of each second's sum the share that its own time has in the own time of all requests of its service, so this is an estimate,
// good where one request or one kind of request dominates; it never exceeds the own time. Slow calls (fsync, open) of the thread that
// worked at the request are exact: the probe timed them (timed_s). Those of other threads of its process may be another request's.
// The time in callees is exact, too, from the connections, and so is what the request's thread waited for a CPU, where the kernel's sum of
// the thread was read at both ends (a thread that worked at one request alone).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/stream/store.h"

namespace culprit::app {

struct SpanWaits {
  double network_s = 0;    // waiting for callees
  double cpu_s = 0;
  double run_queue_s = 0;  // runnable, but no CPU was free
  bool run_queue_exact = false;
  double disk_s = 0;
  double timed_s = 0;      // the part of disk_s that is no estimate
  double lock_s = 0;       // the rest of the own time: locks, sleeps, memory
};

// One second's sums of a service, by series; times are those of the samples: the end of their second.
using Seconds = std::map<std::int64_t, std::map<std::string, double, std::less<>>>;

// What is known of one request.
struct OwnTime {
  double self_s = 0;               // not in callees
  double slow_s = 0;               // in slow calls of its process within the span
  double timed_s = 0;              // the part of that in its own thread
  double run_queue_s = -1;         // what its thread waited for a CPU; -1: not known
  double run_queue_calls_s = 0;    // the part of that before it read its callees' answers, which is not in self_s
};
SpanWaits split_own_time(std::int64_t start_ns, std::int64_t end_ns, const OwnTime& own, const Seconds& seconds);

class SpanWaitsReader {
 public:
  // Reads what it needs of the services in `entities` (at most 64 are looked at) in the window.
  static Result<SpanWaitsReader> read(const stream::EventStore& store, std::vector<std::string> entities, std::int64_t from_ns, std::int64_t to_ns, std::int64_t budget_ns);
  // `tid`: the thread that worked at it, empty if that is not sure. The times in slow calls are found here.
  SpanWaits of(const std::string& entity, std::string_view pid, std::string_view tid, std::int64_t start_ns, std::int64_t end_ns, OwnTime own) const;
  bool knows(const std::string& entity) const { return seconds_.contains(entity); }

 private:
  struct Slow {
    std::int64_t start_ns, end_ns;
    std::string pid, tid;
  };
  std::map<std::string, Seconds> seconds_;
  std::vector<Slow> slow_;
};

}  // namespace culprit::app
