#include "daemon/ingest/imports.h"

#include <algorithm>

#include <fmt/format.h>

#include "daemon/base/text.h"
#include "daemon/ingest/compress.h"
#include "daemon/ingest/json.h"
#include "daemon/ingest/kubernetes.h"
#include "daemon/ingest/otlp_raw.h"

namespace culprit::ingest {
namespace {

constexpr std::size_t kImportUnpackedBytesMax = 256U << 20U;
constexpr std::int64_t kNsPerUs = 1000;
constexpr std::int64_t kMicrosecondsMax = INT64_MAX / kNsPerUs;

std::int64_t us_to_ns(std::int64_t us) { return us <= 0 || us > kMicrosecondsMax ? 0 : us * kNsPerUs; }

std::uint64_t kind_of(std::string_view name) {
  if (name == "server" || name == "SERVER") return 2;
  if (name == "client" || name == "CLIENT") return 3;
  if (name == "producer" || name == "PRODUCER") return 4;
  if (name == "consumer" || name == "CONSUMER") return 5;
  return 1;
}

// Ids of Jaeger and older Zipkins are written without leading zeroes.
std::string padded(std::string_view hex, std::size_t size) { return hex.size() >= size ? std::string(hex) : std::string(size - hex.size(), '0') + std::string(hex); }

void read_trace_id(std::string_view text, std::uint64_t (&id)[2]) { (void)parse_trace_id(padded(text, text.size() > 16 ? 32 : 16), id); }

// What is not told when it was cannot be put anywhere: old files are no news of now.
bool has_time(const RawSpan& span, Decoded& out) {
  if (span.start_wall_ns > 0) return true;
  ++out.records;
  out.reject(fmt::format("span '{}' has no start", span.name.substr(0, 64)));
  return false;
}

void read_jaeger_tags(JsonValue of, std::string_view key, stream::Attributes& to, Decoded& out) {
  each_of(of, key, [&](JsonValue tag) {
    JsonValue value;
    if (member(tag, "value", value)) add_attribute(to, text_of(tag, "key"), any_text(value, kValueBytesMax), out);
  });
}

void read_jaeger_trace(JsonValue trace, const Context& context, Decoded& out) {
  std::vector<std::pair<std::string, Origin>> origins;
  JsonValue processes;
  JsonObject object;
  if (member(trace, "processes", processes) && processes.get(object) == simdjson::SUCCESS) {
    for (const auto& [id, process] : object) {
      stream::Attributes resource;
      add_attribute(resource, "service.name", text_of(process, "serviceName"), out);
      read_jaeger_tags(process, "tags", resource, out);
      origins.emplace_back(std::string(id), origin_of(resource, context));
    }
  }
  each_of(trace, "spans", [&](JsonValue value) {
    RawSpan span;
    read_trace_id(text_of(value, "traceID"), span.trace_id);
    (void)parse_span_id(padded(text_of(value, "spanID"), 16), span.span_id);
    (void)parse_span_id(padded(text_of(value, "parentSpanID"), 16), span.parent_id);
    each_of(value, "references", [&](JsonValue reference) {
      if (text_of(reference, "refType") == "CHILD_OF" || span.parent_id == 0) (void)parse_span_id(padded(text_of(reference, "spanID"), 16), span.parent_id);
    });
    span.name = text_of(value, "operationName");
    span.start_wall_ns = us_to_ns(integer_of(value, "startTime"));
    span.end_wall_ns = span.start_wall_ns + us_to_ns(integer_of(value, "duration"));
    if (!has_time(span, out)) return;
    read_jaeger_tags(value, "tags", span.attributes, out);
    span.kind = kind_of(span.attributes.find("span.kind"));
    if (span.attributes.find("error") == "true" || span.attributes.find("otel.status_code") == "ERROR") span.status = 2;
    span.attributes.erase_if([](const auto& attribute) { return attribute.first == "span.kind" || attribute.first == "otel.status_code"; });
    each_of(value, "logs", [&](JsonValue log) {
      if (span.events.size() > kAttributesMax * 2) return;
      RawSpanEvent event;
      event.time_wall_ns = us_to_ns(integer_of(log, "timestamp"));
      read_jaeger_tags(log, "fields", event.attributes, out);
      event.name = event.attributes.find("event");
      // OpenTracing's names for what OpenTelemetry calls an exception.
      if (event.name == "error") {
        event.name = "exception";
        event.attributes.emplace_back("exception.message", std::string(event.attributes.find("message")));
      }
      if (event.name.empty()) event.name = event.attributes.find("message");
      if (event.name.empty() && !event.attributes.empty()) event.name = event.attributes.front().second;
      span.events.push_back(std::move(event));
    });
    const std::string_view process = text_of(value, "processID");
    const auto origin = std::ranges::find(origins, process, [](const auto& entry) { return std::string_view(entry.first); });
    if (origin != origins.end()) {
      add_span(std::move(span), origin->second, context, out);
      return;
    }
    stream::Attributes resource;  // some exporters put the process into the span
    if (JsonValue inner; member(value, "process", inner)) {
      add_attribute(resource, "service.name", text_of(inner, "serviceName"), out);
      read_jaeger_tags(inner, "tags", resource, out);
    }
    add_span(std::move(span), origin_of(resource, context), context, out);
  });
}

void read_zipkin_span(JsonValue value, const Context& context, Decoded& out) {
  RawSpan span;
  read_trace_id(text_of(value, "traceId"), span.trace_id);
  (void)parse_span_id(padded(text_of(value, "id"), 16), span.span_id);
  (void)parse_span_id(padded(text_of(value, "parentId"), 16), span.parent_id);
  // A shared span: client and server have one id. The server's half gets one of its own, as child of the client's.
  if (bool_of(value, "shared")) {
    span.parent_id = span.span_id;
    span.span_id ^= 0x8000000000000001ULL;
    if (span.span_id == 0) span.span_id = 1;
  }
  span.name = text_of(value, "name");
  span.kind = kind_of(text_of(value, "kind"));
  span.start_wall_ns = us_to_ns(integer_of(value, "timestamp"));
  span.end_wall_ns = span.start_wall_ns + us_to_ns(integer_of(value, "duration"));
  if (!has_time(span, out)) return;
  JsonValue tags;
  JsonObject object;
  if (member(value, "tags", tags) && tags.get(object) == simdjson::SUCCESS) {
    for (const auto& [key, text] : object) {
      if (key == "error") span.status = 2, span.status_message = text_of(text);
      add_attribute(span.attributes, key, any_text(text, kValueBytesMax), out);
    }
  }
  stream::Attributes resource;
  JsonValue endpoint;
  if (member(value, "localEndpoint", endpoint)) add_attribute(resource, "service.name", text_of(endpoint, "serviceName"), out);
  if (member(value, "remoteEndpoint", endpoint)) {
    if (const auto peer = text_of(endpoint, "serviceName"); !peer.empty()) add_attribute(span.attributes, "peer.service", peer, out);
  }
  each_of(value, "annotations", [&](JsonValue annotation) {
    if (span.events.size() > kAttributesMax * 2) return;
    span.events.push_back({us_to_ns(integer_of(annotation, "timestamp")), bounded_text(text_of(annotation, "value"), kValueBytesMax, out), {}});
  });
  add_span(std::move(span), origin_of(resource, context), context, out);
}

}  // namespace

Result<void> decode_jaeger(std::string_view json, const Context& context, Decoded& out) {
  thread_local JsonParser parser;
  ASSIGN(const JsonValue root, parser.parse(json));
  JsonValue data;
  if (member(root, "data", data)) {
    each_of(data, [&](JsonValue trace) { read_jaeger_trace(trace, context, out); });
  } else if (root.is_array()) {
    each_of(root, [&](JsonValue trace) { read_jaeger_trace(trace, context, out); });
  } else if (JsonValue spans; member(root, "spans", spans)) {
    read_jaeger_trace(root, context, out);
  } else {
    return fail(Code::Invalid, "Jaeger JSON: neither 'data' nor 'spans' at offset 0");
  }
  return {};
}

Result<void> decode_zipkin(std::string_view json, const Context& context, Decoded& out) {
  thread_local JsonParser parser;
  ASSIGN(const JsonValue root, parser.parse(json));
  if (!root.is_array()) return fail(Code::Invalid, "Zipkin JSON: no list of spans at offset 0");
  each_of(root, [&](JsonValue span) {
    if (span.is_array()) {  // a list of traces, as /api/v2/traces answers
      each_of(span, [&](JsonValue inner) { read_zipkin_span(inner, context, out); });
    } else {
      read_zipkin_span(span, context, out);
    }
  });
  return {};
}

Result<void> decode_otlp_file(std::string_view json, const Context& context, Decoded& out) {
  // A document of one signal has one of three members; the decoder of each ignores the other two.
  for (const Signal signal : {Signal::Traces, Signal::Metrics, Signal::Logs}) TRY(decode_otlp_json(signal, json, context, out));
  return {};
}

namespace {

using Decode = Result<void> (*)(std::string_view, const Context&, Decoded&);

std::string_view packed_as(std::string_view bytes) {
  return bytes.starts_with("\x1f\x8b") ? "gzip" : bytes.starts_with("\x28\xb5\x2f\xfd") ? "zstd" : "";
}

// One document, or one a line.
Result<void> decode_documents(Decode decode, std::string_view json, const Context& context, Decoded& out) {
  auto whole = decode(json, context, out);
  const std::size_t first_end = json.find('\n');
  if (whole || first_end == std::string_view::npos) return whole;
  out = {};
  for (std::size_t offset = 0, end = first_end; offset < json.size(); offset = end + 1) {
    end = std::min(json.find('\n', offset), json.size());
    const std::string_view line = json.substr(offset, end - offset);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    // Where nothing was read yet it is no document a line: the error of the whole is the one that helps.
    if (auto done = decode(line, context, out); !done) return out.records == 0 ? whole : fail(Code::Invalid, fmt::format("line at offset {}: {}", offset, done.error().message));
  }
  return {};
}

Result<void> decode_zipkin_file(std::string_view json, const Context& context, Decoded& out) {
  const std::size_t begin = json.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || json[begin] != '{') return decode_zipkin(json, context, out);
  return decode_zipkin(fmt::format("[{}]", json), context, out);  // a single span
}

}  // namespace

Result<void> decode_file(std::string_view format, std::string_view bytes, const Context& context, Decoded& out) {
  static constexpr std::pair<std::string_view, Decode> kFormats[] = {
      {"jaeger", decode_jaeger}, {"zipkin", decode_zipkin_file}, {"otlp", decode_otlp_file}, {"kubernetes", decode_kubernetes_events}};
  if (const std::string_view encoding = packed_as(bytes); !encoding.empty()) {
    ASSIGN(const std::string unpacked, unpack(encoding, bytes, kImportUnpackedBytesMax));
    if (!packed_as(unpacked).empty()) return fail(Code::Invalid, "it is packed twice");
    return decode_file(format, unpacked, context, out);
  }
  if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);  // a mark that some editors put before UTF-8
  if (format == "auto") {
    // Names that only one of them has, within the first part of the file.
    const std::string_view head = bytes.substr(0, 64U << 10U);
    const auto has = [&](std::string_view name) { return head.find(name) != std::string_view::npos; };
    if (has("\"resourceSpans\"") || has("\"resourceLogs\"") || has("\"resourceMetrics\"")) format = "otlp";
    else if (has("\"operationName\"") || has("\"processID\"")) format = "jaeger";
    else if (has("\"localEndpoint\"") || (has("\"traceId\"") && has("\"timestamp\""))) format = "zipkin";
    else if (has("\"involvedObject\"") || has("\"regarding\"")) format = "kubernetes";
    else if (bytes.find_first_not_of(" \t\r\n") == std::string_view::npos) return fail(Code::Invalid, "it is empty");
    else return fail(Code::Invalid, "not known what it is: say --format jaeger, zipkin, otlp or kubernetes");
  }
  for (const auto& [name, decode] : kFormats) {
    if (name != format) continue;
    TRY(decode_documents(decode, bytes, context, out));
    if (out.records > 0 && out.rejected == out.records) return fail(Code::Invalid, fmt::format("none of its {} records can be read: {}", out.records, out.rejected_why));
    if (out.records == 0) return fail(Code::Invalid, fmt::format("nothing in it is of format {}", format));
    return {};
  }
  return fail(Code::Invalid, fmt::format("no format '{}': auto, jaeger, zipkin, otlp, kubernetes", format.substr(0, 32)));
}

}  // namespace culprit::ingest
