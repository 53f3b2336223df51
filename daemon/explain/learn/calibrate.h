// Calibration: how often an answer that stands like this one turned out right.
//
// A logistic function (Platt, 1999) of how far the first candidate is ahead of all others together, how far of the second alone,
// and how many kinds of evidence put it first: of incidents with many candidates the rest share much of the chance, though none of
// them comes near; and what rests on one kind of evidence alone errs more often than the same lead from three. Fitted on cases that the
// weights were not fitted on.
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
  double margin = 0;  // against the second, at most kMarginMax
  double agree = 0;   // kinds of evidence that put it first
};
inline constexpr double kMarginMax = 14;  // the lead ends there too

Standing standing_of(const std::vector<double>& chances, const std::vector<std::vector<Feature>>& features);

// chance of being right = logistic(lead * lead + margin * margin + agree * agree + offset)
struct Calibration {
  double lead = 1, margin = 0, agree = 0, offset = 0;
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
};

// `start`: of weights that were there before, which few cases move little; nullptr: anew.
Calibrations calibrate(const std::vector<Answered>& answered, const Calibrations* start);

}  // namespace culprit::explain
