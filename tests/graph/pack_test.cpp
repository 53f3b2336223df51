#include "graph/pack.h"

#include <gmock/gmock.h>

#include "graph/knowledge.h"

namespace culprit::graph {
namespace {

using ::testing::HasSubstr;

const std::string kHead = "schema: 1\nmiddleware: toy\ntitle: Toy\nfailure_modes:\n";
const std::string kMode =
    "  - id: stuck\n    name: Stuck\n    summary: It is stuck\n"
    "    causes: [{id: jam, text: A jam}]\n    mitigations: [{id: kick, kind: immediate, text: Kick it}]\n";

TEST(Pack, ReadsAMode) {
  const auto pack = parse_pack({"toy.yaml", kHead + kMode +
                                                "    symptoms: [{id: log, literal: is stuck, regex: 'is stuck \\d+', weight: 0.5, example: it is stuck 7}]\n"});
  ASSERT_TRUE(pack) << pack.error().message;
  ASSERT_EQ(pack->modes.size(), 1U);
  const FailureMode& mode = pack->modes[0];
  EXPECT_EQ(mode.id, "toy/stuck");
  EXPECT_EQ(mode.origin, "toy.yaml:5");
  EXPECT_EQ(mode.severity, 3);
  EXPECT_EQ(mode.symptoms[0].weight, 0.5);
  EXPECT_EQ(mode.mitigations[0].kind, "immediate");
}

// Each mistake is named with its line and column; several come together.
TEST(Pack, MistakesAreNamed) {
  const struct { const char* what; std::string text; std::vector<const char*> says; } cases[] = {
      {"unknown key", kHead + kMode + "    mitigation: []\n", {"toy.yaml:10:5: unknown key 'mitigation' in a failure mode; did you mean 'mitigations'?"}},
      {"two at once", kHead + kMode + "    symptoms: [{id: a, literal: abcd, weight: 7}, {id: A B, literal: abcd}]\n", {"toy.yaml:10:47: 'weight' must be a number", "'id' must be lower-case"}},
      {"bad regex", kHead + kMode + "    symptoms: [{id: a, literal: abcd, regex: '(abcd'}]\n", {"toy.yaml:10:39: regex of 'a': missing )"}},
      {"example without literal", kHead + kMode + "    symptoms: [{id: a, literal: abcd, example: xyz}]\n", {"lacks its literal"}},
      {"example without match", kHead + kMode + "    symptoms: [{id: a, literal: abcd, regex: 'abcd\\d', example: abcdx}]\n", {"does not match its example"}},
      {"produced what?", kHead + kMode + "    symptoms: [{id: a, literal: abcd, produced: toy 1.0}]\n", {"toy.yaml:10:39: 'a' has no example that 'toy 1.0' could have printed"}},
      {"log without literal", kHead + kMode + "    symptoms: [{id: a, regex: abcd}]\n", {"needs a literal"}},
      {"no cause", kHead + "  - {id: x, name: X, summary: S, mitigations: []}\n", {"toy.yaml:5:5: a failure mode lacks 'causes'"}},
      {"wrong schema", "schema: 2\nmiddleware: toy\ntitle: T\nfailure_modes: []\n", {"toy.yaml:1:1: this program reads schema 1"}},
      {"not a map", "- 1\n", {"toy.yaml:1:1: a pack must be a map"}},
      {"a mode that is text", kHead + "  - stuck\n", {"toy.yaml:5:5: a failure mode must be a map"}},
      {"broken yaml", "a: [", {"toy.yaml:1:", "',' or ']' is expected", "a: [\n"}},
      {"too deep", "a: " + std::string(100'000, '['), {"toy.yaml:1", "nested deeper than"}},
      {"bad port", "schema: 1\nmiddleware: toy\ntitle: T\nports: [70000]\nfailure_modes: []\n", {"toy.yaml:4:1: '70000' is no port number"}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    const auto pack = parse_pack({"toy.yaml", c.text});
    ASSERT_FALSE(pack);
    EXPECT_EQ(pack.error().code, Code::Invalid);
    for (const char* says : c.says) EXPECT_THAT(pack.error().message, HasSubstr(says));
  }
}

TEST(Pack, LinkResolvesAliasesAndNamesDanglingOnes) {
  std::vector<Pack> packs;
  packs.push_back(*parse_pack({"toy.yaml", kHead + kMode + "    aliases: [toy-stuck]\n    causes_modes: [{to: toy-stuck, confidence: 0.5}]\n"}));
  ASSERT_TRUE(link(packs));
  EXPECT_EQ(packs[0].modes[0].causes_modes[0].to, "toy/stuck");
  packs[0].modes[0].causes_modes[0].to = "toy/stick";
  const auto dangling = link(packs);
  ASSERT_FALSE(dangling);
  EXPECT_THAT(dangling.error().message, HasSubstr("toy.yaml:5: unknown failure mode 'toy/stick'; did you mean 'toy/stuck'?"));
  // As a person wrote it, the place is that of the name.
  std::vector<Pack> written;
  written.push_back(*parse_pack({"toy.yaml", kHead + kMode + "    causes_modes: [{to: toy/stick, confidence: 0.5}]\n"}));
  EXPECT_THAT(link(written).error().message, HasSubstr("toy.yaml:10:25: unknown failure mode 'toy/stick'"));
  packs[0].modes[0].causes_modes.clear();
  packs.push_back(packs[0]);
  EXPECT_THAT(link(packs).error().message, HasSubstr("already the name of toy/stuck (toy.yaml:5)"));
}

// Every pack that ships is sound: it parses, links, and has what a diagnosis shows.
TEST(Pack, BuiltInPacksAreComplete) {
  const auto known = Knowledge::load({});
  ASSERT_TRUE(known) << known.error().message;
  for (const Pack& pack : (*known)->packs()) {
    for (const FailureMode& mode : pack.modes) {
      SCOPED_TRACE(mode.origin + " " + mode.id);
      EXPECT_FALSE(mode.symptoms.empty());
      EXPECT_FALSE(mode.causes.empty());
      EXPECT_FALSE(mode.mitigations.empty());
      EXPECT_FALSE(mode.aliases.empty());
      EXPECT_FALSE(mode.sources.empty());
      double prior = 0;
      for (const Cause& cause : mode.causes) prior += cause.prior;
      EXPECT_LE(prior, 1.001);
    }
  }
}

}  // namespace
}  // namespace culprit::graph
