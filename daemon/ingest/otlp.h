// OTLP: OpenTelemetry's protocol, version 1 of its messages, as protobuf and as JSON.
// Source: https://opentelemetry.io/docs/specs/otlp/ and github.com/open-telemetry/opentelemetry-proto v1.3.
//
// A span becomes an event of kind Span whose time is its end; its events (exceptions among them) become log events of
// the same trace. A log record becomes an event of kind Log without a name: the miner gives it. Data points become
// samples (metrics.h). The decoders for both forms fill the same raw records; one place makes events of them.
#pragma once

#include <string>
#include <string_view>

#include "daemon/ingest/record.h"

namespace culprit::ingest {

enum class Signal : std::uint8_t { Traces, Metrics, Logs };
std::string_view signal_name(Signal signal);  // "traces"

// Errors: Invalid with the offset. Records before the wrong byte are in `out` then; a receiver refuses the request
// as a whole and must not use them.
Result<void> decode_otlp_protobuf(Signal signal, std::string_view bytes, const Context& context, Decoded& out);
Result<void> decode_otlp_json(Signal signal, std::string_view text, const Context& context, Decoded& out);

// The answer to an export: empty for full success, else its partial_success.
std::string otlp_response_protobuf(Signal signal, const Decoded& decoded);
std::string otlp_response_json(Signal signal, const Decoded& decoded);
// google.rpc.Status, the body of a refusal.
std::string rpc_status_protobuf(int code, std::string_view message);
std::string rpc_status_json(int code, std::string_view message);

}  // namespace culprit::ingest
