#include "daemon/ingest/receive.h"

#include <fmt/format.h>

#include "daemon/ingest/alerts.h"
#include "daemon/ingest/compress.h"
#include "daemon/ingest/kubernetes.h"
#include "daemon/ingest/prometheus.h"

namespace culprit::ingest {
namespace {

constexpr int kWaitForRoomMs = 200;  // a short peak is waited out, so that senders do not have to come again

enum Index : std::size_t { kTraces, kMetrics, kLogs, kRemoteWrite, kAlerts, kKubernetes };

// google.rpc.Code
constexpr int kRpcInvalidArgument = 3, kRpcResourceExhausted = 8, kRpcUnavailable = 14;

std::string_view media_type(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (content_type.ends_with(' ')) content_type.remove_suffix(1);
  return content_type;
}

unsigned status_of(Code code) {
  switch (code) {
    case Code::Busy:
    case Code::Io: return 503;
    case Code::Exhausted: return 413;
    case Code::Unsupported: return 415;
    default: return 400;
  }
}

}  // namespace

Receivers::Receivers(ReceiverParts parts) : parts_(parts) {
  for (const Signal signal : {Signal::Traces, Signal::Metrics, Signal::Logs}) {
    sources_.push_back(std::make_shared<SourceState>(fmt::format("otlp-{}", signal_name(signal)), "otlp", ""));
  }
  sources_.push_back(std::make_shared<SourceState>("remote-write", "prometheus", "/api/v1/write"));
  sources_.push_back(std::make_shared<SourceState>("alerts", "webhook", "/alerts"));
  sources_.push_back(std::make_shared<SourceState>("kubernetes-events", "webhook", "/kubernetes/events"));
}

Context Receivers::context() const {
  return {parts_.clock.now_ns(), parts_.clock.wall_offset_ns(), &parts_.resolver, const_cast<Counters*>(&counters_)};
}

Receivers::Outcome Receivers::decode_and_store(const SourcePtr& source, std::string_view bytes, const Decode& decode) {
  Outcome outcome;
  ++source->requests;
  source->bytes += bytes.size();
  CounterChanges changes;
  Context with = context();
  with.changes = &changes;
  outcome.done = decode(bytes, with, outcome.decoded);
  if (!outcome.done) {
    counters_.take_back(changes);
    ++source->malformed;
    source->set_error(outcome.done.error().message);
    return outcome;
  }
  outcome.done = parts_.intake.submit(source, std::move(outcome.decoded.events), kWaitForRoomMs);
  if (outcome.done) {
    source->note(outcome.decoded);
  } else {
    counters_.take_back(changes);
    ++source->refused;
  }
  return outcome;
}

Receivers::Outcome Receivers::unpack_and_store(const SourcePtr& source, std::string_view encoding, std::string_view body, const Decode& decode) {
  if (encoding.empty() || encoding == "identity") return decode_and_store(source, body, decode);
  const auto unpacked = unpack(encoding, body);
  if (unpacked) return decode_and_store(source, *unpacked, decode);
  ++source->requests;
  ++source->malformed;
  source->set_error(unpacked.error().message);
  return {std::unexpected(unpacked.error()), {}};
}

Result<Decoded> Receivers::take_otlp(Signal signal, std::string_view encoding, std::string_view body) {
  auto outcome = unpack_and_store(sources_[static_cast<std::size_t>(signal)], encoding, body,
                                  [&](std::string_view bytes, const Context& context, Decoded& out) { return decode_otlp_protobuf(signal, bytes, context, out); });
  if (!outcome.done) return std::unexpected(outcome.done.error());
  return std::move(outcome.decoded);
}

HttpAnswer Receivers::otlp(Signal signal, const HttpRequest& request) {
  const SourcePtr& source = sources_[static_cast<std::size_t>(signal)];
  const std::string_view type = media_type(request.content_type);
  const bool json = type == "application/json";
  if (!json && type != "application/x-protobuf") {
    ++source->malformed;
    return {.status = 415, .body = "the content type is application/x-protobuf or application/json\n"};
  }
  const auto refuse = [&](const Error& error) {
    const unsigned status = status_of(error.code);
    const int rpc = status == 503 ? kRpcUnavailable : status == 413 ? kRpcResourceExhausted : kRpcInvalidArgument;
    return HttpAnswer{.status = status, .content_type = std::string(type), .body = json ? rpc_status_json(rpc, error.message) : rpc_status_protobuf(rpc, error.message),
                      .retry_after_s = status == 503 ? kRetryAfterS : 0};
  };
  const auto outcome = unpack_and_store(source, request.content_encoding, request.body, [&](std::string_view bytes, const Context& context, Decoded& out) {
    return json ? decode_otlp_json(signal, bytes, context, out) : decode_otlp_protobuf(signal, bytes, context, out);
  });
  if (!outcome.done) return refuse(outcome.done.error());
  return {.content_type = std::string(type), .body = json ? otlp_response_json(signal, outcome.decoded) : otlp_response_protobuf(signal, outcome.decoded)};
}

HttpAnswer Receivers::simple(const SourcePtr& source, const HttpRequest& request, const Decode& decode, unsigned good_status) {
  const Outcome outcome = unpack_and_store(source, request.content_encoding, request.body, decode);
  if (!outcome.done) {
    const unsigned status = status_of(outcome.done.error().code);
    return {.status = status, .body = outcome.done.error().message + "\n", .retry_after_s = status == 503 ? kRetryAfterS : 0};
  }
  // What was taken stays taken; what was not is the sender's to see.
  if (outcome.decoded.rejected > 0 && outcome.decoded.rejected == outcome.decoded.records) return {.status = 400, .body = outcome.decoded.rejected_why + "\n"};
  return {.status = good_status};
}

SourcePtr Receivers::source_of(std::string_view path) const {
  if (path == "/v1/traces") return sources_[kTraces];
  if (path == "/v1/metrics") return sources_[kMetrics];
  if (path == "/v1/logs") return sources_[kLogs];
  if (path == "/api/v1/write") return sources_[kRemoteWrite];
  if (path == "/alerts") return sources_[kAlerts];
  if (path == "/kubernetes/events") return sources_[kKubernetes];
  return nullptr;
}

void Receivers::count_bad(const std::string& path, std::string why) {
  const SourcePtr source = source_of(path);
  if (!source) return;
  ++source->requests;
  ++source->malformed;
  source->set_error(std::move(why));
}

void Receivers::count_refused(const std::string& path) {
  const SourcePtr source = source_of(path);
  if (!source) return;
  ++source->requests;
  ++source->refused;
}

HttpAnswer Receivers::take(const HttpRequest& request) {
  if (!request.origin.empty()) return {.status = 403, .body = "pages in a browser may not write here\n"};
  if (request.path == "/healthz") return request.method == "GET" ? HttpAnswer{.body = "ok\n"} : HttpAnswer{.status = 405, .allow = "GET"};
  const SourcePtr source = source_of(request.path);
  if (!source) {
    return {.status = 404, .body = "no such receiver: /v1/traces, /v1/metrics, /v1/logs, /api/v1/write, /alerts, /kubernetes/events, /healthz\n"};
  }
  if (request.method != "POST") return {.status = 405, .body = "this address takes only POST\n", .allow = "POST"};
  if (request.path == "/v1/traces") return otlp(Signal::Traces, request);
  if (request.path == "/v1/metrics") return otlp(Signal::Metrics, request);
  if (request.path == "/v1/logs") return otlp(Signal::Logs, request);
  const std::string_view type = media_type(request.content_type);
  if (request.path == "/api/v1/write") {
    if (type != "application/x-protobuf") return {.status = 415, .body = "the content type of remote write is application/x-protobuf\n"};
    HttpRequest written = request;  // the specification knows no other encoding, and some senders do not name it
    if (written.content_encoding.empty()) written.content_encoding = "snappy";
    return simple(source, written, decode_remote_write, 204);
  }
  // A form that a page could send without asking (text/plain) is not taken.
  if (type != "application/json") return {.status = 415, .body = "the content type is application/json\n"};
  if (source == sources_[kAlerts]) return simple(source, request, decode_alerts, 200);
  return simple(source, request, decode_kubernetes_events, 200);
}

}  // namespace culprit::ingest
