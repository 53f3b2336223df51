// Replay: an incident as one file that ranks again, anywhere, to the same answer.
//
// JSON lines. First the header: {"culprit_export": 1, "incident": {...}, "options": {...}}; then every event of
// [onset - 10 min, now], oldest first, as stream/codec.h writes them. Unknown header fields are ignored; another format
// version is refused.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "daemon/base/result.h"
#include "daemon/detect/incident.h"
#include "daemon/explain/explain.h"
#include "daemon/stream/store.h"

namespace culprit::explain {

inline constexpr int kExportVersion = 1;
inline constexpr std::size_t kExportEventsMax = 2'000'000;  // more: Exhausted

Result<std::string> export_incident(const stream::EventStore& store, const detect::Incident& incident,
                                    const ExplainOptions& options);

struct Replayable {
  detect::Incident incident;
  ExplainOptions options;  // knowledge is not in the file: set it before explaining
  std::unique_ptr<stream::EventStore> store;  // in memory, read only
};

// Errors: Invalid with the line number; Unsupported for another version; Exhausted.
Result<Replayable> import_incident(std::string_view text);

}  // namespace culprit::explain
