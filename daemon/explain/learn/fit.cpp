#include "daemon/explain/learn/fit.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "daemon/explain/learn/alert_words.h"
#include "daemon/explain/learn/choices.h"
#include "daemon/explain/recorded/builder.h"

namespace culprit::explain {

namespace {

// Names of a system's own tell better how far the first is ahead than that alone (0.895, 0.868, 0.696 with it 0.886, 0.863, 0.693).
bool is_learned(std::string_view feature, const FitOptions& options) {
  return options.names ? !(feature.starts_with("alerts ") && feature.ends_with(" ahead")) : !names_somebody(feature);
}
// Not what is the same for all candidates, which no sum of weights can use.
bool is_summed(std::string_view feature, const FitOptions& options) { return !feature.starts_with(kIncidentWide) && is_learned(feature, options); }

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
  const Vocabulary common(examples, 5, [&](std::string_view name) { return is_learned(name, options); });  // a split on less is chance
  out.boosted = fit_trees(examples, common.names(), options.trees);
  out.forest = fit_forest(examples, common.names(), options.forest);
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
    const Vocabulary words(others, std::min(options.cases_min, others.size()), [&](std::string_view name) { return is_summed(name, options); });
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

// The place of a case in a deal of the folds; the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) shuffles all but the first.
std::uint64_t place_in_deal(std::string_view id, std::uint64_t number) {
  std::uint64_t hash = hash_id(id);
  if (number == 0) return hash;
  hash += number * 0x9e3779b97f4a7c15ULL;
  hash = (hash ^ (hash >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  hash = (hash ^ (hash >> 27U)) * 0x94d049bb133111ebULL;
  return hash ^ (hash >> 31U);
}

// What one way of dealing the folds answered.
CrossValidation validate(const std::vector<Example>& examples, const std::vector<Example>& seen, const std::vector<std::size_t>& fold_of, std::size_t folds,
                         const FitOptions& options) {
  CrossValidation out;
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
  return out;
}

// What all deals answered of the cases that are wanted, if it is known whether that was right.
template <typename Wanted>
std::vector<Answered> answered(const std::vector<CrossValidation>& deals, Wanted&& wanted) {
  std::vector<Answered> out;
  for (const CrossValidation& deal : deals) {
    for (std::size_t i = 0; i < deal.held.size(); ++i) {
      const Held& one = deal.held[i];
      if (one.judgement.chance.empty() || !one.example->known() || !wanted(i)) continue;
      out.push_back({one.judgement.standing, one.judgement.evidence, one.rank == 1, 1 / static_cast<double>(deals.size())});
    }
  }
  return out;
}

}  // namespace

double prior_of(std::string_view feature) {
  if (feature == "alerts all rarity") return 4;
  return feature.starts_with("alert gap centre/") ? 0.5 : 0;
}

std::vector<std::size_t> deal(const std::vector<const Example*>& examples, std::size_t folds, std::uint64_t number) {
  std::map<std::string_view, std::vector<std::size_t>> sets;
  for (std::size_t i = 0; i < examples.size(); ++i) sets[examples[i]->set].push_back(i);
  std::vector<std::size_t> out(examples.size());
  for (auto& [set, members] : sets) {
    std::ranges::sort(members, {}, [&](std::size_t i) { return std::pair(place_in_deal(examples[i]->id, number), examples[i]->id); });
    for (std::size_t k = 0; k < members.size(); ++k) out[members[k]] = k % folds;
  }
  return out;
}

Model fit(const std::vector<const Example*>& examples, const FitOptions& options) {
  Model out;
  if (options.start != nullptr) out = *options.start;
  const std::size_t cases_min = std::min(options.cases_min, examples.size());
  const Vocabulary words(examples, cases_min, [&](std::string_view name) { return is_summed(name, options); });
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
  fit_faults(examples, Vocabulary(examples, cases_min, [&](std::string_view name) { return is_learned(name, options); }), options, out);
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

Validation cross_validate(const std::vector<Example>& examples, const FitOptions& options, const ValidationOptions& how) {
  Validation out;
  const std::vector<Example>& seen = how.tried != nullptr ? *how.tried : examples;
  assert(seen.size() == examples.size());
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  std::vector<std::vector<std::size_t>> fold_of;
  for (std::size_t number = 0; number < how.deals; ++number) {
    fold_of.push_back(deal(all, how.folds, number));
    out.deals.push_back(validate(examples, seen, fold_of.back(), how.folds, options));
  }
  const Calibrations* start = options.start == nullptr ? nullptr : &options.start->calibration;
  for (std::size_t number = 0; number < how.deals; ++number) {
    const std::vector<std::size_t>& folds = fold_of[number];
    for (std::size_t fold = 0; fold < how.folds; ++fold) {
      const Calibrations found = calibrate(answered(out.deals, [&](std::size_t i) { return folds[i] != fold; }), start);
      for (std::size_t i = 0; i < examples.size(); ++i) {
        Judgement& judgement = out.deals[number].held[i].judgement;
        if (folds[i] == fold) judgement.confidence = found.of(judgement.evidence).chance(judgement.standing);
      }
    }
  }
  out.calibrated = calibrate(answered(out.deals, [](std::size_t) { return true; }), start);
  for (CrossValidation& one : out.deals) {
    count_ranks(one);
    one.ece = expected_calibration_error(one.held);
  }
  return out;
}

}  // namespace culprit::explain
