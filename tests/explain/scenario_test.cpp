// Each fault, on a made-up host: an incident opens soon and the truth is the first candidate.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/explain/faults.h"

namespace culprit::test {

namespace {

using explain::Explanation;
using explain::RankedCause;

struct Case {
  const char* name;
  World::Fault (*fault)(World&);
  const char* mode;
  std::string (*blamed)(const Names&);  // the service that holds the blamed entity
};

const Case kCases[] = {
    {"cpu_hog", faults::cpu_hog, "linux-kernel/cpu-saturation", [](const Names&) { return std::string("burner"); }},
    {"pg_lock", faults::pg_lock, "postgresql/lock-wait", [](const Names& n) { return n.db; }},
    {"too_many_clients", faults::too_many_clients, "postgresql/too-many-clients", [](const Names& n) { return n.db; }},
    {"cache_killed", faults::cache_killed, "linux-kernel/process-killed", [](const Names& n) { return n.cache; }},
    {"cache_stopped", faults::cache_stopped, "linux-kernel/process-stopped", [](const Names& n) { return n.cache; }},
    {"disk_full", faults::disk_full, "linux-kernel/disk-full", [](const Names& n) { return n.db; }},
    {"slow_disk", faults::slow_disk, "linux-kernel/disk-saturation", [](const Names&) { return std::string("backup"); }},
    {"app_oom", faults::app_oom, "linux-kernel/cgroup-oom", [](const Names& n) { return n.app; }},
    {"fd_leak", faults::fd_leak, "linux-kernel/fd-limit", [](const Names& n) { return n.app; }},
    {"bad_release", faults::bad_release, "application/bad-release", [](const Names& n) { return n.app; }},
    {"wrong_address", faults::wrong_address, "application/config-change", [](const Names& n) { return n.front; }},
    {"slow_queries", faults::slow_queries, "postgresql/slow-query", [](const Names& n) { return n.db; }},
    {"held_back", faults::held_back, "linux-kernel/cpu-throttled", [](const Names& n) { return n.app; }},
    {"more_queries", faults::more_queries, "application/bad-release", [](const Names& n) { return n.app; }},
    {"worker_crash", faults::worker_crash, "linux-kernel/process-crash", [](const Names& n) { return n.front; }},
    {"retransmits", faults::retransmits, "linux-kernel/tcp-retrans", [](const Names& n) { return n.db; }},
    {"surge", faults::surge, "application/load-spike", [](const Names& n) { return n.front; }},
};

std::string show(const Explanation& answer) {
  std::string out = answer.headline + "\n";
  for (const RankedCause& cause : answer.candidates) {
    out += fmt::format(" {} {:.2f} {} [{}] {}\n", cause.rank, cause.confidence, cause.title, cause.failure_mode, cause.service);
    for (const auto& item : cause.evidence) out += fmt::format("      {:+.2f} {} [{}]\n", item.weight, item.text, fmt::join(item.sources, ", "));
    if (!cause.ruled_out.empty()) out += fmt::format("      ruled out: {}\n", fmt::join(cause.ruled_out, ", "));
  }
  if (answer.inconclusive) out += *answer.inconclusive + "\n";
  return out;
}

int rank_of(const Explanation& answer, const std::string& mode, const std::string& service) {
  for (const RankedCause& cause : answer.candidates) {
    if (cause.failure_mode == mode && cause.service == service) return cause.rank;
  }
  return 0;
}

class Scenario : public testing::TestWithParam<Case> {};

TEST_P(Scenario, TruthIsFirst) {
  for (const unsigned seed : {1u, 2u}) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    World world(seed);
    world.run(60);
    ASSERT_EQ(world.opened(), 0);
    ASSERT_TRUE(world.break_with(GetParam().fault(world)));
    EXPECT_LE(world.seconds_to_open(), 9);
    const Explanation answer = world.explain();
    if (std::getenv("CULPRIT_SHOW") != nullptr && seed == 1) fmt::print("{}\n", show(answer));
    EXPECT_EQ(rank_of(answer, GetParam().mode, GetParam().blamed(world.names)), 1) << show(answer);
    EXPECT_EQ(answer.verdict, explain::Verdict::Explained) << show(answer);
    EXPECT_GE(answer.candidates.at(0).confidence, 0.6) << show(answer);
    EXPECT_EQ(world.opened(), 1);
  }
}

// It does not know the programs by the names of the lab.
TEST_P(Scenario, NamesDoNotMatter) {
  World world(7, {"edge-proxy", "checkout", "postgresql@16-main", "sessions", "haproxy", "java", "postgres", "valkey-server"});
  world.run(60);
  ASSERT_TRUE(world.break_with(GetParam().fault(world)));
  const Explanation answer = world.explain();
  EXPECT_EQ(rank_of(answer, GetParam().mode, GetParam().blamed(world.names)), 1) << show(answer);
}

// Later in the incident the answer is still the same.
TEST_P(Scenario, StaysTrue) {
  World world(5);
  world.run(60);
  ASSERT_TRUE(world.break_with(GetParam().fault(world), 25));
  const Explanation answer = world.explain();
  EXPECT_EQ(rank_of(answer, GetParam().mode, GetParam().blamed(world.names)), 1) << show(answer);
}

// Without logs it can be less sure, but the truth stays among the first three.
TEST_P(Scenario, WithoutLogs) {
  World world(3);
  world.no_logs = true;
  world.run(60);
  ASSERT_TRUE(world.break_with(GetParam().fault(world)));
  const Explanation answer = world.explain();
  const int rank = rank_of(answer, GetParam().mode, GetParam().blamed(world.names));
  EXPECT_GE(rank, 1) << show(answer);
  EXPECT_LE(rank, 3) << show(answer);
}

INSTANTIATE_TEST_SUITE_P(Faults, Scenario, testing::ValuesIn(kCases), [](const auto& one) { return std::string(one.param.name); });

// Less is seen, less is claimed.
TEST(Confidence, FallsWithWhatIsNotSeen) {
  const auto confidence = [](bool blind) {
    World world(4);
    if (blind) {
      world.no_kernel = world.no_logs = true;
      world.blind = {"process.", "cpu."};
    }
    world.run(60);
    EXPECT_TRUE(world.break_with(faults::cache_stopped(world)));
    auto options = world.options();
    if (blind) {
      options.completeness.share = 0.8;
      options.completeness.blind = {"sched", "signal"};
    }
    const auto answer = explain::explain(world.store, world.incident(), options);
    EXPECT_TRUE(answer);
    EXPECT_FALSE(answer->candidates.empty());
    EXPECT_EQ(answer->candidates.at(0).service, world.names.cache) << show(*answer);
    return answer->candidates.at(0).confidence;
  };
  EXPECT_LT(confidence(true), confidence(false));
}

}  // namespace
}  // namespace culprit::test
