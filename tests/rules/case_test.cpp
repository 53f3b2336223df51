// What a rule's own cases may hold, what lint doubts, and the reports for other programs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <fstream>

#include "rules/clauses.h"
#include "rules/lint.h"
#include "rules/report.h"

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
  // What ships has no doubts.
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

// Verdicts move a weight towards what people found, within a bound; a pinned one stays.
TEST(Learning, VerdictsMoveTheWeight) {
  Rule rule;
  EXPECT_EQ(learned_weight(rule, 2, 0, 0, 0), 2);
  EXPECT_GT(learned_weight(rule, 2, 3, 0, 0), 2.5);
  EXPECT_LT(learned_weight(rule, 2, 0, 3, 0), 1.5);
  EXPECT_EQ(learned_weight(rule, 2, 0, 0, 5), 2);
  EXPECT_EQ(learned_weight(rule, 2, 1'000, 0, 0), 2 + kLearnedMax);
  EXPECT_EQ(learned_weight(rule, 1, 0, 1'000, 0), 0);
  rule.pinned = true;
  EXPECT_EQ(learned_weight(rule, 2, 0, 1'000, 0), 2);
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
}

}  // namespace
}  // namespace culprit::rules
