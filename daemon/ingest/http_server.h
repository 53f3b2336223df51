// HttpServer: carries HTTP between a listener and Receivers, with libmicrohttpd: one thread, epoll, so that hundreds of
// idle connections cost nothing. Bounds: connections, bytes of a request, bytes of all requests that are arriving.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "daemon/base/fd.h"
#include "daemon/ingest/receive.h"

namespace culprit::ingest {

// "127.0.0.1:4318", "[::1]:4318", ":4318" (all addresses), "unix:/path" for streams. Errors: Invalid; Busy if taken.
Result<Fd> listen_stream(const std::string& address);
Result<Fd> bind_datagram(const std::string& address);
Result<std::uint16_t> port_of(int fd);

class HttpServer {
 public:
  struct Options {
    unsigned connections_max = 700;
    unsigned idle_s = 75;
    std::size_t arriving_bytes_max = 64U << 20U;
  };
  static Result<std::unique_ptr<HttpServer>> start(Fd listener, Receivers& receivers, const Options& options);
  static Result<std::unique_ptr<HttpServer>> start(Fd listener, Receivers& receivers) { return start(std::move(listener), receivers, Options{}); }
  ~HttpServer();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::ingest
