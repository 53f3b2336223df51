#include "graph/knowledge.h"
#include "graph/lint.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/graph/temporary.h"

namespace culprit::graph {
namespace {

using ::testing::HasSubstr;

const Knowledge& built_in() {
  static const auto known = Knowledge::load({}).value();
  return *known;
}

// Every example in the packs is recognised as its own failure mode.
TEST(Knowledge, ExamplesMatchTheirModes) {
  for (const Pack& pack : built_in().packs()) {
    for (const FailureMode& mode : pack.modes) {
      for (const Symptom& symptom : mode.symptoms) {
        if (symptom.channel != Channel::Log || symptom.example.empty()) continue;
        const auto matches = built_in().match(symptom.example, mode.middleware);
        ASSERT_FALSE(matches.empty()) << symptom.example;
        EXPECT_TRUE(std::ranges::any_of(matches, [&](const Match& match) { return match.mode == &mode; })) << mode.id << ": " << symptom.example;
      }
    }
  }
}

// What programs printed for real is kept for those that are Debian packages (tests/knowledge/produce), and names its package.
TEST(Knowledge, ExamplesWereProduced) {
  std::map<std::string, std::size_t> produced;
  for (const Pack& pack : built_in().packs()) {
    for (const FailureMode& mode : pack.modes) {
      for (const Symptom& symptom : mode.symptoms) {
        if (symptom.produced.empty()) continue;
        ++produced[pack.middleware];
        EXPECT_NE(symptom.produced.find_first_of("0123456789"), std::string::npos) << mode.id << ": no version in " << symptom.produced;
        EXPECT_FALSE(symptom.example.empty()) << mode.id;
      }
    }
  }
  for (const char* middleware : {"postgresql", "mysql", "redis", "memcached", "nginx", "haproxy", "rabbitmq", "nats", "etcd", "zookeeper", "clickhouse", "go-runtime", "nodejs", "linux-kernel", "prometheus"}) {
    EXPECT_GE(produced[middleware], 3U) << middleware;
  }
}

// A long line is searched and learned by the part around its literal.
TEST(Knowledge, TellingPartOfALine) {
  const std::string noise(300, 'x');
  EXPECT_EQ(telling_part({.literal = "is full", .example = "disk is full"}), "disk is full");
  EXPECT_EQ(telling_part({.literal = "is full", .expr = "used > 1"}), "is full used > 1");
  const std::string part = telling_part({.literal = "Is Full", .example = noise + " the disk is full now " + noise});
  EXPECT_THAT(part, HasSubstr("the disk is full now"));
  EXPECT_LT(part.size(), 400U);
  EXPECT_FALSE(telling_part({.literal = "absent", .example = noise + " " + noise}).empty());
}

TEST(Knowledge, MatchesLogLines) {
  const struct { const char* line; const char* middleware; const char* first; } cases[] = {
      {"2026-01-01 10:00:00 UTC [71] FATAL:  sorry, too many clients already", "", "postgresql/too-many-clients"},
      {"[Mon] Out of memory: Killed process 3122 (java) total-vm:1kB", "", "linux-kernel/oom-kill"},
      {"ERROR:  could not extend file \"base/1/2\": No space left on device", "postgresql", "postgresql/disk-full"},
      {"write /var/log/x: No space left on device", "", "linux-kernel/disk-full"},
      {"OSError: [Errno 24] Too many open files", "", "linux-kernel/fd-limit"},
      {"Memory cgroup out of memory: Killed process 912 (python3)", "", "linux-kernel/cgroup-oom"},
      {"GET /items/7 200 12ms", "", ""},
      {"", "", ""},
  };
  for (const auto& c : cases) {
    const auto matches = built_in().match(c.line, c.middleware);
    if (*c.first == '\0') {
      EXPECT_TRUE(matches.empty()) << c.line;
    } else {
      ASSERT_FALSE(matches.empty()) << c.line;
      EXPECT_EQ(matches[0].failure_mode(), c.first) << c.line;
    }
  }
}

// The middleware of the process decides between modes that a line fits equally.
TEST(Knowledge, KnowsWhoWroteTheLine) {
  const char* line = "No space left on device: could not extend file";
  EXPECT_EQ(built_in().match(line, "linux-kernel")[0].middleware(), "linux-kernel");
}

TEST(Knowledge, FindsByIdAndAlias) {
  const FailureMode* mode = built_in().find("pg-lock-wait");
  ASSERT_NE(mode, nullptr);
  EXPECT_EQ(mode->id, "postgresql/lock-wait");
  EXPECT_EQ(built_in().find("postgresql/lock-wait"), mode);
  EXPECT_EQ(built_in().find("nonsense"), nullptr);
  EXPECT_THAT(built_in().suggest("pg-lock-wit"), ::testing::Contains("pg-lock-wait"));
  EXPECT_FALSE(built_in().mitigations("pg-lock-wait").empty());
  EXPECT_TRUE(built_in().mitigations("nonsense").empty());
  EXPECT_EQ(built_in().middleware_of_program("redis-server"), "redis");
  EXPECT_EQ(built_in().middleware_of_program("bash"), "");
  EXPECT_EQ(built_in().middleware_of_port(5432), "postgresql");
}

// Relations are the same seen from both ends.
TEST(Knowledge, RelationsHaveTwoEnds) {
  const FailureMode* kill = built_in().find("linux-kernel/oom-kill");
  for (const auto& relation : built_in().effects_of(kill->id)) EXPECT_TRUE(Knowledge::brings_about(*kill, *relation.mode));
  EXPECT_FALSE(Knowledge::brings_about(*built_in().find("redis/evictions"), *kill));
  EXPECT_TRUE(built_in().find("nginx/upstream-refused")->effect);
  EXPECT_FALSE(kill->effect);
  const auto effects = built_in().effects_of("linux-kernel/oom-kill");
  ASSERT_FALSE(effects.empty());
  for (const auto& effect : effects) {
    const auto causes = built_in().causes_of(effect.mode->id);
    EXPECT_TRUE(std::ranges::any_of(causes, [&](const auto& cause) { return cause.mode == kill; })) << effect.mode->id;
  }
}

TEST(Knowledge, SearchRanksWhatIsSaid) {
  const struct { const char* text; const char* first; } cases[] = {
      {"statements hang behind a migration", "postgresql/lock-wait"},
      {"cache rejects every write, memory is full", "redis/oom-noeviction"},
      {"kernel killed a process in the container at its memory limit", "linux-kernel/cgroup-oom"},
  };
  for (const auto& c : cases) {
    const auto hits = built_in().search(c.text, 5);
    ASSERT_FALSE(hits.empty());
    EXPECT_EQ(hits[0].document->mode->id, c.first) << c.text;
    EXPECT_LE(hits.size(), 5U);
  }
  EXPECT_TRUE(built_in().search("", 5).empty());
  // Nothing that a person types is query syntax.
  for (const char* text : {"\"", "a\" OR b", "NEAR(", "*", "-x", "col:y", "\xff\xfe"}) built_in().search(text, 5);
}

// Vector scores move a document that full text does not see, and unknown ids are ignored.
TEST(Knowledge, SearchFusesVectors) {
  const DocumentId wanted = built_in().documents().back().id;
  const Scored vectors[] = {{wanted, 0.95}, {DocumentId{999'999}, 1.0}, {DocumentId{-1}, 1.0}};
  const auto hits = built_in().search("qqqq zzzz", 3, vectors);
  ASSERT_EQ(hits.size(), 1U);
  EXPECT_EQ(hits[0].document->id, wanted);
  EXPECT_EQ(hits[0].vector_score, 0.95);
}

// A user's pack replaces the built-in one of the same middleware; a broken one is refused whole.
TEST(Knowledge, UserPacks) {
  test::TemporaryFolder folder;
  folder.write("mine.yaml",
               "schema: 1\nmiddleware: toy\ntitle: Toy\nfailure_modes:\n  - {id: jam, name: Jam, summary: The toy is jammed, "
               "symptoms: [{id: log, literal: toy is jammed}], causes: [{id: x, text: X}], mitigations: [{id: y, kind: lasting, text: Y}]}\n");
  const auto known = Knowledge::load({.pack_directories = {folder.path()}});
  ASSERT_TRUE(known) << known.error().message;
  EXPECT_EQ((*known)->match("the toy is jammed").at(0).failure_mode(), "toy/jam");
  EXPECT_NE((*known)->hash(), built_in().hash());
  folder.write("broken.yaml", "schema: 1\n");
  EXPECT_THAT(Knowledge::load({.pack_directories = {folder.path()}}).error().message, HasSubstr("broken.yaml:1:1: a pack lacks 'middleware'"));
  EXPECT_EQ(Knowledge::load({.pack_directories = {folder / "none"}}).error().code, Code::NotFound);
}

// The built-in packs are complete, and lint says what is not.
TEST(Knowledge, PacksAreComplete) {
  for (const LintFinding& finding : lint(built_in())) ADD_FAILURE() << finding.mode->origin << ": " << finding.mode->id << ": " << finding.what;
  EXPECT_GE(built_in().packs().size(), 41U);
  EXPECT_GE(built_in().mode_count(), 216U);
  const auto known = Knowledge::load({.built_in = false, .packs = {{"thin.yaml",
      "schema: 1\nmiddleware: toy\ntitle: Toy\nfailure_modes:\n  - {id: jam, name: Jam, summary: Jammed, effect: true, symptoms: [{id: log, literal: toy is jammed, weight: 0.3}], "
      "causes: [{id: x, text: X}], mitigations: [{id: y, kind: lasting, text: Y}], causes_modes: [{to: x, confidence: 0.95}]}\n  - {id: x, name: X, summary: X, symptoms: [{id: log, literal: toy is broken}], causes: [{id: x, text: X}], mitigations: [{id: y, kind: lasting, text: Y}]}\n"}}});
  ASSERT_TRUE(known) << known.error().message;
  std::string all;
  for (const LintFinding& finding : lint(**known)) all += finding.what + "\n";
  for (const char* what : {"1 symptoms", "no tell-tale", "1 causes", "cause 'x' has no prior", "no immediate mitigation", "0 paraphrases", "no source", "nothing brings it about", "claims confidence 0.95 without a manual", "claims confidence 0.95 without a `source` of its own"}) {
    EXPECT_THAT(all, HasSubstr(what));
  }
}

// One snapshot serves many threads.
TEST(Knowledge, ManyThreads) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int k = 0; k < 50; ++k) {
        EXPECT_EQ(built_in().match("FATAL:  sorry, too many clients already")[0].failure_mode(), "postgresql/too-many-clients");
        EXPECT_FALSE(built_in().search("database lock", 3).empty());
      }
    });
  }
}

}  // namespace
}  // namespace culprit::graph
