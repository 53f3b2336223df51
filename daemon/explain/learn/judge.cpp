#include <algorithm>
#include <cmath>
#include <numeric>

#include "daemon/explain/learn/model.h"

namespace culprit::explain {

namespace {

constexpr double kNothingSeen = 0.3;  // at most, where only the place of the symptom is known

double dot(const std::map<std::string, double, std::less<>>& weights, const Features& features) {
  double sum = 0;
  for (const Feature& feature : features) {
    const auto weight = weights.find(feature.name);
    if (weight != weights.end()) sum += weight->second * feature.value;
  }
  return sum;
}

}  // namespace

std::vector<double> softmax(const std::vector<double>& scores) {
  if (scores.empty()) return {};
  const double most = *std::ranges::max_element(scores);
  std::vector<double> out;
  double total = 0;
  for (const double score : scores) total += out.emplace_back(std::exp(score - most));
  for (double& chance : out) chance /= total;
  return out;
}

std::map<std::string, double, std::less<>> parts_of(const Model& model, const Features& features) {
  std::map<std::string, double, std::less<>> out;
  for (const Feature& feature : features) {
    const auto weight = model.weights.find(feature.name);
    if (weight != model.weights.end()) out[feature.name] += weight->second * feature.value;
  }
  for (const auto& [feature, part] : tree_parts(model.trees, features)) out[feature] += part;
  return out;
}

std::string evidence_of(const std::vector<Features>& features) {
  for (const std::string_view kind : {"alerts", "traces", "metrics", "logs"}) {
    for (const Features& one : features) {
      if (std::ranges::any_of(one, [&](const Feature& feature) { return feature.name.starts_with(kind); })) return std::string(kind);
    }
  }
  return {};
}

Judgement judge(const Model& model, const std::vector<Features>& features) {
  Judgement out;
  for (const Features& one : features) {
    const double linear = dot(model.weights, one);
    out.score.push_back(linear + tree_score(model.trees, one));
  }
  out.chance = softmax(out.score);
  out.order.resize(features.size());
  std::iota(out.order.begin(), out.order.end(), std::size_t{0});
  std::ranges::stable_sort(out.order, [&](std::size_t a, std::size_t b) { return out.score[a] > out.score[b]; });
  if (out.order.empty()) return out;
  out.evidence = evidence_of(features);
  out.standing = standing_of(out.chance, features);
  out.confidence = model.calibration.of(out.evidence).chance(out.standing);
  if (out.evidence.empty()) out.confidence = std::min({out.confidence, kNothingSeen, 1 / static_cast<double>(features.size())});
  double best = -1e300;
  for (const auto& [fault, weights] : model.faults) {
    const auto constant = weights.find("constant");
    const double score = dot(weights, features[out.order.front()]) + (constant == weights.end() ? 0 : constant->second);
    if (score > best) best = score, out.fault = fault;
  }
  return out;
}

}  // namespace culprit::explain
