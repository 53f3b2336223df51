// What a rule's own cases may hold, what lint doubts, and the reports for other programs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <fstream>

#include "rules/clauses.h"
#include "rules/lint.h"
#include "rules/report.h"
#include "rules/review.h"

namespace culprit::rules {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kRule =
    "rule: toy\nsummary: A toy\nmatch:\n  - {id: a, metric: x, above: 0.1}\nblame: a.entity\ncause: redis/down\nexplain: 'it is {a.value:seconds}'\nsource: test\ntests:\n";

RuleSetPtr load(const std::string& text, const std::string& name = "toy.yaml") {
  const RuleText texts[] = {{name, text}};
  auto set = load_rules(texts);
  EXPECT_TRUE(set) << set.error().message;
  return set ? *set : nullptr;
}

// "3ms x60, - x2, 400ms x30": values a second apart, gaps where nothing was sampled.
TEST(Cases, Series) {
  const auto set = load(kRule + "  - {name: t, events: [{metric: x, entity: s, series: '3ms x2, - x2, 40% x1, 2KiB', every: 2s}], expect: none}\n");
  const auto& events = set->find("toy")->tests[0].events;
  std::vector<std::pair<std::int64_t, double>> got;
  for (const auto& event : events) got.emplace_back((event.time_ns - events[0].time_ns) / 1'000'000'000, event.value);
  EXPECT_THAT(got, ElementsAre(std::pair(0, 0.003), std::pair(2, 0.003), std::pair(8, 0.4), std::pair(10, 2048.0)));
}

// A known miss does not fail; one that passes is told.
TEST(Cases, Todo) {
  const auto results = run_tests(*load(kRule + "  - {name: missed, todo: slow start, events: [{metric: x, value: 0.01}], expect: fires}\n  - {name: fails, events: [], expect: fires}\n"));
  ASSERT_EQ(results.size(), 2U);
  EXPECT_FALSE(results[0].passed);
  EXPECT_FALSE(results[0].failed());
  EXPECT_TRUE(results[1].failed());
}

// Whom a case does not name must not be blamed, and the weight is that of what holds.
TEST(Cases, ExpectEverybodyWhoIsBlamed) {
  const std::string events = "events: [{metric: x, entity: s, value: 1}, {metric: x, entity: t, value: 2}]";
  const struct { const char* expect; const char* says; } cases[] = {
      {"{blame: s}", "expected blame 's', got 's', 't'"}, {"{blame: [t, s]}", ""}, {"{blame: [s, t, u]}", "expected blame 's', 't', 'u', got 's', 't'"},
      {"{cause: redis/down}", ""}, {"{weight: 1}", ""}, {"{weight: 2.5}", "expected weight 2.5, got 1"}};
  for (const auto& c : cases) {
    const auto results = run_tests(*load(kRule + "  - {name: t, " + events + ", expect: " + c.expect + "}\n"));
    ASSERT_EQ(results.size(), 1U);
    EXPECT_EQ(results[0].message, c.says) << c.expect;
  }
}

// Dropping a clause or a condition that no case needs is found, and what cases there are is counted.
TEST(Review, FindsWhatNoCaseMisses) {
  const std::string head =
      "rule: toy\nsummary: A toy\nmatch:\n  - {id: a, metric: x, above: 5, entity: 'service:*', least: 2}\n  - {id: b, log: '', text: broken, within: 5s before a, same_entity: true}\n"
      "  - {id: c, absent: {change: service.version}, within: 5s around a}\n  - {id: d, metric: z, within: 5s, optional: true, weight: 2}\njoins: ['c.service == a.service']\n"
      "blame: a.entity\ncause: x/y\nexplain: x\nsource: s\ntests:\n";
  const std::string good = "{metric: x, entity: 'service:s', series: '9 x3'}, {log: '', entity: 'service:s', body: broken}";
  const auto review = [&](const std::string& cases) { return review_cases(*load(head + cases)->find("toy")); };
  const auto what = [](const Review& of) {
    std::vector<std::string> result;
    for (const Mutant& mutant : of.survivors) result.push_back(mutant.what);
    return result;
  };
  const Review one = review("  - {name: fires, events: [" + good + "], expect: {blame: 'service:s'}}\n");
  EXPECT_EQ(one.positive, 1U);
  EXPECT_EQ(one.near_misses, 0U);
  EXPECT_EQ(one.noisy, 0U);
  EXPECT_EQ(one.survivors.size(), one.mutants);
  const std::string again = "{at: 20s, metric: x, entity: 'service:s', series: '9 x3'}, {at: 19s, log: '', entity: 'service:s', body: broken}";
  const Review all = review(
      "  - {name: fires, events: [" + good + ", {metric: z, value: 1}], expect: {blame: 'service:s', weight: 3}}\n"
      "  - {name: low, events: [{metric: x, entity: 'service:s', series: '5 x3'}, {log: '', entity: 'service:s', body: broken}], expect: none}\n"
      "  - {name: other words, events: [{metric: x, entity: 'service:s', series: '9 x3'}, {log: '', entity: 'service:s', body: all is well}], expect: none}\n"
      "  - {name: released, events: [" + good + ", {change: service.version, entity: 'service:s'}], expect: none}\n"
      "  - {name: too late, events: [{metric: x, entity: 'service:s', series: '9 x3'}, {at: 4s, log: '', entity: 'service:s', body: broken}], expect: none}\n"
      "  - {name: too few, events: [{metric: x, entity: 'service:s', series: '9 x1'}, {log: '', entity: 'service:s', body: broken}], expect: none}\n"
      "  - {name: noisy, events: [" + good + ", {metric: x, entity: 'process:7', series: '9 x3'}, {log: '', entity: 'process:7', body: broken}, {metric: y, entity: 'service:v', series: '9 x3'}, {log: '', entity: 'service:v', body: broken}, "
      "{metric: x, entity: 'service:t', series: '9 x3'}, {change: service.version, entity: 'service:u'}, {change: config.write, entity: 'service:s'}], expect: {blame: 'service:s'}}\n"
      "  - {name: released later, events: [{change: service.version, entity: 'service:s'}, " + again + "], expect: {blame: 'service:s'}}\n");
  EXPECT_THAT(what(all), ElementsAre());
  EXPECT_EQ(all.positive, 3U);
  EXPECT_EQ(all.near_misses, 5U);
  EXPECT_EQ(all.noisy, 2U);
}

// Of each stable rule that ships: at least one case that fires, one near miss, one with noise that nearly fits, and no clause or
// condition that its cases would not miss.
TEST(Review, TheCatalogueIsTested) {
  std::size_t mutants = 0;
  std::size_t stable = 0;
  const auto set = load_rules(built_in_rules()).value();
  for (const RulePtr& rule : set->rules()) {
    if (rule->status != Status::Stable) continue;
    ++stable;
    const Review review = review_cases(*rule);
    mutants += review.mutants;
    EXPECT_GE(review.positive, 1U) << rule->id;
    EXPECT_GE(review.near_misses, 1U) << rule->id;
    EXPECT_GE(review.noisy, 1U) << rule->id;
    for (const Mutant& mutant : review.survivors) ADD_FAILURE() << rule->id << ": every case passes without " << mutant.what;
  }
  EXPECT_GE(stable, 60U);
  fmt::print("{} stable rules, {} clauses and conditions dropped\n", stable, mutants);
}

TEST(Cases, RecordedFile) {
  std::string name = (std::filesystem::temp_directory_path() / "culprit-cases-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  std::ofstream(folder / "one.ndjson") << "{\"culprit_export\":1}\n{\"time_ns\":17,\"kind\":\"sample\",\"entity\":\"service:s\",\"name\":\"x\",\"value\":0.4}\n";
  const auto set = load(kRule + "  - {name: t, replay: one.ndjson, expect: {blame: 'service:s', explain: 'it is 400 ms'}}\n", (folder / "toy.yaml").string());
  ASSERT_NE(set, nullptr);
  EXPECT_TRUE(run_tests(*set)[0].passed) << run_tests(*set)[0].message;
  std::filesystem::remove_all(folder);
}

TEST(Lint, SaysWhatIsDoubtful) {
  const std::string tail = "blame: a.entity\ncause: x/y\nexplain: x\nsource: s\n";
  const struct { const char* match; const char* says; } cases[] = {
      {"  - {id: a, metric: x}\n  - {id: b, metric: cpu.time}\n", "unbounded window: 'b'"},
      {"  - {id: a, log: '', regex: '[0-9]+'}\n", "its regex runs on every log body"},
      {"  - {id: a, metric: fsync.men}\n", "called 'fsync.men'; did you mean 'fsync.mean'?"},
      {"  - {id: a, kernel: process.exit, where: {exit.signl: SIGKILL}}\n", "no attribute 'exit.signl'; did you mean 'exit.signal'?"},
      {"  - {id: a, kernel: process.exit, where: {exit.signal: '9'}}\n", "a name such as SIGKILL"},
      {"  - {id: a, metric: cpu.time}\n  - {id: b, absent: {metric: cpu.time}, within: 5s}\n", "unreachable: 'a' must be there and 'b' must not"},
  };
  for (const auto& c : cases) {
    const auto notes = lint(*load(std::string("rule: toy\nsummary: A toy\nmatch:\n") + c.match + tail));
    EXPECT_TRUE(std::ranges::any_of(notes, [&](const Note& note) { return note.what.find(c.says) != std::string::npos; })) << c.says;
  }
  const std::string twin = "summary: A toy\nmatch:\n  - {id: a, metric: cpu.time}\n" + tail;
  const auto notes = lint(*load("rule: one\n" + twin + "---\nrule: two\n" + twin));
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_THAT(notes[0].what, HasSubstr("exactly as 'one' does"));
  // What ships has no doubts: no clause of a stable rule, nor any condition of one, that its cases would not miss.
  for (const Note& note : lint(*load_rules(built_in_rules()).value())) ADD_FAILURE() << note.origin << ": " << note.what;
}

TEST(Clauses, SayTrueOrFalseWithValues) {
  const auto set = load("rule: toy\nsummary: A toy\nmatch:\n  - {id: a, metric: x, above: 0.5, entity: 'service:*'}\n  - {id: b, log: '', text: broken, within: 5s before a}\n"
                        "blame: a.entity\ncause: x/y\nexplain: x\nsource: s\n");
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::vector<stream::Event> events = {{.time_ns = 100 * kSecond, .kind = Kind::Sample, .entity = "service:s", .name = "x", .value = 0.4}};
  const RuleReport report = explain_rule(set->find("toy"), events, 100 * kSecond);
  ASSERT_EQ(report.clauses.size(), 2U);
  EXPECT_FALSE(report.clauses[0].holds);
  ASSERT_EQ(report.clauses[0].conditions.size(), 2U);
  EXPECT_TRUE(report.clauses[0].conditions[0].holds);
  EXPECT_EQ(report.clauses[0].conditions[1].text, "above 0.5");
  EXPECT_EQ(report.clauses[0].conditions[1].got, "0.4");
  EXPECT_FALSE(report.clauses[0].conditions[1].holds);
  EXPECT_EQ(report.clauses[1].fitting, 0U);
  EXPECT_TRUE(report.findings.empty());
}

// Where it does not fire, the nearest try is shown: what is in the wrong window, of the wrong entity, too few, joined to nothing.
TEST(Clauses, SayWhichWindowEntityJoinOrPathFails) {
  const auto with = [](const std::string& item, const std::string& relations) {
    return load("rule: toy\nsummary: A toy\nmatch:\n  - {id: a, metric: x, above: 0.5}\n  - {id: b, log: '', text: broken, " + item + "}\n" + relations + "blame: a.entity\ncause: x/y\nexplain: x\nsource: s\n");
  };
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::vector<stream::Event> events = {
      {.time_ns = 100 * kSecond, .kind = Kind::Sample, .entity = "service:s", .name = "x", .value = 0.7},
      {.time_ns = 100 * kSecond, .kind = Kind::Sample, .entity = "edge:s->m", .name = "client.rate", .value = 1},
      {.time_ns = 103 * kSecond, .kind = Kind::Log, .entity = "service:t", .attributes = {{"pid", "7"}}, .body = "broken"}};
  const struct { const char* item; const char* relations; const char* text; const char* got; bool of_clause; } cases[] = {
      {"within: 5s before a", "", "within 5 s before a", "3 s after", true},
      {"within: 2s after a", "", "within 2 s after a", "3 s after", true},
      {"within: 5s, same_entity: true", "", "same entity as a", "service:t", true},
      {"within: 5s, least: 2", "", "at least 2 times", "1", true},
      {"within: 5s", "joins: ['a.service == b.pid']\n", "a.service == b.pid", "s and 7", false},
      {"within: 5s", "joins: ['a.pid == b.pid']\n", "a.pid == b.pid", "nothing and 7", false},
      {"within: 5s", "paths: ['a.entity -calls-> b.entity']\n", "a.entity -calls-> b.entity", "s -calls-> m, not t", false},
      {"within: 5s", "paths: ['a.entity -calls-> x -writes-> b.entity']\n", "a.entity -calls-> x -writes-> b.entity", "s -calls-> m -writes-> nothing", false},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.item);
    const RuleReport report = explain_rule(with(c.item, c.relations)->find("toy"), events, 101 * kSecond);
    EXPECT_TRUE(report.findings.empty());
    EXPECT_TRUE(report.clauses[0].holds);
    EXPECT_EQ(report.clauses[1].holds, !c.of_clause);
    const auto& where = c.of_clause ? report.clauses[1].conditions : report.relations;
    const auto failing = std::ranges::find(where, c.text, &Condition::text);
    ASSERT_NE(failing, where.end());
    EXPECT_EQ(failing->got, c.got);
    EXPECT_FALSE(failing->holds);
    EXPECT_EQ(std::ranges::count(where, false, &Condition::holds), 1);
  }
  // And where it fires, everything is true.
  const RuleReport fires = explain_rule(with("within: 5s", "joins: ['b.pid == b.pid']\npaths: ['a.entity -calls-> m <-calls- a.entity']\n")->find("toy"), events, 101 * kSecond);
  ASSERT_EQ(fires.findings.size(), 1U);
  EXPECT_TRUE(std::ranges::all_of(fires.clauses, &ClauseReport::holds));
  ASSERT_EQ(fires.relations.size(), 2U);
  EXPECT_TRUE(std::ranges::all_of(fires.relations, &Condition::holds));
  EXPECT_EQ(fires.relations[1].got, "s -calls-> m <-calls- s");
}

// Verdicts move a weight towards what people found, within a bound; a pinned one stays.
TEST(Learning, VerdictsMoveTheWeight) {
  Rule rule;
  EXPECT_EQ(learned_weight(rule, 2, {}), 2);
  EXPECT_GT(learned_weight(rule, 2, {.right = 3}), 2.5);
  EXPECT_LT(learned_weight(rule, 2, {.wrong = 3}), 1.5);
  EXPECT_EQ(learned_weight(rule, 2, {.partly = 5}), 2);
  EXPECT_EQ(learned_weight(rule, 2, {.right = 1'000}), 2 + kLearnedMax);
  EXPECT_EQ(learned_weight(rule, 1, {.wrong = 1'000}), 0);
  rule.pinned = true;
  EXPECT_EQ(learned_weight(rule, 2, {.wrong = 1'000}), 2);
}

// What other programs read stays what they can read, whatever a message holds.
TEST(Report, Escapes) {
  const TestResult results[] = {{.rule = "a<b", .test = "x & \"y\"", .origin = "f:1", .passed = false, .todo = {}, .message = "got '<\x01>'"}, {.rule = "r", .test = "t", .origin = "f:2", .passed = true, .todo = {}, .message = {}}};
  const std::string xml = junit("s", results);
  EXPECT_THAT(xml, HasSubstr("tests=\"2\" failures=\"1\""));
  EXPECT_THAT(xml, HasSubstr("classname=\"a&lt;b\" name=\"x &amp; &quot;y&quot;\""));
  EXPECT_EQ(xml.find('\x01'), std::string::npos);
  const Issue issues[] = {{"id", "error", "a,b.yaml", 3, 0, "100% wrong\nreally", ""}};
  EXPECT_EQ(github(issues), "::error file=a%2Cb.yaml,line=3,title=id::100%25 wrong%0Areally\n");
  const IssueKind kinds[] = {{"id", "s", "h", "info"}};
  EXPECT_THAT(sarif("1", kinds, issues), HasSubstr("\"startLine\": 3"));
  EXPECT_THAT(sarif("1", kinds, issues), HasSubstr("\"version\": \"2.1.0\""));
  // What could not be read is in each report: a green one would be a lie.
  const Unreadable broken[] = {{"c.yaml", "c.yaml:2: <not> closed"}};
  EXPECT_THAT(junit("s", {}, {}, broken), HasSubstr("tests=\"1\" failures=\"0\" errors=\"1\""));
  EXPECT_THAT(junit("s", {}, {}, broken), HasSubstr("<error message=\"c.yaml:2: &lt;not&gt; closed\"/>"));
  EXPECT_EQ(github({}, broken), "::error file=c.yaml,title=unreadable::c.yaml:2: <not> closed\n");
  EXPECT_THAT(sarif("1", {}, {}, broken), HasSubstr("\"executionSuccessful\": false"));
  EXPECT_THAT(sarif("1", {}, {}), HasSubstr("\"executionSuccessful\": true"));
}

}  // namespace
}  // namespace culprit::rules
