// Incidents as experience: a confirmed one becomes a document of the collection "incident", found by likeness; what
// people said about a failure mode moves how much its signs weigh.
#pragma once

#include <nlohmann/json.hpp>

#include "daemon/recall/recall.h"
#include "graph/store.h"

namespace culprit::recall {

inline constexpr std::string_view kIncidentCollection = "incident";

// The incident as text: what was seen, which cause was confirmed, what people wrote about it.
graph::ImportItem incident_item(const graph::Incident& incident, std::span<const graph::Feedback> said);

// Makes, changes or removes the incident's document by what was said: only what somebody confirmed is experience.
Result<void> remember_incident(std::shared_ptr<const Modes> modes, const std::filesystem::path& graph_file, const graph::Incident& incident,
                               std::span<const graph::Feedback> said, std::int64_t now_ns);

// Confirmed incidents that are like the one of number `about`, or like its words, best first: the document of `similar` (docs/api.md).
// Errors: NotFound for a number that no incident of the database has; of the database.
Result<nlohmann::json> similar_incidents(Recall& recall, const std::filesystem::path& graph_file, const std::string& about, std::size_t limit);

// The weight of a sign after verdicts (base/verdicts.h); bounded, so that nothing becomes certain and nothing is forgotten.
double weight_after(double weight, const graph::Verdicts& verdicts);

}  // namespace culprit::recall
