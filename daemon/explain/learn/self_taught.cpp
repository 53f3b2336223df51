#include "daemon/explain/learn/self_taught.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "daemon/explain/learn/alert_words.h"
#include "daemon/explain/learn/choices.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kRounds = 6, kDeals = 2, kFolds = 5;
constexpr double kFirstView = 2;  // what its log-odds count beside the second's
constexpr double kSharper = 2;    // answers as labels: surer than they are (pseudo-labels: Lee, ICML workshop 2013)
constexpr double kPenalty = 8;    // eight times that of true labels
constexpr double kRarePenalty = 2;
constexpr int kSteps = 150;
constexpr std::size_t kCasesMin = 2;

using Scores = std::vector<std::vector<double>>;  // example -> candidate

struct Lesson {
  std::vector<const Example*> examples;
  std::vector<std::vector<Sparse>> alternatives;  // of each, its candidates
  std::vector<double> penalty, prior;
};

std::vector<double> second_view(const Lesson& lesson, const Scores& chances, const std::vector<std::size_t>& fold_of, std::size_t without) {
  std::vector<Choice> choices;
  for (std::size_t i = 0; i < lesson.examples.size(); ++i) {
    if (fold_of[i] != without) choices.push_back({.alternatives = lesson.alternatives[i], .chances = chances[i]});
  }
  return maximise(choices, lesson.penalty, lesson.prior, kSteps);
}

std::vector<double> sharpened(std::vector<double> scores) {
  for (double& score : scores) score *= kSharper;
  return softmax(scores);
}

void scale(Model& model, double factor) {
  for (auto& [feature, weight] : model.weights) weight *= factor;
  for (Tree& tree : model.trees) {
    for (TreeNode& node : tree) node.value *= factor;
  }
}

double mean_confidence(const Model& model, const std::vector<const Example*>& examples, double factor) {
  double sum = 0;
  for (const Example* one : examples) {
    const Judgement judgement = judge(model, one->features);
    std::vector<double> scores = judgement.score;
    for (double& score : scores) score *= factor;
    sum += model.calibration.of(judgement.evidence).chance(standing_of(softmax(scores), one->features));
  }
  return sum / static_cast<double>(examples.size());
}

}  // namespace

Model teach_itself(const std::vector<Example>& examples, const Model& start) {
  Lesson lesson;
  for (const Example& one : examples) {
    if (evidence_of(one.features) == "alerts") lesson.examples.push_back(&one);
  }
  std::ranges::sort(lesson.examples, {}, [](const Example* one) { return std::tie(one->set, one->id); });
  if (lesson.examples.size() < kSelfTaughtMin) return start;
  const Vocabulary words(lesson.examples, kCasesMin, [](std::string_view name) { return name.starts_with("alert "); });
  Model out = start;
  for (const std::string& word : words.names()) {  // what the start says nothing of is as likely as judged
    if (const double prior = prior_of(word); prior != 0) out.weights.try_emplace(word, prior);
  }
  for (std::size_t i = 0; i < words.size(); ++i) lesson.penalty.push_back(kPenalty * (names_somebody(words.name(i)) ? kRarePenalty : 1));
  lesson.prior.resize(words.size());
  Scores first, chances;
  for (const Example* one : lesson.examples) {
    first.push_back(judge(out, one->features).score);
    chances.push_back(sharpened(first.back()));
    std::vector<Sparse>& rows = lesson.alternatives.emplace_back();
    for (const Features& features : one->features) rows.push_back(words.encode(features));
  }
  for (std::size_t round = 0; round < kRounds; ++round) {
    Scores both = first;
    for (std::vector<double>& row : both) {
      for (double& score : row) score *= kFirstView;
    }
    for (std::size_t dealt = 0; dealt < kDeals; ++dealt) {
      const std::vector<std::size_t> fold_of = deal(lesson.examples, kFolds, 1 + round * kDeals + dealt);
      for (std::size_t fold = 0; fold < kFolds; ++fold) {
        const std::vector<double> weights = second_view(lesson, chances, fold_of, fold);
        for (std::size_t i = 0; i < both.size(); ++i) {
          if (fold_of[i] != fold) continue;
          for (std::size_t k = 0; k < both[i].size(); ++k) both[i][k] += dot(weights, lesson.alternatives[i][k]) / static_cast<double>(kDeals);
        }
      }
    }
    for (std::size_t i = 0; i < both.size(); ++i) chances[i] = sharpened(both[i]);
  }
  const std::vector<double> weights = second_view(lesson, chances, std::vector<std::size_t>(lesson.examples.size()), kFolds);
  scale(out, kFirstView);
  for (std::size_t i = 0; i < words.size(); ++i) out.weights[words.name(i)] += weights[i];
  const double sure = mean_confidence(start, lesson.examples, 1);
  double low = 0, high = 1;
  for (int step = 0; step < 30; ++step) {
    const double middle = (low + high) / 2;
    (mean_confidence(out, lesson.examples, middle) < sure ? low : high) = middle;
  }
  scale(out, high);
  std::erase_if(out.weights, [](const auto& one) { return std::fabs(one.second) < 1e-4; });
  for (auto& [feature, weight] : out.weights) weight = std::round(weight * 1e4) / 1e4;
  return out;
}

}  // namespace culprit::explain
