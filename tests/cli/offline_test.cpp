// The commands that need no daemon, in-process, with a state folder of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "graph/store.h"
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

// What makes the library anew is refused while somebody has it open, as a running daemon has; importing goes on beside it.
TEST_F(OfflineTest, RebuildAndTrainNotUnderADaemon) {
  const std::string page = write("wiki/a.md", "# Cache\nRedis throws keys out.\n");
  ASSERT_EQ(run({"knowledge", "import", page}).code, kAnswered);
  {
    const auto daemon = graph::Store::open(folder_ / "graph.db", graph::Store::Mode::Write);
    ASSERT_TRUE(daemon);
    for (const char* command : {"rebuild", "train"}) {
      const Outcome refused = run({"knowledge", command});
      EXPECT_NE(refused.code, kAnswered);
      EXPECT_THAT(refused.err, HasSubstr("in use by another process"));
      EXPECT_THAT(refused.err, HasSubstr("systemctl stop culprit"));
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / "model.bin"));
    write("wiki/a.md", "# Cache\nRedis throws keys out, again.\n");
    EXPECT_THAT(run({"knowledge", "import", page}).out, HasSubstr("1 changed"));
  }
  EXPECT_THAT(run({"knowledge", "rebuild"}).out, HasSubstr("the database is sound"));
}

// Killed in the midst of an import, whatever it was doing: every source is there whole or not at all, and importing again completes it.
TEST_F(OfflineTest, KilledWhileImporting) {
  constexpr int kFiles = 30, kDocuments = 40;
  for (int file = 0; file < kFiles; ++file) {
    std::string lines;
    for (int i = 0; i < kDocuments; ++i) lines += Json{{"id", std::to_string(i)}, {"text", "runbook " + std::to_string(file * kDocuments + i) + ": the frobnicator is out of oil"}}.dump() + "\n";
    write("wiki/" + std::to_string(file) + ".jsonl", lines);
  }
  const auto whole = [&] {
    const Outcome listed = run({"knowledge", "sources", "-o", "json"});
    if (listed.code != kAnswered) {  // killed before there was a schema
      EXPECT_THAT(listed.err, HasSubstr("has schema 0"));
      return std::size_t{0};
    }
    const Json sources = Json::parse(listed.out)["sources"];
    for (const Json& source : sources) EXPECT_EQ(source["documents"], kDocuments) << source;
    return sources.size();
  };
  for (const int after_ms : {30, 80, 150, 250}) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(run({"knowledge", "import", folder_ / "wiki"}).code);
    std::this_thread::sleep_for(std::chrono::milliseconds(after_ms));
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_LE(whole(), static_cast<std::size_t>(kFiles));
  }
  const Outcome again = run({"knowledge", "import", folder_ / "wiki"});
  EXPECT_EQ(again.code, kAnswered) << again.err;
  EXPECT_EQ(whole(), static_cast<std::size_t>(kFiles));
  EXPECT_THAT(run({"knowledge", "rebuild"}).out, HasSubstr("the database is sound"));
  const Json stats = Json::parse(run({"knowledge", "stats", "-o", "json"}).out);
  EXPECT_EQ(stats["documents"], kFiles * kDocuments);
  EXPECT_EQ(stats["document_vectors"], kFiles * kDocuments);
}

// From nothing to a rule in the folder, with what it says of a recorded moment.
TEST_F(OfflineTest, AFirstRule) {
  const std::string rules = write("rules/own.yaml", "rule: own\nsummary: An own one\nmatch:\n  - {id: a, metric: x, above: 0.5}\nblame: a.entity\ncause: redis/down\nexplain: x\nsource: s\n");
  const std::string file = std::filesystem::path(rules).parent_path().parent_path() / "fresh.yaml";
  const Outcome made = run({"rules", "new", "fresh", file});
  EXPECT_EQ(made.code, kAnswered) << made.err;
  EXPECT_NE(run({"rules", "new", "fresh", file}).code, kAnswered);  // never over a file that is there
  const Outcome tested = run({"rules", "test", file});
  EXPECT_EQ(tested.code, kAnswered) << tested.out << tested.err;
  EXPECT_THAT(tested.out, HasSubstr("3 tests, 0 failed"));
  EXPECT_EQ(run({"rules", "check", "--strict", file}).code, kAnswered);
  EXPECT_THAT(run({"rules", "test", file, "--format", "junit"}).out, HasSubstr("<testsuite name=\"culprit rules\" tests=\"3\" failures=\"0\""));
  EXPECT_THAT(run({"rules", "show", "own"}).out, HasSubstr("redis/down"));
  EXPECT_THAT(run({"rules", "show", "owm"}).err, HasSubstr("did you mean 'own'?"));

  const std::string events = write("events.ndjson", "{\"time_ns\":1700000000000000000,\"kind\":\"sample\",\"entity\":\"service:s\",\"name\":\"x\",\"value\":0.4}\n");
  const Outcome explained = run({"rules", "explain", "own", "--at", "2023-11-14T22:13:20Z", "--events", events});
  EXPECT_EQ(explained.code, kAnswered) << explained.err;
  EXPECT_THAT(explained.out, HasSubstr("does not fire"));
  EXPECT_THAT(explained.out, HasSubstr("false above 0.5: 0.4"));

  // No daemon runs: the files are put in place all the same.
  EXPECT_THAT(run({"rules", "apply", file}).out, HasSubstr("at its next start"));
  EXPECT_THAT(run({"rules", "list"}).out, HasSubstr("fresh"));
  EXPECT_EQ(run({"rules", "disable", "own", "--reason", "it is \"noisy\": really"}).code, kAnswered);
  EXPECT_THAT(run({"rules", "list"}).out, HasSubstr("noisy"));
  EXPECT_EQ(run({"rules", "disable", "own", "--undo"}).code, kAnswered);
  EXPECT_THAT(run({"rules", "coverage"}).out, HasSubstr("failure modes have a stable rule"));
  EXPECT_EQ(run({"rules", "stats"}).code, kNoAnswer);
}

TEST_F(OfflineTest, PolicyFindsMistakesOfConfiguration) {
  const std::string file = write("redis.conf", "maxmemory 1gb\n");
  const Outcome result = run({"policy", "check", file});
  EXPECT_EQ(result.code, kViolations) << result.err;
  EXPECT_THAT(result.out, HasSubstr(file + ":1: warning:"));
  EXPECT_THAT(run({"policy", "check", "--fix-hint", file}).out, HasSubstr("    + "));
  EXPECT_FALSE(Json::parse(run({"policy", "check", file, "-o", "json"}).out)["findings"].empty());
  EXPECT_EQ(Json::parse(run({"policy", "check", file, "--format", "sarif"}).out)["runs"][0]["results"].size(), 1U);
  EXPECT_THAT(run({"policy", "check", file, "--format", "github"}).out, HasSubstr("::warning file="));
  EXPECT_THAT(run({"policy", "check", file, "--format", "junit"}).out, HasSubstr("failures=\"1\""));
  EXPECT_EQ(run({"policy", "check", file, "--pack", "nginx"}).code, kAnswered);
  EXPECT_EQ(run({"policy", "check", file, "--severity", "error"}).code, kAnswered);
  EXPECT_EQ(run({"policy", "check", std::filesystem::path(file).parent_path().string()}).code, kViolations);
  EXPECT_THAT(run({"policy", "list"}).out, HasSubstr("redis"));
  EXPECT_THAT(run({"policy", "test"}).out, HasSubstr(" 0 failed"));
  // A file that cannot be read does not keep the others from being checked.
  const Outcome both = run({"policy", "check", "/nonexistent.conf", file});
  EXPECT_EQ(both.code, kUnreadable);
  EXPECT_THAT(both.out, HasSubstr(file + ":"));
  EXPECT_EQ(run({"policy", "check", write("broken.yaml", "a: [")}).code, kUnreadable);
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

// Incidents of which only alerts are known: the broken one of three services raises "memory", all raise "load".
std::string made_up_alerts(std::string& truth, int count = 12) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const std::string id = "c" + std::to_string(i);
    const std::string broken(1, static_cast<char>('a' + i % 3));
    lines += R"({"id": ")" + id + R"(", "services": ["a", "b", "c"], "edges": [["a", "b"]], "alerts": {"metrics": [["a", "load", "up"], ["b", "load", "up"], ["c", "load", "up"], [")" +
             broken + R"(", "memory", "up"]], "traces": [], "logs": []}})" + "\n";
    truth += R"({"case": ")" + id + R"(", "root_cause": {"service": ")" + broken + R"(", "fault_type": "memory"}})" + "\n";
  }
  return lines;
}

TEST_F(OfflineTest, LearnSaysTheMeanOfSeveralDeals) {
  std::string truth;
  write("set/cases.jsonl", made_up_alerts(truth));
  write("set/truth.jsonl", truth);
  const Json document = Json::parse(run({"-o", "json", "learn", "--deals", "3", "--cases", folder_ / "set"}).out);
  EXPECT_EQ(document["deals"], 3);
  EXPECT_EQ(document["sets"][0]["ac1"], 1.0);
  EXPECT_EQ(document["sets"][0]["ac1_spread"], 0.0);
  EXPECT_THAT(run({"learn", "--deals", "3", "--cases", folder_ / "set"}).out, HasSubstr("mean of 3 ways of dealing the folds"));
  EXPECT_THAT(run({"learn", "--cases", folder_ / "set"}).out, HasSubstr("mean of 5 ways of dealing the folds"));
  const auto calibration_of = [&](const char* deals) {
    const std::string weights = folder_ / "weights.json";
    EXPECT_EQ(run({"learn", "--deals", deals, "--cases", folder_ / "set", "--out", weights}).code, kAnswered);
    std::ifstream file(weights);
    return Json::parse(file)["calibration"];
  };
  EXPECT_NE(calibration_of("1"), calibration_of("5"));
}

TEST_F(OfflineTest, LearnsWithoutLabels) {
  std::string truth;
  write("many/cases.jsonl", made_up_alerts(truth, 60));
  write("few/cases.jsonl", made_up_alerts(truth, 12));
  const auto learned = [&](const char* set, const char* how) {
    const std::string weights = folder_ / "weights.json";
    const Outcome outcome = run({"learn", how, "--cases", folder_ / set, "--out", weights});
    EXPECT_EQ(outcome.code, kAnswered) << outcome.err;
    std::ifstream file(weights);
    return Json::parse(file);
  };
  const Json counted = learned("many", "--only-count"), taught = learned("many", "--unlabelled"), few = learned("few", "--unlabelled");
  EXPECT_EQ(counted["habits"]["cases"], 60);
  EXPECT_EQ(taught["habits"], counted["habits"]);
  EXPECT_THAT(taught["source"].get<std::string>(), HasSubstr("self-taught in 60 incidents"));
  EXPECT_NE(taught["weights"], counted["weights"]);
  EXPECT_EQ(few["weights"], counted["weights"]);  // too few to teach anything
  EXPECT_THAT(few["source"].get<std::string>(), HasSubstr("alerts counted in 12 incidents"));
}

TEST_F(OfflineTest, LearnFitsWeightsThatReplayUses) {
  std::string truth;
  const std::string cases = write("set/cases.jsonl", made_up_alerts(truth));
  write("set/truth.jsonl", truth);
  const std::string weights = folder_ / "weights.json";
  const Outcome learned = run({"-o", "json", "learn", "--cases", folder_ / "set", "--out", weights});
  ASSERT_EQ(learned.code, kAnswered) << learned.err;
  const Json document = Json::parse(learned.out);
  EXPECT_EQ(document["sets"][0]["cases"], 12);
  EXPECT_EQ(document["sets"][0]["ac1"], 1.0);
  EXPECT_THAT(run({"learn", "--cases", folder_ / "set"}).out, HasSubstr("5-fold cross-validation"));
  const Outcome replayed = run({"replay", "--cases", cases, "--weights", weights});
  ASSERT_EQ(replayed.code, kAnswered) << replayed.err;
  std::istringstream lines(replayed.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json answer = Json::parse(line);
    EXPECT_EQ(answer["case"], "c" + std::to_string(count));
    EXPECT_EQ(answer["ranking"][0], std::string(1, static_cast<char>('a' + count % 3)));
    EXPECT_EQ(answer["fault_type"], "memory");
    EXPECT_EQ(answer["candidates"][0]["service"], answer["ranking"][0]);
  }
  EXPECT_EQ(count, 12);
  EXPECT_EQ(run({"replay", "--cases", cases, "--weights", weights}).out, replayed.out);
}

// An exported incident: shop is slow, and so is the disk of postgres. `said`: what people said of its answers.
std::string made_up_export(const std::string& said) {
  const std::string symptom = R"x({"entity":"service:shop","series":"http.server.latency.p99","since_ns":700000000000,"last_ns":720000000000,"value":1.8,"normal":0.02,"unit":"s","score":9.0,"text":"p99 1.80 s (normal 0.02 s)"})x";
  std::string out = R"({"culprit_export":1,"incident":{"id":7,"state":"open","service":"shop","services":["shop"],"onset_ns":700000000000,"wave_ns":700000000000,"opened_ns":703000000000,"last_symptom_ns":720000000000,"closed_ns":0,"symptoms":[)" +
                    symptom + R"(]},"options":{"now_ns":720000000000},"said":)" + said + "}\n";
  for (int at = 600; at < 720; at += 5) {
    const auto row = [&](const char* entity, const char* name, const char* value) {
      out += R"({"time_ns":)" + std::to_string(at) + R"(000000000,"kind":"sample","entity":")" + entity + R"(","name":")" + name + R"(","value":)" + value + "}\n";
    };
    row("service:shop", "http.server.latency.p99", at < 700 ? "0.02" : "1.8");
    row("service:postgres", "fsync.latency", at < 700 ? "0.001" : "0.9");
  }
  return out;
}

TEST_F(OfflineTest, LearnReadsExportsWithVerdicts) {
  const std::string weights = folder_ / "own.json";
  write("told/a.jsonl", made_up_export(R"([{"verdict":"right","service":"postgres","failure_mode":"storage/slow-disk"}])"));
  write("told/b.jsonl", made_up_export("[]"));
  const Outcome told = run({"-o", "json", "learn", "--cases", folder_ / "told", "--out", weights});
  ASSERT_EQ(told.code, kAnswered) << told.err;
  const Json document = Json::parse(told.out);
  EXPECT_EQ(document["sets"][0]["cases"], 1);
  EXPECT_TRUE(document["sets"][0]["ac1"].is_number());
  EXPECT_TRUE(document["sets"][0]["fault_accuracy"].is_null());
  EXPECT_EQ(document["unlabelled"], 1);
  EXPECT_EQ(run({"replay", folder_ / "told/a.jsonl", "--weights", weights}).code, kAnswered);
  // Of a rejection alone one can learn, but not say how often the answer was right.
  write("rejected/a.jsonl", made_up_export(R"([{"verdict":"wrong","service":"shop","failure_mode":"application/slow-code"}])"));
  const Outcome rejected = run({"learn", "--cases", folder_ / "rejected"});
  ASSERT_EQ(rejected.code, kAnswered) << rejected.err;
  EXPECT_THAT(rejected.out, HasSubstr("no label"));
  EXPECT_TRUE(Json::parse(run({"-o", "json", "learn", "--cases", folder_ / "rejected"}).out)["sets"][0]["ac1"].is_null());
  write("silent/a.jsonl", made_up_export("[]"));
  write("broken/a.jsonl", made_up_export("[") + "x");
  const struct { const char* folder; int code; const char* says; } refused[] = {{"silent", kBadInput, "nobody confirmed or rejected"}, {"broken", kBadInput, "a.jsonl"}};
  for (const auto& row : refused) {
    const Outcome outcome = run({"learn", "--cases", folder_ / row.folder});
    EXPECT_EQ(outcome.code, row.code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(row.says));
  }
}

TEST_F(OfflineTest, ReplayOfARecordedCasePrintsTheSameDocument) {
  write("c1/case.json", R"({"id": "c1", "services": ["a", "b"], "inject_time": 1000})");
  std::string rows = "time,a|cpu,b|cpu\n";
  for (int i = 0; i < 20; ++i) rows += std::to_string(100 + i * 60) + "," + std::to_string(10 + i % 2) + "," + std::to_string(i > 15 ? 90 : 10 + i % 3) + "\n";
  write("c1/metrics.csv", rows);
  const Outcome json = run({"-o", "json", "replay", folder_ / "c1"});
  ASSERT_EQ(json.code, kAnswered) << json.err;
  const Json document = Json::parse(json.out);
  EXPECT_EQ(document["api"], 1);
  EXPECT_EQ(document["case"], "c1");
  EXPECT_EQ(document["ranking"][0], "b");
  EXPECT_THAT(run({"replay", folder_ / "c1"}).out, HasSubstr("cpu"));
  const Outcome both = run({"replay", folder_ / "c1", folder_ / "c1"});
  EXPECT_EQ(both.out, json.out + json.out);
}

TEST_F(OfflineTest, ReplayAndLearnRefuseWhatTheyCannotRead) {
  write("none/readme", "");
  const std::string weights = write("bad.json", "{}");
  write("strange/truth.jsonl", R"({"case": "x", "root_cause": {"service": "elsewhere"}})");
  write("strange/x/case.json", R"({"id": "x", "services": ["a", "b"]})");
  write("kept.json", "as it was");
  write("good.json", R"({"culprit_weights": 3, "weights": {"metrics.cpu": 1}})");
  const struct { std::vector<std::string> arguments; int code; const char* says; } rows[] = {
      {{"replay"}, kBadInput, "--cases"},
      {{"replay", folder_ / "none"}, kNotFound, "case.json"},
      {{"replay", "--cases", write("bad.jsonl", "x\n")}, kBadInput, "line 1"},
      {{"replay", folder_ / "none", "--weights", weights}, kBadInput, "bad.json"},
      {{"learn", "--cases", folder_ / "none"}, kNotFound, "truth.jsonl"},
      {{"learn", "--cases", folder_ / "none", "--without", "smell"}, kBadInput, "smell"},
      {{"learn", "--cases", folder_ / "none", "--penalty", "nan"}, kBadInput, "nan"},
      {{"replay", "--cases", write("empty.jsonl", "")}, kBadInput, "no cases"},
      {{"replay", folder_ / "none", "--weights", write("old.json", R"({"culprit_weights": 2})")}, kBadInput, "format 2"},
      {{"learn", "--cases", folder_ / "strange", "--out", folder_ / "kept.json"}, kBadInput, "none of the 1 labels"},
      {{"learn", "--cases", folder_ / "strange", "--weights", folder_ / "good.json", "--out", folder_ / "no/such.json"}, kInternal, "no/such.json"},
  };
  for (const auto& row : rows) {
    const Outcome outcome = run(row.arguments);
    EXPECT_EQ(outcome.code, row.code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(row.says));
  }
  std::ifstream kept(folder_ / "kept.json");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(kept), {}), "as it was");
}

}  // namespace
}  // namespace culprit::cli
