#include "rules/loader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <fstream>

namespace culprit::rules {
namespace {

using ::testing::HasSubstr;

const std::string kGood =
    "rule: toy\nsummary: A toy\nmatch:\n  - {id: a, log: '', text: broken}\nblame: a.entity\ncause: redis/down\nexplain: 'it says {a.body}'\nsource: test\n";

const graph::Knowledge& known() {
  static const auto knowledge = graph::Knowledge::load({}).value();
  return *knowledge;
}

Result<RuleSetPtr> load(const std::string& text) {
  const RuleText texts[] = {{"toy.yaml", text}};
  return load_rules(texts, {.knowledge = &known()});
}

TEST(Loader, ReadsARule) {
  const auto set = load(kGood);
  ASSERT_TRUE(set) << set.error().message;
  const RulePtr rule = (*set)->find("toy");
  ASSERT_NE(rule, nullptr);
  EXPECT_EQ(rule->status, Status::Sandbox);
  EXPECT_EQ(rule->blame, "{a.entity}");
  EXPECT_EQ(rule->origin, "toy.yaml:1");
  EXPECT_EQ((*set)->find("other"), nullptr);
}

// Each mistake is named with file, line and column, and the nearest key where there is one.
TEST(Loader, MistakesAreNamed) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = kGood;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const struct { const char* what; std::string text; const char* says; } cases[] = {
      {"unknown key", with("source: test", "source: test\nexplian: x"), "toy.yaml:9:1: unknown key 'explian' in a rule; did you mean 'explain'?\n    explian: x\n    ^"},
      {"unknown match key", with("text: broken", "txt: broken"), "toy.yaml:4:22: unknown key 'txt' in a match item; did you mean 'text'?\n      - {id: a, log: '', txt: broken}\n                         ^"},
      {"no source of events", with("log: '', ", ""), "toy.yaml:4:5: a match item must name one of log, metric"},
      {"two sources", with("log: ''", "log: '', metric: x"), "toy.yaml:4:22: a match item names two sources"},
      {"bad regex", with("text: broken", "regex: '(x'"), "toy.yaml:4:22: regex of 'a': missing )"},
      {"unknown cause", with("redis/down", "redis/dwon"), "toy.yaml:6:1: unknown failure mode 'redis/dwon'; did you mean 'redis/down'?"},
      {"unknown reference", with("{a.body}", "{b.body}"), "toy.yaml:7:1: 'explain' speaks of 'b', which no match item is called"},
      {"open brace", with("{a.body}", "{a.body"), "toy.yaml:7:1: 'explain': '{' without '}'"},
      {"unknown unit", with("{a.body}", "{a.body:miles}"), "unknown unit 'miles'"},
      {"bad within", with("text: broken}", "text: broken}\n  - {id: b, metric: x, within: soon}"), "toy.yaml:5:24: 'within' must be"},
      {"within of nobody", with("text: broken}", "text: broken}\n  - {id: b, metric: x, within: 5s before c}"), "'within' speaks of 'c'"},
      {"window without end", with("text: broken}", "text: broken}\n  - {id: b, metric: x, within: 2h}"), "longer than"},
      {"unreachable", with("text: broken}", "text: broken}\n  - {id: b, metric: x, above: 5, below: 4, within: 2s}"), "unreachable: no value is above 5 and below 4"},
      {"only optional", with("text: broken", "text: broken, optional: true"), "toy.yaml:4:3: at least one match item"},
      {"fits every line", with("text: broken", "entity: x"), "log item 'a' would fit every line"},
      {"stable without tests", with("summary:", "status: stable\nsummary:"), "toy.yaml:1:1: a stable rule needs at least three tests"},
      {"join of nobody", with("blame:", "joins: ['a.pid == b.pid']\nblame:"), "'joins' speaks of 'b'"},
      {"join of two that are absent", with("text: broken}", "text: broken}\n  - {id: b, absent: {metric: x}, within: 2s}\n  - {id: c, absent: {metric: y}, within: 2s}\njoins: ['b.service == c.service']"), "'b', which must be absent, can only be joined to an earlier item"},
      {"join of an absent to a later one", with("text: broken}", "text: broken}\n  - {id: b, absent: {metric: x}, within: 2s}\n  - {id: c, metric: y, within: 2s}\njoins: ['c.service == b.service']"), "'b', which must be absent, can only be joined to an earlier item"},
      {"join without a field", with("blame:", "joins: ['a == a.pid']\nblame:"), "'{a}' must be"},
      {"path without an arrow", with("blame:", "paths: ['a.entity calls a.service']\nblame:"), "a path is"},
      {"path to nowhere", with("blame:", "paths: ['a.entity -calls-> other']\nblame:"), "a path begins at a match item and reaches another"},
      {"filter", with("text: broken", "filter: 'severity >> error'"), "toy.yaml:4:22: filter, column"},
      {"filter near", with("text: broken", "filter: 'entity near service:shop/2'"), "'near' is not for rules"},
      {"unknown list", with("text: broken", "text: broken, where: {signal: $deadly}"), "there is no list '$deadly'"},
      {"unknown macro", with("text: broken", "text: broken, use: slow"), "there is no macro 'slow'"},
      {"disables nobody", kGood + "---\ndisable: toi\nreason: noisy\n", "'disable: toi' names no rule; did you mean 'toy'?"},
      {"series", kGood + "tests: [{name: t, events: [{metric: x, entity: s, series: '3ms y60'}], expect: none}]", "a series is 'VALUE xCOUNT"},
      {"series without end", kGood + "tests: [{name: t, events: [{metric: x, entity: s, series: '3ms x1e300'}], expect: none}]", "events in a test"},
      {"recording elsewhere", kGood + "tests: [{name: t, replay: ../../etc/passwd, expect: none}]", "leaves the folder of the rule"},
      {"edge", kGood + "tests: [{name: t, events: [], topology: [shop to db], expect: none}]", "an edge is"},
      {"empty", "", "toy.yaml:1: no rule in this file"},
      {"broken yaml", "rule: [", "toy.yaml:1"},
      {"twice in a file", kGood + "---\n" + kGood, "rule 'toy' is given twice in this file"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    const auto set = load(c.text);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, Code::Invalid);
    EXPECT_THAT(set.error().message, HasSubstr(c.says));
  }
}

// An alias may be used, and repeated only so often that a small file stays a small tree.
TEST(Loader, AnchorsAreBounded) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c < 'j'; ++c) bomb += fmt::format("{0}: &{0} [*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1}]\n", c, static_cast<char>(c - 1));
  const auto set = load(bomb);
  ASSERT_FALSE(set);
  EXPECT_THAT(set.error().message, HasSubstr("nodes"));
  EXPECT_TRUE(load("rule: toy\nsummary: &s A toy\nmatch:\n  - {id: a, log: '', text: broken}\nblame: a.entity\ncause: redis/down\nexplain: *s\nsource: test\n"));
}

// Lists and macros are shared; a later file's replace an earlier one's, also for rules that came before it.
TEST(Loader, ListsMacrosAndOverrides) {
  const RuleText rules = {"1.yaml", "rule: toy\nsummary: A toy\nmatch:\n  - {id: a, use: death, where: {exit.signal: $deadly}}\nblame: a.entity\ncause: redis/down\nexplain: x\nsource: test\n"};
  const RuleText library = {"2.yaml", "list: deadly\nitems: ['9', '11']\n---\nmacro: death\nmatch: {kernel: process.exit, entity: 'service:*'}\n"};
  const RuleText other = {"3.yaml", "list: deadly\nitems: ['6']\n---\ndisable: toy\nreason: noisy here\n"};
  RuleCache cache;
  const RuleText two[] = {rules, library};
  const auto first = load_rules(two, {.cache = &cache});
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ((*first)->find("toy")->match[0].where[0].globs, (std::vector<std::string>{"9", "11"}));
  EXPECT_EQ((*first)->find("toy")->match[0].name, "process.exit");
  EXPECT_EQ((*first)->disabled("toy"), "");
  const RuleText three[] = {rules, library, other};
  const auto second = load_rules(three, {.cache = &cache});
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ((*second)->find("toy")->match[0].where[0].globs, (std::vector<std::string>{"6"}));
  EXPECT_EQ((*second)->disabled("toy"), "noisy here");
  EXPECT_NE((*first)->hash(), (*second)->hash());
}

// The rules that ship are sound, and their own tests pass.
TEST(Loader, BuiltInRulesPassTheirTests) {
  const auto set = load_rules(built_in_rules(), {.knowledge = &known()});
  ASSERT_TRUE(set) << set.error().message;
  std::size_t stable = 0;
  for (const RulePtr& rule : (*set)->rules()) {
    stable += rule->status == Status::Stable ? 1 : 0;
    EXPECT_GE(rule->tests.size(), 3U) << rule->id;
    EXPECT_FALSE(rule->next.empty()) << rule->id;
  }
  EXPECT_GE(stable, 60U);
  for (const TestResult& result : run_tests(**set)) EXPECT_TRUE(result.passed) << result.origin << ": " << result.rule << ", " << result.test << ": " << result.message;
}

// A bad file leaves the last good set in force; whoever holds a set keeps it.
TEST(RuleBook, KeepsTheLastGoodSet) {
  std::string name = (std::filesystem::temp_directory_path() / "culprit-rules-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  const auto write = [&](const char* file, const std::string& text) { std::ofstream(folder / file) << text; };
  const std::shared_ptr<const graph::Knowledge> knowledge(&known(), [](const graph::Knowledge*) {});
  RuleBook book(folder, knowledge, std::make_shared<const RuleSet>(std::vector<RulePtr>{}, std::map<std::string, std::string>{}, ""));
  const auto before = book.current();
  ASSERT_TRUE(book.reload(1));
  const auto built_in = book.current();
  EXPECT_TRUE(before->rules().empty());
  EXPECT_EQ(built_in->find("toy"), nullptr);

  write("toy.yaml", kGood);
  ASSERT_TRUE(book.reload(2));
  ASSERT_NE(book.current()->find("toy"), nullptr);
  const auto good = book.current();
  EXPECT_EQ(book.state().changed_ns, 2);
  EXPECT_EQ(good->find("oom-kill"), built_in->find("oom-kill"));  // not parsed again

  // Broken text, and a sound rule whose own test fails.
  for (const std::string& bad : {std::string("rule: ["), kGood + "tests: [{name: t, events: [{log: '', body: all is well}], expect: fires}]\n"}) {
    write("toy.yaml", bad);
    const auto failed = book.reload(3);
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().message, HasSubstr("toy.yaml:"));
    EXPECT_EQ(book.state().error, failed.error().message);
    EXPECT_EQ(book.current(), good);
  }
  EXPECT_EQ(book.state().failures, 2U);

  // Repaired, and one built-in rule replaced by the user's own.
  write("toy.yaml", kGood);
  std::string own = kGood;
  own.replace(0, 9, "rule: oom-kill");
  write("own.yaml", own);
  ASSERT_TRUE(book.reload(4));
  EXPECT_EQ(book.state().error, "");
  EXPECT_EQ(book.current()->find("oom-kill")->summary, "A toy");
  EXPECT_EQ(book.current()->rules().size(), good->rules().size());
  std::filesystem::remove_all(folder);
}

TEST(Loader, MissingFiles) {
  EXPECT_EQ(read_rules("/no/such/rules").error().code, Code::NotFound);
}

}  // namespace
}  // namespace culprit::rules
