#include "rules/engine.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include "rules/parse.h"

namespace culprit::rules {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

RuleSetPtr rule(const std::string& match, const std::string& rest = "") {
  const RuleText texts[] = {{"toy.yaml", "rule: toy\nstatus: incubating\nsummary: A toy\nmatch:\n" + match + "blame: a.entity\ncause: x/y\nexplain: 'seen'\nsource: test\n" + rest}};
  auto set = load_rules(texts);
  EXPECT_TRUE(set) << set.error().message;
  return set ? *set : std::make_shared<const RuleSet>(std::vector<RulePtr>{}, std::map<std::string, std::string>{}, "");
}

stream::Event sample(std::int64_t second, const char* entity, const char* name, double value) {
  return {.time_ns = second * kSecond, .kind = Kind::Sample, .entity = entity, .name = name, .value = value};
}

std::vector<Finding> run(const RuleSetPtr& rules, const std::vector<stream::Event>& window) {
  return evaluate(rules, window, {.least = Status::Sandbox}).findings;
}

// Time decides: before, after, around, and how far.
TEST(Evaluator, Within) {
  const struct { const char* within; std::int64_t second; bool fires; } cases[] = {
      {"10s before a", 95, true}, {"10s before a", 100, true}, {"10s before a", 101, false}, {"10s before a", 89, false},
      {"10s after a", 105, true}, {"10s after a", 95, false},  {"10s around a", 95, true},   {"10s around a", 110, true},
      {"10s", 111, false},        {"10s", 90, true}};
  for (const auto& c : cases) {
    const auto rules = rule(std::string("  - {id: a, metric: x, above: 1}\n  - {id: b, metric: y, within: ") + c.within + "}\n");
    EXPECT_EQ(!run(rules, {sample(100, "s", "x", 2), sample(c.second, "s", "y", 0)}).empty(), c.fires) << c.within << " at " << c.second;
  }
}

TEST(Evaluator, ConditionsOfAnItem) {
  const struct { const char* item; bool fires; } cases[] = {
      {"metric: x", true}, {"metric: 'x*'", true}, {"metric: z", false}, {"log: ''", false}, {"metric: x, above: 1", true}, {"metric: x, above: 2", false},
      {"metric: x, below: 3", true}, {"metric: x, below: 2", false}, {"metric: x, entity: 'service:*'", true}, {"metric: x, entity: 'host'", false},
      {"metric: x, where: {k: v}", true}, {"metric: x, where: {k: 'w*'}", false}, {"metric: x, where: {none: '?*'}", false},
      {"metric: x, text: LINE", true}, {"metric: x, regex: 'l(i)ne \\d'", true}, {"metric: x, regex: '^ine'", false}};
  stream::Event observation = sample(1, "service:s", "x", 2);
  observation.body = "a line 7";
  observation.attributes = {{"k", "v"}};
  for (const auto& c : cases) {
    std::string item = c.item;
    if (item == "log: ''") item += ", text: line";
    EXPECT_EQ(!run(rule("  - {id: a, " + item + "}\n"), {observation}).empty(), c.fires) << c.item;
  }
}

TEST(Evaluator, AbsenceOptionalAndLeast) {
  const auto absent = rule("  - {id: a, metric: x}\n  - {id: b, absent: {metric: y}, within: 5s}\n");
  EXPECT_EQ(run(absent, {sample(10, "s", "x", 1)}).size(), 1U);
  EXPECT_EQ(run(absent, {sample(10, "s", "x", 1), sample(12, "s", "y", 1)}).size(), 0U);
  EXPECT_EQ(run(absent, {sample(10, "s", "x", 1), sample(22, "s", "y", 1)}).size(), 1U);

  const auto optional = rule("  - {id: a, metric: x}\n  - {id: b, metric: y, optional: true, weight: 2}\n");
  EXPECT_EQ(run(optional, {sample(10, "s", "x", 1)})[0].weight, 1.0);
  EXPECT_EQ(run(optional, {sample(10, "s", "x", 1), sample(12, "s", "y", 1)})[0].weight, 3.0);

  const auto least = rule("  - {id: a, metric: x, least: 2}\n");
  EXPECT_TRUE(run(least, {sample(1, "s", "x", 1), sample(2, "t", "x", 1)}).empty());
  const auto found = run(least, {sample(1, "s", "x", 1), sample(2, "s", "x", 1), sample(2, "t", "x", 1)});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].entity, "s");
  EXPECT_EQ(found[0].count, 2U);

  const auto same = rule("  - {id: a, metric: x}\n  - {id: b, metric: y, same_entity: true}\n");
  EXPECT_TRUE(run(same, {sample(1, "s", "x", 1), sample(1, "t", "y", 1)}).empty());
  EXPECT_EQ(run(same, {sample(1, "s", "x", 1), sample(1, "s", "y", 1)}).size(), 1U);
}

// Values come from groups, fields and attributes; what is missing is a question mark.
TEST(Evaluator, Templates) {
  const RuleText texts[] = {{"t", "rule: t\nsummary: T\nmatch: [{id: a, log: '', regex: 'pid (?P<pid>\\d+)'}]\nblame: 'process:{a.pid}'\ncause: x/y\n"
                                  "explain: '{a.entity} {a.value:seconds} {a.size:bytes} {a.share:percent} {a.none} {a.many:count}'\nsource: s\n"}};
  const auto rules = load_rules(texts);
  ASSERT_TRUE(rules) << rules.error().message;
  const stream::Event line{.time_ns = 1, .kind = Kind::Log, .entity = "service:s", .value = 0.25, .attributes = {{"size", "1048576"}, {"share", "0.5"}, {"many", "12345"}}, .body = "pid 42 died"};
  const auto found = run(*rules, {line});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].entity, "process:42");
  EXPECT_EQ(found[0].explanation, "service:s 250 ms 1.0 MiB 50 % ? 12,345");
  EXPECT_EQ(found[0].bound[0].event->body, "pid 42 died");
}

// Live, what the kernel saw of a process has its service as entity and the process as an attribute.
TEST(Evaluator, ProcessesBelongToServices) {
  const auto rules = rule("  - {id: a, metric: x}\n  - {id: b, metric: y}\n", "paths: ['a.entity -belongs_to-> b.entity']\n");
  const auto seen = [](const char* pid) {
    return stream::Event{.time_ns = 1, .kind = Kind::Kernel, .entity = "service:pg", .name = "process.exec", .attributes = {{"service", "pg"}, {"process.pid", pid}}};
  };
  const std::vector<stream::Event> window = {sample(10, "process:77", "x", 1), sample(11, "service:pg", "y", 1)};
  const auto with = [&](stream::Event event) {
    std::vector<stream::Event> all = window;
    all.push_back(std::move(event));
    return run(rules, all).size();
  };
  EXPECT_EQ(with(seen("77")), 1U);
  EXPECT_EQ(with(seen("78")), 0U);
}

// What is told often stays, what is not told again for an hour goes, and when there is no room the older half goes first.
TEST(Topology, ForgetsByAgeAndForWantOfRoom) {
  const auto knows = [](const Topology& topology, const char* from, const char* to) {
    Path path = parse_path(fmt::format("a.x -calls-> b.x")).value();
    return topology.walk(path, {{"a.x", from}, {"b.x", to}});
  };
  const auto told = [](std::int64_t second, const char* edge) { return sample(second, edge, "client.rate", 1); };
  Topology topology;
  topology.learn(told(10, "edge:shop->pg"));
  topology.learn(told(10, "edge:web->shop"));
  for (std::int64_t second = 11; second < 4'000; ++second) topology.learn(told(second, "edge:shop->pg"));
  EXPECT_EQ(topology.size(), 2U);
  topology.expire(4'000 * kSecond - kEdgeNsMax);
  EXPECT_TRUE(knows(topology, "shop", "pg"));
  EXPECT_FALSE(knows(topology, "web", "shop"));
  EXPECT_EQ(topology.size(), 1U);
  topology.learn(told(4'001, "edge:web->shop"));  // it calls again
  EXPECT_TRUE(knows(topology, "web", "shop"));

  for (std::size_t i = 0; i < kTopologyEdgesMax; ++i) topology.add(fmt::format("s{}", i), "calls", "old", (4'100 + static_cast<std::int64_t>(i / 10)) * kSecond);
  EXPECT_LE(topology.size(), kTopologyEdgesMax);
  EXPECT_GT(topology.forgotten(), 0U);
  EXPECT_TRUE(knows(topology, "s19999", "old"));
  topology.add("shop", "calls", "pg", 6'101 * kSecond);
  EXPECT_TRUE(knows(topology, "shop", "pg"));
}

// A process belongs to one service: the number of one that ended is given to another.
TEST(Topology, AProcessBelongsToTheServiceToldLast) {
  const Path path = parse_path("a.entity -belongs_to-> b.entity").value();
  const auto belongs = [&path](const Topology& topology, const char* service) { return topology.walk(path, {{"a.entity", "process:7"}, {"b.entity", service}}); };
  const auto told = [](Kind kind, const char* service) {
    return stream::Event{.time_ns = kSecond, .kind = kind, .entity = std::string("service:") + service, .name = "x", .attributes = {{"service", service}, {"process.pid", "7"}}};
  };
  Topology topology;
  topology.learn(told(Kind::Log, "pg"));
  EXPECT_TRUE(belongs(topology, "service:pg"));
  topology.learn(told(Kind::Span, "web"));
  EXPECT_TRUE(belongs(topology, "service:web"));
  EXPECT_FALSE(belongs(topology, "service:pg"));
  EXPECT_EQ(topology.size(), 1U);
}

// What must be absent may be joined: the end of another service is no excuse.
TEST(Evaluator, AbsentItemsJoinToo) {
  const auto rules = rule("  - {id: a, metric: x, entity: 'edge:*'}\n  - {id: gone, absent: {kernel: process.exit}, within: 5s}\n", "joins: ['gone.service == a.callee']\n");
  const auto end = [](const char* service) { return stream::Event{.time_ns = kSecond, .kind = Kind::Kernel, .entity = std::string("service:") + service, .name = "process.exit", .attributes = {{"service", service}}}; };
  EXPECT_EQ(run(rules, {sample(1, "edge:shop->pg", "x", 1)}).size(), 1U);
  EXPECT_EQ(run(rules, {sample(1, "edge:shop->pg", "x", 1), end("shop")}).size(), 1U);
  EXPECT_EQ(run(rules, {sample(1, "edge:shop->pg", "x", 1), end("pg")}).size(), 0U);
}

// Only stable rules are on unless told; deprecated ones never.
TEST(Evaluator, StatusDecides) {
  const auto rules = rule("  - {id: a, metric: x}\n");
  const std::vector<stream::Event> window = {sample(1, "s", "x", 1)};
  EXPECT_TRUE(evaluate(rules, window).findings.empty());
  EXPECT_EQ(evaluate(rules, window, {.least = Status::Incubating}).findings.size(), 1U);
}

// The order of the window does not matter.
TEST(Evaluator, OrderDoesNotMatter) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto rules = rule("  - {id: a, metric: x, above: 5}\n  - {id: b, metric: y, above: 5, within: 3s before a}\n");
  std::vector<stream::Event> window;
  for (int i = 0; i < 300; ++i) window.push_back(sample(static_cast<std::int64_t>(random() % 100), random() % 2 == 0 ? "s" : "t", random() % 2 == 0 ? "x" : "y", static_cast<double>(random() % 10)));
  const auto summary = [&](const std::vector<stream::Event>& w) {
    std::vector<std::tuple<std::string, std::int64_t, std::size_t>> result;
    for (const Finding& finding : run(rules, w)) result.emplace_back(finding.entity, finding.time_ns, finding.count);
    return result;
  };
  const auto expected = summary(window);
  std::ranges::shuffle(window, random);
  EXPECT_EQ(summary(window), expected);
}

// Too much of everything ends, and says how much was left out.
TEST(Evaluator, IsBounded) {
  const auto rules = rule("  - {id: a, metric: x}\n  - {id: b, metric: x, optional: true}\n");
  std::vector<stream::Event> window;
  for (int i = 0; i < 30'000; ++i) window.push_back(sample(i, ("s" + std::to_string(i)).c_str(), "x", 1));
  const Evaluation evaluation = evaluate(rules, window, {.least = Status::Sandbox});
  EXPECT_LE(evaluation.findings.size(), kFindingsPerRuleMax);
  EXPECT_EQ(evaluation.findings.size() + evaluation.skipped, 30'000U);
}

TEST(RunTests, SaysWhatDiffers) {
  const auto failing = rule("  - {id: a, metric: x}\n", "tests:\n  - {name: one, events: [{metric: x, entity: s}], expect: none}\n  - {name: two, events: [{metric: y}], expect: fires}\n"
                                                       "  - {name: three, events: [{metric: x, entity: s}], expect: {blame: t}}\n  - {name: four, events: [{metric: x, entity: s}], expect: {blame: s, cause: x/y}}\n");
  const auto results = run_tests(*failing);
  ASSERT_EQ(results.size(), 4U);
  EXPECT_EQ(results[0].message, "expected nothing, it blamed 's': seen");
  EXPECT_EQ(results[1].message, "expected it to fire, it did not");
  EXPECT_EQ(results[2].message, "expected blame 't', got 's'");
  EXPECT_EQ(results[2].origin, "toy.yaml:13");
  EXPECT_TRUE(results[3].passed);
}

}  // namespace
}  // namespace culprit::rules
