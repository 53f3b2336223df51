// Receivers: what may be sent to us, by path; one HTTP request in, one answer out. No sockets: http_server.h and
// grpc_server.h carry the bytes.
//
//   POST /v1/traces /v1/metrics /v1/logs   OTLP, protobuf or JSON
//   POST /api/v1/write                     Prometheus remote write 1.0
//   POST /alerts                           Alertmanager's webhook, generic JSON
//   POST /kubernetes/events                Kubernetes Events: one, a list, or what a watch gives
//   GET  /healthz                          "ok"
//
// Answers follow the OTLP specification: 200 (with partial_success if records were rejected), 400 for bytes that can
// never be taken, 413, 415, and 503 with Retry-After while the stream has no room: then nothing of the request was
// taken, so that sending it again stores each record once. Threads: any; each carrier has its own.
#pragma once

#include <map>

#include "daemon/ingest/metrics.h"
#include "daemon/ingest/otlp.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

inline constexpr std::size_t kRequestBytesMax = 16U << 20U;  // as sent
inline constexpr int kRetryAfterS = 1;

struct HttpRequest {
  std::string method = "POST";
  std::string path;
  std::string content_type, content_encoding;
  std::string origin;  // set by browsers only: a page must not write into the stream
  std::string_view body;
};

struct HttpAnswer {
  unsigned status = 200;
  std::string content_type = "text/plain";
  std::string body = {};
  int retry_after_s = 0;
  std::string allow = {};
};

struct ReceiverParts {
  const Clock& clock;
  const Resolver& resolver;
  Intake& intake;
};

class Receivers {
 public:
  explicit Receivers(ReceiverParts parts);

  HttpAnswer take(const HttpRequest& request);
  // One export in protobuf, packed as `encoding` says, for carriers of their own. Errors: Invalid, Unsupported (encoding); Busy
  // and Io: nothing was taken, come again; Exhausted.
  Result<Decoded> take_otlp(Signal signal, std::string_view encoding, std::string_view body);

  Context context() const;
  std::vector<SourcePtr> sources() const { return sources_; }
  // A request that did not come whole or was too large, told by the carrier.
  void count_bad(const std::string& path, std::string why);
  void count_refused(const std::string& path);  // one that is well and was told to come again

 private:
  using Decode = std::function<Result<void>(std::string_view, const Context&, Decoded&)>;
  struct Outcome {
    Result<void> done;
    Decoded decoded;
  };
  Outcome unpack_and_store(const SourcePtr& source, std::string_view encoding, std::string_view body, const Decode& decode);
  Outcome decode_and_store(const SourcePtr& source, std::string_view bytes, const Decode& decode);
  HttpAnswer otlp(Signal signal, const HttpRequest& request);
  HttpAnswer simple(const SourcePtr& source, const HttpRequest& request, const Decode& decode, unsigned good_status);
  SourcePtr source_of(std::string_view path) const;

  ReceiverParts parts_;
  Counters counters_;
  std::vector<SourcePtr> sources_;
};

}  // namespace culprit::ingest
