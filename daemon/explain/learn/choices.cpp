#include "daemon/explain/learn/choices.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace culprit::explain {

Vocabulary::Vocabulary(const std::vector<const Example*>& examples, std::size_t cases_min, const std::function<bool(std::string_view)>& wanted) {
  std::map<std::string_view, std::size_t> cases;
  for (const Example* example : examples) {
    std::set<std::string_view> here;
    for (const Features& one : example->features) {
      for (const Feature& feature : one) here.insert(feature.name);
    }
    for (const std::string_view name : here) ++cases[name];
  }
  for (const auto& [name, count] : cases) {
    if (count < cases_min || names_.size() >= kFeaturesMax || !wanted(name)) continue;
    place_.emplace(name, static_cast<std::uint32_t>(names_.size()));
    names_.emplace_back(name);
  }
}

Sparse Vocabulary::encode(const Features& features) const {
  Sparse out;
  for (const Feature& feature : features) {
    const auto found = place_.find(feature.name);
    if (found != place_.end()) out.emplace_back(found->second, feature.value);
  }
  return out;
}

namespace {

// The chance of each alternative after what is known of it: 1 for the right one, or the others' own shares.
std::vector<double> known_chances(const Choice& choice, const std::vector<double>& chances) {
  if (!choice.chances.empty()) return choice.chances;
  std::vector<double> out(chances.size());
  if (choice.wrong.empty()) {
    out[choice.right] = 1;
    return out;
  }
  out = chances;
  for (const std::size_t k : choice.wrong) out[k] = 0;
  double left = 0;
  for (const double chance : out) left += chance;
  for (double& chance : out) chance /= std::max(left, 1e-12);
  return out;
}

}  // namespace

double dot(const std::vector<double>& weights, const Sparse& x) {
  double sum = 0;
  for (const auto& [i, value] : x) sum += weights[i] * value;
  return sum;
}

std::vector<double> maximise(const std::vector<Choice>& choices, const std::vector<double>& penalty, const std::vector<double>& prior, int steps) {
  std::vector<double> weights = prior, mean(penalty.size()), square(penalty.size()), gradient(penalty.size());
  double total = 1e-9;
  for (const Choice& choice : choices) total += choice.weight;
  for (int step = 1; step <= steps; ++step) {
    for (std::size_t i = 0; i < weights.size(); ++i) gradient[i] = -penalty[i] * (weights[i] - prior[i]) / total;
    for (const Choice& choice : choices) {
      std::vector<double> scores;
      scores.reserve(choice.alternatives.size());
      for (const Sparse& x : choice.alternatives) scores.push_back(dot(weights, x));
      const std::vector<double> chances = softmax(scores), known = known_chances(choice, chances);
      for (std::size_t k = 0; k < choice.alternatives.size(); ++k) {
        const double push = choice.weight * (known[k] - chances[k]) / total;
        if (std::fabs(push) < 1e-12) continue;
        for (const auto& [i, value] : choice.alternatives[k]) gradient[i] += push * value;
      }
    }
    const double rate = 0.15 / (1 + 3.0 * step / steps);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      mean[i] = 0.9 * mean[i] + 0.1 * gradient[i];
      square[i] = 0.99 * square[i] + 0.01 * gradient[i] * gradient[i];
      const double m = mean[i] / (1 - std::pow(0.9, step)), s = square[i] / (1 - std::pow(0.99, step));
      weights[i] += rate * m / (std::sqrt(s) + 1e-6);
    }
  }
  return weights;
}

}  // namespace culprit::explain
