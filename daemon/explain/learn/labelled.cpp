#include "daemon/explain/learn/labelled.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/explain/recorded/builder.h"
#include "daemon/explain/recorded/read_case.h"
#include "daemon/explain/recorded/text_file.h"

namespace culprit::explain {

Result<std::map<std::string, Label>> read_labels(const std::filesystem::path& file) {
  std::map<std::string, Label> out;
  TRY(read_lines(file, [&](std::string_view line, std::size_t) -> Result<void> {
    if (line.empty()) return {};
    ASSIGN(const nlohmann::json row, parse_object(line));
    const auto cause = row.find("root_cause");
    const std::string id = text_of(row, "case");
    if (id.empty() || cause == row.end() || !cause->is_object()) return fail(Code::Invalid, "a label has \"case\" and \"root_cause\"");
    out[id] = {text_of(*cause, "service"), text_of(*cause, "fault_type")};
    return {};
  }));
  return out;
}

Result<void> read_labelled(const std::filesystem::path& directory, const std::function<Result<void>(RecordedCase&&, const Label&)>& each) {
  const std::filesystem::path truth = find_file(directory, "truth.jsonl");
  if (truth.empty()) return fail(Code::NotFound, fmt::format("'{}' holds neither truth.jsonl nor exported incidents", directory.string()));
  ASSIGN(const auto labels, read_labels(truth));
  if (const std::filesystem::path lines = find_file(directory, "cases.jsonl"); !lines.empty()) {
    // By id, not by place in the file: the order of cases may be that of time.
    std::map<std::string, RecordedCase> cases;
    TRY(read_case_lines(lines, [&](RecordedCase&& one) -> Result<void> {
      if (labels.contains(one.id)) cases.emplace(one.id, std::move(one));
      return {};
    }));
    for (auto& [id, one] : cases) TRY(each(std::move(one), labels.at(id)));
    return {};
  }
  for (const auto& [id, label] : labels) {
    if (id.find('/') != std::string::npos || id.starts_with('.')) return fail(Code::Invalid, fmt::format("'{}': a case's id is no path: '{}'", truth.string(), id));
    ASSIGN(RecordedCase one, read_case(directory / id));
    TRY(each(std::move(one), label));
  }
  return {};
}

Result<void> read_unlabelled(const std::filesystem::path& directory, const std::function<Result<void>(RecordedCase&&)>& each) {
  if (const std::filesystem::path lines = find_file(directory, "cases.jsonl"); !lines.empty()) return read_case_lines(lines, each);
  std::error_code error;
  std::vector<std::filesystem::path> cases;
  for (auto entry = std::filesystem::directory_iterator(directory, error); !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (!find_file(entry->path(), "case.json").empty()) cases.push_back(entry->path());
  }
  if (error) return fail(error == std::errc::no_such_file_or_directory ? Code::NotFound : Code::Io, fmt::format("'{}': {}", directory.string(), error.message()));
  std::ranges::sort(cases);
  for (const std::filesystem::path& path : cases) {
    ASSIGN(RecordedCase one, read_case(path));
    TRY(each(std::move(one)));
  }
  return {};
}

Example example_of(const RecordedCase& c, const Label& label, const Signals& signals, const Habits& habits, std::string_view set) {
  Example out;
  out.id = c.id;
  out.set = set;
  out.fault = label.fault;
  out.features = features_of(c, signals, habits);
  for (const ServiceId who : c.candidates) out.names.push_back(c.name(who));
  out.weight = label.weight;
  for (std::size_t i = 0; i < out.names.size(); ++i) {
    if (out.names[i] == label.service) out.truth = static_cast<std::int32_t>(i);
    if (std::ranges::find(label.rejected, out.names[i]) != label.rejected.end()) out.rejected.push_back(i);
  }
  return out;
}

}  // namespace culprit::explain
