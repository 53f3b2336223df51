// Supervise: one program start becomes three processes.
//
//   supervisor (root, parses nothing) ─┬─ worker: returns from supervise(), becomes the daemon, drops its rights
//                                      └─ culprit-sensor: the only one with BPF rights
//
// Worker and sensor talk over a seqpacket pair. When the sensor dies the supervisor starts another one with a
// fresh pair and hands its other end to the worker over the worker's control socket. When the worker is killed
// or crashes, the sensor ends by itself and both are started anew. When the supervisor dies, both die with it
// (PR_SET_PDEATHSIG). An ordinary exit of the worker ends everything with the worker's status.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/fd.h"
#include "daemon/base/result.h"
#include "daemon/sensor/facts.h"

namespace culprit::sensor {

struct SuperviseOptions {
  std::string sensor_path;  // culprit-sensor; empty: default_sensor_path()
  SensorSettings settings;
  std::chrono::milliseconds backoff_first{200};  // before a restart; doubles up to backoff_max
  std::chrono::milliseconds backoff_max{5000};
};

struct Role {
  bool worker = false;
  Fd control;           // worker: hand this to collect::SensorClient::open_supervised
  int restarts = 0;     // worker: how often a worker before this one crashed
  int exit_status = 0;  // supervisor, at its end: exit with this
};

// Returns in the worker at once, and in the supervisor when everything has ended. Call it before any thread
// exists. SIGTERM and SIGINT to the supervisor are passed on to the worker as SIGTERM.
Result<Role> supervise(const SuperviseOptions& options);

struct SensorProcess {
  pid_t pid = -1;
  Fd socket;  // our end
};
// Starts one sensor. It ends when `socket` is closed. System calls of `ignored` (our own processes) are not
// observed. Errors: NotFound (no such program), Io.
Result<SensorProcess> spawn_sensor(const std::string& path, const SensorSettings& settings,
                                   std::span<const pid_t> ignored = {});

// culprit-sensor beside the running executable, or where `cmake --install` puts it.
std::string default_sensor_path();

}  // namespace culprit::sensor
