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

  Snapshot take(bool closely);  // with the sockets, which else are in every fourth
  // Adds up who is in uninterruptible sleep, which the kernel does not keep: call it a few times between snapshots.
  void sample_tasks();
  // The last one did not arrive: the next one has every row again.
  void resend_all();

 private:
  // What was sent last for a row, and what decides that its process may be forgotten.
  struct Sent {
    std::uint64_t fingerprint = 0;
    std::int64_t changed_ns = 0;
  };
  using Rows = std::unordered_map<std::string, Sent>;  // by the key's bytes

  std::vector<SchedSample> read_tasks();
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
  int sched_map_, errors_map_, timed_map_, block_map_;
  std::uint64_t sequence_ = 0;
  std::int64_t now_ns_ = 0;
  Rows sched_, errors_, timed_, block_;
  // Of each process: the largest sums said so far, and the time blocked. A thread that ends is for a moment in neither
  // of the kernel's two sums; what was said never goes back.
  struct SchedSaid {
    std::uint64_t on_cpu_ns = 0;
    std::uint64_t run_queue_ns = 0;
    std::uint64_t run_queue_count = 0;
    std::uint64_t switches = 0;
    std::uint64_t blocked_ns = 0;
  };
  std::unordered_map<std::uint32_t, SchedSaid> said_;
  std::int64_t tasks_read_ns_ = 0;
  std::int64_t tasks_took_ns_ = 0;
  std::unordered_map<std::uint32_t, std::int64_t> sampled_;   // process -> when it was last worth sampling
  std::unordered_map<std::uint32_t, std::pair<std::int64_t, bool>> alive_;  // process -> when asked, answer
  std::unordered_map<std::string, std::uint64_t> entries_;    // rows seen per table
};

}  // namespace culprit::sensor
