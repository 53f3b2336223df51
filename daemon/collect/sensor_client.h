// SensorClient: the daemon's side of the sensor protocol. Owns no thread: the owner calls dispatch() in a
// loop, and every handler and reply callback runs inside it. Requests may be sent from any thread.
//
// Life: dispatch() receives a Hello and the descriptors -> on_hello (open a Collector there); snapshots ->
// on_snapshot; when the sensor is gone every waiting request is answered with an error, then on_lost. Under a supervisor the
// next sensor arrives by itself and on_hello is called again.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "daemon/collect/collector.h"
#include "daemon/sensor/facts.h"

namespace culprit::collect {

struct SensorHandlers {
  std::function<void(sensor::Hello, RingFds)> on_hello;
  std::function<void(sensor::Snapshot)> on_snapshot;
  std::function<void(std::string reason)> on_lost;
};

template <typename T>
using Reply = std::function<void(Result<T>)>;

struct SensorClientCounts {
  std::uint64_t sensors = 0;    // Hellos received: 1 + restarts
  std::uint64_t snapshots = 0;
  std::uint64_t requests = 0;
  std::uint64_t replies = 0;
  std::uint64_t malformed = 0;  // messages refused
  std::uint64_t refused = 0;    // requests not sent: too many waiting, or no sensor
};

class SensorClient {
 public:
  // Over one sensor's socket; when it ends there is no other.
  static Result<std::unique_ptr<SensorClient>> open(Fd socket, SensorHandlers handlers);
  // Over the worker's control socket of sensor::supervise(): sensors come and go.
  static Result<std::unique_ptr<SensorClient>> open_supervised(Fd control, SensorHandlers handlers);
  ~SensorClient();

  // Handles what has arrived, waiting at most `timeout` for it. Errors: NotFound when there is and will be
  // no sensor (its socket ended and there is no supervisor).
  Result<void> dispatch(std::chrono::milliseconds timeout);
  void wake();  // makes dispatch() return
  bool connected() const;

  // Requests. The callback runs exactly once: in dispatch(), or at once with an error (Busy: no sensor now;
  // Exhausted: kRequestsMax already wait).
  void who_is(std::uint32_t tgid, Reply<sensor::ProcessInfo> reply);
  void fd_path(std::uint32_t tgid, std::int32_t fd, Reply<std::string> reply);
  void watch_tgid(std::uint32_t tgid, std::uint32_t capture, Reply<void> reply);
  void watch_cgroup(const std::string& path, std::uint32_t capture, Reply<void> reply);
  void list_processes(Reply<std::vector<sensor::ProcessRow>> reply);
  void list_sockets(std::uint32_t tgid, Reply<std::vector<sensor::SocketOwner>> reply);
  void filesystem_spaces(Reply<std::vector<sensor::FilesystemSpace>> reply);
  void read_cgroup(const std::string& path, Reply<sensor::CgroupLimits> reply);
  // Every system call is observed for so long, at most sensor::kCloselyMaxS; else a small share of them is.
  void look_closely(std::uint32_t seconds, Reply<void> reply);

  SensorClientCounts counts() const;
  static constexpr std::size_t kRequestsMax = 4096;

 private:
  struct Impl;
  explicit SensorClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::collect
