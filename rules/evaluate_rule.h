// One rule over a window: inside of the evaluator, shared with the tests inside rules.
#pragma once

#include <span>
#include <vector>

#include "rules/evaluator.h"

namespace culprit::rules {

// Observations indexed by kind, in order of time.
class Window {
 public:
  explicit Window(std::span<const Observation> observations);  // must outlive it
  const std::vector<std::size_t>& of(Kind kind) const { return by_kind_[static_cast<std::size_t>(kind)]; }
  const Observation& operator[](std::size_t index) const { return observations_[index]; }

 private:
  std::span<const Observation> observations_;
  std::vector<std::vector<std::size_t>> by_kind_;
};

void evaluate_rule(const Rule& rule, const Window& window, Evaluation& out);
void sort_findings(std::vector<Finding>& findings);

}  // namespace culprit::rules
