// Counts, second part: the samples of the second that ended.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "daemon/track/counts.h"
#include "daemon/track/syscall_names.h"

namespace culprit::track {

namespace {

// A process stands out when it is stopped, waits for the disk, or is among the top users of CPU and disk.
constexpr double kBlockedShown = 0.05;  // s/s
constexpr double kCpuShown = 0.01;
constexpr double kDiskShown = 64 * 1024;
constexpr double kFdsShown = 0.5;

// Upper end of bucket i of struct culprit_latency, which counts [2^i, 2^(i+1)) microseconds.
double quantile_of(const std::array<std::uint64_t, CULPRIT_LATENCY_BUCKETS>& buckets, double q) {
  std::uint64_t count = 0;
  for (const std::uint64_t bucket : buckets) count += bucket;
  if (count == 0) return 0;
  const auto rank = static_cast<std::uint64_t>(q * static_cast<double>(count - 1));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    if (seen + buckets[i] > rank) {
      const double low = i == 0 ? 0 : static_cast<double>(std::uint64_t{1} << i);
      const double high = static_cast<double>(std::uint64_t{1} << (i + 1));
      const double share = static_cast<double>(rank - seen + 1) / static_cast<double>(buckets[i]);
      return (low + (high - low) * share) * 1e-6;
    }
    seen += buckets[i];
  }
  return 0;
}

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

void Counts::emit_usage(std::int64_t now_ns, const std::string& entity, SampleMask& mask, const Usage& usage) {
  const auto put = [&](Series series, double value) { output_.sample(now_ns, entity, mask, series, value); };
  put(Series::CpuTime, usage.cpu);
  put(Series::CpuRunQueueWait, usage.run_queue);
  put(Series::CpuRunQueueMean, ratio(usage.run_queue_ns * 1e-9, usage.run_queue_count));
  put(Series::CpuBlocked, usage.blocked);
  put(Series::DiskReadBytes, usage.read_bytes);
  put(Series::DiskWriteBytes, usage.write_bytes);
  put(Series::DiskWait, usage.disk_wait);
  put(Series::FsyncRate, usage.fsyncs);
  put(Series::FsyncMean, ratio(usage.fsync_sum_s, usage.fsync_count));
  put(Series::FsyncMax, usage.fsync_max_s);
  put(Series::OpenMean, ratio(usage.open_sum_s, usage.open_count));
}

void Counts::emit_host(std::int64_t now_ns, double) {
  const std::string host = "host";
  const auto put = [&](Series series, double value) { output_.sample(now_ns, host, host_mask_, series, value); };
  put(Series::CpuTime, host_usage_.cpu);
  put(Series::CpuRunQueueWait, host_usage_.run_queue);
  put(Series::CpuRunQueueMean, ratio(host_usage_.run_queue_ns * 1e-9, host_usage_.run_queue_count));
  if (host_.cpus > 0) put(Series::CpuCount, static_cast<double>(host_.cpus));
  if (host_.memory_available_bytes >= 0) put(Series::MemoryAvailable, static_cast<double>(host_.memory_available_bytes));
  if (host_.memory_available_bytes >= 0 && host_.memory_bytes > 0) {
    put(Series::MemoryAvailableRatio, ratio(static_cast<double>(host_.memory_available_bytes), static_cast<double>(host_.memory_bytes)));
  }
  if (host_.pressure_cpu >= 0) put(Series::PressureCpu, host_.pressure_cpu);
  if (host_.pressure_io >= 0) put(Series::PressureIo, host_.pressure_io);
  if (host_.pressure_memory >= 0) put(Series::PressureMemory, host_.pressure_memory);

  for (auto& [number, device] : devices_) {
    const auto put_device = [&](Series series, double value) { output_.sample(now_ns, device.entity, device.mask, series, value); };
    put_device(Series::DiskRate, device.requests);
    put_device(Series::DiskBytes, device.bytes);
    put_device(Series::DiskLatencyMean, ratio(device.sum_s, device.requests));
    const double p99 = quantile_of(device.buckets, 0.99);
    put_device(Series::DiskLatencyP99, device.max_ns != 0 ? std::min(p99, static_cast<double>(device.max_ns) * 1e-9) : p99);
    put_device(Series::DiskBusy, device.busy);
    device.requests = device.bytes = device.busy = device.sum_s = 0;
    device.buckets.fill(0);
    device.max_ns = 0;
  }
  for (const FilesystemFacts& filesystem : filesystems_) {
    const std::string entity = "mount:" + filesystem.mount;
    SampleMask& mask = mounts_[filesystem.mount].mask;
    const auto size = static_cast<double>(filesystem.bytes);
    if (size > 0) output_.sample(now_ns, entity, mask, Series::FilesystemUsed, 1 - static_cast<double>(filesystem.bytes_available) / size);
    if (filesystem.inodes > 0) {
      output_.sample(now_ns, entity, mask, Series::FilesystemInodes,
                     1 - static_cast<double>(filesystem.inodes_free) / static_cast<double>(filesystem.inodes));
    }
    // A full disk is the one zero that must be seen each second.
    if (size > 0) output_.sample(now_ns, entity, std::string(series_name(Series::FilesystemAvail)), static_cast<double>(filesystem.bytes_available));
  }
  if (mounts_.size() > 4 * filesystems_.size() + 64) mounts_.clear();
}

void Counts::emit_services(std::int64_t now_ns, double seconds, double seen_s) {
  struct Sum {
    Usage usage;
    double rss = 0, fds = 0, fds_ratio = 0, stopped = 0, count = 0;
  };
  std::unordered_map<std::uint32_t, Sum> sums;
  std::vector<std::pair<double, Process*>> standing_out;
  std::vector<std::uint32_t> shown;
  for (auto& [pid, holder] : directory_.processes()) {
    Process& process = *holder;
    const ProcessFacts& facts = process.facts;
    Sum& sum = sums[static_cast<std::uint32_t>(process.service)];
    sum.usage.add(process.usage);
    ++sum.count;
    if (facts.rss_bytes > 0) sum.rss += static_cast<double>(facts.rss_bytes);
    if (facts.fds > 0) sum.fds += static_cast<double>(facts.fds);
    const double fds_ratio = facts.fds > 0 && facts.fds_limit > 0 ? static_cast<double>(facts.fds) / static_cast<double>(facts.fds_limit) : 0;
    sum.fds_ratio = std::max(sum.fds_ratio, fds_ratio);
    if (process.stopped) sum.stopped = 1;
    double score = 0;
    if (process.usage.cpu >= kCpuShown) score += process.usage.cpu;
    const double disk = process.usage.read_bytes + process.usage.write_bytes;
    if (disk >= kDiskShown) score += disk / 50e6;
    if (process.usage.blocked >= kBlockedShown) score += process.usage.blocked;
    if (process.stopped) score += 100;
    if (fds_ratio >= kFdsShown) score += fds_ratio;
    if (score == 0 && process.mask.bits != 0 && std::ranges::find(shown_, pid) != shown_.end()) score = 1e-9;  // its zeroes
    if (score > 0) standing_out.emplace_back(score, &process);
  }
  const std::size_t places = std::min(standing_out.size(), options_.limits.process_samples_per_second);
  std::ranges::partial_sort(standing_out, standing_out.begin() + static_cast<std::ptrdiff_t>(places),
                            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second->pid < b.second->pid; });
  for (std::size_t i = 0; i < places; ++i) {
    Process& process = *standing_out[i].second;
    const std::string entity = "process:" + std::to_string(process.pid);
    const auto put = [&](Series series, double value) { output_.sample(now_ns, entity, process.mask, series, value); };
    emit_usage(now_ns, entity, process.mask, process.usage);
    put(Series::ProcessStopped, process.stopped ? 1 : 0);
    put(Series::MemoryRss, static_cast<double>(std::max<std::int64_t>(process.facts.rss_bytes, 0)));
    if (process.facts.fds > 0) {
      put(Series::ProcessFds, static_cast<double>(process.facts.fds));
      if (process.facts.fds_limit > 0) put(Series::ProcessFdsRatio, static_cast<double>(process.facts.fds) / static_cast<double>(process.facts.fds_limit));
    }
    shown.push_back(process.pid);
  }
  shown_ = std::move(shown);

  for (auto& [id, holder] : directory_.services()) {
    Service& service = *holder;
    Sum& sum = sums[static_cast<std::uint32_t>(id)];
    sum.usage.add(service.usage);
    RequestWindow& window = service.window;
    const auto rates = [&](RequestWindow& of, RequestRates& last) {
      last.rate = static_cast<double>(of.durations.count()) / seen_s;
      last.errors = static_cast<double>(of.errors) / seen_s;
      last.p50_s = of.durations.quantile_s(0.5);
      last.p99_s = of.durations.quantile_s(0.99);
      last.mean_s = of.durations.mean_s();
      last.inflight = static_cast<double>(of.inflight);
      last.age_s = static_cast<double>(of.age_max_ns) * 1e-9;
    };
    const auto put_requests = [&](const std::string& entity, SampleMask& mask, const RequestWindow& of, const RequestRates& last) {
      const auto put = [&](Series series, double value) { output_.sample(now_ns, entity, mask, series, value); };
      put(Series::RequestRate, last.rate);
      put(Series::RequestErrors, last.errors);
      put(Series::RequestP50, last.p50_s);
      put(Series::RequestP99, last.p99_s);
      put(Series::RequestMean, last.mean_s);
      put(Series::RequestInflight, last.inflight);
      put(Series::RequestAgeMax, last.age_s);
      put(Series::RequestSelfMean, ratio(of.self_sum_s, static_cast<double>(of.durations.count())));
    };
    const auto clear = [](RequestWindow& of) {
      of.durations.clear();
      of.errors = of.inflight = 0;
      of.self_sum_s = 0;
      of.age_max_ns = 0;
    };
    rates(window, service.last);
    service.last_cpu = sum.usage.cpu;
    service.last_rss = sum.rss;
    if (service.significant) {
      const std::string& entity = service.entity;
      const auto put = [&](Series series, double value) { output_.sample(now_ns, entity, service.mask, series, value); };
      put_requests(entity, service.mask, window, service.last);
      emit_usage(now_ns, entity, service.mask, sum.usage);
      put(Series::ProcessStopped, sum.stopped);
      put(Series::MemoryRss, sum.rss);
      put(Series::ProcessFds, sum.fds);
      put(Series::ProcessFdsRatio, sum.fds_ratio);
      put(Series::ProcessCount, sum.count);
      put(Series::ProcessStarts, static_cast<double>(service.starts) / seconds);
      put(Series::ProcessExits, static_cast<double>(service.exits) / seconds);
      put(Series::ProcessCrashes, static_cast<double>(service.crashes) / seconds);
      put(Series::MemoryLimitRatio, service.alive ? service.memory_limit_ratio : 0);
      put(Series::CpuThrottled, service.alive ? service.throttled : 0);
      put(Series::LogRate, static_cast<double>(service.lines) / seen_s);
      put(Series::LogErrors, static_cast<double>(service.error_lines) / seen_s);
      put(Series::TcpAcceptQueue, service.accept_queue_ratio);
      put(Series::TcpRetransmits, static_cast<double>(service.retransmits) / seconds);
      put(Series::TcpResets, static_cast<double>(service.resets) / seconds);
      for (auto found = service.syscall_errors.begin(); found != service.syscall_errors.end();) {
        const auto [syscall, error] = found->first;
        const char* name = strerrorname_np(error);
        std::string series = fmt::format("syscall.errors{{errno=\"{}\",syscall=\"{}\"}}", name == nullptr ? std::to_string(error) : name, syscall_name(syscall));
        const bool used = output_.sample(now_ns, entity, std::move(series), found->second, seconds);
        found = used ? std::next(found) : service.syscall_errors.erase(found);
      }
    } else {
      service.syscall_errors.clear();
    }
    for (auto found = service.endpoints.begin(); found != service.endpoints.end();) {
      Endpoint& endpoint = *found->second;
      rates(endpoint.window, endpoint.last);
      if (service.significant) put_requests(endpoint.entity, endpoint.mask, endpoint.window, endpoint.last);
      clear(endpoint.window);
      constexpr std::int64_t kForgetNs = 3'600'000'000'000;
      found = now_ns - endpoint.used_ns > kForgetNs ? service.endpoints.erase(found) : std::next(found);
    }
    clear(window);
    service.open_ns = 0;
    service.starts = service.exits = service.crashes = service.lines = service.error_lines = service.retransmits = service.resets = 0;
    service.usage = {};
  }
}

void Counts::begin_second() {
  host_usage_ = {};
  for (auto& [pid, process] : directory_.processes()) process->usage = {};
}

}  // namespace culprit::track
