// Labelled cases: a directory with truth.jsonl {"case", "root_cause": {"service", "fault_type"}} and the cases beside it, as
// one directory each or as cases.jsonl. Labels never reach a case's features.
#pragma once

#include <filesystem>
#include <functional>

#include "daemon/explain/learn/fit.h"

namespace culprit::explain {

struct Label {
  std::string service, fault;
};

Result<std::map<std::string, Label>> read_labels(const std::filesystem::path& file);  // by case

// Calls `each` for every labelled case, in the order of their ids.
Result<void> read_labelled(const std::filesystem::path& directory,
                           const std::function<Result<void>(RecordedCase&&, const Label&)>& each);

// The same for cases without labels: every case of the directory.
Result<void> read_unlabelled(const std::filesystem::path& directory, const std::function<Result<void>(RecordedCase&&)>& each);

Example example_of(const RecordedCase& c, const Label& label, const Signals& signals, const Habits& habits, std::string_view set);

}  // namespace culprit::explain
