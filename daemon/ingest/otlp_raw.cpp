#include "daemon/ingest/otlp_raw.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "daemon/logs/header.h"

namespace culprit::ingest {
namespace {

constexpr std::size_t kSpanEventsMax = 128;
constexpr std::string_view kSpanKinds[] = {"", "internal", "server", "client", "producer", "consumer"};

}  // namespace

std::string number_text(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return fmt::format("{}", static_cast<std::int64_t>(value));
  return fmt::format("{}", value);
}

void add_span(RawSpan&& span, const Origin& origin, const Context& context, Decoded& out) {
  ++out.records;
  if ((span.trace_id[0] == 0 && span.trace_id[1] == 0) || span.span_id == 0) return out.reject("a span without a trace id and span id");
  if (span.end_wall_ns != 0 && span.end_wall_ns < span.start_wall_ns) span.end_wall_ns = span.start_wall_ns;
  // What failed, in the program's own words, is a log line like an exception is: explanation reads those.
  const bool told = std::ranges::any_of(span.events, [](const RawSpanEvent& event) { return event.name == "exception"; });
  if (span.status == 2 && !told && span.status_message.size() > 5) {
    span.events.push_back({span.end_wall_ns, "exception", {{"exception.message", bounded_text(span.status_message, kValueBytesMax, out)}}});
  }
  for (std::size_t i = 0; i < span.events.size(); ++i) {
    RawSpanEvent& said = span.events[i];
    if (i >= kSpanEventsMax) {
      ++out.cut;
      break;
    }
    stream::Event log;
    log.time_ns = stream_time(said.time_wall_ns, context, out);
    log.kind = stream::Kind::Log;
    log.entity = origin.entity;
    log.value = 1;
    log.trace_id[0] = span.trace_id[0];
    log.trace_id[1] = span.trace_id[1];
    log.span_id = span.span_id;
    const std::string_view message = said.attributes.find("exception.message");
    const std::string_view type = said.attributes.find("exception.type");
    if (said.name == "exception") {
      log.severity = stream::kError;
      log.body = type.empty() ? std::string(message) : fmt::format("{}: {}", type, message);
    } else {
      log.severity = stream::kInfo;
      log.body = said.name;
    }
    log.attributes = std::move(said.attributes);
    log.attributes.emplace_back("event.name", said.name);
    log.attributes.append(origin.kept);
    out.events.push_back(std::move(log));
  }
  stream::Event event;
  event.kind = stream::Kind::Span;
  event.time_ns = stream_time(span.end_wall_ns, context, out);
  std::int64_t took_ns = 0;  // any 64 bits may come
  if (__builtin_sub_overflow(span.end_wall_ns, span.start_wall_ns, &took_ns)) took_ns = 0;
  event.value = static_cast<double>(took_ns) / kNsPerSecond;
  event.entity = origin.entity;
  event.name = bounded_text(span.name, kNameBytesMax, out);
  event.trace_id[0] = span.trace_id[0];
  event.trace_id[1] = span.trace_id[1];
  event.span_id = span.span_id;
  event.attributes = std::move(span.attributes);
  if (span.kind > 0 && span.kind < std::size(kSpanKinds)) event.attributes.emplace_back("span.kind", kSpanKinds[span.kind]);
  if (span.parent_id != 0) event.attributes.emplace_back("parent.span_id", fmt::format("{:016x}", span.parent_id));
  if (span.status == 2) {
    event.severity = stream::kError;
    event.attributes.emplace_back("otel.status_code", "ERROR");
    if (!span.status_message.empty()) event.body = bounded_text(span.status_message, kValueBytesMax, out);
  }
  event.attributes.append(origin.kept);
  out.events.push_back(std::move(event));
}

void add_log(RawLog&& log, const Origin& origin, const Context& context, Decoded& out) {
  ++out.records;
  stream::Event event;
  event.kind = stream::Kind::Log;
  event.time_ns = stream_time(log.time_wall_ns != 0 ? log.time_wall_ns : log.observed_wall_ns, context, out);
  // 1 to 24; the four numbers of a range are one severity here.
  if (log.severity >= 1 && log.severity <= 24) event.severity = static_cast<std::uint8_t>((log.severity - 1) / 4 * 4 + 1);
  if (event.severity == stream::kUnset && !log.severity_text.empty()) event.severity = logs::severity_of_level(log.severity_text);
  event.entity = origin.entity;
  event.value = 1;
  event.trace_id[0] = log.trace_id[0];
  event.trace_id[1] = log.trace_id[1];
  event.span_id = log.span_id;
  event.attributes = std::move(log.attributes);
  event.body = std::move(log.body);
  if (event.trace_id[0] == 0 && event.trace_id[1] == 0) (void)find_trace_id(event.body, event.trace_id, event.span_id);
  event.attributes.append(origin.kept);
  out.events.push_back(std::move(event));
}

void add_point(RawPoint&& point, std::string_view metric, const Origin& origin, const Context& context, Decoded& out) {
  ++out.records;
  if (metric.empty()) return out.reject("a data point of a metric without a name");
  if (point.type == MetricType::None) return out.reject("a data point of an unknown type");
  Number number;
  number.entity = origin.entity;
  number.name = metric;
  number.labels = &point.labels;
  number.time_ns = stream_time(point.time_wall_ns, context, out);
  if (point.start_wall_ns > 0) number.start_ns = point.start_wall_ns - context.wall_offset_ns;
  number.value = point.value;
  number.ended = point.no_value;
  number.trace_id[0] = point.trace_id[0];
  number.trace_id[1] = point.trace_id[1];
  number.span_id = point.span_id;
  switch (point.type) {
    case MetricType::None: break;
    case MetricType::Gauge: add_number(number, context, out); break;
    case MetricType::Sum:
      number.cumulative = point.monotonic && point.temporality != 1;
      number.delta = point.temporality == 1 && point.monotonic;
      add_number(number, context, out);
      break;
    case MetricType::Histogram:
    case MetricType::Exponential: {
      number.delta = point.temporality == 1;
      Histogram histogram{number, point.sum, std::move(point.bounds), std::move(point.buckets)};
      if (point.type == MetricType::Exponential) {
        // Its buckets move with scale and offset: comparable from one value to the next only when told as deltas.
        histogram.bounds.clear();
        std::vector<double> counts = std::move(histogram.buckets);
        histogram.buckets.clear();
        if (number.delta && !counts.empty() && point.scale >= -10 && point.scale <= 20) {
          const double base = std::exp2(std::exp2(-static_cast<double>(point.scale)));
          histogram.bounds.push_back(std::pow(base, static_cast<double>(point.offset)));
          histogram.buckets.push_back(point.zero_count);
          for (std::size_t i = 0; i < counts.size(); ++i) {
            histogram.bounds.push_back(std::pow(base, static_cast<double>(point.offset + static_cast<std::int64_t>(i) + 1)));
            histogram.buckets.push_back(counts[i]);
          }
          histogram.buckets.push_back(0);
        }
      }
      if (histogram.bounds.size() + 1 != histogram.buckets.size()) histogram.bounds.clear(), histogram.buckets.clear();
      add_histogram(histogram, context, out);
      break;
    }
    case MetricType::Summary: {
      for (const auto& [quantile, value] : point.quantiles) {
        Labels labels = point.labels;
        labels.emplace_back("quantile", number_text(quantile));
        Number each = number;
        each.labels = &labels;
        each.value = value;
        add_number(each, context, out);
      }
      number.cumulative = true;
      const std::string count_name = std::string(metric.substr(0, kNameBytesMax)) + "_count";
      number.name = count_name;
      add_number(number, context, out);
      break;
    }
  }
}

}  // namespace culprit::ingest
