// Service: the sensor's main loop. Greets the daemon, sends a snapshot a second, answers requests from its
// allow-list, and ends when the daemon's end of the socket closes.
#pragma once

#include <unistd.h>

#include "daemon/sensor/call_schedule.h"
#include "daemon/sensor/snapshot.h"

namespace culprit::sensor {

class Service {
 public:
  Service(Fd socket, const SensorSettings& settings, Probes& probes, const Procfs& procfs, const Clock& clock);

  // Hello, descriptors, Ready.
  Result<void> greet(std::vector<std::string> notes);
  // Until the daemon is gone.
  Result<void> run();

 private:
  // A reply's body: 0 and the value, or 1 + code and the message.
  std::vector<std::byte> answer(std::span<const std::byte> request);
  Result<void> answer_into(std::span<const std::byte> request, std::vector<std::byte>& body);
  Result<void> watch_tgid(std::uint32_t tgid, std::uint32_t flags);
  Result<void> watch_cgroup(const std::string& path, std::uint32_t flags);
  Result<void> send_reply(std::uint32_t id, std::span<const std::byte> body);
  Result<void> send_snapshot();
  Result<void> serve_requests();
  // Brings the programs on system calls to what is wanted now; returns how long that holds, in ms for poll().
  int observe_calls();
  bool anyone_watched() const;

  Fd socket_;
  SensorSettings settings_;
  Probes& probes_;
  const Procfs& procfs_;
  const Clock& clock_;
  Snapshots snapshots_;
  CallSchedule schedule_;
  std::int64_t observed_at_ns_ = 0;
  std::uint64_t returns_observed_ns_ = 0;
  std::uint64_t entries_observed_ns_ = 0;
  std::uint64_t entries_before_ = 0;  // seen when the window began
  std::uint64_t cpus_ = static_cast<std::uint64_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  std::uint64_t rested_ns_ = 0;
  bool resting_ = false;
};

}  // namespace culprit::sensor
