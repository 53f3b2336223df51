// The records of OTLP as both decoders read them, and the one place that makes events of them.
#pragma once

#include "daemon/ingest/metrics.h"
#include "daemon/ingest/otlp.h"

namespace culprit::ingest {

struct RawSpanEvent {
  std::int64_t time_wall_ns = 0;
  std::string name;
  stream::Attributes attributes;
};

struct RawSpan {
  std::uint64_t trace_id[2] = {0, 0};
  std::uint64_t span_id = 0, parent_id = 0;
  std::string_view name;
  std::uint64_t kind = 0;  // 1 internal, 2 server, 3 client, 4 producer, 5 consumer
  std::int64_t start_wall_ns = 0, end_wall_ns = 0;
  std::uint64_t status = 0;  // 1 ok, 2 error
  std::string_view status_message;
  stream::Attributes attributes;
  std::vector<RawSpanEvent> events;
};
void add_span(RawSpan&& span, const Origin& origin, const Context& context, Decoded& out);

struct RawLog {
  std::int64_t time_wall_ns = 0, observed_wall_ns = 0;
  std::uint64_t severity = 0;
  std::string_view severity_text;
  std::string body;
  std::uint64_t trace_id[2] = {0, 0};
  std::uint64_t span_id = 0;
  stream::Attributes attributes;
};
void add_log(RawLog&& log, const Origin& origin, const Context& context, Decoded& out);

enum class MetricType : std::uint8_t { None, Gauge, Sum, Histogram, Exponential, Summary };
struct RawPoint {
  MetricType type = MetricType::None;
  bool monotonic = false;
  bool no_value = false;          // DataPointFlags.NO_RECORDED_VALUE: the series is over, as Prometheus' stale markers have it
  std::uint64_t temporality = 2;  // 1 delta, 2 cumulative
  std::int64_t time_wall_ns = 0, start_wall_ns = 0;
  double value = 0;  // or count
  double sum = 0;
  std::vector<double> bounds, buckets;
  // Exponential histograms: bucket i of the positive range is (base^(offset+i), base^(offset+i+1)], base = 2^(2^-scale).
  std::int64_t scale = 0, offset = 0;
  double zero_count = 0;
  std::vector<std::pair<double, double>> quantiles;  // of a summary
  std::uint64_t trace_id[2] = {0, 0}, span_id = 0;   // of its last exemplar
  Labels labels;
};
void add_point(RawPoint&& point, std::string_view metric, const Origin& origin, const Context& context, Decoded& out);

// An exception attribute's or other value as text.
std::string number_text(double value);

}  // namespace culprit::ingest
