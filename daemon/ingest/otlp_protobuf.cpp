#include <fmt/format.h>

#include <cmath>

#include "daemon/ingest/otlp_raw.h"
#include "daemon/ingest/wire.h"

namespace culprit::ingest {
namespace {

using Type = WireReader::Type;

Result<void> finish(const WireReader& reader, std::string_view what) {
  if (reader.ok()) return {};
  return fail(Code::Invalid, fmt::format("{}: wrong bytes at offset {}", what, reader.offset()));
}

std::uint64_t big_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char c : bytes) value = value << 8U | static_cast<std::uint8_t>(c);
  return value;
}
void read_trace_id(std::string_view bytes, std::uint64_t (&out)[2]) {
  if (bytes.size() != 16) return;
  out[0] = big_endian(bytes.substr(0, 8));
  out[1] = big_endian(bytes.substr(8));
}
void read_span_id(std::string_view bytes, std::uint64_t& out) {
  if (bytes.size() == 8) out = big_endian(bytes);
}

// AnyValue: 1 string, 2 bool, 3 int, 4 double, 5 array{1 values}, 6 kvlist{1 values}, 7 bytes. As text: composites in JSON.
Result<void> value_text(WireReader reader, int depth, bool quoted, std::string& out);

void quote(std::string_view text, bool quoted, std::string& out) {
  if (!quoted) {
    out += text;
    return;
  }
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

// KeyValue: 1 key, 2 value.
Result<void> read_pair(WireReader reader, int depth, bool quoted, std::string_view& key, std::string& value) {
  while (reader.next()) {
    if (reader.is(1, Type::kBytes)) key = reader.bytes();
    if (reader.is(2, Type::kBytes)) {
      value.clear();
      TRY(value_text(reader.message(), depth, quoted, value));
    }
  }
  return finish(reader, "attribute");
}

Result<void> value_text(WireReader reader, int depth, bool quoted, std::string& out) {
  if (depth > kValueDepthMax) return fail(Code::Invalid, fmt::format("attribute: values nested deeper than {} at offset {}", kValueDepthMax, reader.offset()));
  while (reader.next()) {
    if (reader.is(1, Type::kBytes)) quote(reader.bytes(), quoted, out);
    else if (reader.is(2, Type::kVarint)) out += reader.number() != 0 ? "true" : "false";
    else if (reader.is(3, Type::kVarint)) out += fmt::to_string(static_cast<std::int64_t>(reader.number()));
    else if (reader.is(4, Type::kFixed64)) out += number_text(reader.real());
    else if (reader.is(5, Type::kBytes)) {
      out += '[';
      WireReader list = reader.message();
      for (bool first = true; list.next(); first = false) {
        if (!list.is(1, Type::kBytes)) continue;
        if (!first) out += ',';
        TRY(value_text(list.message(), depth + 1, true, out));
      }
      TRY(finish(list, "attribute"));
      out += ']';
    } else if (reader.is(6, Type::kBytes)) {
      out += '{';
      WireReader list = reader.message();
      bool first = true;
      while (list.next()) {
        if (!list.is(1, Type::kBytes)) continue;
        std::string_view key;
        std::string value;
        TRY(read_pair(list.message(), depth + 1, true, key, value));
        if (!first) out += ',';
        first = false;
        quote(key, true, out);
        out += ':';
        out += value.empty() ? "null" : value;
      }
      TRY(finish(list, "attribute"));
      out += '}';
    } else if (reader.is(7, Type::kBytes)) {
      std::string hex;
      for (const char c : reader.bytes().substr(0, kValueBytesMax / 2)) hex += fmt::format("{:02x}", static_cast<unsigned>(static_cast<std::uint8_t>(c)));
      quote(hex, quoted, out);
    }
  }
  return finish(reader, "attribute");
}

// A plain string value, the common case, without a copy.
bool plain_value(WireReader reader, std::string_view& text) {
  if (!reader.next() || !reader.is(1, Type::kBytes)) return false;
  text = reader.bytes();
  return !reader.next() && reader.ok();
}

template <typename To>
Result<void> read_attribute(WireReader reader, To& to, Decoded& out) {
  std::string_view key, plain;
  WireReader copy = reader;
  bool simple = false;
  while (copy.next()) {
    if (copy.is(1, Type::kBytes)) key = copy.bytes();
    if (copy.is(2, Type::kBytes)) simple = plain_value(copy.message(), plain);
  }
  if (copy.ok() && simple) {
    add_attribute(to, key, plain, out);
    return {};
  }
  std::string value;
  TRY(read_pair(reader, 0, false, key, value));
  add_attribute(to, key, value, out);
  return {};
}

// Exemplar: 4 span_id, 5 trace_id.
Result<void> read_exemplar(WireReader reader, RawPoint& point) {
  while (reader.next()) {
    if (reader.is(4, Type::kBytes)) read_span_id(reader.bytes(), point.span_id);
    if (reader.is(5, Type::kBytes)) read_trace_id(reader.bytes(), point.trace_id);
  }
  return finish(reader, "exemplar");
}

// Repeated fixed64 and doubles come packed (one field) or one by one.
template <typename Take>
Result<void> read_fixed(const WireReader& reader, std::size_t limit, std::size_t have, const Take& take) {
  if (reader.type() == Type::kFixed64) {
    if (have >= limit) return fail(Code::Invalid, fmt::format("histogram: more than {} buckets at offset {}", limit, reader.offset()));
    take(reader.number());
    return {};
  }
  if (reader.type() != Type::kBytes) return {};
  std::string_view bytes = reader.bytes();
  if (bytes.size() % 8 != 0 || have + bytes.size() / 8 > limit) return fail(Code::Invalid, fmt::format("histogram: wrong list of {} bytes at offset {}", bytes.size(), reader.offset()));
  for (; !bytes.empty(); bytes.remove_prefix(8)) {
    std::uint64_t value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8U | static_cast<std::uint8_t>(bytes[static_cast<std::size_t>(i)]);
    take(value);
  }
  return {};
}

// SpanEvent: 1 time, 2 name, 3 attributes.
Result<void> read_span_event(WireReader reader, RawSpan& span, Decoded& out) {
  RawSpanEvent event;
  while (reader.next()) {
    if (reader.is(1, Type::kFixed64)) event.time_wall_ns = static_cast<std::int64_t>(reader.number());
    if (reader.is(2, Type::kBytes)) event.name = bounded_text(reader.bytes(), kNameBytesMax, out);
    if (reader.is(3, Type::kBytes)) TRY(read_attribute(reader.message(), event.attributes, out));
  }
  TRY(finish(reader, "span event"));
  if (span.events.size() <= kAttributesMax * 2) span.events.push_back(std::move(event));
  return {};
}

// Span: 1 trace_id 2 span_id 4 parent_span_id 5 name 6 kind 7 start 8 end 9 attributes 11 events 15 status{2 message, 3 code}.
Result<void> read_span(WireReader reader, const Origin& origin, const Context& context, Decoded& out) {
  RawSpan span;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: if (reader.type() == Type::kBytes) read_trace_id(reader.bytes(), span.trace_id); break;
      case 2: if (reader.type() == Type::kBytes) read_span_id(reader.bytes(), span.span_id); break;
      case 4: if (reader.type() == Type::kBytes) read_span_id(reader.bytes(), span.parent_id); break;
      case 5: if (reader.type() == Type::kBytes) span.name = reader.bytes(); break;
      case 6: if (reader.type() == Type::kVarint) span.kind = reader.number(); break;
      case 7: if (reader.type() == Type::kFixed64) span.start_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 8: if (reader.type() == Type::kFixed64) span.end_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 9: if (reader.type() == Type::kBytes) TRY(read_attribute(reader.message(), span.attributes, out)); break;
      case 11: if (reader.type() == Type::kBytes) TRY(read_span_event(reader.message(), span, out)); break;
      case 15:
        if (reader.type() == Type::kBytes) {
          WireReader status = reader.message();
          while (status.next()) {
            if (status.is(2, Type::kBytes)) span.status_message = status.bytes();
            if (status.is(3, Type::kVarint)) span.status = status.number();
          }
          TRY(finish(status, "status"));
        }
        break;
      default: break;
    }
  }
  TRY(finish(reader, "span"));
  add_span(std::move(span), origin, context, out);
  return {};
}

// LogRecord: 1 time 2 severity_number 3 severity_text 5 body 6 attributes 9 trace_id 10 span_id 11 observed.
Result<void> read_log(WireReader reader, const Origin& origin, const Context& context, Decoded& out) {
  RawLog log;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: if (reader.type() == Type::kFixed64) log.time_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 2: if (reader.type() == Type::kVarint) log.severity = reader.number(); break;
      case 3: if (reader.type() == Type::kBytes) log.severity_text = reader.bytes(); break;
      case 5:
        if (reader.type() == Type::kBytes) {
          std::string_view plain;
          if (plain_value(reader.message(), plain)) {
            log.body = bounded_text(plain, kBodyBytesMax, out);
          } else {
            std::string text;
            TRY(value_text(reader.message(), 0, false, text));
            log.body = bounded_text(text, kBodyBytesMax, out);
          }
        }
        break;
      case 6: if (reader.type() == Type::kBytes) TRY(read_attribute(reader.message(), log.attributes, out)); break;
      case 9: if (reader.type() == Type::kBytes) read_trace_id(reader.bytes(), log.trace_id); break;
      case 10: if (reader.type() == Type::kBytes) read_span_id(reader.bytes(), log.span_id); break;
      case 11: if (reader.type() == Type::kFixed64) log.observed_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      default: break;
    }
  }
  TRY(finish(reader, "log record"));
  add_log(std::move(log), origin, context, out);
  return {};
}

// NumberDataPoint: 2 start 3 time 4 as_double 5 exemplars 6 as_int(sfixed64) 7 attributes 8 flags.
Result<void> read_number_point(WireReader reader, RawPoint& point, Decoded& out) {
  while (reader.next()) {
    switch (reader.field()) {
      case 2: if (reader.type() == Type::kFixed64) point.start_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 3: if (reader.type() == Type::kFixed64) point.time_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 4: if (reader.type() == Type::kFixed64) point.value = reader.real(); break;
      case 5: if (reader.type() == Type::kBytes) TRY(read_exemplar(reader.message(), point)); break;
      case 6: if (reader.type() == Type::kFixed64) point.value = static_cast<double>(static_cast<std::int64_t>(reader.number())); break;
      case 7: if (reader.type() == Type::kBytes) TRY(read_attribute(reader.message(), point.labels, out)); break;
      case 8: if (reader.type() == Type::kVarint) point.no_value = (reader.number() & 1U) != 0; break;
      default: break;
    }
  }
  return finish(reader, "data point");
}

// HistogramDataPoint: 2 start 3 time 4 count 5 sum 6 bucket_counts 7 explicit_bounds 8 exemplars 9 attributes 10 flags.
Result<void> read_histogram_point(WireReader reader, RawPoint& point, Decoded& out) {
  while (reader.next()) {
    switch (reader.field()) {
      case 2: if (reader.type() == Type::kFixed64) point.start_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 3: if (reader.type() == Type::kFixed64) point.time_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 4: if (reader.type() == Type::kFixed64) point.value = static_cast<double>(reader.number()); break;
      case 5: if (reader.type() == Type::kFixed64) point.sum = reader.real(); break;
      case 6: TRY(read_fixed(reader, kBucketsMax, point.buckets.size(), [&](std::uint64_t v) { point.buckets.push_back(static_cast<double>(v)); })); break;
      case 7: TRY(read_fixed(reader, kBucketsMax, point.bounds.size(), [&](std::uint64_t v) { point.bounds.push_back(std::bit_cast<double>(v)); })); break;
      case 8: if (reader.type() == Type::kBytes) TRY(read_exemplar(reader.message(), point)); break;
      case 9: if (reader.type() == Type::kBytes) TRY(read_attribute(reader.message(), point.labels, out)); break;
      case 10: if (reader.type() == Type::kVarint) point.no_value = (reader.number() & 1U) != 0; break;
      default: break;
    }
  }
  return finish(reader, "histogram");
}

// ExponentialHistogramDataPoint: 1 attributes 2 start 3 time 4 count 5 sum 6 scale 7 zero_count 8 positive{1 offset 2 counts} 10 flags 11 exemplars.
Result<void> read_exponential_point(WireReader reader, RawPoint& point, Decoded& out) {
  const auto zigzag = [](std::uint64_t value) { return static_cast<std::int64_t>(value >> 1U) ^ -static_cast<std::int64_t>(value & 1U); };
  while (reader.next()) {
    switch (reader.field()) {
      case 1: if (reader.type() == Type::kBytes) TRY(read_attribute(reader.message(), point.labels, out)); break;
      case 2: if (reader.type() == Type::kFixed64) point.start_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 3: if (reader.type() == Type::kFixed64) point.time_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 4: if (reader.type() == Type::kFixed64) point.value = static_cast<double>(reader.number()); break;
      case 5: if (reader.type() == Type::kFixed64) point.sum = reader.real(); break;
      case 6: if (reader.type() == Type::kVarint) point.scale = static_cast<std::int32_t>(zigzag(reader.number())); break;
      case 7: if (reader.type() == Type::kFixed64) point.zero_count = static_cast<double>(reader.number()); break;
      case 10: if (reader.type() == Type::kVarint) point.no_value = (reader.number() & 1U) != 0; break;
      case 8:
        if (reader.type() == Type::kBytes) {
          WireReader buckets = reader.message();
          while (buckets.next()) {
            if (buckets.is(1, Type::kVarint)) point.offset = static_cast<std::int32_t>(zigzag(buckets.number()));
            if (buckets.is(2, Type::kVarint) && point.buckets.size() < kBucketsMax) point.buckets.push_back(static_cast<double>(buckets.number()));
            if (buckets.is(2, Type::kBytes)) {
              // Packed varints: a reader of single fields does not see them.
              const std::string_view bytes = buckets.bytes();
              std::uint64_t value = 0;
              unsigned shift = 0;
              for (const char c : bytes) {
                value |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(c) & 0x7fU) << shift;
                shift += 7;
                if ((static_cast<std::uint8_t>(c) & 0x80U) == 0) {
                  if (point.buckets.size() < kBucketsMax) point.buckets.push_back(static_cast<double>(value));
                  value = 0;
                  shift = 0;
                } else if (shift > 63) {
                  return fail(Code::Invalid, fmt::format("histogram: wrong count before offset {}", buckets.offset()));
                }
              }
            }
          }
          TRY(finish(buckets, "histogram"));
        }
        break;
      case 11: if (reader.type() == Type::kBytes) TRY(read_exemplar(reader.message(), point)); break;
      default: break;
    }
  }
  return finish(reader, "histogram");
}

// SummaryDataPoint: 2 start 3 time 4 count 5 sum 6 quantile_values{1 quantile 2 value} 7 attributes 8 flags.
Result<void> read_summary_point(WireReader reader, RawPoint& point, Decoded& out) {
  while (reader.next()) {
    switch (reader.field()) {
      case 2: if (reader.type() == Type::kFixed64) point.start_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 3: if (reader.type() == Type::kFixed64) point.time_wall_ns = static_cast<std::int64_t>(reader.number()); break;
      case 4: if (reader.type() == Type::kFixed64) point.value = static_cast<double>(reader.number()); break;
      case 5: if (reader.type() == Type::kFixed64) point.sum = reader.real(); break;
      case 6:
        if (reader.type() == Type::kBytes && point.quantiles.size() < kBucketsMax) {
          WireReader pair = reader.message();
          std::pair<double, double> quantile;
          while (pair.next()) {
            if (pair.is(1, Type::kFixed64)) quantile.first = pair.real();
            if (pair.is(2, Type::kFixed64)) quantile.second = pair.real();
          }
          TRY(finish(pair, "summary"));
          point.quantiles.push_back(quantile);
        }
        break;
      case 7: if (reader.type() == Type::kBytes) TRY(read_attribute(reader.message(), point.labels, out)); break;
      case 8: if (reader.type() == Type::kVarint) point.no_value = (reader.number() & 1U) != 0; break;
      default: break;
    }
  }
  return finish(reader, "summary");
}

// Metric: 1 name, 5 gauge, 7 sum, 9 histogram, 10 exponential, 11 summary; each: 1 data_points, 2 temporality, 3 is_monotonic.
Result<void> read_metric(WireReader reader, const Origin& origin, const Context& context, Decoded& out) {
  std::string_view name;
  for (WireReader copy = reader; copy.next();) {
    if (copy.is(1, Type::kBytes)) name = copy.bytes();
  }
  while (reader.next()) {
    if (reader.type() != Type::kBytes) continue;
    MetricType type = MetricType::None;
    switch (reader.field()) {
      case 5: type = MetricType::Gauge; break;
      case 7: type = MetricType::Sum; break;
      case 9: type = MetricType::Histogram; break;
      case 10: type = MetricType::Exponential; break;
      case 11: type = MetricType::Summary; break;
      default: continue;
    }
    std::uint64_t temporality = type == MetricType::Gauge ? 0 : 2;
    bool monotonic = false;
    for (WireReader data = reader.message(); data.next();) {
      if (data.is(2, Type::kVarint)) temporality = data.number();
      if (data.is(3, Type::kVarint)) monotonic = data.number() != 0;
    }
    WireReader data = reader.message();
    while (data.next()) {
      if (!data.is(1, Type::kBytes)) continue;
      RawPoint point;
      point.type = type;
      point.temporality = temporality;
      point.monotonic = monotonic;
      switch (type) {
        case MetricType::Histogram: TRY(read_histogram_point(data.message(), point, out)); break;
        case MetricType::Exponential: TRY(read_exponential_point(data.message(), point, out)); break;
        case MetricType::Summary: TRY(read_summary_point(data.message(), point, out)); break;
        default: TRY(read_number_point(data.message(), point, out)); break;
      }
      add_point(std::move(point), name, origin, context, out);
    }
    TRY(finish(data, "metric"));
  }
  return finish(reader, "metric");
}

// Resource: 1 attributes.
Result<Origin> read_resource(WireReader reader, const Context& context, Decoded& out) {
  stream::Attributes attributes;
  while (reader.next()) {
    if (reader.is(1, Type::kBytes)) TRY(read_attribute(reader.message(), attributes, out));
  }
  TRY(finish(reader, "resource"));
  return origin_of(attributes, context);
}

}  // namespace

// ExportRequest: 1 resource_X{1 resource, 2 scope_X{2 records}}: the same for the three signals.
Result<void> decode_otlp_protobuf(Signal signal, std::string_view bytes, const Context& context, Decoded& out) {
  WireReader request(bytes);
  while (request.next()) {
    if (!request.is(1, Type::kBytes)) continue;
    Origin origin;
    WireReader resources = request.message();
    for (WireReader copy = resources; copy.next();) {  // it may stand behind what belongs to it
      if (!copy.is(1, Type::kBytes)) continue;
      ASSIGN(origin, read_resource(copy.message(), context, out));
    }
    while (resources.next()) {
      if (!resources.is(2, Type::kBytes)) continue;
      WireReader scope = resources.message();
      while (scope.next()) {
        if (!scope.is(2, Type::kBytes)) continue;
        switch (signal) {
          case Signal::Traces: TRY(read_span(scope.message(), origin, context, out)); break;
          case Signal::Metrics: TRY(read_metric(scope.message(), origin, context, out)); break;
          case Signal::Logs: TRY(read_log(scope.message(), origin, context, out)); break;
        }
      }
      TRY(finish(scope, "scope"));
    }
    TRY(finish(resources, "resource"));
  }
  return finish(request, "request");
}

std::string_view signal_name(Signal signal) {
  switch (signal) {
    case Signal::Traces: return "traces";
    case Signal::Metrics: return "metrics";
    case Signal::Logs: return "logs";
  }
  return "?";
}

std::string otlp_response_protobuf(Signal, const Decoded& decoded) {
  if (decoded.rejected == 0) return {};
  WireWriter partial;  // rejected_spans, rejected_data_points and rejected_log_records share their number
  partial.number(1, decoded.rejected);
  partial.bytes(2, decoded.rejected_why);
  WireWriter response;
  response.bytes(1, partial.text());
  return response.text();
}

std::string rpc_status_protobuf(int code, std::string_view message) {
  WireWriter status;
  status.number(1, static_cast<std::uint64_t>(code));
  status.bytes(2, message);
  return status.text();
}

}  // namespace culprit::ingest
