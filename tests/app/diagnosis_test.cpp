// Diagnosis between the stream and the graph: which events its rules see, and what it still knows of an old incident.
#include "daemon/app/diagnosis.h"

#include <gtest/gtest.h>

#include <thread>

#include "daemon/explain/memory_store.h"
#include "tests/graph/temporary.h"

namespace culprit::app {
namespace {

constexpr const char* kToy = R"(rule: toy
status: stable
summary: A toy
match: [{id: a, log: '', text: the toy broke}]
blame: a.entity
cause: redis/down
explain: seen
source: test
tests:
  - {name: fires, events: [{at: 1s, log: x, entity: 'service:shop', body: the toy broke}], expect: {blame: 'service:shop'}}
  - {name: near, events: [{at: 1s, log: x, entity: 'service:shop', body: the toy works}], expect: none}
  - {name: noise, events: [{at: 1s, log: x, entity: 'service:shop', body: noise}, {at: 2s, log: x, entity: 'service:shop', body: the toy broke}], expect: {blame: 'service:shop'}}
)";

stream::Event line(std::int64_t second, const char* body = "the toy broke again") {
  return {.time_ns = second * kNsPerSecond, .kind = stream::Kind::Log, .entity = "service:shop", .name = "t1", .body = body};
}

class DiagnosisTest : public testing::Test {
 protected:
  std::unique_ptr<Diagnosis> start() {
    return Diagnosis::start({clock_, store_, accounting_, input_, folder_ / "graph.db", "boot", modes_, rules_}).value();
  }
  // Until the detect thread has taken up so many events; if it never does, the expectation fails.
  static bool seen(const Diagnosis& diagnosis, std::uint64_t events) {
    for (int i = 0; i < 3'000 && diagnosis.rules().engine.events < events; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return diagnosis.rules().engine.events == events;
  }

  // Incident 7 of shop, closed, with what else its document says.
  void save_incident(nlohmann::json document) {
    detect::Incident incident;
    incident.id = 7;
    incident.service = "shop";
    incident.state = detect::IncidentState::Closed;
    incident.onset_ns = incident.wave_ns = incident.opened_ns = incident.last_symptom_ns = 100 * kNsPerSecond;
    incident.closed_ns = 1'500 * kNsPerSecond;
    incident.symptoms.push_back({.entity = "service:shop", .series = "request.rate", .since_ns = incident.onset_ns, .last_ns = incident.onset_ns, .unit = {}, .text = {}});
    document["record"] = {{"boot_id", "boot"}, {"incident", explain::incident_to_record(incident)}};
    graph::Incident row;
    row.id = graph::IncidentId{7};
    row.service = "shop";
    row.state = "closed";
    row.explanation = document.dump();
    ASSERT_TRUE(graph::Store::open(folder_ / "graph.db", graph::Store::Mode::Write).value().save(row));
  }

  graph::test::TemporaryFolder folder_;
  FakeClock clock_;
  Accounting accounting_;
  DetectChannel input_{{.name = "detect", .capacity = 64}};
  const std::shared_ptr<const graph::Knowledge> knowledge_ = graph::Knowledge::load({}).value();
  const std::shared_ptr<const recall::Modes> modes_ = std::make_shared<const recall::Modes>(knowledge_, recall::built_in_model().value());
  rules::RuleBook rules_{{}, knowledge_, [] {
                           const rules::RuleText texts[] = {{"toy.yaml", kToy}};
                           auto set = rules::load_rules(texts);
                           EXPECT_TRUE(set) << set.error().message;
                           return set.value_or(nullptr);
                         }()};
  explain::MemoryStore store_{{line(100)}};
};

// "On every event": also those that other tools sent, which the detector does not look at.
TEST_F(DiagnosisTest, RulesSeeWhatOtherToolsSent) {
  const auto diagnosis = start();
  (void)input_.send(DetectInput{.second_ns = 101 * kNsPerSecond, .told = {line(100)}});
  EXPECT_TRUE(seen(*diagnosis, 1));
  EXPECT_EQ(diagnosis->rules().rules[0].stats.matched, 1U);
  (void)input_.close();
}

// The engine forgets after a quarter of an hour; the store remembers what it saw.
TEST_F(DiagnosisTest, AnOldIncidentKeepsTheEvidenceOfRules) {
  save_incident({});
  const auto diagnosis = start();
  (void)input_.send(DetectInput{.second_ns = 101 * kNsPerSecond, .events = {line(100)}});
  ASSERT_TRUE(seen(*diagnosis, 1));
  const auto fired = [&] {
    const std::string text = diagnosis->export_incident(7).value();
    const auto options = nlohmann::json::parse(text.substr(0, text.find('\n')))["options"];
    EXPECT_EQ(options["rules_hash"], diagnosis->rules().hash);  // the set that was asked
    return options["rule_hits"].size();
  };
  EXPECT_EQ(fired(), 1U);
  (void)input_.send(DetectInput{.second_ns = 1'500 * kNsPerSecond, .events = {line(1'500, "the toy works")}});
  ASSERT_TRUE(seen(*diagnosis, 2));
  EXPECT_EQ(fired(), 1U);
  (void)input_.close();
}

// `culprit learn` goes by the newest verdict, whatever its rank, and by the service that the cause was of.
TEST_F(DiagnosisTest, AnExportTellsWhatPeopleSaid) {
  const auto cause = [](int rank, const char* mode, const char* entity, const char* service) {
    return nlohmann::json{{"rank", rank}, {"failure_mode", mode}, {"entity", entity}, {"service", service}};
  };
  save_incident({{"candidates", {cause(1, "m/a", "process:1", "shop"), cause(2, "m/b", "process:2", "db"), cause(3, "m/c", "service:cache", "cache")}}});
  {
    auto graph = graph::Store::open(folder_ / "graph.db", graph::Store::Mode::Write).value();
    const auto say = [&](int rank, const char* verdict, const char* mode, const char* entity, std::int64_t at) {
      ASSERT_TRUE(graph.add_feedback({.incident = graph::IncidentId{7}, .rank = rank, .verdict = verdict, .failure_mode = mode, .entity = entity, .note = "private", .time_ns = at, .who = "somebody"}));
    };
    say(2, "right", "m/b", "process:2", 20);
    say(1, "wrong", "m/a", "process:1", 30);
    say(3, "partly", "m/c", "service:cache", 10);
    say(0, "partly", "", "", 40);
  }
  const auto diagnosis = start();
  const std::string text = diagnosis->export_incident(7).value();
  const auto said = nlohmann::json::parse(text.substr(0, text.find('\n')))["said"];
  const auto one = [](const char* verdict, const char* service, const char* mode) { return nlohmann::json{{"verdict", verdict}, {"service", service}, {"failure_mode", mode}}; };
  EXPECT_EQ(said, nlohmann::json({one("partly", "cache", "m/c"), one("right", "db", "m/b"), one("wrong", "shop", "m/a"), one("partly", "shop", "m/a")}));
  EXPECT_EQ(text.find("private"), std::string::npos);
  EXPECT_EQ(text.find("somebody"), std::string::npos);
  (void)input_.close();
}

}  // namespace
}  // namespace culprit::app
