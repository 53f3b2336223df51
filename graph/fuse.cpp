#include "graph/fuse.h"

#include <cmath>

namespace culprit::graph {

std::vector<double> fuse(std::span<const Signals> candidates, const FuseWeights& weights) {
  std::vector<double> scores(candidates.size(), 0.0);
  const auto add = [&](double Signals::*kind, double weight) {
    double sum = 0;
    double squares = 0;
    for (const Signals& one : candidates) {
      sum += one.*kind;
      squares += one.*kind * one.*kind;
    }
    const double count = static_cast<double>(candidates.size());
    const double mean = sum / count;
    const double variance = squares / count - mean * mean;
    if (!(variance > 1e-12)) return;
    const double scale = weight / std::sqrt(variance);
    for (std::size_t i = 0; i < candidates.size(); ++i) scores[i] += (candidates[i].*kind - mean) * scale;
  };
  add(&Signals::text, weights.text);
  add(&Signals::vector, weights.vector);
  for (std::size_t i = 0; i < candidates.size(); ++i) scores[i] += weights.link * candidates[i].link;
  return scores;
}

std::vector<double> fuse(std::span<const Signals> candidates, const std::vector<bool>& own, const FuseWeights& weights) {
  std::vector<double> scores(candidates.size(), 0.0);
  for (const bool side : {true, false}) {
    std::vector<Signals> some;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (own[i] == side) some.push_back(candidates[i]);
    }
    const std::vector<double> of_some = fuse(some, weights);
    for (std::size_t i = 0, at = 0; i < candidates.size(); ++i) {
      if (own[i] == side) scores[i] = of_some[at++];
    }
  }
  return scores;
}

}  // namespace culprit::graph
