// What explain promises beside the ranking: the document, honesty about doubt, knowledge and rules as options, cost.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "daemon/detect/examine.h"
#include "daemon/explain/blocks.h"
#include "daemon/explain/failure_modes.h"
#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/json.h"
#include "daemon/explain/live_case.h"
#include "tests/explain/faults.h"

namespace culprit::test {
namespace {

using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

World broken(World::Fault (*fault)(World&), unsigned seed = 21) {
  World world(seed);
  world.run(50);
  EXPECT_TRUE(world.break_with(fault(world)));
  return world;
}

TEST(Document, HasEveryFieldOfTheApi) {
  const World world = broken(faults::pg_lock);
  const nlohmann::json doc = to_json(world.explain());
  for (const char* field : {"api", "incident", "service", "state", "verdict", "headline", "symptoms", "candidates", "completeness", "inconclusive"}) {
    EXPECT_TRUE(doc.contains(field)) << field;
  }
  const nlohmann::json& cause = doc["candidates"][0];
  for (const char* field : {"rank", "entity", "service", "pid", "process", "failure_mode", "also", "title", "confidence", "trigger", "evidence", "ruled_out", "next"}) {
    EXPECT_TRUE(cause.contains(field)) << field;
  }
  EXPECT_EQ(cause["failure_mode"], "postgresql/lock-wait");
  EXPECT_EQ(cause["also"][0], "pg-lock-wait");
  EXPECT_EQ(cause["pid"], 4211);
  EXPECT_EQ(doc["incident"], 1);
  EXPECT_EQ(doc["state"], "open");
}

TEST(Document, ConfidencesAreAProbability) {
  for (auto* fault : {faults::pg_lock, faults::cpu_hog, faults::surge, faults::retransmits}) {
    const auto answer = broken(fault).explain();
    double sum = 0, last = 1;
    for (const auto& cause : answer.candidates) {
      EXPECT_GT(cause.confidence, 0);
      EXPECT_LT(cause.confidence, 1);
      EXPECT_LE(cause.confidence, last);
      last = cause.confidence;
      sum += cause.confidence;
      EXPECT_FALSE(cause.title.empty());
      EXPECT_FALSE(cause.evidence.empty());
      EXPECT_FALSE(cause.next.empty());
    }
    EXPECT_LE(sum, 1.001);
  }
}

TEST(Document, BlamedFamilyIsNotRuledOut) {
  EXPECT_THAT(broken(faults::cpu_hog).explain().candidates.at(0).ruled_out, Each(testing::Not(HasSubstr("cpu"))));
  EXPECT_THAT(broken(faults::slow_disk).explain().candidates.at(0).ruled_out, Each(testing::Not(HasSubstr("disk"))));
  EXPECT_THAT(broken(faults::pg_lock).explain().candidates.at(0).ruled_out, Contains(HasSubstr("cpu (run-queue wait")));
}

// A pool of four connections hangs and most requests wait for one of them: the share of the time that is waited on the database falls,
// and saying so would speak against the cause.
TEST(Document, AHungPoolIsToldByItsCalls) {
  World world(21);
  world.run(50);
  ASSERT_TRUE(world.break_with([lock = faults::pg_lock(world)](World& w, Second& now, int t) {
    lock(w, now, t);
    now.set[{w.e(w.names.app, w.names.db), "client.wait.share"}] = 0.1;
    now.set[{w.e(w.names.app, w.names.db), "client.inflight"}] = 4;
  }));
  const auto answer = world.explain();
  ASSERT_FALSE(answer.candidates.empty());
  EXPECT_EQ(answer.candidates[0].failure_mode, "postgresql/lock-wait");
  std::vector<std::string> texts;
  for (const auto& evidence : answer.candidates[0].evidence) texts.push_back(evidence.text);
  EXPECT_THAT(texts, Contains(testing::StartsWith("4 calls from shop to postgres wait, the oldest for")));
  EXPECT_THAT(texts, Each(testing::Not(HasSubstr("shop waits on postgres"))));
}

TEST(Doubt, AServiceThatIsJustSlowGetsNoInventedCause) {
  World world(5);
  world.blind = {"cpu.", "disk.", "fsync", "client.", "connect", "request.self"};
  world.no_logs = world.no_kernel = true;
  world.run(60);
  ASSERT_TRUE(world.break_with([](World&, Second& now, int) { now.app_self = 0.2; }));
  const auto answer = world.explain();
  EXPECT_EQ(answer.verdict, explain::Verdict::Inconclusive);
  ASSERT_TRUE(answer.inconclusive);
  EXPECT_THAT(*answer.inconclusive, HasSubstr("collect"));
}

TEST(Doubt, AChangeWithoutEffectIsNotBlamed) {
  World world(6);
  world.run(60);
  // The app is deployed as the cache is stopped: its own time stays as it was.
  const auto stop = faults::cache_stopped(world);
  ASSERT_TRUE(world.break_with([&](World& w, Second& now, int t) {
    stop(w, now, t);
    if (t == 0) now.events.push_back(World::change(w.names.app, "service.version", {{"old", "v1"}, {"new", "v2"}}));
  }));
  const auto answer = world.explain();
  EXPECT_EQ(answer.candidates.at(0).failure_mode, "linux-kernel/process-stopped");
}

TEST(Doubt, ARestartThatDidNoHarmForAMinuteIsNotBlamed) {
  World world(21);
  world.run(50);
  world.run(1, [](World& w, Second& now, int) { now.events.push_back(World::change(w.names.db, "service.restart", {{"process.pid", "300"}})); });
  world.run(60);
  ASSERT_TRUE(world.break_with(faults::slow_queries(world)));
  const auto answer = world.explain();
  ASSERT_FALSE(answer.candidates.empty());
  EXPECT_EQ(answer.candidates[0].failure_mode, "postgresql/slow-query");
}

TEST(Doubt, WhatBeganLaterIsNoCause) {
  World world(8);
  world.run(60);
  const auto lock = faults::pg_lock(world);
  const auto hog = faults::cpu_hog(world);
  ASSERT_TRUE(world.break_with([&](World& w, Second& now, int t) {
    if (t >= 12) {
      Second busy;
      hog(w, busy, t - 12);
      now.set = busy.set;
      now.events = busy.events;
    }
    lock(w, now, t);
  }, 20));
  EXPECT_EQ(world.explain().candidates.at(0).failure_mode, "postgresql/lock-wait");
}

TEST(Healthy, SaysSoWithNumbers) {
  World world(9);
  world.run(90);
  const auto incident = detect::examine(world.store, "shop", world.now_ns() - 60'000'000'000, world.now_ns());
  ASSERT_TRUE(incident);
  EXPECT_TRUE(incident->healthy());
  const auto answer = explain::explain(world.store, *incident, world.options());
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->verdict, explain::Verdict::Healthy);
  EXPECT_THAT(answer->candidates, IsEmpty());
  EXPECT_THAT(answer->headline, HasSubstr("shop is healthy"));
}

TEST(Healthy, ExamineFindsWhatDetectionSaw) {
  const World world = broken(faults::bad_release);
  const auto incident = detect::examine(world.store, "shop", world.now_ns() - 60'000'000'000, world.now_ns());
  ASSERT_TRUE(incident);
  ASSERT_FALSE(incident->healthy());
  const auto answer = explain::explain(world.store, *incident, world.options());
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->candidates.at(0).failure_mode, "application/bad-release");
}

// Knowledge from outside names a mode that the built-in table does not have.
class OneMode final : public explain::Knowledge {
 public:
  std::vector<explain::ModeMatch> match(std::string_view text, std::string_view) const override {
    if (text.find("Expiring session") == std::string_view::npos) return {};
    return {{"zk-session-expired", "zookeeper", "Client session expired", 0.9}};
  }
  std::vector<std::string> mitigations(std::string_view mode) const override {
    if (mode == "zk-session-expired") return {"raise the session timeout"};
    return {};
  }
  bool is_effect(std::span<const std::string_view> names) const override { return names.front() == "kubernetes/probe-failed"; }
  bool brings_about(std::span<const std::string_view> cause, std::span<const std::string_view> effect) const override {
    return cause.front() == "kafka/disk-full" && effect.front() == "kafka/offline-partition";
  }
};

// What the packs say one mode brings about at the same service is accounted for by it, and named as evidence against.
TEST(Knowledge, CausesAccountForTheirEffects) {
  World world(12);
  world.run(60);
  ASSERT_TRUE(world.break_with([](World&, Second& now, int) { now.app_errors = 0.5; }));
  auto options = world.options();
  const std::int64_t onset_ns = world.incident().onset_ns;
  options.rule_hits = {{onset_ns, "full", "service:shop", "kafka/disk-full", "its volume is full", 3.0}, {onset_ns, "offline", "service:shop", "kafka/offline-partition", "partitions are offline", 2.9}};
  const auto weight_of = [&] {
    const auto answer = explain::explain(world.store, world.incident(), options);
    EXPECT_TRUE(answer);
    EXPECT_EQ(answer->candidates.at(0).failure_mode, "kafka/disk-full");
    double against = 0;
    for (const auto& candidate : answer->candidates) {
      if (candidate.failure_mode != "kafka/offline-partition") continue;
      for (const explain::Evidence& item : candidate.evidence) against += item.text.starts_with("accounted for by: ") ? item.weight : 0;
    }
    return against;
  };
  EXPECT_EQ(weight_of(), 0);
  const OneMode knowledge;
  options.knowledge = &knowledge;
  EXPECT_LT(weight_of(), 0);
}

TEST(Knowledge, NamesAModeAndItsRemedy) {
  World world(10);
  world.run(60);
  ASSERT_TRUE(world.break_with([](World& w, Second& now, int) {
    now.app_errors = 0.5;
    now.events.push_back(World::log(w.names.app, "Expiring session 0x1, timeout of 6000ms exceeded", stream::kError, 200));
  }));
  auto options = world.options();
  const OneMode knowledge;
  options.knowledge = &knowledge;
  const auto answer = explain::explain(world.store, world.incident(), options);
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->candidates.at(0).also, Contains("zk-session-expired"));
  EXPECT_THAT(answer->candidates.at(0).next, Contains("raise the session timeout"));
}

TEST(Rules, AHitIsEvidence) {
  World world(12);
  world.run(60);
  ASSERT_TRUE(world.break_with([](World&, Second& now, int) { now.app_errors = 0.5; }));
  auto options = world.options();
  options.rule_hits = {{world.incident().onset_ns, "cert", "service:shop", "tls-cert-expired", "the certificate of shop expired", 3.0}};
  const auto answer = explain::explain(world.store, world.incident(), options);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->candidates.at(0).failure_mode, "tls/cert-expired");
}

// A health check tells that a service does not answer, which is what the incident is about. It leads only where nothing tells why.
TEST(Rules, AHealthCheckIsNoReason) {
  World world(12);
  world.run(60);
  ASSERT_TRUE(world.break_with([](World&, Second& now, int) { now.app_errors = 0.5; }));
  auto options = world.options();
  const OneMode knowledge;
  options.knowledge = &knowledge;
  const std::int64_t onset_ns = world.incident().onset_ns;
  options.rule_hits = {{onset_ns, "probe", "service:shop", "kubernetes/probe-failed", "the readiness probe fails", 3.0}};
  const auto alone = explain::explain(world.store, world.incident(), options);
  ASSERT_TRUE(alone);
  EXPECT_EQ(alone->candidates.at(0).failure_mode, "kubernetes/probe-failed");
  options.rule_hits.push_back({onset_ns, "overflow", "service:shop", "envoy/uo", "its circuit breaker is open", 2.7});
  const auto answer = explain::explain(world.store, world.incident(), options);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->candidates.at(0).failure_mode, "envoy/uo");
  // What told of the effect stands beside its cause.
  EXPECT_TRUE(std::ranges::any_of(answer->candidates.at(0).evidence, [](const explain::Evidence& item) { return item.text.starts_with("accounts for: ") && item.weight == 0; }));
}

// What people said of earlier answers moves a failure mode that no rule or log sign carries, a little and visibly.
TEST(Feedback, ConfirmedModesGainAndRejectedOnesLose) {
  EXPECT_EQ(explain::log_odds_of({}), 0);
  EXPECT_GT(explain::log_odds_of({.right = 1}), 0);
  EXPECT_LT(explain::log_odds_of({.wrong = 1}), 0);
  EXPECT_LE(explain::log_odds_of({.right = 1'000'000}), 0.7);
  EXPECT_GE(explain::log_odds_of({.wrong = 1'000'000}), -0.7);
  const World world = broken(faults::pg_lock);
  const auto plain = world.explain().candidates.at(0);
  const auto first_of = [&](explain::Verdicts said) {
    auto options = world.options();
    options.verdicts[plain.failure_mode] = said;
    return explain::explain(world.store, world.incident(), options)->candidates.at(0);
  };
  const auto confirmed = first_of({.right = 5}), rejected = first_of({.wrong = 5});
  EXPECT_EQ(confirmed.failure_mode, plain.failure_mode);
  EXPECT_GE(confirmed.confidence, plain.confidence);
  EXPECT_LE(rejected.confidence, plain.confidence);
  const auto weight_of = [](const explain::RankedCause& cause) {
    const auto told = std::ranges::find_if(cause.evidence, [](const auto& item) { return item.text.find("earlier answers") != std::string::npos; });
    return told == cause.evidence.end() ? 0 : told->weight;
  };
  EXPECT_EQ(weight_of(plain), 0);
  EXPECT_GT(weight_of(confirmed), 0.5);
  EXPECT_LT(weight_of(rejected), -0.5);
}

// A program that sends traces says in the failed span's status what went wrong, often nowhere else.
TEST(Spans, TheirMessagesAreReadLikeLogLines) {
  World world(14);
  world.run(60);
  ASSERT_TRUE(world.break_with([](World& w, Second& now, int) {
    now.app_errors = 0.5;
    stream::Event& span = now.events.emplace_back();
    span.kind = stream::Kind::Span;
    span.severity = stream::kError;
    span.entity = w.s(w.names.app);
    span.name = "GET /items";
    span.value = 0.01;
    span.span_id = 7;
    span.body = "FATAL: sorry, too many clients already";
  }));
  const auto answer = world.explain();
  EXPECT_TRUE(std::ranges::any_of(answer.candidates, [](const auto& cause) {
    return cause.failure_mode == "postgresql/too-many-clients" &&
           std::ranges::any_of(cause.evidence, [](const auto& item) { return item.text.find("reports in its spans") != std::string::npos; });
  }));
}

// Live and recorded incidents are seen by the same blocks: the live one's answer says what they saw.
TEST(Blocks, TakePartInALiveAnswer) {
  const World world = broken(faults::more_queries);
  const detect::Incident incident = world.incident();
  const auto options = world.options();
  const auto scene = explain::Scene::load(world.store, incident, options);
  ASSERT_TRUE(scene);
  const auto live = explain::live_case(world.store, *scene);
  ASSERT_TRUE(live);
  EXPECT_GE(live->candidates.size(), 3u);
  EXPECT_FALSE(live->metrics.columns.empty());
  EXPECT_EQ(live->metrics.columns.size(), live->reference_metrics.columns.size());
  EXPECT_FALSE(live->calls.empty());
  const auto signals = explain::all_signals(*live);
  EXPECT_TRUE(std::ranges::any_of(signals, [](const auto& signal) { return std::ranges::any_of(signal.value, [](double value) { return value > 0; }); }));
  const auto answer = world.explain();
  EXPECT_TRUE(std::ranges::any_of(answer.candidates, [](const auto& cause) {
    return std::ranges::any_of(cause.evidence, [](const auto& item) { return !item.sources.empty() && item.sources.front().starts_with("metrics") && std::fabs(item.weight) <= 0.8; });
  }));
}

// What a rule saw in an earlier incident, which is over, explains nothing of this one.
TEST(Rules, AHitOfAnEarlierIncidentIsNone) {
  World world(12);
  world.run(60);
  ASSERT_TRUE(world.break_with([](World&, Second& now, int) { now.app_errors = 0.5; }));
  const std::int64_t onset = world.incident().onset_ns;
  auto options = world.options();
  options.rule_hits = {{onset - 20'000'000'000, "cert", "service:shop", "tls-cert-expired", "the certificate of shop expired", 3.0}};
  const auto blames_it = [&] {
    const auto answer = explain::explain(world.store, world.incident(), options);
    EXPECT_TRUE(answer);
    return answer && std::ranges::any_of(answer->candidates, [](const auto& c) { return c.failure_mode == "tls/cert-expired"; });
  };
  EXPECT_TRUE(blames_it());
  options.excluded = {{onset - 30'000'000'000, onset - 10'000'000'000}};
  EXPECT_FALSE(blames_it());
}

// Names, labels and texts come from outside: nothing in them breaks the answer.
TEST(Robust, OddEventsDoNoHarm) {
  World world(13);
  world.run(40);
  const double values[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -1e308, 1e308};
  const char* entities[] = {"", "service:", "edge:", "edge:a", "edge:->", "edge:a->a", "process:", "process:99999999999999999999", "device:", "mount:", "service:\xff\xfe"};
  const char* names[] = {"", "{", "syscall.errors{", "syscall.errors{errno=\"", "connect.failures{errno=\"ECONNREFUSED\"}", "request.rate", "cpu.time", "client.rate"};
  std::vector<stream::Event> odd;
  for (const char* entity : entities) {
    for (const char* name : names) {
      for (const double value : values) {
        for (const auto kind : {stream::Kind::Sample, stream::Kind::Log, stream::Kind::Kernel, stream::Kind::Change, stream::Kind::Span}) {
          stream::Event event;
          event.time_ns = world.now_ns() - 1;
          event.kind = kind;
          event.entity = entity;
          event.name = name;
          event.value = value;
          event.body = "Process holding the lock: . Wait queue: , ,x still waiting for  on ";
          odd.push_back(std::move(event));
        }
      }
    }
  }
  (void)world.detector.on_samples(world.now_ns(), odd);
  ASSERT_TRUE(world.store.append(odd));
  ASSERT_TRUE(world.break_with(faults::pg_lock(world)));
  const auto answer = world.explain();
  EXPECT_EQ(answer.candidates.at(0).failure_mode, "postgresql/lock-wait");
  EXPECT_FALSE(to_json(answer).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).empty());
}

TEST(FailureModes, IdsAreUniqueAndSignsKnown) {
  std::set<std::string_view> ids;
  for (const auto& mode : explain::failure_modes()) {
    EXPECT_TRUE(ids.insert(mode.id).second) << mode.id;
    EXPECT_NE(mode.id.find('/'), std::string_view::npos) << mode.id;
  }
  for (const auto& sign : explain::log_signs()) EXPECT_TRUE(ids.contains(sign.mode)) << sign.mode;
}

}  // namespace
}  // namespace culprit::test
