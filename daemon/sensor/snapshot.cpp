#include "daemon/sensor/snapshot.h"

#include <bpf/bpf.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

namespace culprit::sensor {
namespace {

constexpr std::int64_t kKeepDeadNs = 3 * kNsPerSecond;
constexpr std::int64_t kAskAliveNs = 2 * kNsPerSecond;    // how long an answer about a process is good
constexpr std::int64_t kSampleForNs = 30 * kNsPerSecond;  // after it was last busy
constexpr std::uint64_t kBusyNs = 10'000'000;             // of CPU in a second: worth sampling
constexpr std::size_t kSampledMax = 256;
constexpr std::int64_t kTasksTookMaxNs = 5'000'000;         // slower with very many threads: then only once a snapshot
constexpr std::size_t kBatchBytes = 1 << 20;
constexpr std::uint64_t kSocketsEvery = 4;  // snapshots; Requests counts on it (kUnsureNs)

// Calls `each(key, values)` with one value per CPU for every entry (`cpus` is 1 for a map that is not per CPU). Returns the number of entries.
template <typename Key, typename Value, typename F>
std::uint64_t each_entry(int map, std::uint32_t cpus, F each) {
  static_assert(sizeof(Value) % 8 == 0, "per-CPU values stand 8 bytes apart");
  if (map < 0) return 0;
  const std::size_t row = sizeof(Value) * cpus;
  std::uint32_t batch = static_cast<std::uint32_t>(std::clamp<std::size_t>(kBatchBytes / row, 64, 4096));
  std::vector<Key> keys;
  std::vector<Value> values;
  std::uint32_t cursor = 0;
  bool first = true;
  std::uint64_t entries = 0;
  while (true) {
    keys.resize(batch);
    values.resize(std::size_t{batch} * cpus);
    std::uint32_t count = batch;
    const int error = bpf_map_lookup_batch(map, first ? nullptr : &cursor, &cursor, keys.data(), values.data(), &count, nullptr);
    if (error != 0 && errno == ENOSPC && batch < (1U << 20)) {  // one bucket holds more than the batch
      batch *= 2;
      continue;
    }
    if (error != 0 && errno != ENOENT) return entries;
    for (std::uint32_t i = 0; i < count; ++i) {
      each(keys[i], std::span<const Value>(values).subspan(std::size_t{i} * cpus, cpus));
    }
    entries += count;
    if (error != 0) return entries;  // ENOENT: that was the last of them
    first = false;
  }
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) { return (a ^ (b + 0x9e3779b97f4a7c15ULL + (a << 6) + (a >> 2))); }

void add(culprit_latency& sum, const culprit_latency& one) {
  sum.count += one.count;
  sum.sum_ns += one.sum_ns;
  sum.max_ns = std::max(sum.max_ns, one.max_ns);
  for (std::size_t i = 0; i < CULPRIT_LATENCY_BUCKETS; ++i) sum.buckets[i] += one.buckets[i];
}

}  // namespace

Snapshots::Snapshots(const Probes& probes, const Procfs& procfs, const Clock& clock)
    : probes_(probes),
      procfs_(procfs),
      clock_(clock),
      cpus_(probes.geometry().cpus),
      sched_map_(probes.map_fd("sched", "sched_counts")),
      errors_map_(probes.map_fd("syscall", "syscall_errors")),
      timed_map_(probes.timed_calls()),
      block_map_(probes.map_fd("block", "block_counts")) {}

bool Snapshots::is_dead(std::uint32_t tgid) {
  if (tgid == 0) return false;  // the kernel itself
  auto& [asked_ns, alive] = alive_[tgid];
  if (asked_ns == 0 || now_ns_ - asked_ns > kAskAliveNs) {
    asked_ns = now_ns_;
    alive = procfs_.exists(tgid);
  }
  return !alive;
}

template <typename Key>
bool Snapshots::fresh(Rows& rows, int map, const Key& key, std::uint32_t tgid, std::uint64_t fingerprint) {
  const std::string bytes(reinterpret_cast<const char*>(&key), sizeof(key));
  Sent& sent = rows[bytes];
  if (sent.changed_ns == 0 || sent.fingerprint != fingerprint) {
    sent.fingerprint = fingerprint;
    sent.changed_ns = now_ns_;
    return true;
  }
  if (now_ns_ - sent.changed_ns > kKeepDeadNs && is_dead(tgid)) {
    (void)bpf_map_delete_elem(map, &key);
    rows.erase(bytes);
  }
  return false;
}

// The threads that exist, added up by process; and the time since the last reading for those that are blocked.
std::vector<SchedSample> Snapshots::read_tasks() {
  const std::int64_t now = clock_.now_ns();
  const auto tasks = probes_.read_tasks();
  if (!tasks) return {};
  const auto since = static_cast<std::uint64_t>(tasks_read_ns_ == 0 ? 0 : now - tasks_read_ns_);
  std::vector<SchedSample> samples;
  std::unordered_map<std::uint32_t, std::size_t> places;
  for (const culprit_task_time& task : *tasks) {
    const auto [place, is_new] = places.try_emplace(task.tgid, samples.size());
    if (is_new) samples.push_back({task.tgid, {}});
    culprit_sched_counts& sum = samples[place->second].counts;
    sum.on_cpu_ns += task.on_cpu_ns;
    sum.run_queue_ns += task.run_queue_ns;
    sum.run_queue_count += task.run_queue_count;
    sum.switches += task.switches;
    if (is_new || task.tid == task.tgid) {  // the first thread names the process
      sum.cgroup_id = task.cgroup_id;
      std::copy(std::begin(task.comm), std::end(task.comm), std::begin(sum.comm));
    }
    if (task.is_blocked != 0) said_[task.tgid].blocked_ns += since;
  }
  tasks_read_ns_ = now;
  tasks_took_ns_ = clock_.now_ns() - now;
  return samples;
}

void Snapshots::sample_tasks() {
  if (tasks_took_ns_ <= kTasksTookMaxNs) (void)read_tasks();
}

void Snapshots::read_sched(Snapshot& snapshot) {
  // Freed threads first: one that is freed between the two readings is missing for a moment, never counted twice.
  std::unordered_map<std::uint32_t, culprit_sched_counts> freed;
  constexpr std::uint32_t kNotPerCpu = 1;
  entries_["sched_counts"] = each_entry<std::uint32_t, culprit_sched_counts>(
      sched_map_, kNotPerCpu, [&](std::uint32_t tgid, std::span<const culprit_sched_counts> row) { freed[tgid] = row.front(); });
  snapshot.sched = read_tasks();
  for (SchedSample& sample : snapshot.sched) {
    const auto gone = freed.find(sample.tgid);
    if (gone == freed.end()) continue;
    sample.counts.on_cpu_ns += gone->second.on_cpu_ns;
    sample.counts.run_queue_ns += gone->second.run_queue_ns;
    sample.counts.run_queue_count += gone->second.run_queue_count;
    sample.counts.switches += gone->second.switches;
    freed.erase(gone);
  }
  for (const auto& [tgid, counts] : freed) snapshot.sched.push_back({tgid, counts});
  std::erase_if(snapshot.sched, [&](SchedSample& sample) {
    culprit_sched_counts& sum = sample.counts;
    SchedSaid& said = said_[sample.tgid];
    if (sum.on_cpu_ns > said.on_cpu_ns + kBusyNs && sequence_ > 1) sampled_[sample.tgid] = now_ns_;
    sum.on_cpu_ns = said.on_cpu_ns = std::max(sum.on_cpu_ns, said.on_cpu_ns);
    sum.run_queue_ns = said.run_queue_ns = std::max(sum.run_queue_ns, said.run_queue_ns);
    sum.run_queue_count = said.run_queue_count = std::max(sum.run_queue_count, said.run_queue_count);
    sum.switches = said.switches = std::max(sum.switches, said.switches);
    sum.blocked_ns = said.blocked_ns;
    const std::uint64_t print = mix(mix(sum.on_cpu_ns, sum.switches), mix(sum.run_queue_count, sum.blocked_ns));
    const bool send = fresh(sched_, sched_map_, sample.tgid, sample.tgid, print);
    if (!send && !sched_.contains(std::string(reinterpret_cast<const char*>(&sample.tgid), sizeof(sample.tgid)))) {
      said_.erase(sample.tgid);  // it was forgotten just now
    }
    return !send;
  });
}

void Snapshots::read_errors(Snapshot& snapshot) {
  entries_["syscall_errors"] = each_entry<culprit_syscall_error_key, culprit_syscall_error_counts>(
      errors_map_, cpus_, [&](const culprit_syscall_error_key& key, std::span<const culprit_syscall_error_counts> cpus) {
        SyscallErrorSample sample{key, {}};
        for (const auto& one : cpus) {
          sample.counts.count += one.count;
          sample.counts.last_ns = std::max(sample.counts.last_ns, one.last_ns);
        }
        if (fresh(errors_, errors_map_, key, key.tgid, sample.counts.count)) snapshot.syscall_errors.push_back(sample);
      });
}

void Snapshots::read_timed(Snapshot& snapshot) {
  entries_["timed_calls"] = each_entry<culprit_timed_call_key, culprit_latency>(
      timed_map_, cpus_, [&](const culprit_timed_call_key& key, std::span<const culprit_latency> cpus) {
        TimedCallSample sample{key, {}};
        for (const auto& one : cpus) add(sample.latency, one);
        if (fresh(timed_, timed_map_, key, key.tgid, sample.latency.count)) snapshot.timed_calls.push_back(sample);
      });
}

void Snapshots::read_block(Snapshot& snapshot) {
  entries_["block_counts"] = each_entry<culprit_block_key, culprit_block_counts>(
      block_map_, cpus_, [&](const culprit_block_key& key, std::span<const culprit_block_counts> cpus) {
        BlockSample sample{key, {}};
        for (const auto& one : cpus) {
          add(sample.counts.latency, one.latency);
          sample.counts.bytes += one.bytes;
          sample.counts.errors += one.errors;
        }
        if (fresh(block_, block_map_, key, key.tgid, sample.counts.latency.count)) snapshot.block.push_back(sample);
      });
}

void Snapshots::read_tables(Snapshot& snapshot) {
  const struct {
    const char* name;
    std::uint32_t table;
    int map;
  } tables[] = {{"watched_tgids", CULPRIT_TABLE_WATCHED, probes_.watched_tgids()},
                {"sched_counts", CULPRIT_TABLE_SCHED_COUNTS, sched_map_},
                {"syscall_errors", CULPRIT_TABLE_SYSCALL_ERRORS, errors_map_},
                {"call_starts", CULPRIT_TABLE_CALL_STARTS, probes_.map_fd("syscall", "call_starts")},
                {"timed_calls", CULPRIT_TABLE_TIMED_CALLS, timed_map_},
                {"block_starts", CULPRIT_TABLE_BLOCK_STARTS, probes_.map_fd("block", "block_starts")},
                {"block_counts", CULPRIT_TABLE_BLOCK_COUNTS, block_map_},
                {"tcp_owners", CULPRIT_TABLE_TCP_OWNERS, probes_.map_fd("tcp", "tcp_owners")}};
  for (const auto& table : tables) {
    if (table.map < 0) continue;
    TableSample sample;
    sample.name = table.name;
    bpf_map_info info{};
    std::uint32_t bytes = sizeof(info);
    if (bpf_map_get_info_by_fd(table.map, &info, &bytes) == 0) sample.limit = info.max_entries;
    if (const auto it = entries_.find(sample.name); it != entries_.end()) sample.entries = it->second;
    (void)bpf_map_lookup_elem(probes_.table_full(), &table.table, &sample.full);
    snapshot.tables.push_back(std::move(sample));
  }
}

void Snapshots::sample_processes(Snapshot& snapshot) {
  std::uint32_t tgid = 0;
  std::size_t watched = 0;
  for (const void* last = nullptr;
       watched < kSampledMax && bpf_map_get_next_key(probes_.watched_tgids(), last, &tgid) == 0; last = &tgid) {
    sampled_[tgid] = now_ns_;
    ++watched;
  }
  entries_["watched_tgids"] = watched;
  for (auto it = sampled_.begin(); it != sampled_.end();) {
    auto sample = snapshot.processes.size() < kSampledMax ? procfs_.sample(it->first)
                                                          : fail(Code::Exhausted, "enough sampled");
    if (sample) snapshot.processes.push_back(*sample);
    const bool gone = !sample && sample.error().code == Code::NotFound;
    // The exit probe does this too, where the kernel let it attach.
    if (gone) (void)bpf_map_delete_elem(probes_.watched_tgids(), &it->first);
    it = gone || now_ns_ - it->second > kSampleForNs ? sampled_.erase(it) : std::next(it);
  }
}

void Snapshots::read_own(Snapshot& snapshot) const {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto ns = [](const timeval& time) {
      return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_usec) * 1000;
    };
    snapshot.sensor_cpu_ns = ns(usage.ru_utime) + ns(usage.ru_stime);
  }
  std::uint64_t total = 0, resident = 0;
  if (std::ifstream file("/proc/self/statm"); file >> total >> resident) {
    snapshot.sensor_rss_bytes = resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  }
}

Snapshot Snapshots::take(bool closely) {
  Snapshot snapshot;
  now_ns_ = clock_.now_ns();
  snapshot.time_ns = now_ns_;
  snapshot.sequence = ++sequence_;
  read_sched(snapshot);
  read_errors(snapshot);
  read_timed(snapshot);
  read_block(snapshot);
  if (closely || sequence_ % kSocketsEvery == 1) {
    auto sockets = probes_.read_sockets();
    snapshot.has_sockets = sockets.has_value();
    if (sockets) snapshot.sockets = std::move(*sockets);
  }
  sample_processes(snapshot);
  read_tables(snapshot);
  snapshot.programs = probes_.missed();
  read_own(snapshot);
  std::erase_if(alive_, [&](const auto& entry) { return now_ns_ - entry.second.first > 2 * kAskAliveNs; });
  return snapshot;
}

void Snapshots::resend_all() {
  for (Rows* rows : {&sched_, &errors_, &timed_, &block_}) {
    for (auto& [key, sent] : *rows) sent.changed_ns = 0;
  }
}

}  // namespace culprit::sensor
