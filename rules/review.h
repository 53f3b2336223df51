// Review: do a rule's own cases say all that the rule says?
//
// Each clause, and each condition of one, is dropped in turn, and the cases run again: one that no case misses is not tested,
// and may as well be wrong. By the same means the cases are told apart. A *positive* one fires. A *near miss* does not, but would
// if one condition fewer were asked. A *noisy* one fires although something that nearly fits is there too: with one condition fewer
// it would blame somebody else as well.
#pragma once

#include <string>
#include <vector>

#include "rules/loader.h"

namespace culprit::rules {

// A rule that asks for one thing less.
struct Mutant {
  std::string what{};  // "'kill' without 'entity: service:*'"
  int line = 0;
  bool name_only = false;  // asks for any event of the kind, whatever its name
  RulePtr rule{};
};
std::vector<Mutant> mutants_of(const Rule& rule);

struct Review {
  std::size_t positive = 0, near_misses = 0, noisy = 0;  // cases; known misses (`todo`) do not count
  std::vector<Mutant> survivors{};                       // which every case passes all the same
  std::size_t mutants = 0;
  bool too_large = false;  // the cases hold more events than are run so often; nothing was looked at
};
// Events of the cases, times clauses, times mutants: a second or so.
inline constexpr std::size_t kReviewStepsMax = 20'000'000;
Review review_cases(const Rule& rule);

}  // namespace culprit::rules
