// What alerts say along calls: about whom, by whom else, and what stands on the two ends of a call.
//
// A slow or failed call shows in up to two spans: the client's, inside the caller, and the server's, at the callee. An alert of
// the client's span alone puts the trouble between the two: network or queue at either end (Dapper, 2010). And what a service's
// callees and callers raise at the same time is what could explain its own alerts away (Pearl, Probabilistic Reasoning, 1988, section 2.3;
// over the calls of microservices: MicroRCA, Wu et al., NOMS 2020, who weigh a service by its neighbours' anomalies).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "daemon/explain/learn/alert_said.h"

namespace culprit::explain {

// What a call's alert says by who else raised it about the same callee: one caller of many points to the caller, all of
// them point to the callee; and who is complained about but complains of nobody is where the trouble ends.
struct CallAlerts {
  double sole = 0;                      // surprise of complaints that only it has, of those whom others call too
  std::map<std::string, double> share;  // kind -> share of its callers that complain about it
  bool leaf = false;
};

// For each candidate.
std::vector<CallAlerts> call_alerts_of(const RecordedCase& c, const std::vector<AlertWords>& said, const Habits& habits);

// Features by candidate, of both ends of its calls and of its neighbours. Who calls whom and who serves which operation is read
// from alerts on calls: this incident's, and those that were counted in others, without labels.
std::vector<std::map<std::string, double>> neighbour_features(const RecordedCase& c, const std::vector<AlertWords>& said, const Habits& habits);

}  // namespace culprit::explain
