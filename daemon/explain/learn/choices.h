// Choices: one of several alternatives was right, each a sum of weights times features; the weights that make what is known of them likeliest.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/explain/learn/fit.h"

namespace culprit::explain {

using Sparse = std::vector<std::pair<std::uint32_t, double>>;

// Features as numbers, in the order of their names. The examples must outlive it.
class Vocabulary {
 public:
  // Those that `wanted` wants and that occur in `cases_min` examples.
  Vocabulary(const std::vector<const Example*>& examples, std::size_t cases_min, const std::function<bool(std::string_view)>& wanted);
  Sparse encode(const Features& features) const;
  std::size_t size() const { return names_.size(); }
  const std::string& name(std::size_t i) const { return names_[i]; }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::string_view, std::uint32_t> place_;
};

struct Choice {  // one row of a softmax: alternatives, and which was right
  std::vector<Sparse> alternatives;
  std::size_t right = 0;
  std::vector<std::size_t> wrong{};  // instead of it: one of all others was right
  std::vector<double> chances{};     // instead of both: how likely each is to have been right
  double weight = 1;
};

double dot(const std::vector<double>& weights, const Sparse& x);

// Maximises the log-likelihood of what is known of the choices, less half of penalty x (weight - prior)^2.
std::vector<double> maximise(const std::vector<Choice>& choices, const std::vector<double>& penalty, const std::vector<double>& prior, int steps);

}  // namespace culprit::explain
