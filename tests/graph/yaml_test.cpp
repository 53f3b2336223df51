#include "graph/yaml.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace culprit::graph {
namespace {

using ::testing::HasSubstr;

TEST(Yaml, KeepsLinesAndKinds) {
  const auto root = parse_yaml("f.yaml", "a: 1\nb:\n  - x\n  - 'y'\nc: {d: ~}\n");
  ASSERT_TRUE(root) << root.error().message;
  EXPECT_EQ(root->find("a")->text, "1");
  ASSERT_EQ(root->find("b")->items.size(), 2U);
  EXPECT_EQ(root->find("b")->items[1].line, 4);
  EXPECT_TRUE(root->find("b")->items[1].quoted);
  EXPECT_EQ(root->find("c")->find("d")->kind, Yaml::Kind::Null);
  EXPECT_EQ(root->find("e"), nullptr);
}

// Anchors are copied; a file that would grow beyond the limit is refused, not expanded.
TEST(Yaml, AliasesAreBounded) {
  const auto copied = parse_yaml("f", "a: &x [1, 2]\nb: *x\n");
  ASSERT_TRUE(copied);
  EXPECT_EQ(copied->find("b")->items.size(), 2U);
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    bomb += fmt::format("a{0}: &a{0} [", i);
    for (int k = 0; k < 10; ++k) bomb += fmt::format("{}*a{}", k > 0 ? ", " : "", i - 1);
    bomb += "]\n";
  }
  const auto grown = parse_yaml("bomb", bomb);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code, Code::Exhausted);
  EXPECT_FALSE(parse_yaml("ring", "&a [*a]"));
}

TEST(Yaml, MistakesNameFileAndLine) {
  const struct { const char* text; const char* says; } cases[] = {
      {"", "f.yaml:1"}, {"a: [1\nb: 2\n", "f.yaml:2"}, {"? [a]\n: b\n", "f.yaml:1: a key must be plain text"}, {"a: 1\n---\nb: 2\n", "f.yaml:3: more than one"}};
  for (const auto& c : cases) {
    const auto root = parse_yaml("f.yaml", c.text);
    ASSERT_FALSE(root) << c.text;
    EXPECT_THAT(root.error().message, HasSubstr(c.says));
  }
}

// Reading a map reports what is missing, wrong, double and unknown, all at once.
TEST(Fields, ReportsEveryMistake) {
  const auto root = parse_yaml("f.yaml", "naem: x\nsize: big\nflag: 7\nkind: c\nlist: 3\nsize: 4\n");
  Findings findings("f.yaml");
  Fields fields(*root, "a thing", findings);
  fields.text("name", Need::Required);
  EXPECT_FALSE(fields.number("size", 0, 10));
  EXPECT_FALSE(fields.flag("flag"));
  constexpr std::string_view kChoices[] = {"a", "b"};
  EXPECT_FALSE(fields.choice("kind", kChoices));
  EXPECT_TRUE(fields.texts("list").empty());
  fields.done();
  const auto result = findings.result();
  ASSERT_FALSE(result);
  for (const char* says : {"f.yaml:1: a thing lacks 'name'", "f.yaml:1: unknown key 'naem' in a thing; did you mean 'name'?",
                           "f.yaml:2: 'size' must be a number from 0 to 10", "f.yaml:3: 'flag' must be true or false",
                           "f.yaml:4: 'kind' must be one of a, b, not 'c'", "f.yaml:5: 'list' must be a list", "f.yaml:6: 'size' is given twice"}) {
    EXPECT_THAT(result.error().message, HasSubstr(says));
  }
}

TEST(Fields, ManyMistakesAreCounted) {
  Findings findings("f");
  for (int i = 0; i < 70; ++i) findings.add(i, "wrong");
  EXPECT_THAT(findings.result().error().message, HasSubstr("and 20 more"));
}

}  // namespace
}  // namespace culprit::graph
