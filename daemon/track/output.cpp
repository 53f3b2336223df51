#include "daemon/track/output.h"

#include <array>
#include <cmath>

namespace culprit::track {

std::string_view series_name(Series series) {
  static constexpr std::array<std::string_view, static_cast<std::size_t>(Series::Count)> kNames = {
      "request.rate", "request.errors", "request.duration.p50", "request.duration.p99", "request.duration.mean",
      "request.inflight", "request.inflight.age.max", "request.self.mean",
      "client.rate", "client.errors", "client.duration.mean", "client.duration.p99", "client.inflight",
      "client.inflight.age.max", "client.wait.share",
      "connect.duration.mean", "tcp.retransmits", "tcp.resets", "tcp.rtt", "tcp.accept_queue.ratio",
      "cpu.time", "cpu.run_queue.wait", "cpu.run_queue.mean", "cpu.blocked", "process.stopped", "disk.read.bytes",
      "disk.write.bytes", "disk.wait",
      "fsync.rate", "fsync.mean", "fsync.max", "open.mean", "memory.rss", "process.fds", "process.fds.ratio",
      "process.count", "process.starts", "process.exits", "process.crashes", "memory.limit.ratio", "cpu.throttled",
      "log.rate", "log.errors",
      "disk.rate", "disk.bytes", "disk.latency.mean", "disk.latency.p99", "disk.busy",
      "filesystem.used.ratio", "filesystem.inodes.ratio", "filesystem.avail",
      "cpu.count", "memory.available", "memory.available.ratio", "pressure.cpu", "pressure.io", "pressure.memory"};
  static_assert(!kNames.back().empty());
  return kNames[static_cast<std::size_t>(series)];
}

void Output::sample(std::int64_t time_ns, const std::string& entity, SampleMask& mask, Series series, double value) {
  const std::uint64_t bit = std::uint64_t{1} << static_cast<unsigned>(series);
  if (!std::isfinite(value)) value = 0;
  if (value == 0 && (mask.bits & bit) == 0) return;
  mask.bits = value == 0 ? mask.bits & ~bit : mask.bits | bit;
  sample(time_ns, entity, std::string(series_name(series)), value);
}

void Output::sample(std::int64_t time_ns, const std::string& entity, std::string name, double value) {
  stream::Event event;
  event.time_ns = time_ns;
  event.kind = stream::Kind::Sample;
  event.entity = entity;
  event.name = std::move(name);
  event.value = value;
  batch_.push_back(std::move(event));
}

bool Output::sample(std::int64_t time_ns, const std::string& entity, std::string name, LabelledCount& count,
                    double seconds) {
  if (count.count == 0 && !count.shown) return false;
  count.shown = count.count != 0;
  sample(time_ns, entity, std::move(name), static_cast<double>(count.count) / seconds);
  count.count = 0;
  return true;
}

void Output::flush() {
  if (batch_.empty()) return;
  stats_.events_out += batch_.size();
  std::vector<stream::Event> out;
  out.swap(batch_);
  sink_.events(std::move(out));
}

}  // namespace culprit::track
