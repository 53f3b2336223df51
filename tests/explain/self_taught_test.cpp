// Without labels: which alerts mean something is learned from whom else they make suspect, and nothing from too few.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "daemon/explain/learn/self_taught.h"

namespace culprit::explain {
namespace {

// Six candidates. How unusual they are points to the true one in 60 of 100 incidents, else to any; the culprit raises "full" in nine of ten and
// others hardly ever; everybody raises "busy" now and then.
std::vector<Example> unlabelled(std::size_t count) {
  std::mt19937 random(7);
  std::vector<Example> out;
  for (std::size_t i = 0; i < count; ++i) {
    Example one;
    one.id = "case" + std::to_string(i);
    one.set = "made";
    one.names = {"a", "b", "c", "d", "e", "f"};
    const std::size_t culprit = random() % 6, suspect = random() % 100 < 60 ? culprit : random() % 6;
    for (std::size_t k = 0; k < 6; ++k) {
      Features& features = one.features.emplace_back();
      if (random() % 100 < 40) features.push_back({"alert busy", 1});
      if (random() % 100 < (k == culprit ? 90 : 3)) features.push_back({"alert full", 1});
      features.push_back({"alerts all rarity", k == suspect ? 1.0 : static_cast<double>(random() % 90) / 100});
    }
    one.truth = static_cast<std::int32_t>(culprit);  // for the test to look at; nothing learns from it
    out.push_back(std::move(one));
  }
  return out;
}

double right_of(const Model& model, const std::vector<Example>& examples) {
  double right = 0;
  for (const Example& one : examples) right += static_cast<std::int32_t>(judge(model, one.features).order.front()) == one.truth ? 1 : 0;
  return right / static_cast<double>(examples.size());
}

double sure_of(const Model& model, const std::vector<Example>& examples) {
  double sum = 0;
  for (const Example& one : examples) sum += judge(model, one.features).confidence;
  return sum / static_cast<double>(examples.size());
}

TEST(SelfTaught, LearnsWithoutLabelsWhichAlertsTell) {
  std::vector<Example> examples = unlabelled(200);
  Model start;
  start.weights = {{"alerts all rarity", 3}};
  const double before = right_of(start, examples);
  ASSERT_LT(before, 0.7);
  const Model taught = teach_itself(examples, start);
  EXPECT_GT(right_of(taught, examples), before + 0.08);
  EXPECT_GT(taught.weights.at("alert full"), 4 * std::abs(taught.weights.contains("alert busy") ? taught.weights.at("alert busy") : 0));
  EXPECT_NEAR(sure_of(taught, examples), sure_of(start, examples), 0.02);  // nobody said that it got better
  // What is true of the incidents decides nothing, nor does their order.
  for (Example& one : examples) one.truth = -1;
  std::ranges::reverse(examples);
  EXPECT_EQ(write_model(teach_itself(examples, start)), write_model(taught));
}

// What the start has no weight for counts as judged: here of an alert that everybody raises now and then, of which nothing is to be learned.
TEST(SelfTaught, BeginsWithWhatIsJudged) {
  std::vector<Example> examples = unlabelled(200);
  for (Example& one : examples) {
    for (Features& features : one.features) {
      for (Feature& feature : features) {
        if (feature.name == "alert busy") feature.name = "alert gap centre/PD";
      }
      std::ranges::sort(features, {}, &Feature::name);
    }
  }
  ASSERT_GT(prior_of("alert gap centre/PD"), 0);
  Model start;
  start.weights = {{"alerts all rarity", 3}};
  EXPECT_GT(teach_itself(examples, start).weights.at("alert gap centre/PD"), 0.2);
  start.weights["alert gap centre/PD"] = -1;
  EXPECT_LT(teach_itself(examples, start).weights.at("alert gap centre/PD"), -0.5);
}

TEST(SelfTaught, FewIncidentsTeachNothing) {
  Model start;
  start.weights = {{"alerts all rarity", 3}};
  EXPECT_EQ(write_model(teach_itself(unlabelled(kSelfTaughtMin - 1), start)), write_model(start));
}

}  // namespace
}  // namespace culprit::explain
