// Alerts as features: how unusual, at which end of a call, against twins and neighbours; and what each feature is called in an answer.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "daemon/explain/learn/alert_reasons.h"
#include "daemon/explain/learn/alert_words.h"

namespace culprit::explain {
namespace {

using Source = RecordedAlert::Source;

RecordedCase case_of(std::vector<std::string> names) {
  RecordedCase c;
  c.id = "x";
  c.names = std::move(names);
  c.candidates.resize(c.names.size());
  std::iota(c.candidates.begin(), c.candidates.end(), 0);
  c.candidate_of.assign(c.candidates.begin(), c.candidates.end());
  return c;
}

double value_of(const std::vector<Features>& features, std::size_t candidate, std::string_view name) {
  const auto found = std::ranges::find(features[candidate], name, &Feature::name);
  return found == features[candidate].end() ? 0.0 : found->value;
}

TEST(Alerts, AnAlertOfEveryIncidentSaysNothing) {
  RecordedCase c = case_of({"a-0", "b-0"});
  c.alerts = {{RecordedAlert::Source::Metric, 0, kNoService, "cpu", "up"}, {RecordedAlert::Source::Metric, 1, kNoService, "memory", "up"}};
  Habits habits{100, {{"a-0|M:cpu/up", 100}, {"b-0|M:memory/up", 3}}};
  const auto features = alert_features(c, habits);
  EXPECT_EQ(value_of(features, 1, "alerts M surprise"), 1);
  EXPECT_LT(value_of(features, 0, "alerts M surprise"), 0.05);
  // What either raised is told of both, for trees; weights of any system name nobody.
  for (const Features& one : features) {
    EXPECT_TRUE(std::ranges::any_of(one, [](const Feature& feature) { return feature.name == "incident b M:memory/up"; }));
  }
  EXPECT_TRUE(names_somebody("incident b M:memory/up"));
  EXPECT_TRUE(names_somebody("alert b M:memory/up"));
  EXPECT_FALSE(names_somebody("alert M:memory/up"));
  EXPECT_EQ(group_of("carts-12"), "carts");
  EXPECT_EQ(group_of("123"), "123");
}

// A slow call that only the client's side shows lies between the two; one that the server's side shows too lies at the server.
TEST(Alerts, AlertsOfOneEndOfACallAreAGap) {
  RecordedCase c = case_of({"front-0", "geo-0", "rate-0"});
  // Nobody complains about geo in this incident: that it serves Nearby was counted in others.
  c.alerts = {{Source::Trace, 0, 0, "/geo/Nearby", "PD"}, {Source::Trace, 0, 0, "/rate/Get", "PD"}, {Source::Trace, 0, 2, "/rate/Get", "PD"},
              {Source::Metric, 2, kNoService, "cpu_usage", "up"}};
  const Habits habits{9, {{"front-0|T>:geo-0>/geo/Nearby/PD", 4}, {"front-0|T>:gone-0>/x/PD", 1}, {"front-0|T>:no operation", 1}}};
  const auto features = alert_features(c, habits);
  EXPECT_EQ(value_of(features, 1, "alert gap/PD"), 1);
  EXPECT_EQ(value_of(features, 0, "alert gap caller/PD"), 1);
  EXPECT_GT(value_of(features, 1, "alert rare gap/PD"), 0);
  EXPECT_EQ(value_of(features, 2, "alert gap/PD"), 0);
  EXPECT_EQ(value_of(features, 1, "alert gap share/PD"), 1);
  EXPECT_EQ(value_of(features, 0, "alert gap share/PD"), 0.5);
  EXPECT_EQ(value_of(features, 2, "alert gap share/PD"), 0);
  EXPECT_EQ(value_of(features, 2, "alert client/PD"), 1);
  EXPECT_EQ(value_of(features, 2, "alert both ends/PD"), 1);
  // What its neighbours say, by the share of them that say it.
  EXPECT_EQ(value_of(features, 0, "alert callee cpu/up"), 0.5);
  EXPECT_EQ(value_of(features, 1, "alert caller T/PD"), 1);
  EXPECT_EQ(value_of(features, 1, "alert callee cpu/up"), 0);
}

// Who is cut off has a gap on all of its calls, each of its neighbours only one.
TEST(Alerts, GapsMeetAtWhoIsCutOff) {
  RecordedCase c = case_of({"front-0", "geo-0", "rate-0", "search-0"});
  c.alerts = {{Source::Trace, 0, 0, "/search", "PD"}, {Source::Trace, 3, 3, "/geo", "PD"}, {Source::Trace, 3, 3, "/rate", "PD"}};
  const Habits habits{9, {{"front-0|T>:search-0>/search/PD", 4}, {"search-0|T>:geo-0>/geo/PD", 4}, {"search-0|T>:rate-0>/rate/PD", 4}, {"front-0|T>:geo-0>/other/PD", 4}}};
  const auto features = alert_features(c, habits);
  EXPECT_EQ(value_of(features, 3, "alert gap share/PD"), 1);
  EXPECT_EQ(value_of(features, 3, "alert gap centre/PD"), 3);
  EXPECT_EQ(value_of(features, 1, "alert gap share/PD"), 0.5);
  for (const std::size_t other : {0U, 1U, 2U}) EXPECT_NEAR(value_of(features, other, "alert gap centre/PD"), 1.0 / 3, 1e-9);
}

// The client's and the server's side of one measure mean more together than each alone; a measure's own ups and downs are one side.
TEST(Alerts, TwoSidesOfOneMeasureAreSeenTogether) {
  RecordedCase c = case_of({"carts-0", "carts-1", "user-0"});
  c.alerts = {{Source::Metric, 0, kNoService, "src_p50", "up"},    {Source::Metric, 0, kNoService, "dest_p90", "up"}, {Source::Metric, 0, kNoService, "dest_qps", "down"},
              {Source::Metric, 1, kNoService, "src_p50", "up"},    {Source::Metric, 2, kNoService, "src_p50", "up"},  {Source::Metric, 2, kNoService, "src_p50", "down"},
              {Source::Metric, 2, kNoService, "cpu_usage", "up"}, {Source::Metric, 2, kNoService, "mem_usage", "up"}, {Source::Metric, 2, kNoService, "uptime", "up"}};
  const auto features = alert_features(c, Habits{9, {}});
  const auto sides = [](const Feature& feature) { return feature.name.find("sides:") != std::string::npos; };
  EXPECT_EQ(value_of(features, 0, "alert sides:dest_p#/up & src_p#/up"), 1);
  EXPECT_EQ(value_of(features, 0, "alert carts sides:dest_p#/up & src_p#/up"), 1);
  EXPECT_EQ(value_of(features, 0, "alert alone sides:dest_p#/up & src_p#/up"), 1);
  EXPECT_EQ(std::ranges::count_if(features[0], sides), 3);
  EXPECT_EQ(std::ranges::count_if(features[1], sides), 0);
  EXPECT_EQ(std::ranges::count_if(features[2], sides), 0);
  // What a hundred report is not two sides.
  for (char a = 'a'; a <= 'j'; ++a) {
    for (char b = 'a'; b <= 'j'; ++b) c.alerts.push_back({Source::Metric, 1, kNoService, fmt::format("{}{}_latency", a, b), "up"});
  }
  EXPECT_EQ(std::ranges::count_if(alert_features(c, Habits{9, {}})[1], sides), 0);
  EXPECT_TRUE(names_somebody("alert carts sides:dest_p#/up & src_p#/up"));
  EXPECT_FALSE(names_somebody("alert sides:dest_p#/up & src_p#/up"));
  EXPECT_FALSE(names_somebody("alert alone sides:dest_p#/up & src_p#/up"));
}

// A log template that is named after who wrote it is the same template at its twin.
TEST(Alerts, ALogTemplateIsTheSameWhoeverWroteIt) {
  RecordedCase c = case_of({"carts-0", "carts-1", "carts-10"});
  c.alerts = {{Source::Log, 0, kNoService, "carts-0-34", ""}, {Source::Log, 1, kNoService, "34", ""}, {Source::Log, 1, kNoService, "carts-10-7", ""}, {Source::Log, 2, kNoService, "carts-100", ""}};
  const auto features = alert_features(c, Habits{9, {}});
  for (const std::size_t i : {0U, 1U}) {
    EXPECT_EQ(value_of(features, i, "alert carts L:34"), 1);
    EXPECT_EQ(value_of(features, i, "alert alone L:34"), 0);
  }
  EXPECT_EQ(value_of(features, 1, "alert alone L:carts-10-7"), 1);
  EXPECT_EQ(value_of(features, 2, "alert carts L:carts-100"), 1);
  EXPECT_TRUE(names_somebody("alert alone L:34"));  // a template's number means nothing in another system
}

TEST(Alerts, ReasonsAreInWords) {
  const std::pair<const char*, const char*> expected[] = {
      {"alert M:cpu_usage/up", "cpu_usage up"},
      {"alert carts M:cpu_usage/up", "cpu_usage up"},
      {"alert cpu/up", "cpu up"},
      {"alert rare cpu/up", "cpu up, unusual for it"},
      {"alert alone M:cpu_usage/up", "cpu_usage up, at none of its twins"},
      {"alert alone sides:dest_p#/up & src_p#/up", "dest_p# up and src_p# up at once, at none of its twins"},
      {"alert orders T>:shipping-0>/shipping/PD", "calls that it makes: shipping-0>/shipping (PD)"},
      {"alert T:HTTP/POST/PD", "work inside it: HTTP/POST (PD)"},
      {"alert T:do it: now/PD", "work inside it: do it: now (PD)"},
      {"alert T<*/PD", "calls to it: PD"},
      {"alert callee T/PD", "whom it calls: work inside it: PD"},
      {"alert caller L", "who calls it: log alerts"},
      {"alert carts L:34", "log template 34"},
      {"alert gap centre/PD", "where calls meet that only the client's side complains of: PD"},
      {"alert rare gap/PD", "a call to it, of which only the client's side complains: PD"},
      {"alert leaf", "complained of, and complains of nobody"},
      {"alerts all rarity", "how unusual its alerts are"},
      {"alerts all bits", "how unusual its alerts are"},
      {"alerts T> amount", "how unusual its alerts on calls that it makes are"},
      {"instance carts-0", "which service it is"},
      {"incident orders T:HTTP/POST/PD", "orders raised work inside it: HTTP/POST (PD)"},
      {"traces.span_gap", "traces.span_gap"},
      {"alerts", "alerts"},
      {"alerts Q bits", "alerts Q bits"},
  };
  for (const auto& [feature, reason] : expected) EXPECT_EQ(reason_of_alerts(feature, true), reason);
  EXPECT_EQ(reason_of_alerts("alert cpu/up", false), "not: cpu up");
  EXPECT_EQ(reason_of_alerts("alerts all bits", false), "how unusual its alerts are");
}

TEST(Alerts, TheRarestAreNamed) {
  AlertWords raised;
  raised.metric = {"cpu_usage/up", "threads/up"};
  raised.family = {"cpu/up"};
  raised.log = {"74"};
  const Habits habits{122, {{"geo-0|M:cpu_usage/up", 80}, {"geo-0|M:threads/up", 3}, {"geo-0|L:74", 9}}};
  EXPECT_EQ(rarest_alerts(raised, "geo-0", habits), "threads up (in 3 of 122 incidents), log template 74 (in 9)");
  EXPECT_EQ(rarest_alerts({}, "geo-0", habits), "");
  EXPECT_EQ(rarest_alerts(raised, "geo-0", {}), "");
}

}  // namespace
}  // namespace culprit::explain
