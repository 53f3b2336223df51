// Self-taught: weights for a system of which alerts are known, but of no incident who caused it.
//
// Two views of an incident teach each other (co-training: Blum and Mitchell, COLT 1998): how unusual what a service raised is, which weights from
// elsewhere judge, and which alerts it raised, which mean something in this system alone. The first view's answers are the second's labels, as
// chances rather than verdicts; both together answer again. An incident is always answered by a second view that was taught on others
// (folds, dealt anew each round), so that no answer confirms itself: expectation maximisation over all at once drifts away.
#pragma once

#include <vector>

#include "daemon/explain/learn/fit.h"

namespace culprit::explain {

inline constexpr std::size_t kSelfTaughtMin = 40;  // incidents with alerts, below which there is nothing to learn from

// `start` with more weights, or as it is with fewer incidents. Scaled so that on the whole its answers are as sure as those of `start`: no
// label says that they got better. Deterministic; the order of the examples does not matter.
Model teach_itself(const std::vector<Example>& examples, const Model& start);

}  // namespace culprit::explain
