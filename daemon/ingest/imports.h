// Files that other tools export: traces of Jaeger and Zipkin, OTLP in JSON (one document, or one a line as the
// collector's file exporter writes them).
// Sources: jaegertracing.io (the query service's JSON, model/json), zipkin.io/zipkin-api (v2), the OTLP file exporter.
#pragma once

#include "daemon/ingest/record.h"

namespace culprit::ingest {

Result<void> decode_jaeger(std::string_view json, const Context& context, Decoded& out);
Result<void> decode_zipkin(std::string_view json, const Context& context, Decoded& out);
Result<void> decode_otlp_file(std::string_view json, const Context& context, Decoded& out);

// By name: "jaeger", "zipkin", "otlp", "kubernetes", or "auto", which looks at what the document holds.
// Errors: Invalid, also for an unknown name.
Result<void> decode_file(std::string_view format, std::string_view bytes, const Context& context, Decoded& out);

}  // namespace culprit::ingest
