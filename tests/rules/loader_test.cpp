#include "rules/loader.h"

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

Result<std::shared_ptr<const RuleSet>> load(const std::string& text) {
  const RuleText texts[] = {{"toy.yaml", text}};
  return load_rules(texts, &known());
}

TEST(Loader, ReadsARule) {
  const auto set = load(kGood);
  ASSERT_TRUE(set) << set.error().message;
  const Rule* rule = (*set)->find("toy");
  ASSERT_NE(rule, nullptr);
  EXPECT_EQ(rule->status, Status::Sandbox);
  EXPECT_EQ(rule->blame, "{a.entity}");
  EXPECT_EQ(rule->origin, "toy.yaml:1");
  EXPECT_EQ((*set)->find("other"), nullptr);
}

// Each mistake is named with file and line, and the nearest key where there is one.
TEST(Loader, MistakesAreNamed) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = kGood;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const struct { const char* what; std::string text; const char* says; } cases[] = {
      {"unknown key", with("source: test", "source: test\nexplian: x"), "toy.yaml:9: unknown key 'explian' in a rule; did you mean 'explain'?"},
      {"unknown match key", with("text: broken", "txt: broken"), "toy.yaml:4: unknown key 'txt' in a match item; did you mean 'text'?"},
      {"no source of events", with("log: '', ", ""), "toy.yaml:4: a match item must name one of log, metric"},
      {"two sources", with("log: ''", "log: '', metric: x"), "toy.yaml:4: a match item names two sources"},
      {"bad regex", with("text: broken", "regex: '(x'"), "toy.yaml:4: regex of 'a': missing )"},
      {"unknown cause", with("redis/down", "redis/dwon"), "toy.yaml:6: unknown failure mode 'redis/dwon'; did you mean 'redis/down'?"},
      {"unknown reference", with("{a.body}", "{b.body}"), "toy.yaml:7: 'explain' speaks of 'b', which no match item is called"},
      {"open brace", with("{a.body}", "{a.body"), "toy.yaml:7: 'explain': '{' without '}'"},
      {"unknown unit", with("{a.body}", "{a.body:miles}"), "unknown unit 'miles'"},
      {"bad within", with("text: broken}", "text: broken}\n  - {id: b, metric: x, within: soon}"), "toy.yaml:5: 'within' must be"},
      {"within of nobody", with("text: broken}", "text: broken}\n  - {id: b, metric: x, within: 5s before c}"), "toy.yaml:5: 'within' speaks of 'c'"},
      {"only optional", with("text: broken", "text: broken, optional: true"), "toy.yaml:4: at least one match item"},
      {"fits every line", with("text: broken", "entity: x"), "toy.yaml:4: log item 'a' would fit every line"},
      {"stable without tests", with("summary:", "status: stable\nsummary:"), "toy.yaml:1: a stable rule needs at least two tests"},
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

// The rules that ship are sound, and their own tests pass.
TEST(Loader, BuiltInRulesPassTheirTests) {
  const auto set = load_rules(built_in_rules(), &known());
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_GE((*set)->rules().size(), 15U);
  std::size_t stable = 0;
  for (const Rule& rule : (*set)->rules()) stable += rule.status == Status::Stable ? 1 : 0;
  EXPECT_GE(stable, 15U);
  for (const TestResult& result : run_tests(**set)) EXPECT_TRUE(result.passed) << result.origin << ": " << result.rule << ", " << result.test << ": " << result.message;
}

// A bad file leaves the last good set in force; whoever holds a set keeps it.
TEST(RuleBook, KeepsTheLastGoodSet) {
  std::string name = (std::filesystem::temp_directory_path() / "culprit-rules-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  const auto write = [&](const char* file, const std::string& text) { std::ofstream(folder / file) << text; };
  RuleBook book(std::make_shared<const RuleSet>(std::vector<Rule>{}, ""));
  const auto before = book.current();
  ASSERT_TRUE(book.reload(folder / "missing", &known()));
  const auto built_in = book.current();
  EXPECT_TRUE(before->rules().empty());
  EXPECT_EQ(built_in->find("toy"), nullptr);

  write("toy.yaml", kGood);
  ASSERT_TRUE(book.reload(folder, &known()));
  ASSERT_NE(book.current()->find("toy"), nullptr);
  const auto good = book.current();

  write("toy.yaml", "rule: [");
  const auto bad = book.reload(folder, &known());
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("toy.yaml:1"));
  EXPECT_EQ(book.current(), good);

  // Repaired, and one built-in rule replaced by the user's own.
  write("toy.yaml", kGood);
  std::string own = kGood;
  own.replace(0, 9, "rule: oom-kill");
  write("own.yaml", own);
  ASSERT_TRUE(book.reload(folder, &known()));
  EXPECT_EQ(book.current()->find("oom-kill")->summary, "A toy");
  EXPECT_EQ(book.current()->rules().size(), good->rules().size());
  std::filesystem::remove_all(folder);
}

TEST(Loader, MissingFiles) {
  EXPECT_EQ(read_rules("/no/such/rules").error().code, Code::NotFound);
}

}  // namespace
}  // namespace culprit::rules
