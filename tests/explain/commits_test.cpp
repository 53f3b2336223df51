// Changes against the symptom: which commit, or none.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "daemon/explain/changes/climb.h"
#include "daemon/explain/changes/commits.h"
#include "daemon/explain/changes/diff.h"
#include "daemon/explain/changes/symptom.h"
#include "daemon/explain/changes/words.h"

namespace culprit::explain {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kMinute = 60'000'000'000;

RecordedChange commit(const std::string& id, std::int64_t minute, const std::string& text, const std::string& file, const std::string& diff) {
  return {RecordedChange::Kind::Commit, minute * kMinute, id, "", text, diff, {file}};
}
RecordedChange deploy(const std::string& id, std::int64_t minute, const std::string& service) {
  return {RecordedChange::Kind::Deploy, minute * kMinute, id, service, "", "", {}};
}

RecordedCase with_symptom(const std::string& metric, const std::string& error) {
  RecordedCase c;
  c.names = {"shop", "front"};
  c.candidates = {1, 0};
  c.candidate_of = {1, 0};
  c.onset_ns = 100 * kMinute;
  c.fired = {0, 100 * kMinute, metric, "shop " + metric};
  for (int i = 0; i < 20; ++i) c.logs.push_back({i * kMinute, 0, 0, 0, "INFO", "order placed"});
  for (int i = 0; i < 5; ++i) c.logs.push_back({(96 + i) * kMinute, 0, 0, 0, "ERROR", error});
  return c;
}

double score_of(const RecordedCase& c, const std::string& id) {
  const auto ranked = score_commits(c);
  return std::ranges::find(ranked, id, &RankedCommit::id)->score;
}

TEST(Commits, TheOneWhoseDiffSpeaksOfTheSymptomComesFirst) {
  RecordedCase c = with_symptom("rpc_error_rate", "ledger call failed: deadline exceeded");
  c.changes = {commit("a1", 60, "docs: describe the ledger deadline", "docs/ledger.md", "-old\n+the ledger deadline"),
               commit("b2", 80, "refactor: ledger client", "ledger/client.go", "-\tcall(ledger, 5*time.Second)\n+\tcall(ledger, 50*time.Millisecond)"),
               commit("c3", 85, "feat: nicer button", "shop/view.go", "-\tcolor(red)\n+\tcolor(green)"),
               deploy("b2", 90, "shop"), deploy("c3", 92, "front")};
  const auto ranked = score_commits(c);
  EXPECT_EQ(ranked.front().id, "b2");
  EXPECT_THAT(ranked.front().reason, HasSubstr("ledger"));
  EXPECT_THAT(ranked.front().reason, HasSubstr("100-fold"));
}

// Lines that a commit only moves say nothing of what it changes, however much they speak of the symptom.
TEST(Commits, AMovedLineIsNoChange) {
  RecordedCase c = with_symptom("disk_used", "write ledger file: no space left on device");
  const std::string body = "write(ledger, file, space, device)";
  c.changes = {commit("move", 80, "refactor: extract a helper", "shop/sink.go", "-\t" + body + "\n+\thelper()\n+}\n+func helper() {\n+\t\t" + body),
               commit("real", 80, "shop: another writer", "shop/log.go", "-\topen()\n+\topen(ledger, file)"), deploy("move", 90, "shop"), deploy("real", 90, "shop")};
  EXPECT_EQ(score_commits(c).front().id, "real");
}

TEST(Commits, NobodyIsToBlameForAnExpiredCertificate) {
  RecordedCase c = with_symptom("upstream_error_ratio", "tls: x509: certificate has expired or is not yet valid");
  c.changes = {commit("b2", 80, "refactor: tidy the handler", "shop/handler.go", "-\ta()\n+\tb()"), deploy("b2", 85, "shop")};
  EXPECT_EQ(score_commits(c).front().id, "none");
}

TEST(Commits, AChangeAfterTheOnsetIsNoCause) {
  RecordedCase c = with_symptom("latency_p99", "slow query on orders");
  const std::string diff = "-\tselect(orders)\n+\tfor x { select(orders) }";
  c.changes = {commit("early", 80, "orders: query", "shop/orders.go", diff), deploy("early", 94, "shop"),
               commit("late", 99, "orders: query", "shop/orders.go", diff), deploy("late", 140, "shop")};
  const auto ranked = score_commits(c);
  EXPECT_EQ(ranked.front().id, "early");
  const auto late = std::ranges::find(ranked, "late", &RankedCommit::id);
  ASSERT_NE(late, ranked.end());
  EXPECT_LT(late->score, ranked.front().score - 3);
}

// Values with the unit behind them, as settings have it.
TEST(Commits, UnitsBehindAValueCount) {
  EXPECT_THAT(shape_of(commit("a1", 80, "", "shop.yaml", "-timeout: 5s\n+timeout: 500ms")).text, HasSubstr("10-fold"));
  EXPECT_THAT(shape_of(commit("a1", 80, "", "shop.yaml", "-timeout: 100ms\n+timeout: 900ms")).text, HasSubstr("9-fold"));
  EXPECT_THAT(shape_of(commit("a1", 80, "", "shop.yaml", "-timeout: 2 m\n+timeout: 10 s")).text, HasSubstr("12-fold"));
  // What is a time in one line and none in the other has no ratio.
  EXPECT_EQ(shape_of(commit("a1", 80, "", "shop.go", "-cpu(\"500m\")\n+cpu(\"1\")")).value_change, 0);
}

// A commit that went to two services is judged by the one that shows the symptom, whichever was first.
TEST(Commits, TheDeployThatMattersCounts) {
  RecordedCase c = with_symptom("rpc_error_rate", "ledger call failed: deadline exceeded");
  c.changes = {commit("b2", 80, "ledger client", "ledger/client.go", "-\tcall(ledger, 5*time.Second)\n+\tcall(ledger, 50*time.Millisecond)"),
               deploy("b2", 90, "front"), deploy("b2", 92, "shop")};
  EXPECT_THAT(score_commits(c).front().reason, HasSubstr("deployed to shop"));
}

// A file that was written anew, and a line of megabytes: what is compared is bounded, and what the commit does is still seen.
TEST(Commits, AHugeDiffIsReadInPart) {
  std::string diff = "-\tcall(ledger, 5*time.Second)\n+\tcall(ledger, 50*time.Millisecond)\n";
  for (int i = 0; i < 20'000; ++i) diff += fmt::format("-  row {} = {}\n+  line_{} = {}\n", i, i, i, i + 1);
  diff += "+";
  for (int i = 0; i < 200'000; ++i) diff += "second ";
  const DiffShape shape = shape_of(commit("a1", 80, "ledger: generated tables", "ledger/client.go", diff));
  EXPECT_THAT(shape.text, HasSubstr("100-fold"));
  EXPECT_FALSE(shape.harmless);
}

// One line that names a reason outside is a hint; if every complaint does, a commit that is near in time and words is chance.
TEST(Commits, NobodyIsToBlameIfAllComplaintsAreAboutSomebodyElsesServer) {
  RecordedCase c = with_symptom("charge_errors", "POST https://api.pay.example.com/charges returned 503");
  c.changes = {commit("b2", 88, "charge: more attempts", "shop/charge.go", "-\tattempts(charges, 2)\n+\tattempts(charges, 8)"), deploy("b2", 92, "shop")};
  EXPECT_EQ(score_commits(c).front().id, "none");
  for (int i = 0; i < 40; ++i) c.logs.push_back({(96 + i % 5) * kMinute, 0, 0, 0, "ERROR", "charges: out of attempts"});
  EXPECT_EQ(score_commits(c).front().id, "b2");
}

// What fills up is noticed when it is full: the change that filled it came long before, and what came later did not.
TEST(Commits, ALeakBeganWhenTheMemoryBeganToClimb) {
  RecordedCase c = with_symptom("oom_killed", "OOMKilled: out of memory in history");
  MetricColumn rss{0, "memory_rss", {}};
  for (int minute = 0; minute < 100; ++minute) {
    c.metrics.times_ns.push_back(minute * kMinute);
    rss.values.push_back(200 + minute % 3 + 5 * std::max(0, minute - 40));
  }
  c.metrics.columns = {rss};
  c.changes = {commit("leak", 30, "record each request", "shop/record.go", "-\ta()\n+\trecord()"), deploy("leak", 40, "shop"),
               commit("cache", 85, "a bounded memory for the history", "shop/cache.go", "-\tb()\n+\tcache(memory, history, 8)"), deploy("cache", 90, "shop")};
  EXPECT_EQ(score_commits(c).front().id, "leak");
  c.metrics = {};
  EXPECT_EQ(score_commits(c).front().id, "cache");
}

TEST(Climb, IsALevelAndThenAStraightRise) {
  std::vector<std::int64_t> times_ns;
  std::vector<double> leak, full, step, always, level, lost;
  for (int i = 0; i < 1000; ++i) {
    const double noise = (i * 7919) % 13 - 6;
    times_ns.push_back(i * kMinute);
    leak.push_back(1000 + noise + 2 * std::max(0, i - 600));
    full.push_back(std::min(leak.back(), 1500.0));  // from row 850 on
    step.push_back(1000 + noise + (i < 600 ? 0 : 500));
    always.push_back(noise + 2 * i);
    level.push_back(1000 + noise);
    lost.push_back(i % 3 == 0 ? NAN : leak.back());
  }
  const std::int64_t until_ns = times_ns.back();
  for (const auto* climbing : {&leak, &full, &lost}) EXPECT_NEAR(static_cast<double>(climb_since(times_ns, *climbing, until_ns)) / static_cast<double>(kMinute), 600, 15);
  for (const auto* other : {&step, &always, &level}) EXPECT_EQ(climb_since(times_ns, *other, until_ns), 0);
  EXPECT_EQ(climb_since(times_ns, leak, 500 * kMinute), 0);  // before it began
  EXPECT_EQ(climb_since({}, {}, 0), 0);
  EXPECT_EQ(climb_since(times_ns, std::vector<double>(1000, NAN), until_ns), 0);
}

TEST(Commits, WithoutCommitsThereIsNoRanking) { EXPECT_TRUE(score_commits(with_symptom("x", "y")).empty()); }

TEST(Diff, SaysWhatAChangeDoes) {
  EXPECT_TRUE(shape_of(commit("x", 0, "", "README.md", "-a\n+b")).harmless);
  EXPECT_TRUE(shape_of(commit("x", 0, "", "a_test.go", "-a\n+b")).harmless);
  EXPECT_TRUE(shape_of(commit("x", 0, "", "a.go", "-// old words\n+// new words")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "a.go", "-run(a)\n+run(b)")).harmless);
  EXPECT_NEAR(shape_of(commit("x", 0, "", "a.go", "-retries := 8\n+retries := 2")).value_change, 2, 1e-9);
  EXPECT_GE(shape_of(commit("x", 0, "", "app.yaml", "-  level: info\n+  level: debug")).value_change, 1);
  EXPECT_GT(shape_of(commit("x", 0, "", "a.go", "-register(handlers)\n+noop()")).removed, 0.3);
}

// What looks like a comment or like the name of a file, and is code.
TEST(Diff, DirectivesFlagsAndDashesAreLines) {
  EXPECT_FALSE(shape_of(commit("x", 0, "", "a.c", "-#include \"old.h\"\n+#include \"new.h\"")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "run.sh", "---workers=8\n+--workers=2")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "a.c", "--n;\n+++n;")).harmless);
  EXPECT_TRUE(shape_of(commit("x", 0, "", "run.sh", "-# with eight\n+#with two")).harmless);
  EXPECT_TRUE(shape_of(commit("x", 0, "", "a.sql", "--- of all\n+-- of some")).harmless);
  EXPECT_TRUE(shape_of(commit("x", 0, "", "a.sql", "--- a/a.sql\n+++ b/a.sql\n@@ -1,2 +1,2 @@\n--- of all\n+-- of some")).harmless);
  EXPECT_EQ(changed_lines("--- a/a.sql\n+++ b/a.sql\n@@ -1,2 +1,1 @@\n select\n--- of all\n").size(), 1U);
  EXPECT_EQ(changed_lines("+++ n").size(), 1U);
  // In the middle of a hunk two such lines are code, before a hunk or at the beginning they are names, however long the last one claims to be.
  EXPECT_EQ(changed_lines("--- a/a\n+++ b/a\n@@ -1,3 +1,3 @@\n x\n--- n;\n+++ n;\n y\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-x\n+y").size(), 4U);
  EXPECT_EQ(changed_lines("@@ -1,90 +1,90 @@\n-x\n+y\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-x\n+y").size(), 4U);
  EXPECT_EQ(changed_lines("diff --git a/b b/b\n--- a/b\n+++ b/b\n-x\n+y\n").size(), 2U);
  EXPECT_TRUE(changed_lines("").empty());
}

TEST(Diff, TextsThatABuildReadsAreCode) {
  EXPECT_TRUE(shape_of(commit("x", 0, "", "doc/notes.txt", "-a\n+b")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "src/CMakeLists.txt", "-a\n+b")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "requirements-prod.txt", "-client==1\n+client==2")).harmless);
}

// Another release of a library is another service. Its checksum alone is not.
TEST(Diff, ADependencyIsCode) {
  EXPECT_FALSE(shape_of(commit("x", 0, "", "shop/go.mod", "-client v1.2.0\n+client v1.3.0")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "go.mod", "-client v1.2.0\n+client v1.3.0")).harmless);
  const DiffShape lock = shape_of(commit("x", 0, "", "package-lock.json", "-\"integrity\": \"sha-a\"\n+\"integrity\": \"sha-b\""));
  EXPECT_FALSE(lock.harmless);
  EXPECT_FALSE(lock.setting);
  EXPECT_TRUE(shape_of(commit("x", 0, "", "shop/go.sum", "-client h1:a\n+client h1:b")).harmless);
}

// A path is harmless by its folders and by the whole name of its file, not by letters in it.
TEST(Diff, PathsAreReadByTheirParts) {
  for (const char* path : {"LICENSE", "LICENSE.txt", "a/README.txt", "tests/run.py", "a/docs/x.yaml", ".github/ci.yml", "CODEOWNERS", ".golangci.yml", "Makefile", "a/x_test.go", "web/static/a.js"}) {
    EXPECT_TRUE(shape_of(commit("x", 0, "", path, "-a\n+b")).harmless) << path;
  }
  for (const char* path : {"internal/license/check.go", "license.go", "contests/join.go", "etc/hosts.allow.txt", "golden_path.go", "latests/x.go", "notes.go", "", "/"}) {
    EXPECT_FALSE(shape_of(commit("x", 0, "", path, "-a\n+b")).harmless) << path;
  }
}

TEST(Diff, CodeBehindACommentIsCode) {
  EXPECT_FALSE(shape_of(commit("x", 0, "", "a.c", "-/* limit */ n = 8;\n+/* limit */ n = 2;")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "a.c", "-*/ n = 8;\n+*/ n = 2;")).harmless);
  EXPECT_FALSE(shape_of(commit("x", 0, "", "a.go", "-//go:build linux\n+//go:build darwin")).harmless);
  EXPECT_TRUE(shape_of(commit("x", 0, "", "a.c", "-/* limit */\n+/* of\n+ * all */")).harmless);
  std::string many = "+";
  for (int i = 0; i < 300'000; ++i) many += "/**/";
  EXPECT_TRUE(shape_of(commit("x", 0, "", "a.c", many)).harmless);
}

// A deadline began to fail at minute 96, whatever somebody complained of once an hour before.
TEST(Commits, TheOnsetIsWhereErrorsBecomeMore) {
  RecordedCase c = with_symptom("rpc_error_rate", "ledger call failed: deadline exceeded");
  c.logs.insert(c.logs.begin(), {1 * kMinute, 0, 0, 0, "ERROR", "ledger call failed: deadline exceeded"});
  for (int i = 0; i < 30; ++i) c.logs.push_back({96 * kMinute + i * kMinute / 10, 0, 0, 0, "ERROR", "ledger call failed: deadline exceeded"});
  EXPECT_EQ(symptom_of(c).onset_ns, 96 * kMinute);
  RecordedCase quiet = with_symptom("rpc_error_rate", "ledger call failed: deadline exceeded");
  EXPECT_EQ(symptom_of(quiet).onset_ns, 96 * kMinute);
  RecordedCase one = with_symptom("rpc_error_rate", "");
  std::erase_if(one.logs, [](const RecordedLog& line) { return line.level == "ERROR"; });
  one.logs.push_back({97 * kMinute, 0, 0, 0, "ERROR", "ledger call failed"});
  EXPECT_EQ(symptom_of(one).onset_ns, 97 * kMinute);
}

TEST(Commits, AMissingSampleDoesNotEndTheOnset) {
  RecordedCase c = with_symptom("rpc_error_rate", "");
  std::erase_if(c.logs, [](const RecordedLog& line) { return line.level == "ERROR"; });
  MetricColumn column;
  column.service = 0;
  column.name = "rpc_error_rate";
  for (int i = 0; i <= 100; ++i) {
    c.metrics.times_ns.push_back(i * kMinute);
    column.values.push_back(i == 97 ? std::nan("") : i >= 94 ? 0.3 : 0.001 * (i % 3));
  }
  c.metrics.columns.push_back(column);
  EXPECT_EQ(symptom_of(c).onset_ns, 94 * kMinute);
}

// A sign is the beginning of a word: a full room has nothing to do with memory.
TEST(Commits, SignsAreWords) {
  const auto score = [](const std::string& error) {
    RecordedCase c = with_symptom("booking_failures", error);
    c.changes = {commit("a1", 60, "shop: keep what was asked", "shop/kept.go", "-\tverify(x)\n+\tcache.append(buffer, scope)"), deploy("a1", 60, "shop")};
    return score_of(c, "a1");
  };
  EXPECT_LT(score("bedroom unavailable"), score("OOMKilled"));
  EXPECT_LT(score("request 14018 refused"), score("answer 401 refused"));
}

// A service that rents out rooms fills no memory.
TEST(Commits, ARoomDoesNotClimb) {
  const auto onset_min = [](const std::string& error) {
    RecordedCase c = with_symptom("booking_failures", error);
    MetricColumn rss{0, "memory_rss", {}};
    for (int minute = 0; minute < 100; ++minute) {
      c.metrics.times_ns.push_back(minute * kMinute);
      rss.values.push_back(200 + minute % 3 + 5 * std::max(0, minute - 40));
    }
    c.metrics.columns = {rss};
    return symptom_of(c).onset_ns / kMinute;
  };
  EXPECT_LT(onset_min("OOMKilled"), 60);
  EXPECT_EQ(onset_min("no cheap bedroom"), 96);
}

TEST(Commits, OneSharedWordMayBeChance) {
  const auto score = [](const std::string& diff) {
    RecordedCase c = with_symptom("queue_depth", "ledger writer stuck on shard seven");
    c.changes = {commit("a1", 60, "", "x.go", diff), deploy("a1", 60, "shop")};
    return score_of(c, "a1");
  };
  EXPECT_LT(score("-\ta(x)\n+\tb(shard)") + 1, score("-\ta(x)\n+\tledger.writer(shard)"));
}

// What every commit says, as the name of the one service that all of them change, tells nothing for any.
TEST(Commits, WordsThatEveryCommitSaysAreWeak) {
  const auto score = [](const std::string& others) {
    RecordedCase c = with_symptom("queue_depth", "ledger writer stuck on shard seven");
    c.changes = {commit("a1", 60, "", "x.go", "-\ta(x)\n+\tledger.writer(shard)"), deploy("a1", 60, "shop")};
    for (int i = 0; i < 15; ++i) c.changes.push_back(commit(fmt::format("z{}", i), 60, "", "x.go", others));
    return score_of(c, "a1");
  };
  EXPECT_LT(score("-\ta(x)\n+\tledger.writer(shard)") + 1, score("-\ta(x)\n+\tb(y)"));
}

// Lines of somebody whom the case does not name say nothing of a deploy to another whom it does not name.
TEST(Commits, TwoUnknownServicesAreNotOne) {
  RecordedCase c = with_symptom("rpc_error_rate", "ledger call failed: deadline exceeded");
  c.changes = {commit("a1", 60, "x", "x.go", "-a\n+b"), deploy("a1", 60, "elsewhere")};
  const double without = score_commits(c).front().score;
  c.logs.push_back({97 * kMinute, kNoService, 0, 0, "ERROR", "ledger call failed: deadline exceeded"});
  EXPECT_DOUBLE_EQ(score_commits(c).front().score, without);
}

TEST(Commits, ADurationIsNoStatus) {
  const auto outside = [](const std::string& error) {
    return symptom_of(with_symptom("rpc_error_rate", error)).outside;
  };
  EXPECT_GT(outside("POST https://api.pay.example.com/v1/charge returned 503"), 0);
  EXPECT_GT(outside("POST https://api.pay.example.com/v1/charge status=502, giving up"), 0);
  EXPECT_EQ(outside("POST https://api.pay.example.com/v1/charge took 503 ms"), 0);
  EXPECT_EQ(outside("POST https://api.pay.example.com/v1/charge took 500 milliseconds"), 0);
  EXPECT_EQ(outside("POST https://api.pay.example.com/v1/charge read 500 rows"), 0);
  EXPECT_EQ(outside("POST https://api.pay.example.com/v1/charge read 500.5"), 0);
}

TEST(Words, AreCutFromCode) {
  EXPECT_THAT(words_of("getLedgerItems(HTTPClient, oom_killed) 503"), ElementsAre("get", "ledger", "item", "client", "oom", "killed"));
  EXPECT_THAT(words_of("p99Latency utf8Decoder"), ElementsAre("p99", "latency", "utf8", "decoder"));
  EXPECT_THAT(words_of("retries batches caches indexes processes cookies status redis"),
              ElementsAre("retry", "batch", "cache", "index", "process", "cookie", "status", "redis"));
}

}  // namespace
}  // namespace culprit::explain
