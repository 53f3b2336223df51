// Fit: weights from labelled cases, in seconds, the same for the same cases in any order.
//
// Maximises the log-likelihood of the true causes under the softmax of model.h, less an L2 penalty, by full-batch gradient
// steps (Adam; Kingma and Ba, ICLR 2015): convex, so the start does not matter. Of an incident of which only is known who did not
// cause it, the likelihood is that of all others together (partial labels: Cour, Sapp and Taskar, JMLR 2011). Calibration is that of calibrate.h.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "daemon/explain/learn/model.h"

namespace culprit::explain {

struct Example {
  std::string id;
  std::string set;                 // of cases that belong together: penalties and folds count each set alike
  std::vector<Features> features;  // of each candidate
  std::vector<std::string> names;  // of the candidates
  std::int32_t truth = -1;         // the candidate to blame; -1 = none of them, or not known
  std::vector<std::size_t> rejected;  // candidates that are known not to be it
  double weight = 1;
  bool known() const { return truth >= 0 || rejected.empty(); }  // it can be said whether an answer was right
  std::string fault;
};

struct FitOptions {
  double penalty = 1.0;      // L2, on features that many cases share
  double rare_penalty = 1.0; // factor for features that name an instance or service
  int steps = 300;
  std::size_t cases_min = 2; // in which a feature must occur
  bool names = true;         // also features that name an instance or service
  const Model* start = nullptr;  // the penalty holds the weights to these instead of to a prior: for few incidents. No trees then
  std::size_t trees_from = 80;   // labelled cases from which on trees are fitted too
  TreeOptions trees = {};
  ForestOptions forest = {};
};

Model fit(const std::vector<const Example*>& examples, const FitOptions& options);

// A weight by judgement, before any label, which moves it like any other: who raises the rarest alerts is likeliest, and a call of which only the
// client's side raised one speaks for the end where such calls meet.
double prior_of(std::string_view feature);

// The fold of each example, dealt by the hash of its id: the order of cases in a file, which may be that of time, decides nothing.
std::vector<std::size_t> deal(const std::vector<const Example*>& examples, std::size_t folds, std::uint64_t number = 0);

struct Held {  // what a model said about a case that it was not fitted on
  const Example* example = nullptr;
  Judgement judgement;
  std::size_t rank = 0;   // of the truth, from 1; 0 = it is no candidate
};

struct CrossValidation {  // in one way of dealing the folds
  std::vector<Held> held;       // in the order of the examples
  double ac1 = 0, avg5 = 0;     // as the benchmark's scorer counts
  double fault_accuracy = 0;
  double ece = 0;               // expected calibration error, 10 bins
};

struct Validation {
  std::vector<CrossValidation> deals;
  Calibrations calibrated;      // fitted on what all deals answered of all cases
};

struct ValidationOptions {
  std::size_t folds = 5;
  // The same cases in the same order, as the models shall see them when they are tried (with less in them, say); they are always
  // fitted on the examples themselves. nullptr: as they are.
  const std::vector<Example>* tried = nullptr;
  std::size_t deals = 1;  // ways of dealing the folds: one is one draw, and few cases fall differently in each
};

// Folds by the hash of the case's id, each set dealt evenly. Confidence of a fold is calibrated on what all deals answered of the cases of
// the other folds: how sure a model may be depends on which cases it saw, and one deal shows that of few models.
Validation cross_validate(const std::vector<Example>& examples, const FitOptions& options, const ValidationOptions& how = {});

// Share of `held` right at rank 1, and the mean of AC@1..5.
void count_ranks(CrossValidation& out);
double expected_calibration_error(const std::vector<Held>& held);

}  // namespace culprit::explain
