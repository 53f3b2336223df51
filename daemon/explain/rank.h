// Rank: drafts become the ordered candidates of an explanation.
#pragma once

#include "daemon/explain/draft.h"
#include "daemon/explain/explanation.h"
#include "daemon/explain/scene.h"

namespace culprit::explain {

// One draft for each (mode, service): evidence of twins is joined.
void merge(Drafts& drafts);

// Time order and explaining away: what another candidate accounts for loses weight.
void weigh(const Scene& scene, Drafts& drafts);

// Orders by score and fills candidates, verdict and, if nothing stands out, what to collect.
void rank(const Scene& scene, Drafts& drafts, Explanation& out);

// What was looked at and is well, with its number: "cpu (run-queue wait 300 us)".
std::vector<std::string> ruled_out(const Scene& scene, const Draft& draft);

// Lowers confidence for what was not seen; 1 = everything was.
double seen_share(const Scene& scene);

}  // namespace culprit::explain
