// Lint: what is right in form and doubtful in meaning: clauses that never end, never fit, cost much, are there twice, or that no
// case of a stable rule would miss (rules/review.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rules/loader.h"

namespace culprit::rules {

struct Note {
  std::string rule{};
  std::string origin{};  // file:line
  std::string what{};
};

std::vector<Note> lint(const RuleSet& rules);

// Comparisons for 1,000 events of which one in a hundred comes near: what a rule costs before anything fits.
double estimated_cost(const Rule& rule);

// Series, kernel events and changes that culprit itself writes (docs/events.md).
std::span<const std::string_view> known_names(Kind kind);

}  // namespace culprit::rules
