// Replay: an incident as one file that ranks again, anywhere, to the same answer.
//
// JSON lines. First the header: {"culprit_export": 1, "incident": {...}, "options": {...}, "said": [...]}; then every event of
// [onset - 10 min, now], oldest first, as stream/codec.h writes them. Unknown header fields are ignored; another format
// version is refused.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/detect/incident.h"
#include "daemon/explain/explain.h"
#include "daemon/stream/store.h"

namespace culprit::explain {

inline constexpr int kExportVersion = 1;
inline constexpr std::size_t kExportEventsMax = 2'000'000;  // more: Exhausted
inline constexpr std::size_t kSaidMax = 1'001;              // verdicts on one incident, one a rank; more: Exhausted

// What a person said of an answer of this incident: a label that `culprit learn` reads.
struct Said {
  std::string verdict;  // "right", "wrong", "partly"
  std::string service, failure_mode;  // that the answer blamed; both "": the answer as a whole

  bool operator==(const Said&) const = default;
};

Result<std::string> export_incident(const stream::EventStore& store, const detect::Incident& incident,
                                    const ExplainOptions& options, const std::vector<Said>& said = {});

struct Replayable {
  detect::Incident incident;
  ExplainOptions options;  // knowledge and weights are not in the file: set them before explaining
  std::vector<Said> said;
  std::unique_ptr<stream::EventStore> store;  // in memory, read only
};

// Errors: Invalid with the line number; Unsupported for another version; Exhausted.
Result<Replayable> import_incident(std::string_view text);

}  // namespace culprit::explain
