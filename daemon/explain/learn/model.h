// Model: how much each piece of evidence weighs, and what the sum means.
//
// Each candidate of a case has features (what the blocks of evidence/ say about it, and which alerts it raised); its score
// is their weighted sum in log-odds; the chance that it is to blame is the softmax of the scores over the candidates
// (conditional logit: McFadden, 1974; as a ranker: ListNet, Cao et al., ICML 2007). So a weight reads "how much likelier does
// this make it", and a cause's score is a sum of reasons that can be shown.
//
// Weights are data (JSON), learned by fit.h from labelled cases; the built-in ones say from what. `habits` are counts of
// alerts by service over many incidents, without labels: an alert that a service raises in every incident says nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/learn/calibrate.h"
#include "daemon/explain/learn/trees.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

inline constexpr int kWeightsVersion = 3;
inline constexpr std::size_t kFeaturesMax = 1'000'000;

struct Habits {
  std::uint64_t cases = 0;
  std::map<std::string, std::uint64_t, std::less<>> counts;  // "service|alert" -> cases that had it
};

struct Model {
  std::string source = "nothing learned";
  std::map<std::string, double, std::less<>> weights;  // by feature
  std::vector<Tree> trees;       // empty, or their scores are added to that of the weights
  Calibrations calibration;
  Habits habits;
  std::map<std::string, std::map<std::string, double, std::less<>>> faults;  // kind of fault -> weights by feature
};

const Model& built_in_model();
Result<Model> parse_model(std::string_view json_text);  // Errors: Invalid, Unsupported, Exhausted
// The same from a file of `culprit learn`; errors name it, and Io if it cannot be read.
Result<Model> load_model(const std::filesystem::path& file);
std::string write_model(const Model& model);            // sorted keys, so that the same model is the same text

struct Feature {
  std::string name;  // "traces.span_gap", "alert M:mem_usage/up"
  double value = 0;
};
using Features = std::vector<Feature>;  // sorted by name

// For each candidate of the case.
std::vector<Features> features_of(const RecordedCase& c, const Signals& signals, const Habits& habits);

struct Judgement {
  std::vector<std::size_t> order;    // candidates, likeliest first; ties by name
  std::vector<double> score, chance; // by candidate; chances sum to 1
  double confidence = 0;             // calibrated chance that the first one is right
  std::string fault;                 // kind of fault at the first one; "" = cannot tell
  std::string evidence;              // what there was to go by
  Standing standing;                 // of the first one
};
Judgement judge(const Model& model, const std::vector<Features>& features);

// exp of the scores, made to sum to 1.
std::vector<double> softmax(const std::vector<double>& scores);
// What each feature adds to a candidate's log-odds.
std::map<std::string, double, std::less<>> parts_of(const Model& model, const Features& features);
// What there is to go by: "alerts", else "traces", else "metrics" or "logs"; "" = nothing. Of any candidate of the case.
std::string evidence_of(const std::vector<Features>& features);

}  // namespace culprit::explain
