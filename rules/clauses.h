// Clauses: a rule at one moment, clause by clause: true or false, with the values that made it so.
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
  std::uint64_t fitting = 0;             // events that fit it in the window
  std::string nearest{};                 // the event looked at: the nearest to the moment of its kind and name
  std::int64_t nearest_ns = 0;
  std::vector<Condition> conditions{};   // of that event
};

struct RuleReport {
  std::vector<ClauseReport> clauses{};
  std::vector<Condition> relations{};  // joins and paths, when every clause has an event
  std::vector<Finding> findings{};
  std::int64_t from_ns = 0, to_ns = 0;  // the window around the moment that was looked at
};

// How far around a moment a rule looks.
std::int64_t span_of(const Rule& rule);

RuleReport explain_rule(const RulePtr& rule, std::span<const stream::Event> events, std::int64_t at_ns);

}  // namespace culprit::rules
