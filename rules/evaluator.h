// Evaluating rules: a window of observations in, findings out. The same input gives the same findings.
//
// For each rule, every observation that fits its anchor is tried; the other items must be satisfied by
// observations within their time of the item that they name. Observations are indexed by kind once, so
// that a rule looks only at its kinds. Cost is bounded: per rule at most kAnchorsMax anchors, the rest
// is counted in `skipped`.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rules/loader.h"
#include "rules/rule.h"

namespace culprit::rules {

inline constexpr std::size_t kAnchorsMax = 10'000;
inline constexpr std::size_t kFindingsPerRuleMax = 100;

struct Bound {
  std::string id{};               // of the match item
  std::size_t observation = 0;  // index into the window
};

struct Finding {
  const Rule* rule = nullptr;  // lives as long as the RuleSet
  std::int64_t time_ns = 0;    // of the first anchor
  std::string entity{};          // blamed
  std::string cause{};           // failure mode
  std::string explanation{};
  double weight = 0;           // rule's, plus optional items that held
  std::size_t count = 1;       // anchors with the same blame
  std::vector<Bound> bound{};    // of the first
};

struct EvaluateOptions {
  Status least = Status::Stable;  // rules below it (sandbox < incubating < stable) are off; deprecated always
};

struct Evaluation {
  std::vector<Finding> findings{};  // heaviest first, then time, then rule id
  std::uint64_t skipped = 0;      // anchors and findings beyond the limits
};

// `window` in any order; findings point into it by index.
Evaluation evaluate(const RuleSet& rules, std::span<const Observation> window, const EvaluateOptions& options = {});

}  // namespace culprit::rules
