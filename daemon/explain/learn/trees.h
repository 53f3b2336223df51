// Trees: small boosted regression trees beside the linear weights, for what only holds together ("slow answers, but its CPU
// is idle"). Used when there are enough labelled incidents to learn such a thing from.
//
// Gradient boosting (Friedman, Annals of Statistics 2001) of the same softmax over candidates that the weights are fitted to
// (listwise: ListNet's loss), with L2-regularised leaves (Chen and Guestrin, XGBoost, KDD 2016, eq. 5 to 7). Deterministic: features are
// looked at in the order of their names, and a fixed rotation of them for each tree instead of random draws.
//
// Beside them, extremely randomised trees (Geurts, Ernst and Wehenkel, Machine Learning 2006): each split is the best of random features at
// random thresholds, by the fall of the Gini impurity, and a leaf says the log-odds of being the cause among the candidates that reach it, held
// to those of all by one candidate's worth. Boosted trees correct each other, these vote: they err on other incidents. "Random" is a fixed sequence.
//
// No black box: what a tree adds is split among the features on the way to its leaf (the change of the mean at each step).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace culprit::explain {

struct Feature;
struct Example;

struct TreeNode {
  std::string feature;      // "" = a leaf
  double threshold = 0;     // more goes right
  std::int32_t left = -1, right = -1;
  double value = 0;         // of a leaf; inside, the mean of what is below
};
using Tree = std::vector<TreeNode>;  // node 0 is the root

inline constexpr std::size_t kTreesMax = 1000;
inline constexpr std::size_t kTreeNodesMax = 2047;

struct TreeOptions {
  std::size_t trees = 60;
  int depth = 4;
  double rate = 0.1;
  double penalty = 2.0;         // L2 on leaves
  std::size_t share = 3;        // each tree sees one feature of so many
  std::size_t rows_min = 4;     // below a split, in hessian-weighted candidates
};

std::vector<Tree> fit_trees(const std::vector<const Example*>& examples, const std::vector<std::string>& features, const TreeOptions& options);

struct ForestOptions {
  std::size_t trees = 100;
  int depth = 12;
  std::size_t share = 5;        // each split looks at one feature of so many
  std::size_t rows_min = 2;     // candidates in a leaf
};

// Their scores add up to the mean of what the leaves say.
std::vector<Tree> fit_forest(const std::vector<const Example*>& examples, const std::vector<std::string>& features, const ForestOptions& options);

double tree_score(const std::vector<Tree>& trees, const std::vector<Feature>& features);
// What each feature adds to that score; the constant part is left out.
std::map<std::string, double> tree_parts(const std::vector<Tree>& trees, const std::vector<Feature>& features);

}  // namespace culprit::explain
