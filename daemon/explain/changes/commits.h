// Which commit is to blame, if any: changes against the symptom.
//
// A sum of log-odds, as for services: it was deployed shortly before the onset; to a service that shows the symptom; its diff
// speaks of what the alert, the errors and the failed calls speak of (rare words weigh more: TF-IDF, as information retrieval weighs them;
// Salton and Buckley, 1988); it changes what a symptom of this kind comes from (a
// timeout for deadlines, a cache for memory); and it does something at all: documents, tests and styles do not.
// "none" competes: with symptoms that point outside (an expired certificate, a provider, a neighbour on the machine), or
// when no commit stands out. The weights are judgement, not learned: twelve public incidents are too few.
#pragma once

#include <string>
#include <vector>

#include "daemon/explain/explanation.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct RankedCommit {
  std::string id;  // "none" = no commit
  double score = 0;
  std::string reason;
};

std::vector<RankedCommit> score_commits(const RecordedCase& c);

// Their ids, likeliest first, "none" at its place; empty if the case has no commits. What speaks for the first becomes the
// trigger of the cause whose service it was deployed to.
std::vector<std::string> rank_commits(const RecordedCase& c, Explanation& explanation);

}  // namespace culprit::explain
