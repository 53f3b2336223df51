// Learning: what is fitted ranks, does not depend on the order of cases, and knows how sure it may be.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "daemon/explain/learn/alert_words.h"
#include "daemon/explain/learn/answer.h"
#include "daemon/explain/learn/fit.h"
#include "daemon/explain/learn/labelled.h"
#include "daemon/explain/replay.h"
#include "tests/explain/faults.h"
#include "tests/explain/recorded_world.h"

namespace culprit::explain {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

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

CrossValidation validate(const std::vector<Example>& examples, const FitOptions& options) { return cross_validate(examples, options).deals.front(); }

TEST(Learn, FindsTheFeatureThatTells) {
  const std::vector<Example> examples = made_examples(100, 0.9, 1);
  const CrossValidation result = validate(examples, {});
  EXPECT_GT(result.ac1, 0.85);
  EXPECT_GT(result.fault_accuracy, 0.8);
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  const Model model = fit(all, {.trees_from = 1000});  // with trees it shares the score
  EXPECT_GT(model.weights.at("good"), 1);
  EXPECT_LT(std::abs(model.weights.contains("noise") ? model.weights.at("noise") : 0), 0.8);
}

TEST(Learn, OrderOfCasesChangesNothing) {
  std::vector<Example> examples = made_examples(60, 0.8, 2);
  const CrossValidation first = validate(examples, {});
  std::ranges::reverse(examples);
  const CrossValidation second = validate(examples, {});
  EXPECT_NEAR(first.ac1, second.ac1, 1e-12);
  EXPECT_NEAR(first.ece, second.ece, 1e-3);  // sums in another order
}

TEST(Learn, StatedConfidenceMatchesFrequency) {
  for (const double clear : {0.3, 0.6, 0.9}) {
    const CrossValidation result = validate(made_examples(400, clear, 3), {.trees_from = 1000});
    EXPECT_LT(result.ece, 0.08) << clear;
  }
  EXPECT_LT(validate(made_examples(200, 0.6, 3), {}).ece, 0.08);  // with trees
}

// Several ways of dealing the folds calibrate together, and what they answer of a case counts as one case.
TEST(Learn, DealsCalibrateTogether) {
  const std::vector<Example> examples = made_examples(60, 0.6, 9);
  const Validation three = cross_validate(examples, {}, {.deals = 3});
  ASSERT_EQ(three.deals.size(), 3U);
  const CrossValidation first = validate(examples, {});
  EXPECT_EQ(three.deals[0].ac1, first.ac1);
  const auto confidences = [](const CrossValidation& one) {
    std::vector<double> out;
    for (const Held& held : one.held) out.push_back(held.judgement.confidence);
    return out;
  };
  EXPECT_NE(confidences(three.deals[0]), confidences(first));
  EXPECT_NE(confidences(three.deals[0]), confidences(three.deals[1]));

  std::vector<Answered> once, twice;
  for (int i = 0; i < 30; ++i) {
    Answered one{{static_cast<double>(i % 7) - 2, static_cast<double>(i % 3)}, i % 2 == 0 ? "traces" : "alerts", i % 3 != 0};
    once.push_back(one);
    one.weight = 0.5;
    twice.push_back(one);
    twice.push_back(one);
  }
  const Calibrations alone = calibrate(once, nullptr), doubled = calibrate(twice, nullptr);
  for (const std::string kind : {"traces", "alerts", "others"}) {
    EXPECT_NEAR(alone.of(kind).lead, doubled.of(kind).lead, 1e-9);
    EXPECT_NEAR(alone.of(kind).agree, doubled.of(kind).agree, 1e-9);
    EXPECT_NEAR(alone.of(kind).offset, doubled.of(kind).offset, 1e-9);
  }
}

// A lead that rests on alerts is calibrated on leads that rest on alerts, where there were any.
TEST(Learn, ConfidenceGoesByWhatThereIsToGoBy) {
  Model model;
  model.weights = {{"traces.own_time", 2}, {"alerts M rarity", 2}};
  model.calibration.common = {};
  model.calibration.by_evidence["alerts"] = {.offset = -3};
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

// The same chance is worth more the more kinds of evidence say the same of the first; not what others say.
TEST(Learn, StandingIsMoreThanTheChance) {
  std::vector<Features> both(4), one(4);
  both[3] = {{"logs.new", 1}, {"logs.new lead", 0.5}, {"traces.own_time", 1}, {"traces.own_time lead", 0.5}, {"traces.span_gap lead", 0}};
  both[2] = one[2] = {{"metrics.cpu lead", 0.9}};
  one[3] = {{"traces.own_time", 1}, {"traces.own_time lead", 0.5}};
  const std::vector<double> chances = {0.1, 0.1, 0.3, 0.5};
  const Standing sure = standing_of(chances, both), alone = standing_of(chances, one);
  EXPECT_NEAR(sure.lead, 0, 1e-9);
  EXPECT_EQ(sure.lead, alone.lead);
  EXPECT_EQ(sure.agree, 2);
  EXPECT_EQ(alone.agree, 1);
  // That is learned, and held where there are few of a kind.
  std::vector<Answered> answered;
  for (int i = 0; i < 40; ++i) answered.push_back({i % 2 == 0 ? sure : alone, i < 38 ? "traces" : "metrics", i % 2 == 0});
  const Calibrations found = calibrate(answered, nullptr);
  EXPECT_GT(found.of("traces").chance(sure), found.of("traces").chance(alone) + 0.3);
  EXPECT_NEAR(found.of("metrics").chance(sure), found.of("nothing like it").chance(sure), 0.1);
  for (const Calibration& calibration : {found.common, found.of("traces"), found.of("metrics")}) {
    EXPECT_GE(std::min(calibration.lead, calibration.agree), 0);
  }
}

TEST(Learn, WeightsSurviveTheirFile) {
  Model model;
  model.source = "a test";
  model.weights = {{"a", 1.5}, {"b", -2}};
  model.faults["cpu"] = {{"a", 1}};
  model.calibration.common = {0.5, 0.2, -0.1};
  model.calibration.by_evidence["traces"] = {2, 1, 0.25};
  model.habits = {3, {{"x|M:y", 2}}};
  const std::string text = write_model(model);
  const auto back = parse_model(text);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(write_model(*back), text);
  const std::pair<const char*, const char*> rows[] = {{"", "line 1, column 1: not JSON"}, {"{\n \"culprit_weights\": 3,,", "line 2, column 23: not JSON"}, {"[]", "no JSON object"}, {"{}", "no weights"}, {R"({"culprit_weights": 2})", "format 2"},
      {R"({"culprit_weights": 3, "weights": {"a": "x"}})", "'a' is no number"}, {R"({"culprit_weights": 3, "weights": {"a": 1e300}})", "out of range"},
      {R"({"culprit_weights": 3, "habits": {"counts": {"x": -1}}})", "'x' is no count"}, {R"({"culprit_weights": 3, "faults": 3})", "no object"},
      {R"({"culprit_weights": 3, "calibration": {"by_evidence": {"traces": 3}}})", "'traces' is no object"},
      {R"({"culprit_weights": 3, "calibration": 3})", "no object"}, {R"({"culprit_weights": 3, "calibration": {"lead": 1e308}})", "\"lead\" is out of range"}};
  for (const auto& [bad, why] : rows) {
    const auto refused = parse_model(bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_THAT(refused.error().message, HasSubstr(why));
  }
}

// Where people only said who it was not, the blame moves to the others; and such a case is no miss of cross-validation.
TEST(Learn, ARejectionMovesTheBlameElsewhere) {
  std::vector<Example> examples = made_examples(40, 1.0, 4);
  for (Example& one : examples) {
    one.rejected = {static_cast<std::size_t>(one.truth + 1) % 4};
    one.features[one.rejected.front()].push_back({"shown", 1});
    one.truth = -1;
  }
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  const Model model = fit(all, {});
  EXPECT_LT(model.weights.at("shown"), -1);
  EXPECT_GT(model.weights.at("good"), 0);
  EXPECT_EQ(validate(examples, {}).ac1, 0);
  EXPECT_EQ(validate(examples, {}).ece, 0);
  const std::vector<Example> labelled = made_examples(60, 1.0, 5);
  const double alone = validate(labelled, {}).ac1;
  std::vector<Example> both = labelled;
  for (Example one : examples) one.id += " rejected", both.push_back(one);
  EXPECT_GE(validate(both, {}).ac1, alone - 0.1);
}

// A handful of verdicts moves the weights that were there; it does not replace them.
TEST(Learn, FewVerdictsMoveWhatWasKnown) {
  Model before;
  before.source = "before";
  before.weights = {{"good", 3}, {"elsewhere", 2}};
  before.calibration.common = {.lead = 0.7, .offset = 0.1};
  before.faults["cpu"] = {{"good", 1}};
  const std::vector<Example> examples = made_examples(3, 1.0, 6);
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  const Model after = fit(all, {.start = &before}), anew = fit(all, {});
  EXPECT_EQ(after.weights.at("elsewhere"), 2);
  EXPECT_GE(after.weights.at("good"), 3);
  EXPECT_LT(anew.weights.at("good"), 3);
  EXPECT_EQ(after.faults, before.faults);
  EXPECT_TRUE(after.trees.empty());
  const Calibration calibration = cross_validate(examples, {.start = &before}).calibrated.common;
  EXPECT_NEAR(calibration.lead, 0.7, 0.3);
  EXPECT_NEAR(calibration.offset, 0.1, 0.5);
  // One sure answer that was wrong takes some of the confidence, not all of it.
  Model sure = before;
  sure.weights["good"] = 10;
  std::vector<Example> wrong = {examples.front()};
  wrong.front().truth = (wrong.front().truth + 1) % 4;
  const Calibration less = cross_validate(wrong, {.start = &sure}).calibrated.common;
  EXPECT_LT(less.lead, 0.7);
  EXPECT_GT(less.lead, 0.4);
}

// An incident that was exported with somebody's verdicts is a labelled case; one without is left out and counted.
TEST(Exported, VerdictsAreLabels) {
  test::World world(11);
  world.run(50);
  ASSERT_TRUE(world.break_with(test::faults::pg_lock(world)));
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / fmt::format("exported-{}", ::getpid());
  std::filesystem::create_directories(folder);
  const auto put = [&](const char* name, const std::vector<Said>& said) {
    std::ofstream(folder / name) << export_incident(world.store, world.incident(), world.options(), said).value();
  };
  EXPECT_FALSE(holds_exports(folder));
  put("a.jsonl", {{"partly", "shop", "x"}, {"right", "postgres", "postgresql/lock-wait"}, {"wrong", "shop", "y"}, {"wrong", "postgres", "z"}});
  put("b.jsonl", {{"wrong", "shop", "x"}});
  put("c.jsonl", {});
  std::ofstream(folder / "notes.jsonl") << "{}\n";
  EXPECT_TRUE(holds_exports(folder));
  std::map<std::string, std::pair<RecordedCase, Label>> read;
  const auto counts = read_exported(folder, [&](RecordedCase&& one, const Label& label) -> Result<void> {
    const std::string id = one.id;
    read[id] = {std::move(one), label};
    return {};
  });
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_EQ(counts->labelled, 2U);
  EXPECT_EQ(counts->silent, 1U);
  const auto& [one, label] = read.at("a.jsonl");
  EXPECT_EQ(label.service, "postgres");
  EXPECT_EQ(label.fault, "");
  EXPECT_EQ(label.rejected, std::vector<std::string>{"shop"});
  const Example example = example_of(one, label, all_signals(one), {}, "x");
  ASSERT_GE(example.truth, 0);
  EXPECT_EQ(example.names.at(static_cast<std::size_t>(example.truth)), "postgres");
  ASSERT_EQ(example.rejected.size(), 1U);
  EXPECT_EQ(example.names.at(example.rejected.front()), "shop");
  EXPECT_EQ(read.at("b.jsonl").second.service, "");
  std::ofstream(folder / "d.jsonl") << "{\"culprit_export\": 9}\n";
  const auto refused = read_exported(folder, [](RecordedCase&&, const Label&) -> Result<void> { return {}; });
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("d.jsonl"), HasSubstr("format 9")));
  std::filesystem::remove_all(folder);
}

TEST(Learn, AFileOfWeightsIsNamedWhenItIsBad) {
  const std::filesystem::path file = std::filesystem::path(testing::TempDir()) / fmt::format("weights-{}.json", ::getpid());
  EXPECT_EQ(load_model(file).error().code, Code::NotFound);
  std::ofstream(file) << "{}";
  EXPECT_THAT(load_model(file).error().message, AllOf(HasSubstr(file.string()), HasSubstr("no weights")));
  std::ofstream(file) << write_model(built_in_model());
  ASSERT_TRUE(load_model(file));
  EXPECT_EQ(load_model(file)->weights, built_in_model().weights);
  std::filesystem::remove(file);
}

TEST(Learn, TheBuiltInWeightsAreReadable) {
  EXPECT_FALSE(built_in_model().weights.empty());
  EXPECT_THAT(built_in_model().source, HasSubstr("incidents"));
}

// Exactly one of two signs is at the truth, both or none elsewhere: no sum of weights says that, trees do.
std::vector<Example> either_or_examples(std::size_t count) {
  std::vector<Example> out = made_examples(count, 0, 7);
  std::mt19937 random(8);
  for (Example& one : out) {
    for (std::size_t k = 0; k < one.features.size(); ++k) {
      Features& features = one.features[k];
      std::erase_if(features, [](const Feature& feature) { return feature.name != "noise"; });
      const bool first = random() % 2 == 0, second = static_cast<std::int32_t>(k) == one.truth ? !first : first;
      if (first) features.push_back({"one sign", 1});
      if (second) features.push_back({"other sign", 1});
    }
  }
  return out;
}

TEST(Learn, TreesSeeWhatOnlyHoldsTogether) {
  const std::vector<Example> examples = either_or_examples(160);
  EXPECT_LT(validate(examples, {.trees_from = 1000}).ac1, 0.6);
  EXPECT_GT(validate(examples, {}).ac1, 0.9);
}

// What a sign of a candidate means may depend on what was raised anywhere in the incident: only trees see that.
TEST(Learn, TreesSeeTheWholeIncident) {
  std::vector<Example> examples = made_examples(160, 0, 9);
  std::mt19937 random(10);
  for (Example& one : examples) {
    const bool other_kind = random() % 2 == 0;
    for (std::size_t k = 0; k < one.features.size(); ++k) {
      std::erase_if(one.features[k], [](const Feature& feature) { return feature.name != "noise"; });
      if (other_kind) one.features[k].insert(one.features[k].begin(), {"incident a M:x", 1});
      if ((static_cast<std::int32_t>(k) == one.truth) != other_kind) one.features[k].push_back({"sign", 1});
    }
  }
  EXPECT_LT(validate(examples, {.trees_from = 1000}).ac1, 0.7);
  EXPECT_GT(validate(examples, {}).ac1, 0.9);
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  EXPECT_FALSE(fit(all, {}).weights.contains("incident a M:x"));
}

// The vote of random trees is the same each time and for any order of cases, and what its parts add is its score.
TEST(Learn, AForestIsNoChance) {
  const std::vector<Example> examples = either_or_examples(100);
  std::vector<const Example*> all;
  for (const Example& one : examples) all.push_back(&one);
  const std::vector<std::string> names = {"noise", "one sign", "other sign"};
  const std::vector<Tree> forest = fit_forest(all, names, {});
  std::ranges::reverse(all);
  const std::vector<Tree> reversed = fit_forest(all, names, {});
  ASSERT_EQ(forest.size(), ForestOptions{}.trees);
  double root = 0;
  for (const Tree& tree : forest) root += tree.front().value;
  for (const Example& one : examples) {
    std::vector<double> score;
    for (const Features& features : one.features) {
      score.push_back(tree_score(forest, features));
      EXPECT_EQ(score.back(), tree_score(reversed, features));
      double parts = root;
      for (const auto& [name, part] : tree_parts(forest, features)) parts += part;
      EXPECT_NEAR(parts, score.back(), 1e-9);
    }
    EXPECT_EQ(std::ranges::max_element(score) - score.begin(), one.truth);
  }
  EXPECT_TRUE(fit_forest({}, names, {}).empty());
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
  RecordedCase two;
  two.id = "two";
  two.names = {"a", "b"};
  two.candidates = two.candidate_of = {0, 1};
  const CaseAnswer either = answer_case(two, built_in_model());
  EXPECT_EQ(either.explanation.verdict, Verdict::Inconclusive);
  EXPECT_LE(either.explanation.candidates.at(1).confidence, either.explanation.candidates.at(0).confidence);
  RecordedCase c = test::recorded(test::Broken::Nothing);
  c.spans.clear();
  c.logs.clear();
  c.metrics = {};
  const CaseAnswer answer = answer_case(c, built_in_model());
  EXPECT_EQ(answer.explanation.verdict, Verdict::Inconclusive);
  EXPECT_THAT(answer.explanation.inconclusive.value_or(""), HasSubstr("collect"));
  EXPECT_EQ(answer.ranking.size(), 3U);
}

// Alerts alone have no times, and mean little if nobody knows which of them are usual: the answer says both.
TEST(Answer, OfAlertsAloneItSaysWhatWouldHelp) {
  RecordedCase c;
  c.id = "alerts";
  c.names = {"a", "b", "c"};
  c.candidates = c.candidate_of = {0, 1, 2};
  for (const ServiceId who : {0, 1, 2}) c.alerts.push_back({RecordedAlert::Source::Metric, who, kNoService, "cpu_usage", "up"});
  Model model = built_in_model();
  const CaseAnswer uncounted = answer_case(c, model);
  EXPECT_THAT(uncounted.explanation.inconclusive.value_or(""), AllOf(HasSubstr("learn --unlabelled"), HasSubstr("beside the alerts")));
  const auto document = to_json(uncounted);
  const auto& evidence = document.at("candidates").at(0).at("evidence");
  ASSERT_FALSE(evidence.empty());
  for (const auto& item : evidence) EXPECT_TRUE(item.at("time").is_null());
  model.habits.cases = 20;
  EXPECT_THAT(answer_case(c, model).explanation.inconclusive.value_or("--unlabelled"), Not(HasSubstr("--unlabelled")));
}

}  // namespace
}  // namespace culprit::explain
