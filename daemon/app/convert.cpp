#include "daemon/app/convert.h"

#include <charconv>

namespace culprit::app {

track::ProcessFacts to_facts(const sensor::ProcessInfo& info) {
  track::ProcessFacts facts;
  facts.ppid = info.ppid;
  facts.uid = info.uid;
  facts.start_time_ns = static_cast<std::uint64_t>(info.start_time_ns);
  facts.comm = info.comm;
  facts.exe = info.exe;
  facts.cmdline = info.cmdline;
  facts.cgroup = info.cgroup;
  facts.cgroup_memory_v1 = info.memory_cgroup;
  facts.cgroup_id = info.cgroup_id;
  facts.exe_identity = {info.exe_device, info.exe_inode, info.exe_size, info.exe_mtime_ns};
  facts.script = info.script;
  facts.script_identity = {0, info.script_inode, info.script_size, info.script_mtime_ns};
  facts.fds = info.fds;
  facts.fds_limit = static_cast<std::int64_t>(std::min<std::uint64_t>(info.fd_limit, 1ULL << 40U));
  facts.rss_bytes = static_cast<std::int64_t>(info.rss_bytes);
  facts.threads = info.threads;
  facts.state = info.state == '?' ? '\0' : info.state;
  return facts;
}

std::vector<track::FilesystemFacts> to_facts(std::span<const sensor::FilesystemSpace> spaces) {
  std::vector<track::FilesystemFacts> facts;
  for (const sensor::FilesystemSpace& space : spaces) {
    facts.push_back({space.mount_point, space.total_bytes, space.available_bytes, space.inodes_total, space.inodes_free});
  }
  return facts;
}

track::CgroupFacts to_facts(const sensor::CgroupLimits& limits) {
  track::CgroupFacts facts;
  facts.path = limits.path;
  facts.memory_bytes = static_cast<std::int64_t>(limits.memory_usage_bytes);
  // v1 writes "no limit" as the largest number of pages.
  if (limits.memory_limit_bytes < (1ULL << 60U)) facts.memory_limit_bytes = static_cast<std::int64_t>(limits.memory_limit_bytes);
  facts.throttled_ns = static_cast<std::int64_t>(limits.throttled_us) * 1000;
  return facts;
}

track::TrackerOptions tracker_options(const Config& config) {
  track::TrackerOptions options;
  for (const ServiceRule& rule : config.services) {
    track::ServiceRule out;
    out.name = rule.name;
    out.match = {.cgroup = rule.cgroup, .exe = rule.exe, .unit = rule.unit, .service = {}, .port = rule.port, .pid = 0};
    options.service_rules.push_back(std::move(out));
  }
  for (const std::string& target : config.watch) {
    if (target == "all") {
      options.watch_all = true;
      continue;
    }
    const std::size_t colon = target.find(':');
    const std::string kind = target.substr(0, colon);
    const std::string what = target.substr(colon + 1);
    track::Match match;
    if (kind == "cgroup") match.cgroup = what;
    if (kind == "unit") match.unit = what;
    if (kind == "exe") match.exe = what;
    if (kind == "service") match.service = what;
    if (kind == "pid") std::from_chars(what.data(), what.data() + what.size(), match.pid);
    options.watch.push_back(std::move(match));
  }
  return options;
}

void give_snapshot(track::Tracker& tracker, const sensor::Snapshot& snapshot) {
  const std::int64_t now = snapshot.time_ns;
  std::vector<std::pair<std::uint32_t, culprit_sched_counts>> sched;
  for (const auto& row : snapshot.sched) sched.emplace_back(row.tgid, row.counts);
  tracker.on_sched(now, sched);
  tracker.on_calls_observed(now, snapshot.returns_observed_ns, snapshot.entries_observed_ns);
  std::vector<std::pair<culprit_syscall_error_key, culprit_syscall_error_counts>> errors;
  for (const auto& row : snapshot.syscall_errors) errors.emplace_back(row.key, row.counts);
  tracker.on_syscall_errors(now, errors);
  std::vector<std::pair<culprit_timed_call_key, culprit_latency>> calls;
  for (const auto& row : snapshot.timed_calls) calls.emplace_back(row.key, row.latency);
  tracker.on_timed_calls(now, calls);
  std::vector<std::pair<culprit_block_key, culprit_block_counts>> block;
  for (const auto& row : snapshot.block) block.emplace_back(row.key, row.counts);
  tracker.on_block(now, block);
  if (snapshot.has_sockets) tracker.on_tcp_info(now, snapshot.sockets);
}

void add_counts(collect::CollectorCounts& to, const collect::CollectorCounts& from) {
  for (std::size_t kind = 0; kind < to.kinds.size(); ++kind) {
    to.kinds[kind].produced += from.kinds[kind].produced;
    to.kinds[kind].received += from.kinds[kind].received;
    for (std::size_t reason = 0; reason < CULPRIT_DROPS; ++reason) {
      to.kinds[kind].dropped[reason] += from.kinds[kind].dropped[reason];
    }
  }
  to.malformed += from.malformed;
  to.batches += from.batches;
  to.backlog_bytes = from.backlog_bytes;
}

}  // namespace culprit::app
