// Clauses: a rule at one moment, clause by clause: true or false, with the values that made it so.
//
// Where the rule fires, its own evidence is shown; where it does not, the try that came nearest: the anchor nearest to the moment
// for which most of the other clauses hold. A clause holds only where its window, its entity and its count hold too.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rules/engine.h"

namespace culprit::rules {

struct Condition {
  std::string text{};  // "above 0.95"
  std::string got{};   // "0.41"
  bool holds = false;
};

struct ClauseReport {
  std::string id{};
  std::string text{};  // "metric fsync.mean, within 30 s before kill"
  bool holds = false;
  bool optional = false;
  std::uint64_t fitting = 0;             // events that fit it, window and entity included
  std::string nearest{};                 // the event looked at
  std::int64_t nearest_ns = 0;
  std::vector<Condition> conditions{};   // of that event
};

struct RuleReport {
  std::vector<ClauseReport> clauses{};
  std::vector<Condition> relations{};  // joins and paths, with the values of the events shown
  std::vector<Finding> findings{};
  std::int64_t from_ns = 0, to_ns = 0;  // the window around the moment that was looked at
};

// How far around a moment a rule looks.
std::int64_t span_of(const Rule& rule);

RuleReport explain_rule(const RulePtr& rule, std::span<const stream::Event> events, std::int64_t at_ns);

}  // namespace culprit::rules
