// Fuse: one score from several kinds of evidence about the same candidates.
//
// Scores of different kinds do not compare; their places among the candidates do (z-scores: how many standard deviations
// above the mean). Ranks alone would forget by how much the first is better than the second.
#pragma once

#include <span>
#include <vector>

namespace culprit::graph {

struct Signals {
  double text = 0;    // BM25; 0 = not found by words
  double vector = 0;  // cosine
  double link = 0;    // of the failure modes that the candidate speaks of, in standard deviations already; 0 = none
};

struct FuseWeights {
  double text = 1.0, vector = 1.0, link = 1.0;
};

// scores[i] of candidates[i]: z-scores of text and vector, and the link as it is. A kind in which all candidates are equal adds nothing.
std::vector<double> fuse(std::span<const Signals> candidates, const FuseWeights& weights);

// The same, where a known middleware narrows the question: its own candidates are compared with each other only, and the others
// with each other.
std::vector<double> fuse(std::span<const Signals> candidates, const std::vector<bool>& own, const FuseWeights& weights);

}  // namespace culprit::graph
