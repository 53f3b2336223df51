// The program whole: arguments in, text and exit code out, against a real server with fixed documents.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ctime>
#include <sstream>
#include <thread>

#include "daemon/api/server.h"
#include "tests/api/fake_backend.h"
#include "tests/golden/golden.h"
#include "ui/cli/command.h"

namespace culprit::cli {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct Outcome {
  int code;
  std::string out, err;
};

class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
    std::string pattern = testing::TempDir() + "culprit-cli-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    socket_ = folder_ / "api.sock";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  void serve() { serve(backend_); }
  void serve(api::Backend& backend) {
    auto listeners = api::Listeners::open({.socket = socket_, .port = std::nullopt});
    ASSERT_TRUE(listeners);
    auto server = api::Server::start(std::move(*listeners), backend);
    ASSERT_TRUE(server);
    server_ = std::move(*server);
  }
  Outcome run(const std::vector<std::string>& arguments, bool terminal = false) const {
    std::ostringstream out;
    std::ostringstream err;
    const FakeClock clock(0, *parse_wall("2026-11-23T14:03:00Z"));
    const int code = run_cli(arguments, {.socket = socket_.string(), .terminal = terminal, .no_color = false},
                             clock, out, err);
    return {code, out.str(), err.str()};
  }

  std::filesystem::path folder_;
  std::filesystem::path socket_;
  api::FakeBackend backend_;
  std::unique_ptr<api::Server> server_;
};

TEST_F(RunTest, AnswersEveryQuestion) {
  serve();
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } cases[] = {
      {{}, "1 open incident"},
      {{"why"}, "postgres: session 4211"},
      {{"why", "shop"}, "postgres: session 4211"},
      {{"why", "shop", "--since", "1h"}, "postgres: session 4211"},
      {{"incidents"}, "redis: process 602"},
      {{"incidents", "show", "7"}, "ruled out: cpu"},
      {{"events"}, "RowExclusiveLock"},
      {{"diff", "1h..5m", "5m..now"}, "http.response.status_code"},
      {{"series", "name = request.*"}, "request.duration.p99"},
      {{"store", "info"}, "10 (disk_full)"},
      {{"services"}, "nginx -> shop"},
      {{"status"}, "12 ring_full"},
      {{"status", "channels"}, "parked s/r"},
      {{"doctor"}, "1 of 2 programs attached"},
      {{"config"}, "culprit.yaml:4"},
      {{"feedback", "7", "1", "right"}, "remembered"},
  };
  for (const auto& c : cases) {
    const Outcome result = run(c.arguments);
    EXPECT_EQ(result.code, kAnswered) << c.says << result.err;
    EXPECT_THAT(result.out, HasSubstr(c.says));
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out, Not(HasSubstr("\x1b")));
  }
}

// Several are open: the newest is asked about, and the others are named. None: there is nothing to guess from.
TEST_F(RunTest, WhyWithoutAServiceTakesTheOpenIncident) {
  struct Other : api::FakeBackend {
    Json open = Json::array();
    Result<Json> incidents() override { return Json{{"api", 1}, {"incidents", open}}; }
  } backend;
  serve(backend);
  const Outcome none = run({"why"});
  EXPECT_EQ(none.code, kNotFound);
  EXPECT_THAT(none.err, HasSubstr("no incident is open; name a service: nginx, "));
  EXPECT_EQ(none.out, "");
  for (const char* service : {"shop", "redis"}) backend.open.push_back({{"service", service}, {"state", "open"}});
  const Outcome several = run({"why"});
  EXPECT_EQ(several.code, kAnswered);
  EXPECT_THAT(several.out, HasSubstr("postgres: session 4211"));
  EXPECT_THAT(several.err, HasSubstr("this is about shop; also open: redis"));
}

// Of the kernel's waits what was timed is told as it is, and what is a share of a second's sums with "~".
TEST_F(RunTest, TraceTellsEstimatesFromWhatWasTimed) {
  serve();
  const Outcome result = run({"trace", "4bf92f3577b34da6a3ce929d0e0e4736"});
  EXPECT_EQ(result.code, kAnswered) << result.err;
  std::string words;  // however its columns are broken
  std::istringstream in(result.out);
  for (std::string word; in >> word;) words += word + " ";
  for (const char* says : {"db 300 ms, run queue ~50 ms, disk 200 ms, lock or sleep ~150 ms, CPU ~100 ms shop:", "network 50 ms db:", "disk ~200 ms, lock or sleep ~40 ms, CPU ~10 ms cart:", "kernel disk 120 ms ~"}) {
    EXPECT_THAT(words, HasSubstr(says));
  }
  EXPECT_THAT(result.out, HasSubstr("\n~ estimated: "));
  EXPECT_THAT(result.out, HasSubstr("shop: error: the pool is exhausted"));
}

// -o csv is a table for other programs; a filter's mistake is told before anything is asked, with its place.
TEST_F(RunTest, CsvAndFilters) {
  serve();
  const Outcome csv = run({"diff", "1h..5m", "5m..now", "service = shop", "-o", "csv"});
  EXPECT_EQ(csv.code, kAnswered) << csv.err;
  EXPECT_THAT(csv.out, StartsWith("field,value,effect,before,now,"));
  EXPECT_THAT(csv.out, HasSubstr("\nhttp.response.status_code,503,0.33,3,120,"));
  ASSERT_TRUE(backend_.asked_diff);
  EXPECT_EQ(backend_.asked_diff->now_to_wall_ns - backend_.asked_diff->now_from_wall_ns, 300 * kNsPerSecond);
  EXPECT_TRUE(backend_.asked_diff->filter.reads_attributes());
  EXPECT_THAT(run({"events", "-o", "csv"}).out, StartsWith("time,kind,entity,name,value,severity,trace_id,span_id,attributes,body\n"));
  EXPECT_EQ(run({"services", "-o", "csv"}).code, kBadInput);
  const Outcome wrong = run({"events", "kind = logs"});
  EXPECT_EQ(wrong.code, kUsage);
  EXPECT_THAT(wrong.err, HasSubstr("column 8"));
  (void)run({"events", "kind = log"});
  ASSERT_TRUE(backend_.asked_events);
  EXPECT_FALSE(backend_.asked_events->filter.empty());
  EXPECT_EQ(run({"diff", "5m..1h", "5m..now"}).code, kBadInput);
  EXPECT_EQ(run({"diff", "now", "5m..now"}).code, kBadInput);
  EXPECT_THAT(run({"diff", "1h..5m", "5m..soon"}).err, HasSubstr("the window '5m..soon'"));
}

// What was confirmed lies with the daemon that runs, wherever its state is; --state looks into a folder.
TEST_F(RunTest, SimilarAsksTheDaemonOrAFolder) {
  serve();
  const Outcome asked = run({"similar", "checkout hangs", "--limit", "3"});
  EXPECT_EQ(asked.code, kAnswered) << asked.err;
  EXPECT_THAT(asked.out, HasSubstr("Incident 4: about checkout hangs, 3 at most\n  The cause was a lock.\n  we ended it\n"));
  // So do the commands on the daemon's files: it says where they are.
  std::filesystem::create_directories(folder_ / "elsewhere");
  backend_.state_dir = folder_ / "elsewhere";
  EXPECT_EQ(run({"knowledge", "stats"}).code, kAnswered);
  std::ofstream(folder_ / "note.md") << "# Freezer\nThe freezer of the shop thaws when the compressor stops.\n";
  EXPECT_EQ(run({"knowledge", "import", folder_ / "note.md"}).code, kAnswered);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "elsewhere" / "graph.db"));
  const Outcome offline = run({"--state", folder_ / "none", "similar", "checkout hangs"});
  EXPECT_EQ(offline.code, kAnswered) << offline.err;
  EXPECT_THAT(offline.out, HasSubstr("no confirmed incident is like that"));
}

// The store's files, without a daemon.
TEST_F(RunTest, StoreFilesOffline) {
  const std::string folder = folder_ / "state" / "events", file = folder_ / "events.jsonl";  // neither folder is there yet
  {
    std::ofstream out(file);
    out << "{\"culprit\":\"events\",\"version\":1,\"wall_offset_ns\":0}\n"
        << R"({"time_ns":1000000000,"kind":"log","entity":"service:shop","body":"hello"})" << "\n";
  }
  const std::string wrong = folder_ / "wrong.jsonl";
  std::ofstream(wrong) << "{}\n";
  const std::string cut = folder_ / "cut.jsonl";
  std::ofstream(cut) << std::ifstream(file).rdbuf() << "{\"time_ns\":1000";
  const std::string packed = folder_ / "events.jsonl.gz";
  std::ofstream(packed) << "\x1f\x8b\x08";
  EXPECT_EQ(run({"store", "prune", "1s", "--folder", folder}).code, kNotFound);
  for (const auto& [name, says] : {std::pair(wrong, "no header of an export"), std::pair(cut, "line 3: "), std::pair(cut, "not written whole"), std::pair(packed, "gunzip -c"), std::pair(std::string(folder_), "is a folder"), std::pair(std::string(folder_ / "absent"), "No such file")}) {
    EXPECT_THAT(run({"store", "import", name, "--folder", folder}).err, HasSubstr(says));
    EXPECT_FALSE(std::filesystem::exists(folder)) << "a refused import leaves nothing behind";
  }
  EXPECT_THAT(run({"store", "import", file, "--folder", folder}).err, HasSubstr("1 event taken"));
  const auto stored = [&] { return run({"store", "export", "", "/dev/null", "--folder", folder}).err; };
  const Outcome twice = run({"store", "import", file, "--folder", folder});
  EXPECT_EQ(twice.code, kBadInput);
  EXPECT_THAT(twice.err, AllOf(HasSubstr("taken already on "), HasSubstr("(1 event from "), HasSubstr("--again")));
  EXPECT_THAT(stored(), HasSubstr("1 event written"));
  EXPECT_THAT(run({"store", "import", file, "--again", "--folder", folder}).err, HasSubstr("1 event taken"));
  EXPECT_THAT(stored(), HasSubstr("2 events written"));
  const Outcome verified = run({"store", "verify", "--folder", folder});
  EXPECT_EQ(verified.code, kAnswered) << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("sound"));
  EXPECT_THAT(run({"store", "export", "kind = log", "-", "--folder", folder}).out, HasSubstr("\"body\":\"hello\""));
  EXPECT_THAT(run({"store", "export", "kind = span", "-", "--folder", folder}).err, HasSubstr("0 events written"));
  EXPECT_THAT(run({"store", "backup", folder_ / "copy", "--folder", folder}).err, HasSubstr("1 file copied"));
  const Outcome unwritable = run({"store", "export", "", folder_ / "none" / "events.jsonl", "--folder", folder});
  EXPECT_EQ(unwritable.code, kNotFound);
  EXPECT_THAT(unwritable.err, HasSubstr("No such file"));
  EXPECT_THAT(run({"store", "export", "", "-", "--since", "1m", "--until", "5m", "--folder", folder}).err, HasSubstr("not before --until"));
  EXPECT_EQ(run({"store", "repair", "--folder", folder}).code, kAnswered);
  EXPECT_EQ(run({"store", "verify", "--folder", folder_ / "none"}).code, kNotFound);
  // A file of another program: neither repaired nor set aside, and nobody says so.
  std::ofstream(folder + "/stream-2000-01-01.db") << "something else";
  for (const char* command : {"verify", "repair"}) {
    const Outcome foreign = run({"store", command, "--folder", folder});
    EXPECT_THAT(foreign.out, AllOf(HasSubstr("left as they are"), Not(HasSubstr("anew")))) << command;
    EXPECT_EQ(foreign.code, kSomethingWrong) << command;
  }
  EXPECT_TRUE(std::filesystem::exists(folder + "/stream-2000-01-01.db"));
  EXPECT_THAT(run({"store", "export", "", "/dev/null", "--folder", folder}).err, HasSubstr("2 events were written, others are in files that are damaged"));
  std::filesystem::remove(folder + "/stream-2000-01-01.db");
  // The state's folder holds them too; an option that says nothing is no option.
  const std::string state = folder_ / "state";
  EXPECT_THAT(run({"store", "export", "kind = log", "-", "--state", state}).out, HasSubstr("\"body\":\"hello\""));
  EXPECT_EQ(run({"--state", state, "store", "verify"}).code, kAnswered);
  EXPECT_EQ(run({"store", "verify", "--state", folder_ / "none"}).code, kNotFound);
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{{"store", "verify", "--state", state, "--folder", folder},
                                                                                         {"store", "info", "--folder", folder},
                                                                                         {"store", "info", "--state", state},
                                                                                         {"store", "verify", "--since", "1h"},
                                                                                         {"store", "export", "kind = logs", "-", "--folder", folder},
                                                                                         {"store", "prune", "1s", "2s", "--state", state}}) {
    const Outcome refused = run(arguments);
    EXPECT_EQ(refused.code, kUsage) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("culprit"));
  }
  EXPECT_THAT(run({"store", "prune", "1s", "--state", state}).err, HasSubstr("2 events removed"));
}

// -o json is the API's document, byte for byte, wherever the flag stands.
TEST_F(RunTest, JsonIsTheDocument) {
  serve();
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"why", "shop", "-o", "json"}, {"-o", "json", "why", "shop"}}) {
    const Outcome result = run(arguments);
    EXPECT_EQ(result.code, kAnswered);
    EXPECT_EQ(Json::parse(result.out), *backend_.why({.service = "shop"}));
  }
  EXPECT_EQ(Json::parse(run({"incidents", "-o", "json"}).out), *backend_.incidents());
  EXPECT_EQ(Json::parse(run({"-o", "json"}).out), *backend_.summary());
}

TEST_F(RunTest, ArgumentsReachTheDaemon) {
  serve();
  (void)run({"why", "shop", "--since", "1h30m"});
  ASSERT_TRUE(backend_.asked_why);
  EXPECT_EQ(backend_.asked_why->since_s, 5400);
  (void)run({"events", "--entity", "pid:4211", "--entity", "shop", "--kind", "log,kernel", "--name",
             "a{b=\"c\",d=\"e\"}", "--text", "a&b=é", "--severity", "warn", "--around", "14:02:08",
             "--window", "10s", "--limit", "3"});
  ASSERT_TRUE(backend_.asked_events);
  EXPECT_THAT(backend_.asked_events->entities, testing::ElementsAre("pid:4211", "service:shop"));
  EXPECT_EQ(backend_.asked_events->kinds.size(), 2U);
  EXPECT_THAT(backend_.asked_events->names, testing::ElementsAre("a{b=\"c\",d=\"e\"}"));
  EXPECT_EQ(backend_.asked_events->text, "a&b=é");
  EXPECT_EQ(backend_.asked_events->from_wall_ns, parse_wall("2026-11-23T14:01:58Z"));
  EXPECT_EQ(backend_.asked_events->to_wall_ns, parse_wall("2026-11-23T14:02:18Z"));
  EXPECT_EQ(backend_.asked_events->limit, 3U);
  (void)run({"feedback", "7", "2", "partly", "--note", "also the disk"});
  ASSERT_TRUE(backend_.asked_feedback);
  EXPECT_EQ(backend_.asked_feedback->rank, 2);
  EXPECT_EQ(backend_.asked_feedback->note, "also the disk");
}

TEST_F(RunTest, ExportWritesTheFile) {
  serve();
  const std::string file = folder_ / "seven.jsonl";
  const Outcome result = run({"incidents", "export", "7", file});
  EXPECT_EQ(result.code, kAnswered) << result.err;
  EXPECT_THAT(result.err, HasSubstr("culprit replay"));
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  EXPECT_THAT(line, HasSubstr("\"incident\":7"));
  EXPECT_EQ(run({"incidents", "export", "7", folder_ / "none" / "x"}).code, kInternal);
}

// Each failure: what, why, what to do next on standard error; nothing on standard output; its own exit code.
TEST_F(RunTest, FailuresSayWhatToDo) {
  serve();
  const struct {
    std::vector<std::string> arguments;
    int code;
    const char* says;
  } cases[] = {
      {{"why", "shpo"}, kNotFound, "did you mean 'shop'?"},
      {{"incidents", "show", "99"}, kNotFound, "no incident 99"},
      {{"wyh", "shop"}, kUsage, "did you mean 'why'?"},
      {{"rules", "lits"}, kUsage, "no command 'lits' of rules; did you mean 'list'?"},
      {{"store", "frob"}, kUsage, "no command 'frob' of store"},
      {{"rules"}, kUsage, "subcommand is required"},
      {{"similar", ""}, kBadInput, "'about' is missing"},
      {{"similar", "--limit", "0", "7"}, kUsage, "--limit"},
      {{"--socket", "/nonexistent/api.sock", "similar", "7"}, kNoAnswer, "sudo ./dev run"},
      {{"why", "shop", "extra"}, kUsage, "'extra' was not expected"},
      {{"why", "shop", "--sinse", "5m"}, kUsage, "no option '--sinse' of why; did you mean '--since'?"},
      {{"events", "--from", "soon"}, kUsage, "no option '--from' of events"},
      {{"rules", "explain", "x", "--att=5m"}, kUsage, "no option '--att=5m' of rules explain; did you mean '--at'?"},
      {{"why", "shop", "--since", "soon"}, kUsage, "30s, 5m"},
      {{"events", "--around", "yesterday"}, kUsage, "14:02:08"},
      {{"events", "--around", "14:02:08", "--since", "5m"}, kBadInput, "--around"},
      {{"events", "-f", "--until", "1m"}, kBadInput, "--since, not --until"},
      {{"events", "--kind", "logs"}, kBadInput, "sample, log"},
      {{"events", "--since", "1m", "--until", "5m"}, kBadInput, "--since 1m is not before --until 5m"},
      {{"series", "--since", "1m", "--until", "5m"}, kBadInput, "--since 1m is not before --until 5m"},
      {{"events", "--limit", "0"}, kUsage, "--limit"},
      {{"feedback", "7", "1", "maybe"}, kUsage, "right"},
      {{"-o", "xml"}, kUsage, "--output"},
      {{"status", "chanels"}, kUsage, "channels"},
      {{"--socket", "/nonexistent/api.sock", "status"}, kNoAnswer, "sudo ./dev run"},
      {{"--socket", "/" + std::string(300, 's'), "status"}, kNoAnswer, "culpritd"},
  };
  for (const auto& c : cases) {
    const Outcome result = run(c.arguments);
    EXPECT_EQ(result.code, c.code) << c.says;
    EXPECT_EQ(result.out, "") << c.says;
    EXPECT_THAT(result.err, StartsWith("culprit: "));
    EXPECT_THAT(result.err, HasSubstr(c.says));
  }
}

// A socket that nobody listens on any more, and a server that is no culpritd.
TEST_F(RunTest, DeadAndForeignSockets) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, socket_.c_str());
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  Outcome result = run({"status"});
  EXPECT_EQ(result.code, kNoAnswer);
  EXPECT_THAT(result.err, HasSubstr("does not answer"));

  ASSERT_EQ(::listen(listener.get(), 4), 0);
  for (const char* answer : {"garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
                             "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"api\":2}", ""}) {
    std::jthread foreign([&] {
      const Fd client(::accept(listener.get(), nullptr, nullptr));
      char buffer[1024];
      (void)::recv(client.get(), buffer, sizeof(buffer), 0);
      (void)::send(client.get(), answer, std::strlen(answer), MSG_NOSIGNAL);
    });
    result = run({"status"});
    EXPECT_NE(result.code, kAnswered) << answer;
    EXPECT_THAT(result.err, StartsWith("culprit: "));
  }
}

TEST_F(RunTest, ExitCodeTellsTrouble) {
  serve();
  EXPECT_EQ(run({"--exit-code"}).code, kSomethingWrong);
  EXPECT_EQ(run({"why", "shop", "--exit-code"}).code, kSomethingWrong);
  EXPECT_EQ(run({"why", "redis", "--exit-code"}).code, kAnswered);
  EXPECT_EQ(run({"incidents", "--exit-code"}).code, kSomethingWrong);
}

TEST_F(RunTest, ColourOnTerminalsOnly) {
  serve();
  EXPECT_THAT(run({"why", "shop"}, true).out, HasSubstr("\x1b[1m"));
  EXPECT_THAT(run({"why", "shop", "--no-color"}, true).out, Not(HasSubstr("\x1b")));
}

TEST_F(RunTest, ConfigurationFileIsChecked) {
  const std::string file = folder_ / "culprit.yaml";
  std::ofstream(file) << "page_port: 7118\n";
  Outcome result = run({"config", "--file", file});
  EXPECT_EQ(result.code, kAnswered) << result.err;
  EXPECT_THAT(result.out, HasSubstr("7118"));
  std::ofstream(file) << "page_prt: 7118\n";
  result = run({"config", "--file", file});
  EXPECT_EQ(result.code, kBadInput);
  EXPECT_THAT(result.err, HasSubstr(file));
}

// --help of everything, kept as text: a change of an option shows in review.
TEST_F(RunTest, HelpNeedsNoManual) {
  const Outcome top = run({"--help"});
  EXPECT_EQ(top.code, kAnswered);
  expect_golden("cli/help.txt", top.out);
  for (const Command& command : commands()) {
    const Outcome result = run({command.name, "--help"});
    EXPECT_EQ(result.code, kAnswered);
    expect_golden(fmt::format("cli/help-{}.txt", command.name), result.out);
    EXPECT_THAT(top.out, HasSubstr(command.name));
  }
}

}  // namespace
}  // namespace culprit::cli
