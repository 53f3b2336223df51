// The index finds exactly what trying every clause on every event would find; the engine keeps to its limits and budgets,
// and a swap keeps what unchanged rules gathered.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <random>
#include <set>

#include "rules/engine.h"

namespace culprit::rules {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kSecond = 1'000'000'000;

RuleSetPtr set_of(const std::vector<std::string>& texts, RuleCache* cache = nullptr) {
  std::vector<RuleText> files;
  for (std::size_t i = 0; i < texts.size(); ++i) files.push_back({fmt::format("{}.yaml", i), texts[i]});
  auto set = load_rules(files, {.cache = cache});
  EXPECT_TRUE(set) << set.error().message;
  return *set;
}

std::string rule(const std::string& id, const std::string& match, const std::string& more = "") {
  return fmt::format("rule: {}\nstatus: incubating\nsummary: A toy\nmatch:\n{}blame: a.entity\ncause: x/y\nexplain: seen\nsource: s\n{}", id, match, more);
}
constexpr EngineOptions kAll = {.least = Status::Incubating};

TEST(Index, FindsWhatTryingEverythingFinds) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto set = load_rules(built_in_rules()).value();
  // Events of all rules' own tests, mixed among each other.
  std::vector<stream::Event> events;
  for (const RulePtr& each : set->rules()) {
    for (const RuleTest& test : each->tests) events.insert(events.end(), test.events.begin(), test.events.end());
  }
  ASSERT_GT(events.size(), 1'000U);
  const auto any = [&]() -> const stream::Event& { return events[random() % events.size()]; };
  Index::Memory memory;
  std::size_t matched = 0;
  for (int i = 0; i < 5'000; ++i) {
    stream::Event event = any();
    if (random() % 3 == 0) event.entity = any().entity;
    if (random() % 4 == 0) event.value = any().value;
    if (random() % 4 == 0) event.body += " " + any().body;
    if (random() % 8 == 0) event.name = any().name;
    if (random() % 4 == 0 && !event.body.empty()) event.body[random() % event.body.size()] = static_cast<char>(random() % 256);
    std::vector<Clause> found;
    set->index().match(event, memory, found);
    std::set<std::pair<std::uint32_t, std::uint32_t>> got, expected;
    for (const Clause clause : found) got.emplace(clause.rule, clause.item);
    EXPECT_EQ(got.size(), found.size());  // each once
    for (std::uint32_t r = 0; r < set->rules().size(); ++r) {
      const auto& items = set->rules()[r]->match;
      for (std::uint32_t k = 0; k < items.size(); ++k) {
        if (items[k].kind == event.kind && fits(items[k], event)) expected.emplace(r, k);
      }
    }
    ASSERT_EQ(got, expected) << event.name << " " << event.body;
    matched += got.size();
  }
  EXPECT_GT(matched, 1'000U);
  EXPECT_EQ(memory.body_overflows, 0U);
}

// What a whole window says, the engine says event by event.
TEST(Engine, SaysWhatAWindowSays) {
  const auto set = load_rules(built_in_rules()).value();
  std::size_t fired = 0;
  for (const RulePtr& each : set->rules()) {
    for (const RuleTest& test : each->tests) {
      Engine engine(set);
      std::vector<stream::Event> ordered = test.events;
      std::ranges::stable_sort(ordered, {}, &stream::Event::time_ns);
      std::int64_t second = 0;
      for (const stream::Event& event : ordered) {
        if (second != 0 && event.time_ns / kSecond != second) engine.advance(event.time_ns);
        second = event.time_ns / kSecond;
        engine.add(event);
      }
      const auto names = [](const Evaluation& evaluation) {
        std::vector<std::string> result;
        for (const Finding& finding : evaluation.findings) result.push_back(fmt::format("{} {} {} {}", finding.rule->id, finding.entity, finding.time_ns, finding.count));
        return result;
      };
      const auto all = names(evaluate(set, test.events));
      EXPECT_EQ(names(engine.evaluate(INT64_MIN, INT64_MAX)), all) << each->id << ": " << test.name;
      fired += all.size();
    }
  }
  EXPECT_GT(fired, 150U);
}

// Values and topology join evidence that time alone would mix up.
TEST(Engine, JoinsAndPaths) {
  const auto joined = set_of({rule("toy", "  - {id: a, kernel: process.exit}\n  - {id: b, kernel: process.signal, within: 5s before a}\n", "joins: ['a.process.pid == b.target.pid']\n")});
  const auto event = [](std::int64_t second, const char* name, const char* entity, stream::Attributes attributes) {
    return stream::Event{.time_ns = second * kSecond, .kind = Kind::Kernel, .entity = entity, .name = name, .attributes = std::move(attributes)};
  };
  const std::vector<stream::Event> window = {event(1, "process.signal", "p", {{"target.pid", "7"}}), event(2, "process.exit", "seven", {{"process.pid", "7"}}), event(2, "process.exit", "eight", {{"process.pid", "8"}})};
  const auto found = evaluate(joined, window, kAll).findings;
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].entity, "seven");

  const auto pathed = set_of({rule("toy", "  - {id: a, metric: slow}\n  - {id: b, metric: stopped, within: 5s around a}\n", "paths: ['a.entity -calls-> between -calls-> b.entity']\n")});
  const auto sample = [](const char* entity, const char* name) { return stream::Event{.time_ns = kSecond, .kind = Kind::Sample, .entity = entity, .name = name, .value = 1}; };
  const std::vector<stream::Event> edges = {sample("edge:web->shop", "client.rate"), sample("edge:shop->redis", "client.rate"), sample("service:web", "slow")};
  for (const auto& [stopped, fires] : {std::pair("service:redis", true), std::pair("service:shop", false), std::pair("service:other", false)}) {
    auto events = edges;
    events.push_back(sample(stopped, "stopped"));
    EXPECT_EQ(!evaluate(pathed, events, kAll).findings.empty(), fires) << stopped;
  }
}

// An absence is not sure before its window is over.
TEST(Engine, AbsenceWaitsForItsWindow) {
  Engine engine(set_of({rule("toy", "  - {id: a, metric: x}\n  - {id: b, absent: {metric: y}, within: 10s after a}\n")}), kAll);
  engine.add({.time_ns = 100 * kSecond, .kind = Kind::Sample, .entity = "s", .name = "x"});
  EXPECT_TRUE(engine.evaluate(0, 105 * kSecond).findings.empty());
  EXPECT_EQ(engine.evaluate(0, 111 * kSecond).findings.size(), 1U);
}

// A rule whose regex runs on every line is switched off, says why, and the others go on.
TEST(Engine, ARulePastItsBudgetIsSwitchedOff) {
  Engine engine(set_of({rule("dear", "  - {id: a, log: '', regex: '[0-9]+.*[0-9]+'}\n"), rule("fine", "  - {id: a, log: '', text: broken}\n")}), {.least = Status::Incubating, .steps_max = 10'000});
  for (int i = 0; i < 2'000; ++i) engine.add({.time_ns = kSecond, .kind = Kind::Log, .entity = "s", .body = "line 1 of 2"});
  engine.advance(2 * kSecond);
  EXPECT_THAT(engine.off(0), HasSubstr("more than its 10,000"));
  EXPECT_EQ(engine.off(1), "");
  engine.add({.time_ns = 3 * kSecond, .kind = Kind::Log, .entity = "s", .body = "it is broken 1 2"});
  engine.advance(4 * kSecond);
  const auto found = engine.evaluate(0, 4 * kSecond).findings;
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].rule->id, "fine");
  EXPECT_EQ(engine.stats_of(1).fired, 1U);
}

// Old evidence goes, and what there is no room for is counted.
TEST(Engine, ForgetsAndCounts) {
  Engine engine(set_of({rule("toy", "  - {id: a, metric: x}\n")}), {.least = Status::Incubating, .kept_per_clause_max = 100});
  for (int i = 0; i < 1'000; ++i) engine.add({.time_ns = i * kSecond, .kind = Kind::Sample, .entity = "s", .name = "x"});
  EXPECT_LE(engine.stats().kept, 100U);
  EXPECT_EQ(engine.stats().kept + engine.stats().left_out, 1'000U);
  EXPECT_TRUE(engine.covers(0));
  engine.advance(5'000 * kSecond);
  EXPECT_EQ(engine.stats().kept, 0U);
  EXPECT_FALSE(engine.covers(0));
  EXPECT_FALSE(engine.covers(5'000 * kSecond - kWindowNsMax - 1));
  EXPECT_TRUE(engine.covers(5'000 * kSecond - kWindowNsMax));
  for (int i = 0; i < 500; ++i) engine.add({.time_ns = 6'000 * kSecond + i, .kind = Kind::Sample, .entity = "s", .name = "x"});
  EXPECT_EQ(engine.stats().kept, kKeptPerSecondMax);
  EXPECT_EQ(engine.evaluate(0, INT64_MAX).findings[0].count, 500U);  // of one second, all counted
}

TEST(Engine, ASwapKeepsWhatUnchangedRulesGathered) {
  RuleCache cache;
  const std::string same = rule("same", "  - {id: a, metric: x}\n");
  Engine engine(set_of({same, rule("other", "  - {id: a, metric: x}\n")}, &cache), kAll);
  engine.add({.time_ns = 10 * kSecond, .kind = Kind::Sample, .entity = "s", .name = "x"});
  EXPECT_TRUE(engine.covers(0));
  engine.swap(set_of({same, rule("other", "  - {id: a, metric: x, above: -1}\n")}, &cache), 11 * kSecond);
  const auto found = engine.evaluate(0, 12 * kSecond).findings;
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].rule->id, "same");
  EXPECT_FALSE(engine.covers(0));
  EXPECT_TRUE(engine.covers(11 * kSecond));
  engine.swap(set_of({same, "disable: same\nreason: noisy\n"}, &cache), 13 * kSecond);
  EXPECT_EQ(engine.off(0), "switched off: noisy");
  EXPECT_TRUE(engine.evaluate(0, 14 * kSecond).findings.empty());
  EXPECT_EQ(engine.stats().kept, 0U);
}

}  // namespace
}  // namespace culprit::rules
