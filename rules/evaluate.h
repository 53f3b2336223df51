// One rule over what fits its clauses: the join over time, values and topology. Inside of the engine, and for tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/verdicts.h"
#include "rules/loader.h"
#include "rules/topology.h"

namespace culprit::rules {

inline constexpr std::size_t kAnchorsMax = 10'000;
inline constexpr std::size_t kFindingsPerRuleMax = 100;
inline constexpr std::uint64_t kStepsMax = 2'000'000;  // comparisons that one rule may cost in one evaluation
inline constexpr std::size_t kTriesPerItemMax = 32;    // nearest events tried for an item before it counts as unmet

// Events that fit a clause; those that came in one second after the first many are only counted.
struct Occurrence {
  std::shared_ptr<const stream::Event> event;  // shared by the clauses that it fits and by findings
  std::uint64_t times = 1;
};

struct Bound {
  std::string id{};  // of the match item
  std::shared_ptr<const stream::Event> event{};
};

struct Finding {
  RulePtr rule{};
  std::int64_t time_ns = 0;  // of the first anchor
  std::int64_t last_ns = 0;  // of the last one
  std::string entity{};      // blamed
  std::string cause{};       // failure mode
  std::string explanation{};
  std::vector<std::string> next{};
  double weight = 0;        // rule's, plus optional items that held
  std::uint64_t count = 0;  // anchors with the same blame
  std::vector<Bound> bound{};  // of the first
};

struct Evaluation {
  std::vector<Finding> findings{};  // heaviest first, then time, then rule id
  std::uint64_t skipped = 0;        // anchors and findings beyond the limits
  std::uint64_t steps = 0;          // what it cost, in comparisons
};

// `fitting[i]`: what fits rule->match[i], by time. `until_ns`: an absence is only sure once its window is over.
void evaluate_rule(const RulePtr& rule, const std::vector<std::vector<Occurrence>>& fitting, const Topology& topology, std::int64_t until_ns, Evaluation& out);
// A rule's weight after people's verdicts on what it blamed: log-odds of being right, from no opinion on, at most
// kLearnedMax to either side. `partly` counts half for each.
inline constexpr double kLearnedMax = 1.5;
double learned_weight(const Rule& rule, double weight, const Verdicts& said);

void sort_findings(std::vector<Finding>& findings);

// What {id.field} is for an event that fits the item; nothing if it has no such field.
std::optional<std::string> field_of(const MatchItem& item, const stream::Event& event, const std::string& field);

}  // namespace culprit::rules
