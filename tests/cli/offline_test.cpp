// The commands that need no daemon, in-process, with a state folder of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "ui/cli/command.h"
#include "ui/cli/document.h"

namespace culprit::cli {
namespace {

using testing::HasSubstr;

struct Outcome {
  int code;
  std::string out, err;
};

class OfflineTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "culprit-offline-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  Outcome run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--state", folder_.string(), "--socket", "/nonexistent/api.sock"});
    std::ostringstream out;
    std::ostringstream err;
    const FakeClock clock;
    const int code = run_cli(arguments, {}, clock, out, err);
    return {code, out.str(), err.str()};
  }

  std::filesystem::path folder_;
};

TEST_F(OfflineTest, TemplatesCountTheKindsOfLines) {
  std::string log;
  for (int i = 0; i < 40; ++i)
    log += "connection from 10.0.0." + std::to_string(i) + " took " + std::to_string(i) + " ms\n";
  log += "ERROR disk /dev/sda1 is full\r\n";
  const std::string file = write("app.log", log);
  const Outcome text = run({"templates", file});
  EXPECT_EQ(text.code, kAnswered) << text.err;
  EXPECT_THAT(text.out, HasSubstr("41 lines, 2 templates"));
  EXPECT_THAT(text.out, HasSubstr("connection from <*> took <*> ms"));
  const Json document = Json::parse(run({"templates", file, "--limit", "1", "-o", "json"}).out);
  EXPECT_EQ(document["count"], 2);
  EXPECT_EQ(document["templates"].size(), 1U);
  EXPECT_EQ(document["templates"][0]["lines"], 40);
}

TEST_F(OfflineTest, KnowledgeAnswers) {
  EXPECT_THAT(run({"knowledge", "match", "FATAL:  sorry, too many clients already"}).out,
              HasSubstr("postgresql/too-many-clients"));
  EXPECT_THAT(run({"knowledge", "match", "all is well"}).out, HasSubstr("no known failure mode"));
  EXPECT_THAT(run({"knowledge", "search", "statements", "hang", "behind", "a", "migration"}).out,
              HasSubstr("lock"));
  EXPECT_THAT(run({"knowledge", "list", "redis"}).out, HasSubstr("redis/"));
  const Outcome shown = run({"knowledge", "show", "pg-lock-wait"});
  EXPECT_EQ(shown.code, kAnswered) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("postgresql/lock-wait"));
  EXPECT_EQ(Json::parse(run({"knowledge", "show", "pg-lock-wait", "-o", "json"}).out)["failure_mode"],
            "postgresql/lock-wait");
}

TEST_F(OfflineTest, BuiltInRulesPassTheirTests) {
  const Outcome tested = run({"rules", "test"});
  EXPECT_EQ(tested.code, kAnswered) << tested.out << tested.err;
  EXPECT_THAT(tested.out, HasSubstr(" 0 failed"));
  EXPECT_THAT(run({"rules", "list"}).out, HasSubstr("stable"));
  EXPECT_THAT(run({"rules", "check"}).out, HasSubstr("rules are good"));
}

// A wrong rule or pack of one's own is told with file and line, and the exit code says bad input.
TEST_F(OfflineTest, OwnMistakesAreNamed) {
  const std::string file = write("rules/mine.yaml", "rule: mine\nsumary: x\n");
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"rules", "check"}, {"rules", "check", file}, {"rules", "test", file}}) {
    const Outcome result = run(arguments);
    EXPECT_EQ(result.code, kBadInput);
    EXPECT_THAT(result.err, HasSubstr("mine.yaml:"));
  }
  write("packs/mine.yaml", "schema: 1\nmiddelware: x\n");
  const Outcome result = run({"knowledge", "list"});
  EXPECT_EQ(result.code, kBadInput);
  EXPECT_THAT(result.err, HasSubstr("mine.yaml:"));
}

TEST_F(OfflineTest, PolicyFindsMistakesOfConfiguration) {
  const std::string file = write("redis.conf", "maxmemory 1gb\n");
  const Outcome result = run({"policy", "check", file});
  EXPECT_EQ(result.code, kAnswered) << result.err;
  EXPECT_THAT(result.out, HasSubstr(file + ":"));
  EXPECT_EQ(run({"--exit-code", "policy", "check", file}).code, kSomethingWrong);
  EXPECT_FALSE(Json::parse(run({"policy", "check", file, "-o", "json"}).out)["findings"].empty());
  EXPECT_THAT(run({"policy", "list"}).out, HasSubstr("redis"));
  // A file that cannot be read does not keep the others from being checked.
  const Outcome both = run({"policy", "check", "/nonexistent.conf", file});
  EXPECT_EQ(both.code, kNotFound);
  EXPECT_THAT(both.out, HasSubstr(file + ":"));
}

TEST_F(OfflineTest, FailuresHaveTheirExitCode) {
  const struct {
    std::vector<std::string> arguments;
    int code;
    const char* says;
  } cases[] = {
      {{"templates", "/nonexistent"}, kNotFound, "/nonexistent"},
      {{"replay", "/nonexistent"}, kNotFound, "/nonexistent"},
      {{"replay", write("bad.jsonl", "no export\n")}, kBadInput, "bad.jsonl"},
      {{"replay", write("empty.jsonl", "")}, kBadInput, "empty.jsonl"},
      {{"knowledge", "show", "pg-lock-wiat"}, kNotFound, "did you mean"},
      {{"knowledge", "list", "postgres"}, kNotFound, "postgresql"},
      {{"knowledge"}, kUsage, "--help"},
      {{"rules", "check", "/nonexistent"}, kNotFound, "/nonexistent"},
      {{"policy", "check"}, kUsage, "FILE"},
  };
  for (const auto& c : cases) {
    const Outcome result = run(c.arguments);
    EXPECT_EQ(result.code, c.code) << c.says << ": " << result.err;
    EXPECT_EQ(result.out, "") << c.says;
    EXPECT_THAT(result.err, HasSubstr(c.says));
  }
}

}  // namespace
}  // namespace culprit::cli
