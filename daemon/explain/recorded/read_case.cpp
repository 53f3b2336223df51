#include "daemon/explain/recorded/read_case.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/explain/recorded/read_tables.h"
#include "daemon/explain/recorded/text_file.h"

namespace culprit::explain {

namespace {

using nlohmann::json;
using std::filesystem::path;

std::int64_t time_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return 0;
  return seconds_to_ns(found->get<double>()).value_or(0);
}

Result<json> read_description(const path& file) {
  std::string text;
  TRY(read_lines(file, [&](std::string_view line, std::size_t) -> Result<void> {
    if (text.size() + line.size() > kLineBytesMax) return fail(Code::Exhausted, "too long");
    text += line;
    text += '\n';
    return {};
  }));
  auto description = parse_object(text);
  if (!description) return std::unexpected(description.error().context(fmt::format("'{}'", file.string())));
  return description;
}

// Beside the case or above it, but nowhere else: a description may come from anybody.
Result<path> reference_of(const path& directory, const json& description) {
  const std::string named = text_of(description, "reference");
  if (named.empty()) return path();
  const path relative(named);
  if (relative.is_absolute() || std::ranges::any_of(relative, [](const path& part) { return part == ".."; })) {
    return fail(Code::Invalid, fmt::format("'{}': the reference '{}' leads elsewhere", directory.string(), named));
  }
  std::error_code ignored;
  for (const path& base : {directory, std::filesystem::absolute(directory, ignored).lexically_normal().parent_path()}) {
    if (std::filesystem::is_directory(base / relative, ignored)) return base / relative;
  }
  // A path with a slash at its end has itself as its parent.
  const path above = std::filesystem::absolute(directory / "x", ignored).lexically_normal().parent_path().parent_path();
  if (std::filesystem::is_directory(above / relative, ignored)) return above / relative;
  return fail(Code::NotFound, fmt::format("'{}': there is no reference '{}'", directory.string(), named));
}

Result<void> read_signals(const path& directory, CaseBuilder& builder, bool reference) {
  MetricTable& metrics = reference ? builder.out.reference_metrics : builder.out.metrics;
  if (const path file = find_file(directory, "metrics.csv"); !file.empty()) TRY(read_metrics(file, builder, metrics));
  if (const path file = find_file(directory, "edges.csv"); !file.empty()) TRY(read_metrics(file, builder, metrics));
  if (const path file = find_file(directory, "traces.csv"); !file.empty()) TRY(read_traces(file, builder, reference ? builder.out.reference_spans : builder.out.spans));
  if (const path file = find_file(directory, "logs.jsonl"); !file.empty()) TRY(read_logs(file, builder, reference ? builder.out.reference_logs : builder.out.logs));
  if (const path file = find_file(directory, "topology.csv"); !file.empty()) TRY(read_topology(file, builder));
  if (const path file = find_file(directory, "changes.jsonl"); !file.empty() && !reference) TRY(read_changes(file, builder));
  return {};
}

std::string word_at(const json& row, std::size_t at) {
  if (at >= row.size()) return {};
  return row[at].is_string() ? row[at].get<std::string>() : row[at].dump();
}

// [instance, (host,) metric, direction] / [caller, callee, operation, kind] / [instance, template].
RecordedAlert alert_of(CaseBuilder& builder, const json& row, RecordedAlert::Source source) {
  RecordedAlert alert;
  alert.source = source;
  alert.service = builder.service(word_at(row, 0));
  switch (source) {
    case RecordedAlert::Source::Metric:
      alert.name = word_at(row, row.size() - 2);
      alert.kind = word_at(row, row.size() - 1);
      break;
    case RecordedAlert::Source::Trace:
      alert.callee = builder.service(word_at(row, 1));
      alert.name = word_at(row, 2);
      alert.kind = word_at(row, 3);
      break;
    case RecordedAlert::Source::Log:
      alert.name = word_at(row, 1);
      // A template's number that repeats its instance's name says nothing more than the number.
      if (const std::string& who = builder.out.name(alert.service); alert.name.starts_with(who + "-")) alert.name.erase(0, who.size() + 1);
      break;
  }
  return alert;
}

}  // namespace

Result<RecordedCase> read_case(const path& directory) {
  const path file = find_file(directory, "case.json");
  if (file.empty()) return fail(Code::NotFound, fmt::format("'{}' holds no case.json", directory.string()));
  ASSIGN(const json description, read_description(file));
  CaseBuilder builder;
  builder.out.id = text_of(description, "id");
  if (builder.out.id.empty()) builder.out.id = std::filesystem::absolute(directory / "x").lexically_normal().parent_path().filename().string();
  if (const auto services = description.find("services"); services != description.end()) {
    if (auto done = builder.candidates(*services); !done) return std::unexpected(done.error().context(fmt::format("'{}'", file.string())));
  }
  if (const auto onset = description.find("inject_time"); onset != description.end()) {
    const auto onset_ns = onset->is_number() ? seconds_to_ns(onset->get<double>()) : std::nullopt;
    if (!onset_ns) return fail(Code::Invalid, fmt::format("'{}': \"inject_time\" is no time in seconds since 1970", file.string()));
    builder.out.onset_ns = *onset_ns;
  }
  if (const auto earlier = description.find("prior_incident_times"); earlier != description.end() && earlier->is_array()) {
    for (const json& time : *earlier) {
      if (!time.is_number()) continue;
      if (const auto time_ns = seconds_to_ns(time.get<double>())) builder.out.earlier_ns.push_back(*time_ns);
    }
  }
  if (const auto alert = description.find("alert"); alert != description.end() && alert->is_object()) {
    const std::string who = text_of(*alert, "service");
    if (!who.empty()) builder.out.fired.service = builder.service(who);
    builder.out.fired.metric = text_of(*alert, "metric");
    builder.out.fired.text = text_of(*alert, "summary");
    builder.out.fired.time_ns = time_of(*alert, "time");
  }
  TRY(read_signals(directory, builder, false));
  const RecordedCase& read = builder.out;
  if (read.onset_ns == 0 && !(read.spans.empty() && read.logs.empty() && read.metrics.columns.empty())) {
    return fail(Code::Invalid, fmt::format("'{}' has no \"inject_time\", which tells before from after", file.string()));
  }
  ASSIGN(const path reference, reference_of(directory, description));
  if (!reference.empty()) TRY(read_signals(reference, builder, true));
  RecordedCase out = builder.finish();
  if (out.candidates.empty()) return fail(Code::Invalid, fmt::format("'{}' names nobody who may be blamed (\"services\"), nor does what lies beside it", file.string()));
  return out;
}

Result<RecordedCase> parse_case_line(std::string_view line) {
  ASSIGN(const json row, parse_object(line));
  CaseBuilder builder;
  builder.out.id = text_of(row, "id");
  if (builder.out.id.empty()) return fail(Code::Invalid, "the case has no \"id\"");
  TRY(builder.candidates(row.value("services", json::array())));
  for (const json& edge : row.value("edges", json::array())) {
    if (edge.is_array() && edge.size() == 2 && edge[0].is_string() && edge[1].is_string()) {
      builder.out.calls.emplace_back(builder.service(edge[0].get_ref<const std::string&>()), builder.service(edge[1].get_ref<const std::string&>()));
    } else {
      ++builder.out.skipped["edges"];
    }
  }
  const auto alerts = row.find("alerts");
  if (alerts == row.end() || !alerts->is_object()) return fail(Code::Invalid, fmt::format("case '{}' has no \"alerts\"", builder.out.id));
  const struct { const char* key; RecordedAlert::Source source; std::size_t size_min; } kinds[] = {
      {"metrics", RecordedAlert::Source::Metric, 3}, {"traces", RecordedAlert::Source::Trace, 4}, {"logs", RecordedAlert::Source::Log, 2}};
  for (const auto& [key, source, size_min] : kinds) {
    for (const json& one : alerts->value(key, json::array())) {
      if (one.is_array() && one.size() >= size_min && one.size() <= 8) {
        builder.out.alerts.push_back(alert_of(builder, one, source));
      } else {
        ++builder.out.skipped[fmt::format("alerts.{}", key)];
      }
    }
  }
  return builder.finish();
}

Result<void> read_case_lines(const path& file, const std::function<Result<void>(RecordedCase&&)>& each) {
  std::size_t cases = 0;
  TRY(read_lines(file, [&](std::string_view line, std::size_t) -> Result<void> {
    if (line.empty()) return {};
    ASSIGN(RecordedCase one, parse_case_line(line));
    ++cases;
    return each(std::move(one));
  }));
  if (cases == 0) return fail(Code::Invalid, fmt::format("'{}' holds no cases", file.string()));
  return {};
}

}  // namespace culprit::explain
