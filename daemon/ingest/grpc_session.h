// GrpcSession: one client's connection of OTLP over gRPC, without its socket: bytes in, bytes out, answers by Receivers.
//
// HTTP/2 is libnghttp2's; ours is what gRPC adds (grpc_message.h) for the three unary calls
// /opentelemetry.proto.collector.{trace,metrics,logs}.v1.{Trace,Metrics,Logs}Service/Export. Threads: one, with all sessions
// of the same GrpcShared.
// Limits: streams at once, bytes of a message (kRequestBytesMax), bytes of all messages that are arriving, bytes of
// headers of a request, requests that are given up half-way (a flood of resets ends the connection), bytes held for a client that
// does not read.
#pragma once

#include <memory>

#include "daemon/ingest/grpc_message.h"
#include "daemon/ingest/receive.h"

namespace culprit::ingest {

struct GrpcLimits {
  std::uint32_t streams_max = 100;                  // of one connection; the protocol tells the client
  std::size_t header_bytes_max = 16U << 10U;        // of one request
  std::size_t arriving_bytes_max = 64U << 20U;      // of all connections
  std::size_t waiting_bytes_max = 1U << 20U;        // for a client that does not read; nothing more is read from it then
  std::uint64_t given_up_max = 1'000;               // requests, beyond those that were answered
};

// What the sessions of one server share.
struct GrpcShared {
  Receivers& receivers;
  GrpcLimits limits = {};
  std::size_t arriving_bytes = 0;
};

class GrpcSession {
 public:
  // Errors: Exhausted (memory).
  static Result<std::unique_ptr<GrpcSession>> create(GrpcShared& shared);
  ~GrpcSession();

  // Errors: Invalid: this is no HTTP/2, or a client that breaks its rules; the connection is to be closed after what output() gives.
  Result<void> receive(std::string_view bytes);
  // Appends what is to be sent, until `to` has more than limits.waiting_bytes_max bytes.
  void output(std::string& to);
  void go_away();            // no new requests; those under way are answered
  bool is_over() const;      // nothing more will come or go
  std::uint64_t answered() const;
  std::size_t open_streams() const;

 private:
  struct Impl;
  explicit GrpcSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::ingest
