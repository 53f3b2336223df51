#include <fmt/format.h>

#include "daemon/ingest/json.h"
#include "daemon/ingest/otlp_raw.h"

namespace culprit::ingest {
namespace {

// AnyValue in JSON: {"stringValue": ...}, "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue".
// A composite that came as such is told as plain JSON of the values.
void value_text(JsonValue value, int depth, bool quoted, std::string& out) {
  if (depth > kValueDepthMax || out.size() > kBodyBytesMax) return;
  JsonObject object;
  if (value.get(object) != simdjson::SUCCESS) return;
  for (const auto& [key, inner] : object) {
    if (key == "stringValue" || key == "bytesValue") {
      out += quoted ? any_text(inner, kBodyBytesMax).empty() ? "\"\"" : [&] {
        std::string text = "\"";
        for (const char c : text_of(inner)) {
          if (c == '"' || c == '\\') text += '\\';
          if (static_cast<unsigned char>(c) < 0x20) text += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
          else text += c;
        }
        return text + "\"";
      }() : std::string(text_of(inner));
    } else if (key == "boolValue" || key == "intValue") {
      out += any_text(inner, 32);
    } else if (key == "doubleValue") {
      out += number_text(number_of(inner));
    } else if (key == "arrayValue") {
      out += '[';
      bool first = true;
      each_of(inner, "values", [&](JsonValue element) {
        if (!first) out += ',';
        first = false;
        value_text(element, depth + 1, true, out);
      });
      out += ']';
    } else if (key == "kvlistValue") {
      out += '{';
      bool first = true;
      each_of(inner, "values", [&](JsonValue pair) {
        if (!first) out += ',';
        first = false;
        out += '"';
        out += text_of(pair, "key");
        out += "\":";
        const std::size_t before = out.size();
        JsonValue inner_value;
        if (member(pair, "value", inner_value)) value_text(inner_value, depth + 1, true, out);
        if (out.size() == before) out += "null";
      });
      out += '}';
    }
  }
}

template <typename To>
void read_attributes(JsonValue of, To& to, Decoded& out) {
  each_of(of, "attributes", [&](JsonValue pair) {
    const std::string_view key = text_of(pair, "key");
    JsonValue value;
    if (!member(pair, "value", value)) {
      add_attribute(to, key, "", out);
      return;
    }
    JsonValue plain;
    if (member(value, "stringValue", plain)) {
      add_attribute(to, key, text_of(plain), out);
      return;
    }
    std::string text;
    value_text(value, 0, false, text);
    add_attribute(to, key, text, out);
  });
}

// An enumeration as its number or as its name in the proto file.
std::uint64_t enum_of(JsonValue of, std::string_view key, std::initializer_list<std::string_view> names) {
  JsonValue value;
  if (!member(of, key, value)) return 0;
  const std::string_view name = text_of(value);
  std::uint64_t number = 0;
  for (const std::string_view each : names) {
    if (each == name) return number;
    ++number;
  }
  const std::int64_t given = integer_of(value);
  return given < 0 ? 0 : static_cast<std::uint64_t>(given);
}

void read_span(JsonValue value, const Origin& origin, const Context& context, Decoded& out) {
  RawSpan span;
  (void)parse_trace_id(text_of(value, "traceId"), span.trace_id);
  (void)parse_span_id(text_of(value, "spanId"), span.span_id);
  (void)parse_span_id(text_of(value, "parentSpanId"), span.parent_id);
  span.name = text_of(value, "name");
  span.kind = enum_of(value, "kind", {"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"});
  span.start_wall_ns = integer_of(value, "startTimeUnixNano");
  span.end_wall_ns = integer_of(value, "endTimeUnixNano");
  JsonValue status;
  if (member(value, "status", status)) {
    span.status = enum_of(status, "code", {"STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"});
    span.status_message = text_of(status, "message");
  }
  read_attributes(value, span.attributes, out);
  each_of(value, "events", [&](JsonValue said) {
    if (span.events.size() > kAttributesMax * 2) return;
    RawSpanEvent event;
    event.time_wall_ns = integer_of(said, "timeUnixNano");
    event.name = bounded_text(text_of(said, "name"), kNameBytesMax, out);
    read_attributes(said, event.attributes, out);
    span.events.push_back(std::move(event));
  });
  add_span(std::move(span), origin, context, out);
}

void read_log(JsonValue value, const Origin& origin, const Context& context, Decoded& out) {
  RawLog log;
  log.time_wall_ns = integer_of(value, "timeUnixNano");
  log.observed_wall_ns = integer_of(value, "observedTimeUnixNano");
  log.severity = static_cast<std::uint64_t>(std::max<std::int64_t>(0, integer_of(value, "severityNumber")));
  log.severity_text = text_of(value, "severityText");
  JsonValue body;
  if (member(value, "body", body)) {
    std::string text;
    value_text(body, 0, false, text);
    log.body = bounded_text(text, kBodyBytesMax, out);
  }
  (void)parse_trace_id(text_of(value, "traceId"), log.trace_id);
  (void)parse_span_id(text_of(value, "spanId"), log.span_id);
  read_attributes(value, log.attributes, out);
  add_log(std::move(log), origin, context, out);
}

void read_points(JsonValue data, MetricType type, std::string_view name, const Origin& origin, const Context& context, Decoded& out) {
  const std::uint64_t temporality =
      type == MetricType::Gauge ? 0 : enum_of(data, "aggregationTemporality", {"AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"});
  const bool monotonic = bool_of(data, "isMonotonic");
  each_of(data, "dataPoints", [&](JsonValue value) {
    RawPoint point;
    point.type = type;
    point.temporality = temporality == 0 ? 2 : temporality;
    point.monotonic = monotonic;
    point.time_wall_ns = integer_of(value, "timeUnixNano");
    point.start_wall_ns = integer_of(value, "startTimeUnixNano");
    point.no_value = (integer_of(value, "flags") & 1) != 0;
    JsonValue number;
    if (member(value, "asDouble", number) || member(value, "asInt", number) || member(value, "count", number)) point.value = number_of(number);
    point.sum = number_of(value, "sum");
    const auto list = [&](JsonValue of, std::string_view key, std::vector<double>& to) {
      each_of(of, key, [&](JsonValue element) {
        if (to.size() < kBucketsMax) to.push_back(number_of(element));
      });
    };
    list(value, "bucketCounts", point.buckets);
    list(value, "explicitBounds", point.bounds);
    point.scale = integer_of(value, "scale");
    point.zero_count = number_of(value, "zeroCount");
    JsonValue positive;
    if (member(value, "positive", positive)) {
      point.offset = std::clamp<std::int64_t>(integer_of(positive, "offset"), INT32_MIN, INT32_MAX);
      list(positive, "bucketCounts", point.buckets);
    }
    each_of(value, "quantileValues", [&](JsonValue quantile) {
      if (point.quantiles.size() < kBucketsMax) point.quantiles.emplace_back(number_of(quantile, "quantile"), number_of(quantile, "value"));
    });
    each_of(value, "exemplars", [&](JsonValue exemplar) {
      (void)parse_trace_id(text_of(exemplar, "traceId"), point.trace_id);
      (void)parse_span_id(text_of(exemplar, "spanId"), point.span_id);
    });
    read_attributes(value, point.labels, out);
    add_point(std::move(point), name, origin, context, out);
  });
}

void read_metric(JsonValue value, const Origin& origin, const Context& context, Decoded& out) {
  const std::string_view name = text_of(value, "name");
  static constexpr std::pair<std::string_view, MetricType> kTypes[] = {{"gauge", MetricType::Gauge},
                                                                       {"sum", MetricType::Sum},
                                                                       {"histogram", MetricType::Histogram},
                                                                       {"exponentialHistogram", MetricType::Exponential},
                                                                       {"summary", MetricType::Summary}};
  for (const auto& [key, type] : kTypes) {
    JsonValue data;
    if (member(value, key, data)) read_points(data, type, name, origin, context, out);
  }
}

}  // namespace

Result<void> decode_otlp_json(Signal signal, std::string_view text, const Context& context, Decoded& out) {
  thread_local JsonParser parser;  // keeps its memory from one request to the next
  ASSIGN(const JsonValue root, parser.parse(text));
  if (!root.is_object()) return fail(Code::Invalid, "OTLP JSON: the request is no object (offset 0)");
  static constexpr std::string_view kResources[] = {"resourceSpans", "resourceMetrics", "resourceLogs"};
  static constexpr std::string_view kScopes[] = {"scopeSpans", "scopeMetrics", "scopeLogs"};
  static constexpr std::string_view kRecords[] = {"spans", "metrics", "logRecords"};
  const auto at = static_cast<std::size_t>(signal);
  each_of(root, kResources[at], [&](JsonValue resource) {
    stream::Attributes attributes;
    JsonValue described;
    if (member(resource, "resource", described)) read_attributes(described, attributes, out);
    const Origin origin = origin_of(attributes, context);
    each_of(resource, kScopes[at], [&](JsonValue scope) {
      each_of(scope, kRecords[at], [&](JsonValue record) {
        switch (signal) {
          case Signal::Traces: read_span(record, origin, context, out); break;
          case Signal::Metrics: read_metric(record, origin, context, out); break;
          case Signal::Logs: read_log(record, origin, context, out); break;
        }
      });
    });
  });
  return {};
}

namespace {

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) out += ' ';
    else out += c;
  }
  return out + "\"";
}

}  // namespace

std::string otlp_response_json(Signal signal, const Decoded& decoded) {
  if (decoded.rejected == 0) return "{}";
  static constexpr std::string_view kNames[] = {"rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"};
  return fmt::format("{{\"partialSuccess\":{{\"{}\":\"{}\",\"errorMessage\":{}}}}}", kNames[static_cast<std::size_t>(signal)], decoded.rejected, json_text(decoded.rejected_why));
}

std::string rpc_status_json(int code, std::string_view message) { return fmt::format("{{\"code\":{},\"message\":{}}}", code, json_text(message)); }

}  // namespace culprit::ingest
