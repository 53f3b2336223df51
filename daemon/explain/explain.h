// Explain: a pure function from the event stream to a short ranked list of causes.
//
// 1. every series of [onset - 10 min, now] is compared with its own past (scene.h);
// 2. generators propose candidates, (entity, failure mode), each with dated evidence (causes/*.cpp);
// 3. evidence adds up in log-odds (weights.h): time order, reachability along calls, whose own time grew,
//    errno and log matches, a change just before; what a deeper cause explains loses weight (rank.cpp);
//    the blocks that recorded incidents are ranked by and what people said of earlier answers add a little (blocks.cpp);
// 4. confidence is what the best has over the others and over "something unseen", lowered by what was not seen.
// Same events, incident and options: same answer, bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/detect/incident.h"
#include "daemon/explain/explanation.h"
#include "daemon/explain/knowledge.h"
#include "daemon/stream/store.h"

namespace culprit::explain {

struct Model;  // learn/model.h

struct ExplainOptions {
  std::int64_t now_ns = 0;          // events later than this are not looked at
  std::int64_t wall_offset_ns = 0;  // for times in texts: CLOCK_REALTIME - CLOCK_BOOTTIME
  std::string focus;                // a service of the incident to explain from; empty: incident.service
  std::size_t candidates_max = 5;
  Completeness completeness;
  std::vector<RuleHit> rule_hits;
  std::string rules_hash;  // of the set that they are of
  std::map<std::string, Verdicts> verdicts;  // by failure mode
  // [from, to) of earlier incidents, whose seconds are no baseline.
  std::vector<std::pair<std::int64_t, std::int64_t>> excluded;
  const Knowledge* knowledge = nullptr;  // optional; must outlive the call
  const Model* weights = nullptr;        // of the blocks; none = the built-in ones. Must outlive the call
};

inline constexpr std::int64_t kHistoryNs = 600'000'000'000;  // before the onset
inline constexpr std::int64_t kIncidentNsMax = 300'000'000'000;  // of a long incident, from the onset on

// Errors: those of the store.
Result<Explanation> explain(const stream::EventStore& store, const detect::Incident& incident,
                            const ExplainOptions& options);

}  // namespace culprit::explain
