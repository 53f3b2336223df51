// Lint: is what the packs say complete? Loading a pack asks for what a program needs; this asks for what a person needs.
#pragma once

#include <string>
#include <vector>

#include "graph/knowledge.h"

namespace culprit::graph {

struct LintFinding {
  const FailureMode* mode = nullptr;
  std::string what{};
};

// Each failure mode has at least two symptoms, one of them a deterministic tell-tale (a literal, regex or condition of
// weight >= 0.7); two causes with priors that add up to at most 1; an immediate and a lasting mitigation; three
// paraphrases, none given twice in all packs; a source. A claim of confidence >= 0.9 names what it was checked against.
std::vector<LintFinding> lint(const Knowledge& known);

}  // namespace culprit::graph
