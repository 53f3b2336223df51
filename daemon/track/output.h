// Output: gathers events for the Sink and keeps the rules that all of them share: a sample is sent while it is
// not zero, and once when it becomes zero; rare events are limited per second.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/stream/event.h"
#include "daemon/track/tracker.h"

namespace culprit::track {

// Series without labels. Names and units: docs/events.md; texts in output.cpp in this order.
enum class Series : std::uint8_t {
  RequestRate, RequestErrors, RequestP50, RequestP99, RequestMean, RequestInflight, RequestAgeMax, RequestSelfMean,
  ClientRate, ClientErrors, ClientMean, ClientP99, ClientInflight, ClientAgeMax, ClientWaitShare,
  ConnectMean, TcpRetransmits, TcpResets, TcpRtt, TcpAcceptQueue,
  CpuTime, CpuRunQueueWait, CpuRunQueueMean, CpuBlocked, ProcessStopped, DiskReadBytes, DiskWriteBytes, DiskWait,
  FsyncRate, FsyncMean, FsyncMax, OpenMean, MemoryRss, ProcessFds, ProcessFdsRatio,
  ProcessCount, ProcessStarts, ProcessExits, ProcessCrashes, MemoryLimitRatio, CpuThrottled, LogRate, LogErrors,
  DiskRate, DiskBytes, DiskLatencyMean, DiskLatencyP99, DiskBusy,
  FilesystemUsed, FilesystemInodes, FilesystemAvail,
  CpuCount, MemoryAvailable, MemoryAvailableRatio, PressureCpu, PressureIo, PressureMemory,
  Count
};
static_assert(static_cast<unsigned>(Series::Count) <= 64);
std::string_view series_name(Series series);

// Which series of an entity were not zero when they were last sent. One bit each.
struct SampleMask {
  std::uint64_t bits = 0;
};

// A series with labels: remembers for itself.
struct LabelledCount {
  std::uint64_t count = 0;  // of this second
  bool shown = false;       // its last sample was not zero
};

// At most `limit` a second.
struct RateLimit {
  std::int64_t second = -1;
  std::uint32_t used = 0;
  bool allow(std::int64_t now_ns, std::size_t limit) {
    const std::int64_t now_s = now_ns / 1'000'000'000;
    if (now_s != second) {
      second = now_s;
      used = 0;
    }
    if (used >= limit) return false;
    ++used;
    return true;
  }
};

class Output {
 public:
  Output(Sink& sink, TrackStats& stats) : sink_(sink), stats_(stats) {}

  void add(stream::Event event) { batch_.push_back(std::move(event)); }
  // Sends a sample if it is worth one. NaN and infinities are not.
  void sample(std::int64_t time_ns, const std::string& entity, SampleMask& mask, Series series, double value);
  void sample(std::int64_t time_ns, const std::string& entity, std::string name, double value);
  // False if nothing was sent: the series is at rest and may be forgotten.
  bool sample(std::int64_t time_ns, const std::string& entity, std::string name, LabelledCount& count, double seconds);
  void flush();
  Sink& sink() { return sink_; }

 private:
  Sink& sink_;
  TrackStats& stats_;
  std::vector<stream::Event> batch_;
};

}  // namespace culprit::track
