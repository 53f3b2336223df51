// Clauses that compare a series with its own normal.
#include "rules/normal.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "daemon/base/clock.h"
#include "daemon/stream/embedded_store.h"
#include "rules/engine.h"
#include "rules/parse.h"

namespace culprit::rules {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kSecond = 1'000'000'000;

stream::Event sample(std::int64_t second, double value, const char* entity = "service:s", const char* name = "x") {
  return {.time_ns = second * kSecond, .kind = Kind::Sample, .entity = entity, .name = name, .value = value};
}

std::string text_of(const std::string& match) {
  return "rule: toy\nstatus: stable\nsummary: A toy\nmatch:\n" + match + "blame: a.entity\ncause: x/y\nexplain: '{a.value} of {a.normal}'\nsource: test\n";
}

RuleSetPtr rule(const std::string& match) {
  const RuleText texts[] = {{"toy.yaml", text_of(match) + "tests:\n  - {name: t, events: [{metric: x, series: '1 x60, 9'}], expect: fires}\n  - {name: n, events: [], expect: none}\n  - {name: m, events: [], expect: none}\n"}};
  auto set = load_rules(texts);
  EXPECT_TRUE(set) << set.error().message;
  return set ? *set : nullptr;
}

// Known from the third slot of ten seconds back on; neither the last ones nor a lasting fault move it at once.
TEST(Normals, AreTheMedianOfWhatWas) {
  Normals normals;
  const auto normal_at = [&](std::int64_t second, double value) { return normal_of(*normals.marked(sample(second, value))); };
  for (std::int64_t second = 0; second < 40; ++second) EXPECT_EQ(normal_at(second, 2), std::nullopt) << second;
  for (std::int64_t second = 40; second < 60; ++second) EXPECT_EQ(normal_at(second, 2), 2) << second;
  for (std::int64_t second = 60; second < 110; ++second) EXPECT_EQ(normal_at(second, 50), 2) << second;
  for (std::int64_t second = 110; second < 800; ++second) (void)normal_at(second, 50);
  EXPECT_EQ(normal_at(800, 50), 50);  // ten minutes later it is how things are
}

TEST(Normals, AreOfOneSeriesEach) {
  Normals normals;
  for (std::int64_t second = 0; second < 60; ++second) {
    (void)normals.marked(sample(second, 1, "service:a"));
    (void)normals.marked(sample(second, 7, "service:b"));
  }
  EXPECT_EQ(normal_of(*normals.marked(sample(60, 0, "service:a"))), 1);
  EXPECT_EQ(normal_of(*normals.marked(sample(60, 0, "service:b"))), 7);
  EXPECT_EQ(normal_of(*normals.marked(sample(60, 0, "service:a", "y"))), std::nullopt);
}

// What a sample brings along under that name is not believed; late samples find their place, those of long ago leave no mark.
TEST(Normals, TrustNobody) {
  Normals normals;
  auto liar = sample(0, 1);
  liar.attributes = {{"normal", "0.000001"}, {"k", "v"}};
  const auto marked = normals.marked(liar);
  EXPECT_EQ(normal_of(*marked), std::nullopt);
  EXPECT_EQ(marked->attribute("k"), "v");
  for (std::int64_t second : {31, 11, 21, 1, 55, 45}) (void)normals.marked(sample(second, static_cast<double>(second)));
  EXPECT_EQ(normal_of(*normals.marked(sample(61, 0))), 21);  // of 0.5, 11, 21, 31
  (void)normals.marked(sample(100'000, 5));
  EXPECT_EQ(normal_of(*normals.marked(sample(70, 0))), std::nullopt);
}

TEST(Normals, AreBoundedAndForgotten) {
  Normals normals;
  for (std::size_t i = 0; i < kNormalSeriesMax + 5; ++i) (void)normals.marked(sample(1, 1, ("service:" + std::to_string(i)).c_str()));
  EXPECT_EQ(normals.size(), kNormalSeriesMax);
  EXPECT_EQ(normals.left_out(), 5U);
  (void)normals.marked(sample(900, 1, "service:0"));
  normals.expire(500 * kSecond);
  EXPECT_EQ(normals.size(), 1U);
}

std::vector<stream::Event> slower(double before, double after, const char* name = "x") {
  std::vector<stream::Event> events;
  for (std::int64_t second = 0; second < 64; ++second) events.push_back(sample(second, second < 60 ? before : after, "service:s", name));
  return events;
}

TEST(TimesNormal, FiresOnWhatChanged) {
  const struct { const char* item; double before, after; bool fires; } cases[] = {
      {"metric: x, above: 0.1, times_normal: 4", 1, 5, true},   {"metric: x, above: 0.1, times_normal: 4", 1, 4, false},
      {"metric: x, above: 0.1, times_normal: 4", 5, 5, false},  {"metric: x, above: 6, times_normal: 4", 1, 5, false},
      {"metric: 'x*', above: 0.1, times_normal: 4", 1, 5, true}, {"metric: x, above: 0.1, times_normal: 4", 0, 0.2, true}};
  for (const auto& c : cases) {
    const auto rules = rule(std::string("  - {id: a, ") + c.item + ", least: 3}\n");
    const auto events = slower(c.before, c.after);
    const auto found = evaluate(rules, events).findings;
    EXPECT_EQ(found.size(), c.fires ? 1U : 0U) << c.item << " from " << c.before << " to " << c.after;
    if (c.fires && !found.empty()) {
      EXPECT_EQ(found[0].explanation, fmt::format("{:.6g} of {:.6g}", c.after, c.before));
    }
    // From a store it is the same, also where the window asked for begins after what was normal.
    const FakeClock clock{64 * kSecond};
    const auto store = stream::EmbeddedStore::open({}, clock);
    ASSERT_TRUE(store);
    ASSERT_TRUE((*store)->append(events));
    const auto stored = evaluate_stored(rules, **store, 60 * kSecond, 64 * kSecond, 64 * kSecond);
    ASSERT_TRUE(stored);
    EXPECT_EQ(stored->findings.size(), c.fires ? 1U : 0U) << c.item;
  }
}

TEST(TimesNormal, IsRefusedWhereItMakesNoSense) {
  const struct { const char* item; const char* says; } cases[] = {
      {"metric: x, times_normal: 4", "'times_normal' of 'a' needs an 'above' beside it"},
      {"log: '', text: abc, above: 1, times_normal: 4", "'times_normal' is of a metric: a log has no normal value"},
      {"metric: x, above: 1, times_normal: 0.5", "times_normal"},
      {"metric: x, above: 1, times_norml: 4", "times_normal"}};
  for (const auto& c : cases) {
    const RuleText texts[] = {{"toy.yaml", text_of(std::string("  - {id: a, ") + c.item + "}\n")}};
    const auto set = load_rules(texts);
    ASSERT_FALSE(set) << c.item;
    EXPECT_THAT(set.error().message, HasSubstr(c.says)) << c.item;
  }
}

}  // namespace
}  // namespace culprit::rules
