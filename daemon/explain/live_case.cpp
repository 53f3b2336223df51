#include "daemon/explain/live_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <tuple>

#include "daemon/base/clock.h"
#include "daemon/explain/headline.h"
#include "daemon/explain/recorded/builder.h"

namespace culprit::explain {

namespace {

using stream::Event;
using stream::Kind;

constexpr std::string_view kService = "service:";

std::string_view service_of(std::string_view entity) { return entity.starts_with(kService) ? entity.substr(kService.size()) : std::string_view(); }

// Whom the trouble reaches most, then who else took part; as a sorted list of names.
std::vector<std::string> candidates_of(const Scene& scene) {
  std::vector<std::pair<double, std::string>> reached;
  for (const auto& [service, flow] : scene.reach()) reached.emplace_back(-flow, service);
  std::ranges::sort(reached);
  std::vector<std::string> out;
  const auto take = [&](const std::string& service) {
    if (out.size() < kLiveServicesMax && std::ranges::find(out, service) == out.end()) out.push_back(service);
  };
  for (const auto& [flow, service] : reached) take(service);
  for (const std::string& service : scene.incident().services) take(service);
  std::ranges::sort(out);
  return out;
}

// One row a second: healthy ones as the reference, those of the incident as the table.
void put_metrics(const Scene& scene, const std::vector<std::string>& candidates, CaseBuilder& builder) {
  const Windows& windows = scene.windows();
  const auto second_of = [](std::int64_t time_ns) { return time_ns / kNsPerSecond; };
  std::vector<std::int64_t> base, now;
  for (std::int64_t second = second_of(std::max(windows.base_from_ns, windows.seen_from_ns)); second * kNsPerSecond < windows.now_to_ns; ++second) {
    const std::int64_t time_ns = second * kNsPerSecond;
    if (windows.is_base(time_ns)) base.push_back(second);
    else if (time_ns >= windows.now_from_ns) now.push_back(second);
  }
  if (now.empty()) return;
  const auto fill = [&](MetricTable& table, const std::vector<std::int64_t>& seconds, const stream::Series& series, ServiceId service) {
    const std::string base_name = series.name.substr(0, series.name.find('{'));
    const SeriesKind kind = series_kind(base_name);
    MetricColumn column{service, series.name, std::vector<double>(seconds.size(), kind.additive ? 0 : std::numeric_limits<double>::quiet_NaN()), kind.floor};
    for (const stream::Point& point : series.points) {
      const auto at = std::ranges::lower_bound(seconds, second_of(point.time_ns));
      if (at != seconds.end() && *at == second_of(point.time_ns)) column.values[static_cast<std::size_t>(at - seconds.begin())] = point.value;
    }
    table.columns.push_back(std::move(column));
  };
  for (const std::int64_t second : base) builder.out.reference_metrics.times_ns.push_back(second * kNsPerSecond);
  for (const std::int64_t second : now) builder.out.metrics.times_ns.push_back(second * kNsPerSecond);
  for (const stream::Series& series : scene.service_series()) {
    const std::string_view name = service_of(series.entity);
    if (!std::ranges::binary_search(candidates, name)) continue;
    const ServiceId service = builder.service(name);
    fill(builder.out.reference_metrics, base, series, service);
    fill(builder.out.metrics, now, series, service);
  }
}

std::uint64_t trace_of(const Event& event) { return event.trace_id[0] == 0 && event.trace_id[1] == 0 ? event.span_id : event.trace_id[0] ^ (event.trace_id[1] * 0x9e3779b97f4a7c15ULL); }

std::uint64_t hex_of(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

// "0.0132" [s] as nanoseconds; -1 for anything else.
std::int64_t own_ns_of(std::string_view self) {
  const auto seconds = parse_number(self);
  return seconds && *seconds >= 0 && *seconds < 1e6 ? static_cast<std::int64_t>(std::llround(*seconds * 1e9)) : -1;
}

// What is kept of an event while others are looked at: not the whole of it, of which there are ten thousands.
struct SpanRow {
  RecordedSpan span;
  std::string operation, error;
};

void take_span(const Event& event, const RecordedCase& c, std::vector<SpanRow>& rows) {
  if (event.span_id == 0 || !(event.value >= 0 && event.value < 1e6)) return;
  RecordedSpan span;
  span.trace = trace_of(event);
  span.id = event.span_id;
  span.parent = hex_of(event.attribute("parent.span_id"));
  span.service = c.service(service_of(event.entity));
  if (span.service == kNoService) return;
  span.duration_ns = whole(std::round(event.value * 1e9));
  span.start_ns = event.start_ns();
  span.failed = event.severity >= stream::kError;
  const std::string_view kind = event.attribute("span.kind");
  span.own_ns = own_ns_of(event.attribute("self"));
  if (kind == "client" || kind == "producer") span.kind = RecordedSpan::Kind::Client;
  else if (!kind.empty() || span.own_ns >= 0) span.kind = RecordedSpan::Kind::Server;  // the kernel's own spans are servers
  rows.push_back({span, event.name, span.failed ? std::string(span_error(event)) : std::string()});
}

void take_line(const Event& event, const RecordedCase& c, std::vector<RecordedLog>& lines) {
  RecordedLog line;
  line.time_ns = event.time_ns;
  line.service = c.service(service_of(event.entity));
  if (line.service == kNoService) return;
  line.trace = event.trace_id[0] == 0 && event.trace_id[1] == 0 ? 0 : trace_of(event);
  line.span = event.span_id;
  if (event.severity >= stream::kFatal) line.level = "FATAL";
  else if (event.severity >= stream::kError) line.level = "ERROR";
  else if (event.severity >= stream::kWarn) line.level = "WARN";
  else if (event.severity >= stream::kInfo) line.level = "INFO";
  const std::string_view text = event.body.empty() ? event.attribute("template") : std::string_view(event.body);
  line.text = text.substr(0, kLiveLineBytesMax);
  lines.push_back(std::move(line));
}

// In an order that is no store's: events of one moment come in any.
std::vector<RecordedSpan> in_order(std::vector<SpanRow> rows, CaseBuilder& builder) {
  std::ranges::sort(rows, {}, [](const SpanRow& row) {
    return std::tuple(row.span.start_ns + row.span.duration_ns, row.span.service, std::string_view(row.operation), row.span.id, row.span.duration_ns, std::string_view(row.error));
  });
  std::vector<RecordedSpan> out;
  out.reserve(rows.size());
  for (const SpanRow& row : rows) {
    RecordedSpan& span = out.emplace_back(row.span);
    span.operation = builder.word(row.operation);
    if (span.failed) span.error = builder.word(row.error);
  }
  return out;
}

Result<void> put_happenings(const stream::EventStore& store, const Scene& scene, const std::vector<std::string>& candidates, CaseBuilder& builder) {
  const Windows& windows = scene.windows();
  stream::Query query;
  for (const std::string& service : candidates) query.entities.push_back(fmt::format("{}{}", kService, service));
  query.newest_first = true;
  for (const bool base : {true, false}) {
    query.from_ns = base ? std::max(windows.base_from_ns, windows.seen_from_ns) : windows.now_from_ns;
    query.to_ns = base ? windows.base_to_ns : windows.now_to_ns + 1;
    query.kinds = {Kind::Span};
    query.limit = kLiveSpansMax;
    std::vector<SpanRow> rows;
    TRY(store.scan(query, [&](const Event& event) {
      if (!base || windows.is_base(event.time_ns)) take_span(event, builder.out, rows);
      return true;
    }));
    (base ? builder.out.reference_spans : builder.out.spans) = in_order(std::move(rows), builder);
    query.kinds = {Kind::Log};
    query.limit = kLiveLinesMax;
    std::vector<RecordedLog>& lines = base ? builder.out.reference_logs : builder.out.logs;
    TRY(store.scan(query, [&](const Event& event) {
      if (!base || windows.is_base(event.time_ns)) take_line(event, builder.out, lines);
      return true;
    }));
    std::ranges::sort(lines, {}, [](const RecordedLog& line) { return std::tie(line.time_ns, line.service, line.text, line.span, line.level, line.trace); });
  }
  return {};
}

}  // namespace

std::string_view span_message(const stream::Event& event) {
  if (!event.body.empty()) return event.body;
  const std::string_view said = event.attribute("exception.message");
  return said.empty() ? event.attribute("error.message") : said;
}

std::string_view span_error(const stream::Event& event) {
  if (const std::string_view said = span_message(event); !said.empty()) return said;
  const std::string_view type = event.attribute("error.type");
  return type.empty() ? event.attribute("http.response.status_code") : type;
}

Result<RecordedCase> live_case(const stream::EventStore& store, const Scene& scene) {
  CaseBuilder builder;
  const std::vector<std::string> candidates = candidates_of(scene);
  // Numbers are given in the order of names, so that no store's order shows.
  TRY(builder.candidates(nlohmann::json(candidates)));
  builder.out.onset_ns = scene.windows().now_from_ns;
  put_metrics(scene, candidates, builder);
  TRY(put_happenings(store, scene, candidates, builder));
  for (const Edge& edge : scene.edges()) {
    if (std::ranges::binary_search(candidates, edge.caller) && std::ranges::binary_search(candidates, edge.callee)) {
      builder.out.calls.emplace_back(builder.service(edge.caller), builder.service(edge.callee));
    }
  }
  std::ranges::sort(builder.out.calls);
  if (const detect::Symptom* symptom = leading_symptom(scene.incident(), scene.root()); symptom != nullptr) {
    const std::string_view service = service_of(symptom->entity);
    builder.out.fired = {std::ranges::binary_search(candidates, service) ? builder.service(service) : kNoService, symptom->since_ns, symptom->series, symptom->text};
  }
  return builder.finish();
}

}  // namespace culprit::explain
