// GrpcServer: carries OTLP over gRPC between a listener and Receivers, on HTTP/2 in the clear (prior knowledge, as exporters
// speak it to http:// endpoints). Threads: one of its own, which owns every connection. Bounds: connections, how long one may
// be without a whole request, and those of GrpcSession.
#pragma once

#include <memory>

#include "daemon/base/fd.h"
#include "daemon/ingest/grpc_session.h"

namespace culprit::ingest {

class GrpcServer {
 public:
  struct Options {
    std::size_t connections_max = 256;
    std::int64_t idle_ns = 300 * kNsPerSecond;  // without a whole request; exporters of metrics come each minute
    GrpcLimits limits = {};
  };
  // `state` counts connections, and as refused or malformed those that were not served.
  static Result<std::unique_ptr<GrpcServer>> start(Fd listener, Receivers& receivers, SourcePtr state, const Clock& clock, const Options& options);
  static Result<std::unique_ptr<GrpcServer>> start(Fd listener, Receivers& receivers, SourcePtr state, const Clock& clock) {
    return start(std::move(listener), receivers, std::move(state), clock, Options{});
  }
  ~GrpcServer();

 private:
  struct Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::ingest
