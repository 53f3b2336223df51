// Counts: what the probes count in maps, cumulative since they were loaded, as differences per second of processes,
// services, devices and the host; and the sampled facts of control groups, file systems and the host.
//
// A snapshot holds the rows that changed since the one before it; the first has all and is only a base line. A count that went down began anew (the key was reused): it counts whole.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/track/directory.h"
#include "daemon/track/tracker.h"

namespace culprit::track {

class Counts {
 public:
  Counts(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory);

  void on_sched(std::int64_t now_ns, Tracker::Snapshot<std::uint32_t, culprit_sched_counts> counts);
  void on_calls_observed(std::int64_t now_ns, std::uint64_t returns_ns, std::uint64_t entries_ns);
  void on_syscall_errors(std::int64_t now_ns, Tracker::Snapshot<culprit_syscall_error_key, culprit_syscall_error_counts> counts);
  void on_timed_calls(std::int64_t now_ns, Tracker::Snapshot<culprit_timed_call_key, culprit_latency> counts);
  void on_block(std::int64_t now_ns, Tracker::Snapshot<culprit_block_key, culprit_block_counts> counts);
  void on_cgroup_limits(std::int64_t now_ns, std::span<const CgroupFacts> cgroups);
  void on_filesystems(std::span<const FilesystemFacts> filesystems);
  void on_devices(std::span<const DeviceName> devices);
  void on_host(const HostFacts& host);
  void on_syscall_slow(const culprit_syscall_slow_event& event);
  void on_block_slow(const culprit_block_slow_event& event);
  void forget_base();  // the probes were loaded anew: the next snapshot is a base line

  void emit_host(std::int64_t now_ns, double seconds);
  // Adds up the processes of each service, then samples of services and of the processes that stand out. seen_s: how much
  // of the seconds the requests and lines are from.
  void emit_services(std::int64_t now_ns, double seconds, double seen_s);
  void begin_second();

 private:
  // Time since the previous snapshot of a kind, in seconds; 0: this is the first.
  struct Pace {
    std::int64_t at_ns = 0;
    double step(std::int64_t now_ns) {
      const double seconds = at_ns == 0 ? 0 : static_cast<double>(now_ns - at_ns) * 1e-9;
      at_ns = now_ns;
      return seconds;
    }
  };
  struct SchedBase {
    culprit_sched_counts counts;
    std::int64_t seen_ns;
  };
  struct ErrorBase {
    std::uint64_t count;
    std::int64_t seen_ns;
  };
  struct LatencyBase {
    std::uint64_t count, sum_ns, max_ns;
    std::int64_t seen_ns;
  };
  struct BlockBase {
    culprit_block_counts counts;
    std::int64_t seen_ns;
  };
  struct Device {
    std::string entity;
    SampleMask mask;
    double requests = 0, bytes = 0, busy = 0, sum_s = 0;
    std::array<std::uint64_t, CULPRIT_LATENCY_BUCKETS> buckets{};
    std::uint64_t max_ns = 0;
  };
  struct Mount {
    SampleMask mask;
  };
  template <typename Bases, typename TgidOf>
  void forget(Bases& bases, std::int64_t now_ns, TgidOf tgid_of);
  Device& device(std::uint32_t number);
  std::string device_name(std::uint32_t number) const;
  void emit_usage(std::int64_t now_ns, const std::string& entity, SampleMask& mask, const Usage& usage);

  const TrackerOptions& options_;
  TrackStats& stats_;
  Output& output_;
  Directory& directory_;
  // Share of the time since the previous snapshot in which the sensor observed one side of system calls.
  struct Observed {
    std::uint64_t total_ns = 0;
    double share = 1;
    void add(std::uint64_t total, double seconds) {
      const double observed_s = total >= total_ns ? static_cast<double>(total - total_ns) * 1e-9 : 0;
      total_ns = total;
      share = seconds > 0 && observed_s > 0 ? std::min(1.0, observed_s / seconds) : 1;
    }
  };
  Observed returns_, entries_;
  Pace sched_pace_, calls_pace_, error_pace_, timed_pace_, block_pace_;
  std::unordered_map<std::uint32_t, SchedBase> sched_;
  std::map<std::array<std::uint64_t, 2>, ErrorBase> errors_;
  std::unordered_map<std::uint64_t, LatencyBase> timed_;   // tgid << 32 | call
  std::map<std::array<std::uint32_t, 3>, BlockBase> block_;
  std::map<std::uint32_t, Device> devices_;
  std::map<std::uint32_t, std::string> device_names_;
  std::map<std::string, Mount> mounts_;
  std::vector<FilesystemFacts> filesystems_;
  HostFacts host_;
  Usage host_usage_;
  SampleMask host_mask_;
  std::vector<std::uint32_t> shown_;  // processes that had samples in the last second
};

}  // namespace culprit::track
