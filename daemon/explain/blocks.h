// Blocks: what was learned, added to a live incident's drafts. Both are bounded: they order what direct observations leave
// open, and cannot outweigh one (weights.h).
#pragma once

#include "daemon/base/result.h"
#include "daemon/explain/draft.h"
#include "daemon/explain/scene.h"

namespace culprit::explain {

// The blocks of evidence/ with the weights that recorded incidents are ranked by (learn/): each service's chance by them,
// compared with that of any, is evidence for or against the drafts that blame it. Errors: those of the store.
Result<void> weigh_blocks(const stream::EventStore& store, const Scene& scene, Drafts& drafts);

// What people said of earlier answers with the same failure mode. A draft whose rule or log sign is weighed by it already
// is left alone.
void weigh_verdicts(const Scene& scene, Drafts& drafts);

// In log-odds, within +-weight::kVerdicts: 0 without a verdict.
double log_odds_of(const Verdicts& said);

}  // namespace culprit::explain
