#include "daemon/track/counts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "daemon/base/text.h"
#include "daemon/track/syscall_names.h"

namespace culprit::track {

namespace {

constexpr std::size_t kErrorSeriesPerService = 64;
constexpr std::size_t kDevicesMax = 256;
constexpr std::int64_t kForgetNs = 60'000'000'000;

// now - before, or all of now if the count began anew.
double delta(std::uint64_t now, std::uint64_t before) { return static_cast<double>(now >= before ? now - before : now); }

std::string comm_of(const char* comm) { return sanitize_utf8(std::string_view(comm, strnlen(comm, CULPRIT_COMM_LEN))); }

const char* block_op_name(std::uint32_t op) {
  switch (op) {
    case CULPRIT_BLOCK_READ: return "read";
    case CULPRIT_BLOCK_WRITE: return "write";
    case CULPRIT_BLOCK_FLUSH: return "flush";
    default: return "other";
  }
}
const char* call_name(std::uint32_t call) {
  switch (call) {
    case CULPRIT_CALL_FSYNC: return "fsync";
    case CULPRIT_CALL_FDATASYNC: return "fdatasync";
    case CULPRIT_CALL_OPEN: return "open";
    default: return "other";
  }
}

}  // namespace

// A row that is missing from a snapshot did not change. Its base stays while its process lives; then the number
// may be given to another one, whose counts begin anew.
template <typename Bases, typename TgidOf>
void Counts::forget(Bases& bases, std::int64_t now_ns, TgidOf tgid_of) {
  std::erase_if(bases, [&](const auto& entry) {
    if (now_ns - entry.second.seen_ns < kForgetNs) return false;
    const std::uint32_t tgid = tgid_of(entry.first);
    return tgid != 0 && directory_.find(tgid) == nullptr;
  });
}

Counts::Counts(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory)
    : options_(options), stats_(stats), output_(output), directory_(directory) {}

void Counts::forget_base() {
  sched_.clear();
  errors_.clear();
  timed_.clear();
  block_.clear();
  returns_ = entries_ = {};
  sched_pace_ = calls_pace_ = error_pace_ = timed_pace_ = block_pace_ = {};
}

void Counts::on_sched(std::int64_t now_ns, Tracker::Snapshot<std::uint32_t, culprit_sched_counts> counts) {
  const double seconds = sched_pace_.step(now_ns);
  for (const auto& [tgid, now] : counts) {
    auto [base, fresh] = sched_.try_emplace(tgid, SchedBase{{}, now_ns});
    const culprit_sched_counts before = base->second.counts;
    base->second = {now, now_ns};
    Process* process = directory_.meet(tgid, now.cgroup_id, now.comm);
    if (seconds <= 0 || tgid == 0) continue;  // the base line; the idle task
    // A key that is new in a later snapshot is a new process: all of its time is of this second.
    const bool anew = fresh || now.on_cpu_ns < before.on_cpu_ns || now.switches < before.switches;
    const culprit_sched_counts& from = anew ? culprit_sched_counts{} : before;
    Usage usage;
    usage.cpu = delta(now.on_cpu_ns, from.on_cpu_ns) * 1e-9 / seconds;
    usage.run_queue_ns = delta(now.run_queue_ns, from.run_queue_ns);
    usage.run_queue = usage.run_queue_ns * 1e-9 / seconds;
    usage.run_queue_count = delta(now.run_queue_count, from.run_queue_count);
    usage.blocked = delta(now.blocked_ns, from.blocked_ns) * 1e-9 / seconds;
    host_usage_.add(usage);
    if (process != nullptr) {
      process->usage.add(usage);
    } else {
      directory_.late_usage(tgid, usage);
    }
  }
  forget(sched_, now_ns, [](const auto& key) { return key; });
}

void Counts::on_calls_observed(std::int64_t now_ns, std::uint64_t returns_ns, std::uint64_t entries_ns) {
  const double seconds = calls_pace_.step(now_ns);
  returns_.add(returns_ns, seconds);
  entries_.add(entries_ns, seconds);
}

void Counts::on_syscall_errors(std::int64_t now_ns, Tracker::Snapshot<culprit_syscall_error_key, culprit_syscall_error_counts> counts) {
  const double seconds = error_pace_.step(now_ns);
  for (const auto& [key, now] : counts) {
    std::array<std::uint64_t, 2> id{key.cgroup_id, static_cast<std::uint64_t>(key.tgid) << 32 | static_cast<std::uint64_t>(key.syscall) << 16 | key.error};
    auto [base, fresh] = errors_.try_emplace(id, ErrorBase{0, now_ns});
    const std::uint64_t before = base->second.count;
    base->second = {now.count, now_ns};
    if (seconds <= 0) continue;
    const auto count = static_cast<std::uint64_t>(std::llround(delta(now.count, before) / returns_.share));
    if (count == 0) continue;
    Service* service = directory_.find(directory_.service_of(key.tgid, key.cgroup_id));
    if (service == nullptr) continue;
    const auto label = std::make_pair(key.syscall, key.error);
    if (!service->syscall_errors.contains(label) && service->syscall_errors.size() >= kErrorSeriesPerService) continue;
    service->syscall_errors[label].count += count;
  }
  forget(errors_, now_ns, [](const auto& key) { return static_cast<std::uint32_t>(key[1] >> 32); });
}

void Counts::on_timed_calls(std::int64_t now_ns, Tracker::Snapshot<culprit_timed_call_key, culprit_latency> counts) {
  const double seconds = timed_pace_.step(now_ns);
  for (const auto& [key, now] : counts) {
    const std::uint64_t id = static_cast<std::uint64_t>(key.tgid) << 32 | key.call;
    auto [base, fresh] = timed_.try_emplace(id, LatencyBase{0, 0, 0, now_ns});
    const LatencyBase before = base->second;
    base->second = {now.count, now.sum_ns, now.max_ns, now_ns};
    if (seconds <= 0) continue;
    const double count = delta(now.count, before.count);
    if (count <= 0) continue;
    const double sum_s = delta(now.sum_ns, before.sum_ns) * 1e-9;
    Process* process = directory_.find(key.tgid);
    if (process == nullptr) continue;
    Usage& usage = process->usage;
    if (key.call == CULPRIT_CALL_OPEN) {
      usage.open_sum_s += sum_s;
      usage.open_count += count;
    } else {
      usage.fsyncs += count / seconds;
      usage.fsync_sum_s += sum_s;
      usage.fsync_count += count;
      // The kernel keeps the longest since load: a new record is of this second; else the mean is what we know.
      const double longest_s = now.max_ns > before.max_ns ? static_cast<double>(now.max_ns) * 1e-9 : sum_s / count;
      usage.fsync_max_s = std::max(usage.fsync_max_s, longest_s);
    }
  }
  forget(timed_, now_ns, [](const auto& key) { return static_cast<std::uint32_t>(key >> 32); });
}

Counts::Device& Counts::device(std::uint32_t number) {
  if (devices_.size() >= kDevicesMax && !devices_.contains(number)) number = 0;
  Device& device = devices_[number];
  if (device.entity.empty()) device.entity = "device:" + device_name(number);
  return device;
}

std::string Counts::device_name(std::uint32_t number) const {
  const auto found = device_names_.find(number);
  if (found != device_names_.end()) return found->second;
  return fmt::format("{}:{}", number >> 20, number & 0xfffff);
}

void Counts::on_block(std::int64_t now_ns, Tracker::Snapshot<culprit_block_key, culprit_block_counts> counts) {
  const double seconds = block_pace_.step(now_ns);
  for (const auto& [key, now] : counts) {
    auto [base, fresh] = block_.try_emplace({key.device, key.tgid, key.op}, BlockBase{{}, now_ns});
    const culprit_block_counts before = base->second.counts;
    base->second = {now, now_ns};
    if (seconds <= 0) continue;
    const double count = delta(now.latency.count, before.latency.count);
    if (count <= 0) continue;
    const double sum_s = delta(now.latency.sum_ns, before.latency.sum_ns) * 1e-9;
    const double bytes = delta(now.bytes, before.bytes) / seconds;
    Device& on = device(key.device);
    on.requests += count;
    on.sum_s += sum_s;
    on.bytes += bytes;
    on.busy += sum_s / seconds;
    for (std::size_t i = 0; i < on.buckets.size(); ++i) {
      const std::uint32_t bucket = now.latency.buckets[i], was = before.latency.buckets[i];
      on.buckets[i] += bucket >= was ? bucket - was : bucket;
    }
    if (now.latency.max_ns > before.latency.max_ns) on.max_ns = std::max<std::uint64_t>(on.max_ns, now.latency.max_ns);
    Process* process = directory_.find(key.tgid);
    if (process == nullptr) continue;
    if (key.op == CULPRIT_BLOCK_READ) process->usage.read_bytes += bytes;
    if (key.op == CULPRIT_BLOCK_WRITE) process->usage.write_bytes += bytes;
    process->usage.disk_wait += sum_s / seconds;
  }
  forget(block_, now_ns, [](const auto& key) { return key[1]; });
}

void Counts::on_cgroup_limits(std::int64_t now_ns, std::span<const CgroupFacts> cgroups) {
  std::unordered_map<std::string, const CgroupFacts*> by_path;
  for (const CgroupFacts& cgroup : cgroups) {
    // The same path in both hierarchies: the one that has numbers.
    const CgroupFacts*& entry = by_path[cgroup.path];
    if (entry == nullptr || (cgroup.memory_bytes >= 0 && entry->memory_bytes < 0)) entry = &cgroup;
  }
  for (auto& [id, service] : directory_.services()) {
    if (!named(service->by)) continue;  // others share their cgroup with strangers
    for (const std::string& path : {service->cgroup, service->cgroup_memory_v1}) {
      const auto found = path.empty() ? by_path.end() : by_path.find(path);
      if (found == by_path.end()) continue;
      const CgroupFacts& facts = *found->second;
      if (facts.memory_bytes >= 0) {
        service->memory_limit_bytes = facts.memory_limit_bytes;
        service->memory_limit_ratio =
            facts.memory_limit_bytes > 0 ? static_cast<double>(facts.memory_bytes) / static_cast<double>(facts.memory_limit_bytes) : 0;
      }
      if (facts.throttled_ns >= 0) {
        const double seconds = static_cast<double>(now_ns - service->throttled_at_ns) * 1e-9;
        if (service->throttled_ns >= 0 && facts.throttled_ns >= service->throttled_ns && seconds > 0) {
          service->throttled = static_cast<double>(facts.throttled_ns - service->throttled_ns) * 1e-9 / seconds;
        }
        service->throttled_ns = facts.throttled_ns;
        service->throttled_at_ns = now_ns;
      }
    }
  }
}

void Counts::on_filesystems(std::span<const FilesystemFacts> filesystems) { filesystems_.assign(filesystems.begin(), filesystems.end()); }

void Counts::on_devices(std::span<const DeviceName> devices) {
  for (const DeviceName& device : devices) {
    if (device_names_.size() >= 4 * kDevicesMax && !device_names_.contains(device.device)) break;
    device_names_[device.device] = device.name;
    if (const auto found = devices_.find(device.device); found != devices_.end()) found->second.entity = "device:" + device.name;
  }
}

void Counts::on_host(const HostFacts& host) { host_ = host; }

void Counts::on_syscall_slow(const culprit_syscall_slow_event& event) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  const ServiceId id = directory_.service_of(event.task.tgid, event.task.cgroup_id);
  stream::Event* out = directory_.kernel_event(time_ns, "syscall.slow", event.task.tgid, id, comm_of(event.task.comm));
  if (out == nullptr) return;
  out->severity = stream::kWarn;
  out->value = static_cast<double>(event.duration_ns) * 1e-9;
  out->attributes.emplace_back("call", call_name(event.call));
  if (event.result < 0 && event.result > -4096) {
    const char* name = strerrorname_np(static_cast<int>(-event.result));
    out->attributes.emplace_back("errno", name == nullptr ? std::to_string(-event.result) : name);
  }
  if (const Process* process = directory_.find(event.task.tgid); process != nullptr) {
    for (const OpenFile& file : process->facts.files) {
      if (file.fd == event.fd && event.fd >= 0) {
        out->attributes.emplace_back("path", sanitize_utf8(file.path));
        break;
      }
    }
  }
  out->attributes.emplace_back("thread.id", std::to_string(event.task.tid));
  directory_.submit(out);
}

void Counts::on_block_slow(const culprit_block_slow_event& event) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  const ServiceId id = directory_.service_of(event.task.tgid, event.task.cgroup_id);
  stream::Event* out = directory_.kernel_event(time_ns, "block.slow", event.task.tgid, id, comm_of(event.task.comm));
  if (out == nullptr) return;
  out->severity = stream::kWarn;
  out->value = static_cast<double>(event.duration_ns) * 1e-9;
  out->attributes.emplace_back("device", device_name(event.device));
  out->attributes.emplace_back("op", block_op_name(event.op));
  out->attributes.emplace_back("bytes", std::to_string(event.bytes));
  directory_.submit(out);
}

}  // namespace culprit::track
