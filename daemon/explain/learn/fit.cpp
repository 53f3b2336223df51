#include "daemon/explain/learn/fit.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "daemon/explain/learn/alert_words.h"
#include "daemon/explain/recorded/builder.h"

namespace culprit::explain {

namespace {

using Sparse = std::vector<std::pair<std::uint32_t, double>>;

// Features as numbers, in the order of their names.
class Vocabulary {
 public:
  // `with_wide`: also features that are the same for all candidates, which no sum of weights can use.
  Vocabulary(const std::vector<const Example*>& examples, std::size_t cases_min, bool with_names, bool with_wide = true) {
    std::map<std::string_view, std::size_t> cases;
    for (const Example* example : examples) {
      std::set<std::string_view> here;
      for (const Features& one : example->features) {
        for (const Feature& feature : one) here.insert(feature.name);
      }
      for (const std::string_view name : here) ++cases[name];
    }
    for (const auto& [name, count] : cases) {
      if (count < cases_min || names_.size() >= kFeaturesMax || (!with_names && names_somebody(name)) || (!with_wide && name.starts_with(kIncidentWide))) continue;
      place_.emplace(name, static_cast<std::uint32_t>(names_.size()));
      names_.emplace_back(name);
    }
  }
  Sparse encode(const Features& features) const {
    Sparse out;
    for (const Feature& feature : features) {
      const auto found = place_.find(feature.name);
      if (found != place_.end()) out.emplace_back(found->second, feature.value);
    }
    return out;
  }
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
  std::vector<std::size_t> wrong;  // instead of it: one of all others was right
  double weight = 1;
};

// The chance of each alternative after what is known of it: 1 for the right one, or the others' own shares.
std::vector<double> known_chances(const Choice& choice, const std::vector<double>& chances) {
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

double dot(const std::vector<double>& weights, const Sparse& x) {
  double sum = 0;
  for (const auto& [i, value] : x) sum += weights[i] * value;
  return sum;
}

// Before any label: who raises the rarest alerts is likeliest. Labels move it like any other weight.
double prior_of(std::string_view feature) { return feature == "alerts all rarity" ? 4.0 : 0.0; }

// `prior`: where the penalty holds the weights.
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

std::vector<Choice> choices_of(const std::vector<const Example*>& examples, const Vocabulary& words) {
  std::vector<Choice> out;
  for (const Example* example : examples) {
    if (example->truth < 0 && (example->rejected.empty() || example->rejected.size() == example->features.size())) continue;
    Choice choice;
    choice.weight = example->weight;
    if (example->truth >= 0) choice.right = static_cast<std::size_t>(example->truth);
    else choice.wrong = example->rejected;
    for (const Features& one : example->features) choice.alternatives.push_back(words.encode(one));
    out.push_back(std::move(choice));
  }
  return out;
}

std::vector<double> fit_weights(const std::vector<Choice>& choices, const Vocabulary& words, const FitOptions& options) {
  std::vector<double> penalty, prior;
  for (std::size_t i = 0; i < words.size(); ++i) {
    penalty.push_back(options.penalty * (names_somebody(words.name(i)) ? options.rare_penalty : 1));
    if (options.start == nullptr) {
      prior.push_back(prior_of(words.name(i)));
    } else {
      const auto before = options.start->weights.find(words.name(i));
      prior.push_back(before == options.start->weights.end() ? 0 : before->second);
    }
  }
  return maximise(choices, penalty, prior, options.steps);
}

// Three learners of the same features, whose scores add up.
struct Members {
  std::vector<double> weights;  // in the order of the vocabulary
  std::vector<Tree> boosted, forest;
};

void fit_members(const std::vector<const Example*>& examples, const FitOptions& options, Members& out) {
  const Vocabulary common(examples, 5, options.names);  // a split on less is chance
  out.boosted = fit_trees(examples, common.names(), options.trees);
  out.forest = fit_forest(examples, common.names(), options.forest);
}

// The place of a case in a deal of the folds; the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) shuffles all but the first.
std::uint64_t place_in_deal(std::string_view id, std::uint64_t number) {
  std::uint64_t hash = hash_id(id);
  if (number == 0) return hash;
  hash += number * 0x9e3779b97f4a7c15ULL;
  hash = (hash ^ (hash >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  hash = (hash ^ (hash >> 27U)) * 0x94d049bb133111ebULL;
  return hash ^ (hash >> 31U);
}

// The fold of each example, dealt by the hash of its id: the order of cases in a file, which may be that of time, decides nothing.
std::vector<std::size_t> deal(const std::vector<const Example*>& examples, std::size_t folds, std::uint64_t number = 0) {
  std::map<std::string_view, std::vector<std::size_t>> sets;
  for (std::size_t i = 0; i < examples.size(); ++i) sets[examples[i]->set].push_back(i);
  std::vector<std::size_t> out(examples.size());
  for (auto& [set, members] : sets) {
    std::ranges::sort(members, {}, [&](std::size_t i) { return std::pair(place_in_deal(examples[i]->id, number), examples[i]->id); });
    for (std::size_t k = 0; k < members.size(); ++k) out[members[k]] = k % folds;
  }
  return out;
}

// How much each member counts: the weights that tell best of incidents that the members were not fitted on (stacked generalisation:
// Wolpert, Neural Networks 1992; not negative: Breiman, Machine Learning 1996), held to a third each.
using Blend = std::array<double, 3>;

Blend blend_of(const std::vector<const Example*>& examples, const FitOptions& options) {
  constexpr std::size_t kFolds = 4;
  const std::vector<std::size_t> fold_of = deal(examples, kFolds);
  std::vector<Choice> choices;
  for (std::size_t fold = 0; fold < kFolds; ++fold) {
    std::vector<const Example*> others;
    for (std::size_t i = 0; i < examples.size(); ++i) {
      if (fold_of[i] != fold) others.push_back(examples[i]);
    }
    const Vocabulary words(others, std::min(options.cases_min, others.size()), options.names, false);
    Members members{fit_weights(choices_of(others, words), words, options), {}, {}};
    fit_members(others, options, members);
    for (std::size_t i = 0; i < examples.size(); ++i) {
      if (fold_of[i] != fold || examples[i]->truth < 0) continue;
      Choice choice;
      choice.weight = examples[i]->weight;
      choice.right = static_cast<std::size_t>(examples[i]->truth);
      for (const Features& one : examples[i]->features) {
        choice.alternatives.push_back({{0U, dot(members.weights, words.encode(one))}, {1U, tree_score(members.boosted, one)}, {2U, tree_score(members.forest, one)}});
      }
      choices.push_back(std::move(choice));
    }
  }
  constexpr double kHold = 10;
  Blend out{};
  const std::vector<double> found = maximise(choices, {kHold, kHold, kHold}, {1.0 / 3, 1.0 / 3, 1.0 / 3}, options.steps);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::max(0.0, found[i]);
  return out;
}

void scale(Members& members, const Blend& blend) {
  for (double& weight : members.weights) weight *= blend[0];
  for (const auto& [trees, factor] : {std::pair(&members.boosted, blend[1]), std::pair(&members.forest, blend[2])}) {
    for (Tree& tree : *trees) {
      for (TreeNode& node : tree) node.value *= factor;
    }
  }
}

void fit_faults(const std::vector<const Example*>& examples, const Vocabulary& words, const FitOptions& options, Model& out) {
  std::map<std::string, std::uint32_t> kinds;
  for (const Example* example : examples) {
    if (example->truth >= 0 && !example->fault.empty()) kinds.emplace(example->fault, 0);
  }
  if (kinds.empty()) return;
  std::uint32_t next = 0;
  for (auto& [kind, place] : kinds) place = next++;
  // A softmax over kinds is the same choice with a copy of the features for each kind, and a constant.
  const auto stride = static_cast<std::uint32_t>(words.size() + 1);
  std::vector<Choice> choices;
  for (const Example* example : examples) {
    if (example->truth < 0 || example->fault.empty()) continue;
    const Sparse x = words.encode(example->features[static_cast<std::size_t>(example->truth)]);
    Choice choice;
    choice.right = kinds.at(example->fault);
    for (std::uint32_t kind = 0; kind < next; ++kind) {
      Sparse copy;
      for (const auto& [i, value] : x) copy.emplace_back(kind * stride + i, value);
      copy.emplace_back(kind * stride + stride - 1, 1.0);
      choice.alternatives.push_back(std::move(copy));
    }
    choices.push_back(std::move(choice));
  }
  const std::vector<double> weights = maximise(choices, std::vector<double>(static_cast<std::size_t>(stride) * next, options.penalty),
                                              std::vector<double>(static_cast<std::size_t>(stride) * next), options.steps / 2);
  for (const auto& [kind, place] : kinds) {
    auto& into = out.faults[kind];
    for (std::size_t i = 0; i < words.size(); ++i) {
      const double weight = weights[std::size_t{place} * stride + i];
      if (std::fabs(weight) >= 0.02) into[words.name(i)] = std::round(weight * 1e3) / 1e3;
    }
    into["constant"] = std::round(weights[place * stride + stride - 1] * 1e3) / 1e3;
  }
}

// What was answered of cases of which it is known whether that was right.
std::vector<Answered> answered(const std::vector<Held>& held) {
  std::vector<Answered> out;
  for (const Held& one : held) {
    if (!one.judgement.chance.empty() && one.example->known()) out.push_back({one.judgement.standing, one.judgement.evidence, one.rank == 1});
  }
  return out;
}

}  // namespace

Model fit(const std::vector<const Example*>& examples, const FitOptions& options) {
  Model out;
  if (options.start != nullptr) out = *options.start;
  const std::size_t cases_min = std::min(options.cases_min, examples.size());
  const Vocabulary words(examples, cases_min, options.names, false);
  const std::vector<Choice> choices = choices_of(examples, words);
  Members members{fit_weights(choices, words, options), {}, {}};
  if (options.start == nullptr && choices.size() >= options.trees_from) {
    fit_members(examples, options, members);
    scale(members, blend_of(examples, options));
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (std::fabs(members.weights[i]) >= 0.005) out.weights[words.name(i)] = std::round(members.weights[i] * 1e3) / 1e3;
    else out.weights.erase(words.name(i));
  }
  if (options.start != nullptr) return out;  // few incidents teach no kinds of faults and no trees
  for (std::vector<Tree>* trees : {&members.boosted, &members.forest}) {
    for (Tree& tree : *trees) out.trees.push_back(std::move(tree));
  }
  fit_faults(examples, Vocabulary(examples, cases_min, options.names), options, out);
  return out;
}

void count_ranks(CrossValidation& out) {
  double total = 0, first = 0, five = 0, faults = 0, right_faults = 0;
  for (const Held& one : out.held) {
    if (!one.example->known()) continue;
    total += 1;
    if (one.rank == 1) first += 1;
    if (one.rank >= 1 && one.rank <= 5) five += static_cast<double>(6 - one.rank) / 5;
    if (!one.example->fault.empty()) faults += 1, right_faults += one.example->fault == one.judgement.fault ? 1 : 0;
  }
  out.ac1 = total > 0 ? first / total : 0;
  out.avg5 = total > 0 ? five / total : 0;
  out.fault_accuracy = faults > 0 ? right_faults / faults : 0;
}

double expected_calibration_error(const std::vector<Held>& held) {
  struct Bin {
    double count = 0, right = 0, said = 0;
  };
  std::array<Bin, 10> bins{};
  double total = 0;
  for (const Held& one : held) {
    if (!one.example->known()) continue;
    total += 1;
    Bin& bin = bins[static_cast<std::size_t>(std::clamp(one.judgement.confidence * 10, 0.0, 9.0))];
    bin.count += 1, bin.said += one.judgement.confidence, bin.right += one.rank == 1 ? 1 : 0;
  }
  double error = 0;
  for (const Bin& bin : bins) error += std::fabs(bin.right - bin.said);
  return total > 0 ? error / total : 0;
}

CrossValidation cross_validate(const std::vector<Example>& examples, const FitOptions& options, const ValidationOptions& how) {
  CrossValidation out;
  const std::size_t folds = how.folds;
  const std::vector<Example>& seen = how.tried != nullptr ? *how.tried : examples;
  assert(seen.size() == examples.size());
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  const std::vector<std::size_t> fold_of = deal(all, folds, how.deal);
  out.held.resize(examples.size());
  for (std::size_t fold = 0; fold < folds; ++fold) {
    std::vector<const Example*> others;
    for (std::size_t i = 0; i < examples.size(); ++i) {
      if (fold_of[i] != fold) others.push_back(&examples[i]);
    }
    const Model model = fit(others, options);
    for (std::size_t i = 0; i < examples.size(); ++i) {
      if (fold_of[i] != fold) continue;
      Held& held = out.held[i];
      held.example = &examples[i];
      held.judgement = judge(model, seen[i].features);
      for (std::size_t k = 0; k < held.judgement.order.size(); ++k) {
        if (static_cast<std::int32_t>(held.judgement.order[k]) == examples[i].truth) held.rank = k + 1;
      }
    }
  }
  const Calibrations* start = options.start == nullptr ? nullptr : &options.start->calibration;
  for (std::size_t fold = 0; fold < folds; ++fold) {
    std::vector<Held> others;
    for (std::size_t i = 0; i < examples.size(); ++i) {
      if (fold_of[i] != fold) others.push_back(out.held[i]);
    }
    const Calibrations found = calibrate(answered(others), start);
    for (std::size_t i = 0; i < examples.size(); ++i) {
      Judgement& judgement = out.held[i].judgement;
      if (fold_of[i] == fold) judgement.confidence = found.of(judgement.evidence).chance(judgement.standing);
    }
  }
  out.calibrated = calibrate(answered(out.held), start);
  count_ranks(out);
  out.ece = expected_calibration_error(out.held);
  return out;
}

}  // namespace culprit::explain
