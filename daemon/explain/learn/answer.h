// Answer: a recorded case as the same document that a live incident gets, and as one line for a scorer.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "daemon/explain/explanation.h"
#include "daemon/explain/learn/model.h"

namespace culprit::explain {

struct CaseAnswer {
  Explanation explanation;
  std::string case_id;
  std::vector<std::string> ranking;          // all candidates, likeliest first
  std::vector<std::string> ranking_commits;  // likeliest first, "none" among them; empty without changes
  std::string fault_type;
};

// A pure function of its arguments: nothing is remembered from one case to the next.
CaseAnswer answer_case(const RecordedCase& c, const Model& model);

// The explanation's document with {"case", "ranking", "ranking_commits", "fault_type"} added.
nlohmann::json to_json(const CaseAnswer& answer);

}  // namespace culprit::explain
