// Server: carries HTTP between the listeners and handle(), with libmicrohttpd.
//
// Two HTTP daemons over one handler: the Unix socket (all of the API, kServeThreads - 1 threads) and loopback
// (reading only, one thread), so that nothing that happens on loopback can starve the socket. A watch thread
// ends connections whose request does not arrive whole in time (libmicrohttpd's own timeout starts anew with
// every byte). Limits and what they did are in ServerStats.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "daemon/api/backend.h"
#include "daemon/api/handler.h"
#include "daemon/api/listen.h"

namespace culprit::api {

struct ServerOptions {
  std::span<const Asset> page = {};  // must outlive the server
  unsigned connections_max = 64;     // per door
  std::size_t body_bytes_max = 64 << 10;
  std::size_t import_bytes_max = 64 << 20;  // of POST /api/v1/import on the Unix socket
  std::size_t header_bytes_max = 32 << 10;
  unsigned idle_s = 10;      // without a byte
  unsigned request_s = 10;   // from connection (or last answer) to a whole request
  unsigned response_s = 60;  // from a whole request to its answer taken
};

struct ServerStats {
  std::uint64_t requests = 0;                   // answered
  std::map<unsigned, std::uint64_t> by_status;  // sums to requests
  std::uint64_t connections = 0;                // ever
  std::uint64_t connections_open = 0;
  std::uint64_t timed_out = 0;  // ended by the watch
  std::uint64_t oversized = 0;  // bodies over the limit
};

class Server {
 public:
  // Serves until destroyed; `backend` must outlive it. Errors: Io (no threads, no descriptors).
  static Result<std::unique_ptr<Server>> start(Listeners listeners, Backend& backend,
                                               const ServerOptions& options = {});
  ~Server();  // waits for requests under way

  const std::filesystem::path& socket_path() const;
  std::optional<std::uint16_t> port() const;
  ServerStats stats() const;

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::api
