// Determinism: the same events give the same answer, whatever their order in a batch and wherever they are replayed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "daemon/explain/json.h"
#include "daemon/explain/replay.h"
#include "tests/explain/faults.h"

namespace culprit::test {
namespace {

using testing::HasSubstr;

World broken(World::Fault (*fault)(World&)) {
  World world(11);
  world.run(50);
  EXPECT_TRUE(world.break_with(fault(world)));
  return world;
}

std::string document(const explain::Explanation& answer) { return to_json(answer).dump(); }

TEST(Determinism, SameInputSameAnswerBitForBit) {
  const World world = broken(faults::pg_lock);
  const std::string first = document(world.explain());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(document(world.explain()), first);
}

TEST(Determinism, OrderInsideABatchDoesNotMatter) {
  const World world = broken(faults::app_oom);
  std::vector<stream::Event> events;
  ASSERT_TRUE(world.store.scan({}, [&](const stream::Event& event) {
    events.push_back(event);
    return true;
  }));
  std::mt19937 random(3);
  std::ranges::shuffle(events, random);
  const explain::MemoryStore shuffled(std::move(events));
  const auto answer = explain::explain(shuffled, world.incident(), world.options());
  ASSERT_TRUE(answer);
  EXPECT_EQ(document(*answer), document(world.explain()));
}

TEST(Replay, ExportRanksTheSame) {
  for (auto* fault : {faults::pg_lock, faults::bad_release}) {
    const World world = broken(fault);
    auto options = world.options();
    options.completeness = {.share = 0.99, .text = {}, .dropped = {{"ring_full", 12}}, .blind = {"block"}};
    options.rule_hits = {{world.now_ns() - 1'000'000'000, "some-rule", "service:shop", "application/slow-code", "it fired", 1.5}};
    options.excluded = {{1, 2}};
    options.verdicts = {{"application/slow-code", {3, 1, 0}}};
    const std::vector<explain::Said> said = {{"right", "shop", "application/slow-code"}, {"wrong", "", ""}};
    const auto direct = explain::explain(world.store, world.incident(), options);
    ASSERT_TRUE(direct);
    const auto text = explain::export_incident(world.store, world.incident(), options, said);
    ASSERT_TRUE(text);
    auto replay = explain::import_incident(*text);
    ASSERT_TRUE(replay) << replay.error().message;
    EXPECT_EQ(replay->incident, world.incident());
    EXPECT_EQ(replay->said, said);
    const auto again = explain::explain(*replay->store, replay->incident, replay->options);
    ASSERT_TRUE(again);
    EXPECT_EQ(document(*again), document(*direct));
    // And a second generation is the same file.
    const auto copy = explain::export_incident(*replay->store, replay->incident, replay->options, replay->said);
    ASSERT_TRUE(copy);
    EXPECT_EQ(*copy, *text);
  }
}

TEST(Replay, BadFilesAreRefusedWithTheirLine) {
  const World world = broken(faults::cpu_hog);
  const std::string good = explain::export_incident(world.store, world.incident(), world.options()).value();
  const std::string header = good.substr(0, good.find('\n') + 1);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = header;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const struct {
    std::string text;
    Code code;
    const char* message;
  } cases[] = {
      {"", Code::Invalid, "line 1"},
      {"{}\n", Code::Invalid, "line 1"},
      {"[1,2]\n", Code::Invalid, "line 1"},
      {"not json at all", Code::Invalid, "line 1"},
      {with("\"culprit_export\":1", "\"culprit_export\":2"), Code::Unsupported, "format 2"},
      {with("\"onset_ns\":", "\"onset\":"), Code::Invalid, "onset_ns"},
      {with("\"state\":\"open\"", "\"state\":\"ajar\""), Code::Invalid, "ajar"},
      {with("\"now_ns\":", "\"now_ns\":\"x\",\"n\":"), Code::Invalid, "options"},
      {with("\"opened_ns\":", "\"opened_ns\":9223372036854775807,\"o\":"), Code::Invalid, "out of range"},
      {with("\"opened_ns\":", "\"opened_ns\":7e49,\"o\":"), Code::Invalid, "field \"opened_ns\": 7e+49 is no 64-bit integer"},
      {with("\"now_ns\":", "\"now_ns\":99999999999999999999,\"n\":"), Code::Invalid, "'now_ns'"},
      {with("\"now_ns\":", "\"excluded\":[[1,2e99]],\"now_ns\":"), Code::Invalid, "'excluded'"},
      {with("\"now_ns\":", "\"x\":[[[[[[[[[[1]]]]]]]]]],\"now_ns\":"), Code::Invalid, "nested too deeply"},
      {with("\"said\":[]", "\"said\":[{\"verdict\":\"maybe\"}]"), Code::Invalid, "'maybe' is none of"},
      {with("\"said\":[]", "\"said\":[3]"), Code::Invalid, "what was said"},
      {with("\"said\":[]", "\"said\":3"), Code::Exhausted, "said"},
      {header + "{\"time_ns\":1,\"kind\":\"nonsense\"}\n", Code::Invalid, "line 2"},
      {header + "\n\n{broken\n", Code::Invalid, "line 4"},
      {header + "{\"time_ns\":9223372036854775807,\"kind\":\"log\"}\n", Code::Invalid, "line 2"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text.substr(0, 200));
    const auto replay = explain::import_incident(c.text);
    ASSERT_FALSE(replay);
    EXPECT_EQ(replay.error().code, c.code);
    EXPECT_THAT(replay.error().message, HasSubstr(c.message));
  }
  // An empty incident is a valid one: nothing is known, and it says so.
  const auto empty = explain::import_incident(header);
  ASSERT_TRUE(empty);
  const auto answer = explain::explain(*empty->store, empty->incident, empty->options);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->verdict, explain::Verdict::Inconclusive);
  EXPECT_TRUE(answer->inconclusive);
}

}  // namespace
}  // namespace culprit::test
