// The tables of a recorded case, one reader each. `sane` rows are kept; others are counted in RecordedCase::skipped.
#pragma once

#include <filesystem>

#include "daemon/explain/recorded/builder.h"

namespace culprit::explain {

Result<void> read_metrics(const std::filesystem::path& file, CaseBuilder& builder, MetricTable& into);
Result<void> read_traces(const std::filesystem::path& file, CaseBuilder& builder, std::vector<RecordedSpan>& into);
Result<void> read_logs(const std::filesystem::path& file, CaseBuilder& builder, std::vector<RecordedLog>& into);
Result<void> read_changes(const std::filesystem::path& file, CaseBuilder& builder);
Result<void> read_topology(const std::filesystem::path& file, CaseBuilder& builder);

}  // namespace culprit::explain
