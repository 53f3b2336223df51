// Calibration: how often an answer that stands like this one turned out right.
//
// A logistic function (Platt, 1999) of how far the first candidate is ahead of all others together and how many kinds of evidence
// put it first: what rests on one kind of evidence alone errs more often than the same lead from three. Fitted on cases that the weights were not fitted on.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::explain {

struct Feature;

// How the first candidate stands.
struct Standing {
  double lead = 0;    // log-odds against all others together
  double agree = 0;   // kinds of evidence that put it first
};

Standing standing_of(const std::vector<double>& chances, const std::vector<std::vector<Feature>>& features);

// chance of being right = logistic(lead * lead + agree * agree + offset)
struct Calibration {
  double lead = 1, agree = 0, offset = 0;
  double chance(const Standing& standing) const;
};

// One for all, and one for each kind of evidence that there is to go by (evidence_of() in model.h).
struct Calibrations {
  Calibration common;
  std::map<std::string, Calibration, std::less<>> by_evidence;
  const Calibration& of(std::string_view evidence) const;
};

struct Answered {  // a case that the weights were not fitted on
  Standing standing;
  std::string evidence;
  bool right = false;
  double weight = 1;  // of a case: what is answered several times, by weights from several ways of dealing the folds, counts as one in all
};

// `start`: of weights that were there before, which few cases move little; nullptr: anew.
Calibrations calibrate(const std::vector<Answered>& answered, const Calibrations* start);

}  // namespace culprit::explain
