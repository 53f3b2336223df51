// Alerts as features, for incidents of which only alerts are known.
//
// An alert is a word; a candidate is the words that it raised, that were raised about it by its callers, and whether a
// twin (the same service's other instance) raised them too. How unusual a word is for a service is its surprise,
// -log of the share of incidents in which the service raised it (TF-IDF of alerts: Lin et al., ICSE-SEIP 2016; Shannon).
#pragma once

#include <string>
#include <vector>

#include "daemon/explain/learn/model.h"

namespace culprit::explain {

// For each candidate; empty if the case has no alerts.
std::vector<Features> alert_features(const RecordedCase& c, const Habits& habits);
// Counts this incident.
void learn_habits(const RecordedCase& c, Habits& habits);
// "carts-1" -> "carts", "logservice2" -> "logservice": the service whose instance it is.
std::string_view group_of(std::string_view instance);

}  // namespace culprit::explain
