// Snapshots: reads the probes' count maps once a second, adds up the CPUs, and keeps what changed.
//
// Counts of a process that has ended stay for kKeepDeadNs, so that their last values are read, and are then
// removed from the maps. Threads: the sensor's only one.
#pragma once

#include <unordered_map>

#include "daemon/base/clock.h"
#include "daemon/sensor/probes.h"
#include "daemon/sensor/procfs.h"

namespace culprit::sensor {

class Snapshots {
 public:
  Snapshots(const Probes& probes, const Procfs& procfs, const Clock& clock);

  Snapshot take();
  // The last one did not arrive: the next one has every row again.
  void resend_all();

 private:
  // What was sent last for a row, and what decides that its process may be forgotten.
  struct Sent {
    std::uint64_t fingerprint = 0;
    std::int64_t changed_ns = 0;
  };
  using Rows = std::unordered_map<std::string, Sent>;  // by the key's bytes

  void read_sched(Snapshot& snapshot);
  void read_errors(Snapshot& snapshot);
  void read_timed(Snapshot& snapshot);
  void read_block(Snapshot& snapshot);
  void read_tables(Snapshot& snapshot);
  void sample_processes(Snapshot& snapshot);
  void read_own(Snapshot& snapshot) const;
  // Whether a row is new or differs from what was sent; a dead process's row leaves the map `map`.
  template <typename Key>
  bool fresh(Rows& rows, int map, const Key& key, std::uint32_t tgid, std::uint64_t fingerprint);
  bool is_dead(std::uint32_t tgid);

  const Probes& probes_;
  const Procfs& procfs_;
  const Clock& clock_;
  std::uint32_t cpus_;
  int sched_map_, running_map_, errors_map_, timed_map_, block_map_;
  std::uint64_t sequence_ = 0;
  std::int64_t now_ns_ = 0;
  Rows sched_, errors_, timed_, block_;
  std::unordered_map<std::uint32_t, std::uint64_t> on_cpu_;   // of each process, as sent last
  std::unordered_map<std::uint32_t, std::int64_t> sampled_;   // process -> when it was last worth sampling
  std::unordered_map<std::uint32_t, std::pair<std::int64_t, bool>> alive_;  // process -> when asked, answer
  std::unordered_map<std::string, std::uint64_t> entries_;    // rows seen per table
};

}  // namespace culprit::sensor
