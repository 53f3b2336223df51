// Learning: what is fitted ranks, does not depend on the order of cases, and knows how sure it may be.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "daemon/explain/learn/alert_words.h"
#include "daemon/explain/learn/answer.h"
#include "daemon/explain/learn/fit.h"
#include "daemon/explain/learn/labelled.h"
#include "tests/explain/recorded_world.h"

namespace culprit::explain {
namespace {

using testing::HasSubstr;

// Four candidates; the feature "good" is at the truth in `clear` of the cases, elsewhere else; "noise" anywhere.
std::vector<Example> made_examples(std::size_t count, double clear, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Example> out;
  for (std::size_t i = 0; i < count; ++i) {
    Example one;
    one.id = "case" + std::to_string(i);
    one.set = "made";
    one.names = {"a", "b", "c", "d"};
    one.truth = static_cast<std::int32_t>(random() % 4);
    one.fault = one.truth % 2 == 0 ? "even" : "odd";
    one.features.resize(4);
    const bool is_clear = static_cast<double>(random() % 1000) < clear * 1000;
    const auto shown = is_clear ? static_cast<std::size_t>(one.truth) : random() % 4;
    one.features[shown].push_back({"good", 1});
    for (auto& features : one.features) features.push_back({"noise", static_cast<double>(random() % 100) / 100});
    one.features[static_cast<std::size_t>(one.truth)].push_back({one.fault == "even" ? "two" : "uneven", 0.2});
    for (auto& features : one.features) std::ranges::sort(features, {}, &Feature::name);
    out.push_back(std::move(one));
  }
  return out;
}

TEST(Learn, FindsTheFeatureThatTells) {
  const std::vector<Example> examples = made_examples(200, 0.9, 1);
  const CrossValidation result = cross_validate(examples, {});
  EXPECT_GT(result.ac1, 0.85);
  EXPECT_GT(result.fault_accuracy, 0.8);
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  const Model model = fit(all, {});
  EXPECT_GT(model.weights.at("good"), 1);
  EXPECT_LT(std::abs(model.weights.contains("noise") ? model.weights.at("noise") : 0), 0.8);
}

TEST(Learn, OrderOfCasesChangesNothing) {
  std::vector<Example> examples = made_examples(60, 0.8, 2);
  const CrossValidation first = cross_validate(examples, {});
  std::ranges::reverse(examples);
  const CrossValidation second = cross_validate(examples, {});
  EXPECT_NEAR(first.ac1, second.ac1, 1e-12);
  EXPECT_NEAR(first.ece, second.ece, 1e-3);  // sums in another order
}

TEST(Learn, StatedConfidenceMatchesFrequency) {
  for (const double clear : {0.3, 0.6, 0.9}) {
    const CrossValidation result = cross_validate(made_examples(400, clear, 3), {});
    EXPECT_LT(result.ece, 0.08) << clear;
  }
}

// A lead that rests on alerts is calibrated on leads that rest on alerts, where there were any.
TEST(Learn, ConfidenceGoesByWhatThereIsToGoBy) {
  Model model;
  model.weights = {{"traces.own_time", 2}, {"alerts M rarity", 2}};
  model.calibration = {1, 0};
  model.by_evidence["alerts"] = {1, -3};
  const Judgement traces = judge(model, {{{"traces.own_time", 1}}, {}}), alerts = judge(model, {{}, {{"alerts M rarity", 1}}});
  EXPECT_EQ(traces.evidence, "traces");
  EXPECT_EQ(alerts.evidence, "alerts");
  EXPECT_GT(traces.confidence, 0.8);
  EXPECT_LT(alerts.confidence, 0.4);
  // Where a symptom was noticed is no evidence of what broke.
  model.weights["topology.noticed"] = 5;
  const Judgement place = judge(model, {{{"topology.noticed", 1}}, {}});
  EXPECT_EQ(place.evidence, "");
  EXPECT_LT(place.confidence, 0.4);
}

TEST(Learn, WeightsSurviveTheirFile) {
  Model model;
  model.source = "a test";
  model.weights = {{"a", 1.5}, {"b", -2}};
  model.faults["cpu"] = {{"a", 1}};
  model.calibration = {0.5, -0.1};
  model.by_evidence["traces"] = {2, 0.25};
  model.habits = {3, {{"x|M:y", 2}}};
  const std::string text = write_model(model);
  const auto back = parse_model(text);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(write_model(*back), text);
  const std::pair<const char*, const char*> rows[] = {{"", "no weights"}, {"{}", "no weights"}, {R"({"culprit_weights": 9})", "format 9"},
      {R"({"culprit_weights": 1, "weights": {"a": "x"}})", "'a' is no number"}, {R"({"culprit_weights": 1, "weights": {"a": 1e300}})", "out of range"},
      {R"({"culprit_weights": 1, "habits": {"counts": {"x": -1}}})", "'x' is no count"}, {R"({"culprit_weights": 1, "faults": 3})", "no object"},
      {R"({"culprit_weights": 1, "calibration": {"by_evidence": {"traces": 3}}})", "'traces' is no object"}};
  for (const auto& [bad, why] : rows) {
    const auto refused = parse_model(bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_THAT(refused.error().message, HasSubstr(why));
  }
}

TEST(Learn, TheBuiltInWeightsAreReadable) {
  EXPECT_FALSE(built_in_model().weights.empty());
  EXPECT_THAT(built_in_model().source, HasSubstr("incidents"));
}

TEST(Learn, AnAlertOfEveryIncidentSaysNothing) {
  RecordedCase c;
  c.id = "x";
  c.names = {"a-0", "b-0"};
  c.candidates = {0, 1};
  c.candidate_of = {0, 1};
  c.alerts = {{RecordedAlert::Source::Metric, 0, kNoService, "cpu", "up"}, {RecordedAlert::Source::Metric, 1, kNoService, "memory", "up"}};
  Habits habits{100, {{"a-0|M:cpu/up", 100}, {"b-0|M:memory/up", 3}}};
  const auto features = alert_features(c, habits);
  const auto surprise = [&](std::size_t i) {
    for (const Feature& feature : features[i]) {
      if (feature.name == "alerts M surprise") return feature.value;
    }
    return 0.0;
  };
  EXPECT_EQ(surprise(1), 1);
  EXPECT_LT(surprise(0), 0.05);
  EXPECT_EQ(group_of("carts-12"), "carts");
  EXPECT_EQ(group_of("123"), "123");
}

// The answer names the right service for what this program ships, says why, and is the same each time.
TEST(Answer, TheBuiltInWeightsFindMadeUpFaults) {
  using test::Broken;
  for (const Broken what : {Broken::NetworkDelay, Broken::MissingStep, Broken::NewErrors, Broken::BusyCpu}) {
    for (const char* who : {"shop", "db"}) {
      SCOPED_TRACE(fmt::format("{} at {}", static_cast<int>(what), who));
      const RecordedCase c = test::recorded(what, who);
      const CaseAnswer answer = answer_case(c, built_in_model());
      ASSERT_EQ(answer.ranking.size(), 3U);
      EXPECT_EQ(answer.ranking.front(), who);
      EXPECT_FALSE(answer.explanation.candidates.front().evidence.empty());
      EXPECT_EQ(to_json(answer).dump(), to_json(answer_case(c, built_in_model())).dump());
    }
  }
}

TEST(Answer, WithNothingToGoByItIsInconclusive) {
  RecordedCase c = test::recorded(test::Broken::Nothing);
  c.spans.clear();
  c.logs.clear();
  c.metrics = {};
  const CaseAnswer answer = answer_case(c, built_in_model());
  EXPECT_EQ(answer.explanation.verdict, Verdict::Inconclusive);
  EXPECT_THAT(answer.explanation.inconclusive.value_or(""), HasSubstr("collect"));
  EXPECT_EQ(answer.ranking.size(), 3U);
}

}  // namespace
}  // namespace culprit::explain
