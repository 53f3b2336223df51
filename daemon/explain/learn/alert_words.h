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
// A system's own words: its instances, services, log templates and operations. Metrics are named by exporters that many systems
// share ("alert M:mem_usage/up"); "alert memory/up", "alert rare T>/PD" and the sums name nothing.
bool names_somebody(std::string_view feature);
inline constexpr std::string_view kIncidentWide = "incident ";  // begins features that are the same for all candidates
// Counts this incident.
void learn_habits(const RecordedCase& c, Habits& habits);
// "carts-1" -> "carts", "logservice2" -> "logservice": the service whose instance it is.
std::string_view group_of(std::string_view instance);

}  // namespace culprit::explain
