#include "daemon/explain/recorded/read_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "daemon/explain/recorded/read_case.h"
#include "daemon/explain/recorded/text_file.h"

namespace culprit::explain {

namespace {

using nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kTimeMax = std::int64_t{1} << 62;

std::uint64_t& skips(CaseBuilder& builder, const std::filesystem::path& file) { return builder.out.skipped[file.filename().string()]; }

// Where the columns of a table are, by the names in its first line.
class Header {
 public:
  void read(const std::vector<std::string_view>& fields) {
    for (const std::string_view name : fields) names_.emplace_back(name);
  }
  std::size_t at(std::string_view name) const {
    return static_cast<std::size_t>(std::ranges::find(names_, name) - names_.begin());
  }
  Result<void> need(std::initializer_list<std::string_view> wanted) const {
    for (const std::string_view name : wanted) {
      if (at(name) >= names_.size()) return fail(Code::Invalid, fmt::format("no column '{}'", name));
    }
    return {};
  }

 private:
  std::vector<std::string> names_;
};

std::string_view field(const std::vector<std::string_view>& fields, std::size_t at) {
  return at < fields.size() ? fields[at] : std::string_view();
}

json object_of(std::string_view line) {
  json row = json::parse(line, nullptr, false);
  return row.is_object() ? row : json();
}

std::int64_t whole_of(const json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end() || !found->is_number_integer()) return 0;
  const auto value = found->get<std::int64_t>();
  return std::abs(value) < kTimeMax ? value : 0;
}

}  // namespace

Result<void> read_metrics(const std::filesystem::path& file, CaseBuilder& builder, MetricTable& into) {
  std::vector<std::string_view> fields;
  std::string buffer;
  std::size_t cells = 0;
  const std::size_t first = into.columns.size();
  std::vector<std::size_t> place;  // of each field among the columns
  std::vector<std::int64_t> times;
  TRY(read_lines(file, [&](std::string_view line, std::size_t number) -> Result<void> {
    if (line.empty()) return {};
    if (!split_csv(line, fields, buffer)) return fail(Code::Invalid, "a quote is not closed");
    if (number == 1) {
      if (field(fields, 0) != "time") return fail(Code::Invalid, "the first column is not 'time'");
      for (std::size_t i = 1; i < fields.size(); ++i) {
        const auto bar = fields[i].rfind('|');
        MetricColumn column;
        std::string_view who = fields[i].substr(0, bar);
        column.name = bar == std::string_view::npos ? std::string() : std::string(fields[i].substr(bar + 1));
        // A call's series belongs to who is called, and says who calls.
        if (const auto arrow = who.find("->"); arrow != std::string_view::npos) {
          const ServiceId caller = builder.service(who.substr(0, arrow)), callee = builder.service(who.substr(arrow + 2));
          builder.out.calls.emplace_back(caller, callee);
          column.service = callee;
          column.name = fmt::format("call.{}<-{}", column.name, who.substr(0, arrow));
        } else {
          column.service = builder.service(who);
        }
        into.columns.push_back(std::move(column));
      }
      return {};
    }
    const auto time = parse_number(fields[0]);
    const auto time_ns = time ? seconds_to_ns(*time) : std::nullopt;
    if (!time_ns || fields.size() != into.columns.size() - first + 1) {
      ++skips(builder, file);
      return {};
    }
    cells += fields.size();
    if (cells > kCellsMax) return fail(Code::Exhausted, fmt::format("more than {} cells", kCellsMax));
    times.push_back(*time_ns);
    for (std::size_t i = 1; i < fields.size(); ++i) {
      std::vector<double>& values = into.columns[first + i - 1].values;
      if (fields[i].empty()) {
        values.push_back(kNaN);
        continue;
      }
      const auto value = parse_number(fields[i]);
      values.push_back(value.value_or(kNaN));
      if (!value && fields[i] != "nan" && fields[i] != "NaN") ++skips(builder, file);
    }
    return {};
  }));
  if (first == 0) {
    into.times_ns = std::move(times);
    return {};
  }
  // A second table joins the first at the nearest row that is not more than half a minute away.
  std::vector<std::size_t> row_of(into.times_ns.size(), times.size());
  for (std::size_t row = 0; row < into.times_ns.size(); ++row) {
    std::int64_t nearest_ns = 31'000'000'000;
    for (std::size_t i = 0; i < times.size(); ++i) {
      const std::int64_t apart = std::abs(times[i] - into.times_ns[row]);
      if (apart < nearest_ns) {
        nearest_ns = apart;
        row_of[row] = i;
      }
    }
  }
  for (std::size_t c = first; c < into.columns.size(); ++c) {
    std::vector<double> values;
    values.reserve(row_of.size());
    for (const std::size_t row : row_of) values.push_back(row < times.size() ? into.columns[c].values[row] : kNaN);
    into.columns[c].values = std::move(values);
  }
  return {};
}

Result<void> read_traces(const std::filesystem::path& file, CaseBuilder& builder, std::vector<RecordedSpan>& into) {
  std::vector<std::string_view> fields;
  std::string buffer;
  Header header;
  std::size_t trace = 0, span = 0, parent = 0, service = 0, operation = 0, start = 0, duration = 0, status = 0, error = 0;
  return read_lines(file, [&](std::string_view line, std::size_t number) -> Result<void> {
    if (line.empty()) return {};
    if (!split_csv(line, fields, buffer)) {
      ++skips(builder, file);
      return {};
    }
    if (number == 1) {
      header.read(fields);
      TRY(header.need({"trace_id", "span_id", "parent_id", "service", "operation", "start_ns", "duration_us"}));
      trace = header.at("trace_id"), span = header.at("span_id"), parent = header.at("parent_id");
      service = header.at("service"), operation = header.at("operation"), start = header.at("start_ns");
      duration = header.at("duration_us"), status = header.at("status"), error = header.at("error");
      return {};
    }
    const auto start_ns = parse_whole(field(fields, start));
    const auto duration_us = parse_number(field(fields, duration));
    if (!start_ns || std::abs(*start_ns) >= kTimeMax || !duration_us || *duration_us < 0 || *duration_us > 1e12 || field(fields, service).empty()) {
      ++skips(builder, file);
      return {};
    }
    if (into.size() >= kSpansMax) return fail(Code::Exhausted, fmt::format("more than {} spans", kSpansMax));
    RecordedSpan row;
    row.trace = hash_id(fields[trace]);
    row.id = hash_id(fields[span]);
    const std::string_view up = fields[parent];
    row.parent = up.empty() || up == "root" ? 0 : hash_id(up);
    row.service = builder.service(fields[service]);
    row.operation = builder.word(fields[operation]);
    row.start_ns = *start_ns;
    row.duration_ns = static_cast<std::int64_t>(*duration_us * 1e3);
    row.failed = field(fields, status) == "ERROR" || !field(fields, error).empty();
    row.error = builder.word(field(fields, error));
    into.push_back(row);
    return {};
  });
}

Result<void> read_logs(const std::filesystem::path& file, CaseBuilder& builder, std::vector<RecordedLog>& into) {
  return read_lines(file, [&](std::string_view line, std::size_t) -> Result<void> {
    if (line.empty()) return {};
    const json row = object_of(line);
    RecordedLog log;
    log.text = text_of(row, "msg");
    const std::string service = text_of(row, "service");
    log.time_ns = row.is_null() ? 0 : whole_of(row, "ts_ns");
    if (service.empty() || log.time_ns == 0) {
      ++skips(builder, file);
      return {};
    }
    if (into.size() >= kLogsMax) return fail(Code::Exhausted, fmt::format("more than {} log lines", kLogsMax));
    log.service = builder.service(service);
    log.level = text_of(row, "level");
    const std::string trace = text_of(row, "trace_id"), span = text_of(row, "span_id");
    if (!trace.empty()) log.trace = hash_id(trace);
    if (!span.empty()) log.span = hash_id(span);
    // What a structured line says beside its message belongs to what it tells.
    if (const auto attributes = row.find("attrs"); attributes != row.end() && attributes->is_object()) {
      for (const auto& [key, value] : attributes->items()) {
        if (key == "trace_id" || key == "span_id") continue;
        log.text += fmt::format(" {}={}", key, value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, json::error_handler_t::replace));
      }
    }
    into.push_back(std::move(log));
    return {};
  });
}

Result<void> read_changes(const std::filesystem::path& file, CaseBuilder& builder) {
  return read_lines(file, [&](std::string_view line, std::size_t) -> Result<void> {
    if (line.empty()) return {};
    const json row = object_of(line);
    RecordedChange change;
    const std::string kind = text_of(row, "kind");
    change.kind = kind == "commit" ? RecordedChange::Kind::Commit
                  : kind == "deploy" ? RecordedChange::Kind::Deploy
                  : kind == "flag" ? RecordedChange::Kind::Flag : RecordedChange::Kind::Other;
    const auto time_ns = seconds_to_ns(static_cast<double>(row.is_null() ? 0 : whole_of(row, "ts")));
    change.id = text_of(row, change.kind == RecordedChange::Kind::Deploy ? "commit_sha" : "sha");
    if (row.is_null() || !time_ns || (change.kind == RecordedChange::Kind::Commit && change.id.empty())) {
      ++skips(builder, file);
      return {};
    }
    change.time_ns = *time_ns;
    change.service = text_of(row, "service");
    change.text = text_of(row, "message");
    if (change.text.empty()) change.text = fmt::format("{} {}", text_of(row, "flag"), text_of(row, "change"));
    change.diff = text_of(row, "diff");
    if (const auto files = row.find("files_changed"); files != row.end() && files->is_array()) {
      for (const json& name : *files) {
        if (name.is_string()) change.files.push_back(name.get<std::string>());
      }
    }
    builder.out.changes.push_back(std::move(change));
    return {};
  });
}

Result<void> read_topology(const std::filesystem::path& file, CaseBuilder& builder) {
  std::vector<std::string_view> fields;
  std::string buffer;
  return read_lines(file, [&](std::string_view line, std::size_t number) -> Result<void> {
    if (line.empty()) return {};
    const bool whole = split_csv(line, fields, buffer);
    if (number == 1) {
      if (field(fields, 0) != "caller" || field(fields, 1) != "callee") return fail(Code::Invalid, "the columns are not 'caller,callee'");
      return {};
    }
    if (!whole || fields.size() != 2) {
      ++skips(builder, file);
      return {};
    }
    builder.out.calls.emplace_back(builder.service(fields[0]), builder.service(fields[1]));
    return {};
  });
}

}  // namespace culprit::explain
