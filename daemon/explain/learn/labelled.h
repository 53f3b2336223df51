// Labelled cases: a directory with truth.jsonl {"case", "root_cause": {"service", "fault_type"}} and the cases beside it, as
// one directory each or as cases.jsonl; or exported incidents with the verdicts of people. Labels never reach a case's features.
#pragma once

#include <filesystem>
#include <functional>

#include "daemon/explain/learn/fit.h"

namespace culprit::explain {

struct Label {
  std::string service, fault;         // "" = not said
  std::vector<std::string> rejected{};  // services that somebody said it was not
  double weight = 1;                  // half for an answer that was partly right
};

Result<std::map<std::string, Label>> read_labels(const std::filesystem::path& file);  // by case

// Calls `each` for every labelled case, in the order of their ids.
Result<void> read_labelled(const std::filesystem::path& directory,
                           const std::function<Result<void>(RecordedCase&&, const Label&)>& each);

// The same for cases without labels: every case of the directory.
Result<void> read_unlabelled(const std::filesystem::path& directory, const std::function<Result<void>(RecordedCase&&)>& each);

// Incidents that Culprit exported, with what people said of its answers as labels: the files of a directory that begin as exports do.
struct ExportedCases {
  std::size_t labelled = 0;
  std::size_t silent = 0;  // exports of which nobody said anything, or nothing of a service
};
bool holds_exports(const std::filesystem::path& directory);  // it has no truth.jsonl, but exports
// Calls `each` for every one with a verdict, in the order of their names. A case is called by its file.
// Errors: those of import_incident(), with the file; NotFound, Io.
Result<ExportedCases> read_exported(const std::filesystem::path& directory, const std::function<Result<void>(RecordedCase&&, const Label&)>& each);
// One export. The label: who was confirmed last, else who was partly right, and whom else they ruled out.
Result<std::pair<RecordedCase, Label>> exported_case(std::string_view text);

Example example_of(const RecordedCase& c, const Label& label, const Signals& signals, const Habits& habits, std::string_view set);

}  // namespace culprit::explain
