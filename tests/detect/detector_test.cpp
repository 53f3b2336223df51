// What opens an incident, and what must not.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "daemon/base/clock.h"
#include "tests/explain/faults.h"

namespace culprit::test {
namespace {

using detect::IncidentUpdate;

// Five healthy minutes, many hosts: noise, tails and blips of one or two seconds open nothing.
TEST(Healthy, NoiseOpensNothing) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    World world(seed);
    world.keep = false;
    world.noise = 0.05 + 0.01 * (seed % 20);
    std::mt19937 random(seed);
    world.run(300, [&](World&, Second& now, int t) {
      if (t % 47 == 5) now.app_self *= 20;                        // a garbage collection
      if (random() % 40 == 0) now.tail *= 6;                      // a slow tail
      if (random() % 60 == 0) now.db_time *= 8;
      if (t % 90 == 30) now.app_errors = 0.3;                     // one bad second
      now.rate = 150 + 100 * std::sin(t / 40.0);                  // load that breathes
    });
    EXPECT_EQ(world.opened(), 0);
  }
}

// Load generators start and stop; programs start slowly.
TEST(Healthy, StartAndStopOfLoadOpensNothing) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    World world(seed);
    world.keep = false;
    world.run(20, [](World&, Second& now, int) { now.rate = 0; });
    world.run(10, [](World&, Second& now, int t) { now.app_self = 0.2 / (1 + t), now.rate = 20.0 * t; });  // cold caches
    world.run(100);
    world.run(1, [](World&, Second& now, int) { now.app_errors = 0.4, now.rate = 50; });  // connections cut at the end
    world.run(60, [](World&, Second& now, int) { now.rate = 0; });
    world.run(60, [](World&, Second& now, int) { now.rate = 240; });
    EXPECT_EQ(world.opened(), 0) << "seed " << seed;
  }
}

// An alert from outside opens an incident at once and needs no load; its end, or a long silence of its sender, closes it.
TEST(Alerts, OpenAndCloseAnIncident) {
  detect::Detector detector;
  const auto alert = [](double fires) {
    stream::Event event;
    event.kind = stream::Kind::Alert;
    event.entity = "service:order";
    event.name = "HighLatency";
    event.body = "p99 over 2 s";
    event.value = fires;
    event.attributes = {{"alert.id", "ab12"}};
    return event;
  };
  std::int64_t second = 1000 * kNsPerSecond;
  const auto step = [&](std::vector<stream::Event> events) { return detector.on_samples(second += kNsPerSecond, events); };
  ASSERT_TRUE(step({}).empty());
  const auto opened = step({alert(1)});
  ASSERT_EQ(opened.size(), 1U);
  EXPECT_EQ(opened[0].what, IncidentUpdate::What::Opened);
  EXPECT_EQ(opened[0].incident.service, "order");
  ASSERT_EQ(opened[0].incident.symptoms.size(), 1U);
  EXPECT_EQ(opened[0].incident.symptoms[0].text, "alert HighLatency: p99 over 2 s");
  for (int i = 0; i < 60; ++i) step({});
  EXPECT_EQ(detector.open_incidents().size(), 1U);  // told once, it fires until it is over
  step({alert(0)});
  for (int i = 0; i < 40; ++i) step({});
  EXPECT_TRUE(detector.open_incidents().empty());
  step({alert(1)});
  for (int i = 0; i < 5 * 3600; ++i) step({});
  EXPECT_TRUE(detector.open_incidents().empty());
}

// Before it has learned what is normal, only facts count.
TEST(WarmUp, OnlyFactsOpen) {
  World slow(1);
  slow.run(10);
  EXPECT_FALSE(slow.break_with([](World&, Second& now, int) { now.app_self = 0.1; }, 0, 15));
  World broken(2);
  broken.run(10);
  EXPECT_TRUE(broken.break_with([](World&, Second& now, int) { now.app_errors = 0.5; }, 0, 6));
}

TEST(Incident, OpensSoonForEveryFault) {
  for (auto* fault : {faults::cpu_hog, faults::pg_lock, faults::cache_killed, faults::cache_stopped, faults::slow_disk, faults::bad_release, faults::retransmits}) {
    World world(3);
    world.run(60);
    ASSERT_TRUE(world.break_with(fault(world), 0));
    EXPECT_LE(world.seconds_to_open(), 6);
  }
}

// One fault is one incident, of the service that people ask about, with all that show it.
TEST(Incident, GroupsWhatBelongsTogether) {
  World world(4);
  world.run(60);
  ASSERT_TRUE(world.break_with(faults::pg_lock(world), 15));
  EXPECT_EQ(world.opened(), 1);
  const auto incident = world.incident();
  EXPECT_EQ(incident.service, "nginx");
  EXPECT_EQ(incident.services, (std::vector<std::string>{"nginx", "shop"}));
  EXPECT_LE(incident.onset_ns, incident.opened_ns);
  for (const auto& symptom : incident.symptoms) EXPECT_GE(symptom.since_ns, incident.onset_ns);
}

TEST(Incident, ClosesAfterTheTroubleAndNotBefore) {
  World world(5);
  world.run(60);
  ASSERT_TRUE(world.break_with(faults::slow_disk(world), 20));
  world.run(15);
  EXPECT_EQ(world.detector.open_incidents().size(), 1u);
  world.run(20);
  EXPECT_TRUE(world.detector.open_incidents().empty());
  EXPECT_EQ(world.updates.back().what, IncidentUpdate::What::Closed);
  EXPECT_EQ(world.updates.back().incident.state, detect::IncidentState::Closed);
  // And the next one is another.
  ASSERT_TRUE(world.break_with(faults::bad_release(world), 0));
  EXPECT_EQ(world.opened(), 2);
}

// While it is broken, what is broken is not learned as normal.
TEST(Incident, StaysOpenWhileBroken) {
  World world(6);
  world.run(60);
  ASSERT_TRUE(world.break_with(faults::slow_disk(world), 0));
  world.run(300, [&, fault = faults::slow_disk(world)](World& w, Second& now, int t) { fault(w, now, t + 20); });
  EXPECT_EQ(world.detector.open_incidents().size(), 1u);
  EXPECT_EQ(world.opened(), 1);
}

// Trouble that lingers weakly and is then joined by another: the incident goes on, the new wave is what is explained.
TEST(Incident, ANewWaveIsExplainedByItself) {
  World world(12);
  world.run(60);
  ASSERT_TRUE(world.break_with(faults::cache_stopped(world), 6));
  world.run(40, [](World&, Second& now, int) { now.app_self = 0.015; });  // healed, but weakly slow for another reason
  ASSERT_EQ(world.detector.open_incidents().size(), 1u);
  const std::int64_t second_fault_ns = world.now_ns();
  world.run(10, [fault = faults::pg_lock(world)](World& w, Second& now, int t) {
    fault(w, now, t);
    now.app_self = 0.015;
  });
  EXPECT_EQ(world.opened(), 1);
  EXPECT_GE(world.incident().wave_ns, second_fault_ns);
  EXPECT_EQ(world.explain().candidates.at(0).failure_mode, "postgresql/lock-wait");
}

TEST(Incident, GoesOnAfterARestartOfTheDaemon) {
  World world(7);
  world.run(60);
  ASSERT_TRUE(world.break_with(faults::slow_disk(world), 2));
  const auto open = world.detector.open_incidents();
  detect::Detector next;
  next.restore(open);
  EXPECT_EQ(next.open_incidents(), open);
  const auto updates = next.on_samples(world.now_ns() + 40'000'000'000, {});
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].what, IncidentUpdate::What::Closed);
  EXPECT_EQ(updates[0].incident.id, open[0].id);
}

// A tool that fails is no service; a service that is asked for is.
TEST(Crash, MattersOnlyIfItServes) {
  World world(8);
  world.run(60);
  world.run(5, [](World&, Second& now, int t) {
    if (t == 1) now.events.push_back(World::kernel("grep", 9000, "process.exit", {{"exit.code", "1"}, {"exit.signal", "0"}}));
    if (t == 1) now.events.push_back(World::kernel("script", 9001, "process.exit", {{"exit.code", "0"}, {"exit.signal", "11"}}));
  });
  EXPECT_EQ(world.opened(), 0);
  ASSERT_TRUE(world.break_with([](World& w, Second& now, int t) {
    if (t == 0) now.events.push_back(World::kernel(w.names.cache, 400, "process.exit", {{"exit.code", "0"}, {"exit.signal", "11"}}));
  }, 0, 2));
}

// Waiting for a server that starts later is daily life; losing one that was there is not.
TEST(Connect, FailuresCountWhereCallsWentThroughBefore) {
  World world(9);
  world.run(60);
  const std::string refused = "connect.failures{errno=\"ECONNREFUSED\"}";
  world.run(10, [&](World& w, Second& now, int) { now.set[{w.e("batch", "queue"), refused}] = 20; });
  EXPECT_EQ(world.opened(), 0);
  EXPECT_TRUE(world.break_with([&](World& w, Second& now, int) { now.set[{w.e(w.names.app, w.names.cache), refused}] = 20; }, 0, 6));
}

// Two systems that have nothing to do with each other have two incidents.
TEST(Topology, UnrelatedSystemsAreSeparate) {
  World world(10);
  const auto other = [](Second& now, double errors) {
    now.set[{"service:wiki", "request.rate"}] = 50;
    now.set[{"service:wiki", "request.errors"}] = errors;
    now.set[{"service:wiki", "request.duration.mean"}] = 0.02;
    now.set[{"service:wiki", "request.duration.p99"}] = 0.05;
  };
  world.run(60, [&](World&, Second& now, int) { other(now, 0); });
  world.run(10, [&, fault = faults::pg_lock(world)](World& w, Second& now, int t) {
    fault(w, now, t);
    other(now, 40);
  });
  EXPECT_EQ(world.opened(), 2);
}

TEST(Limits, AFloodOfNamesIsRefusedAndCounted) {
  detect::Detector detector;
  std::vector<stream::Event> events;
  for (std::size_t i = 0; i < detect::Detector::kServicesMax + 500; ++i) {
    stream::Event event;
    event.entity = fmt::format("service:s{}", i);
    event.name = "request.rate";
    event.value = 1;
    events.push_back(std::move(event));
  }
  (void)detector.on_samples(1'000'000'000, events);
  EXPECT_EQ(detector.stats().services, detect::Detector::kServicesMax);
  EXPECT_EQ(detector.stats().services_refused, 500u);
}

}  // namespace
}  // namespace culprit::test
