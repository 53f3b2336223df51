// Processes, services, and what people did to them.
#include <csignal>

#include "tests/track/records.h"

namespace culprit::track::test {

using stream::Kind;

// A service killed and started again by its supervisor was restarted; another script is another version.
TEST(Life, RestartWithNewVersion) {
  Host host;
  auto old_facts = host.facts("/usr/bin/python3", "/lab/shop", {"python3", "/srv/shop/app.py", "--port", "8000"}, kStart - 100 * kSecond);
  old_facts.script_identity = {1, 20, 500, 1'700'000'000 * kSecond};
  host.tracker.on_facts(200, old_facts);
  host.listen(200, 8000, 0x2000, kStart + kMs);
  host.tick(kStart + kSecond);
  host.tick(kStart + 2 * kSecond);
  const std::int64_t end = kStart + 2 * kSecond + 10 * kMs, begin = kStart + 3 * kSecond;
  host.exit(200, 0, SIGTERM, end);
  host.state(socket_of(0x2000, 8000, 0, 0), {}, CULPRIT_TCP_LISTEN, CULPRIT_TCP_CLOSE, end);
  host.fork(1, 201, begin);
  host.exec(201, begin, begin + kMs, "/usr/bin/python3");
  host.tracker.advance(begin + 2 * kMs);
  auto new_facts = old_facts;
  new_facts.start_time_ns = static_cast<std::uint64_t>(begin) / 10'000'000 * 10'000'000;  // clock ticks
  new_facts.script_identity = {1, 21, 700, 1'700'000'100 * kSecond};
  host.tracker.on_facts(201, new_facts);
  host.listen(201, 8000, 0x2100, begin + 5 * kMs);
  host.tick(kStart + 4 * kSecond);
  host.tick(kStart + 5 * kSecond);
  host.tick(kStart + 6 * kSecond);
  const auto stops = host.out.find(Kind::Change, "service:shop", "service.stop");
  const auto restarts = host.out.find(Kind::Change, "service:shop", "service.restart");
  const auto versions = host.out.find(Kind::Change, "service:shop", "service.version");
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_EQ(stops[0]->time_ns, end);
  ASSERT_EQ(restarts.size(), 1u);
  EXPECT_EQ(restarts[0]->time_ns, begin);
  EXPECT_EQ(restarts[0]->attribute("process.pid"), "201");
  ASSERT_EQ(versions.size(), 1u);
  EXPECT_EQ(versions[0]->attribute("what"), "script");
  EXPECT_NE(versions[0]->attribute("old").find("500 bytes"), std::string_view::npos);
  EXPECT_NE(versions[0]->attribute("new").find("700 bytes"), std::string_view::npos);
  EXPECT_EQ(host.out.find(Kind::Change, "", "service.start").size(), 0u);
  EXPECT_EQ(host.tracker.service_of(201), "shop");
}

// Counts and facts of a process may arrive after its end. They must not bring it back: the service would seem never
// to have stopped, and the new version that takes over would go unseen.
TEST(Life, TheDeadStayDead) {
  Host host;
  auto old_facts = host.facts("/usr/bin/python3", "/lab/shop", {"python3", "/srv/shop/app.py"}, kStart - 100 * kSecond);
  old_facts.cgroup_id = 77;
  old_facts.script_identity = {1, 20, 500, 1'700'000'000 * kSecond};
  host.tracker.on_facts(200, old_facts);
  host.listen(200, 8000, 0x2000, kStart + kMs);
  culprit_sched_counts counts{};
  counts.cgroup_id = 77;
  std::strcpy(counts.comm, "python3");
  std::pair<std::uint32_t, culprit_sched_counts> rows[] = {{200, counts}};
  host.tracker.on_sched(kStart + kSecond, rows);
  host.tick(kStart + kSecond);
  host.tick(kStart + 2 * kSecond);
  const std::int64_t end = kStart + 2 * kSecond + 10 * kMs, begin = kStart + 2 * kSecond + 800 * kMs;
  host.exit(200, 0, SIGTERM, end);
  host.tracker.advance(end);
  rows[0].second.on_cpu_ns += 300 * kMs;
  host.tracker.on_sched(kStart + 2 * kSecond + 500 * kMs, rows);
  host.tracker.on_facts(200, old_facts);
  EXPECT_EQ(host.tracker.service_of(200), "");
  host.fork(1, 201, begin);
  host.exec(201, begin, begin + kMs, "/usr/bin/python3");
  host.tracker.advance(begin + 2 * kMs);
  auto new_facts = old_facts;
  new_facts.start_time_ns = static_cast<std::uint64_t>(begin) / 10'000'000 * 10'000'000;
  new_facts.script_identity = {1, 21, 700, 1'700'000'100 * kSecond};
  host.tracker.on_facts(201, new_facts);
  host.listen(201, 8000, 0x2100, begin + 5 * kMs);
  for (int second = 3; second <= 5; ++second) host.tick(kStart + second * kSecond);
  EXPECT_EQ(host.out.find(Kind::Change, "service:shop", "service.stop").size(), 1u);
  const auto restarts = host.out.find(Kind::Change, "service:shop", "service.restart");
  ASSERT_EQ(restarts.size(), 1u);
  EXPECT_EQ(restarts[0]->attribute("process.pid"), "201");
  EXPECT_EQ(host.out.find(Kind::Change, "service:shop", "service.version").size(), 1u);
  double most = 0;  // what it used at its end is still the service's
  for (const auto& event : host.out.all) {
    if (event.entity == "service:shop" && event.name == "cpu.time") most = std::max(most, event.value);
  }
  EXPECT_NEAR(most, 0.2, 1e-9);  // 300 ms over the 1.5 s between the two readings
}

// The same program again is a restart only; other arguments of a script are another version, without secrets.
TEST(Life, WhatCountsAsAnotherVersion) {
  const struct { const char* name; std::vector<std::string> before, after; std::uint64_t size; const char* what; } cases[] = {
      {"same", {"python3", "app.py"}, {"python3", "app.py"}, 100, nullptr},
      {"executable", {"shopd"}, {"shopd"}, 200, "executable"},
      {"arguments of a script", {"python3", "app.py"}, {"python3", "app.py", "--slow", "--token=abc"}, 100, "arguments"},
      {"status in a title", {"shopd: idle"}, {"shopd: busy"}, 100, nullptr},
      {"version in arguments", {"shopd", "--release=1.2.3"}, {"shopd", "--release=1.2.4"}, 100, "arguments"},
      {"address in arguments", {"shopd", "10.0.0.1"}, {"shopd", "10.0.0.2"}, 100, nullptr},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    Host host;
    const std::string exe = c.before[0] == "python3" ? "/usr/bin/python3" : "/usr/bin/shopd";
    host.tracker.on_facts(200, host.facts(exe, "/lab/shop", c.before, kStart - 100 * kSecond));
    host.tick(kStart + kSecond);
    host.exit(200, 0, 0, kStart + kSecond + kMs);
    const std::int64_t begin = kStart + kSecond + 2 * kMs;
    host.exec(201, begin, begin, exe.c_str());
    host.tracker.advance(begin);
    auto facts = host.facts(exe, "/lab/shop", c.after, begin);
    facts.exe_identity.size = c.size;
    host.tracker.on_facts(201, facts);
    for (int second = 2; second < 5; ++second) host.tick(kStart + second * kSecond);
    const auto versions = host.out.find(Kind::Change, "service:shop", "service.version");
    EXPECT_EQ(host.out.find(Kind::Change, "service:shop", "service.restart").size(), 1u);
    ASSERT_EQ(versions.size(), c.what == nullptr ? 0u : 1u);
    if (c.what != nullptr) {
      EXPECT_EQ(versions[0]->attribute("what"), c.what);
      EXPECT_EQ(versions[0]->attribute("new").find("abc"), std::string_view::npos);
    }
  }
}

// A supervisor in the service's own cgroup stays; the one that listens is killed and comes back: that is a restart.
TEST(Life, RestartUnderASupervisor) {
  Host host;
  host.tracker.on_facts(190, host.facts("/usr/bin/bash", "/lab/shop", {"bash", "-c", "while true; do app; done"}, kStart - 100 * kSecond));
  auto app = host.facts("/usr/bin/python3", "/lab/shop", {"python3", "app.py"}, kStart - 99 * kSecond);
  app.ppid = 190;
  host.tracker.on_facts(200, app);
  host.listen(200, 8000, 0x2000, kStart + kMs);
  host.tick(kStart + kSecond);
  host.exit(200, 0, SIGKILL, kStart + kSecond + kMs);
  const std::int64_t begin = kStart + kSecond + 20 * kMs;
  host.fork(190, 201, begin);
  host.exec(201, begin, begin + kMs, "/usr/bin/python3", 190);
  host.tracker.advance(begin + 2 * kMs);
  app.start_time_ns = static_cast<std::uint64_t>(begin);
  host.tracker.on_facts(201, app);
  host.listen(201, 8000, 0x2100, begin + 5 * kMs);
  for (int second = 2; second < 5; ++second) host.tick(kStart + second * kSecond);
  const auto restarts = host.out.find(Kind::Change, "service:shop", "service.restart");
  ASSERT_EQ(restarts.size(), 1u);
  EXPECT_EQ(restarts[0]->attribute("process.pid"), "201");
  EXPECT_EQ(host.out.find(Kind::Change, "service:shop", "service.version").size(), 0u);
  EXPECT_EQ(host.out.find(Kind::Change, "service:shop", "service.stop").size(), 0u);
  const auto crashes = host.out.find(Kind::Sample, "service:shop", "process.crashes");
  ASSERT_FALSE(crashes.empty());
  EXPECT_EQ(crashes.front()->value, 1.0);
}

// Children that live shortly are counted where they come from and say nothing themselves.
TEST(Life, ShortChildrenDoNotFlood) {
  Host host;
  host.runs(300, "postgres");
  host.tick(kStart + kSecond);
  const std::size_t before = host.out.all.size();
  for (int i = 0; i < 200; ++i) {
    const std::int64_t t = kStart + kSecond + i * kMs;
    const auto pid = static_cast<std::uint32_t>(5000 + i);
    host.fork(300, pid, t);
    host.exit(pid, t, 0, t + kMs / 2);
  }
  host.tick(kStart + 2 * kSecond);
  EXPECT_EQ(host.out.last("service:postgres", "process.starts"), 200.0);
  EXPECT_EQ(host.out.last("service:postgres", "process.exits"), 200.0);
  EXPECT_EQ(host.out.find(Kind::Kernel, "", "").size(), 0u);
  EXPECT_EQ(host.out.find(Kind::Change, "", "").size(), 0u);
  EXPECT_LT(host.out.all.size() - before, 20u);
  EXPECT_EQ(host.tracker.processes().size(), 1u);
}

// A busy newcomer is told, with its pid; and its use of the CPU is its own.
TEST(Life, BusyNewcomer) {
  Host host;
  host.runs(200, "shop");
  culprit_sched_counts counts{};
  std::pair<std::uint32_t, culprit_sched_counts> rows[] = {{200, counts}, {900, counts}};
  host.tracker.on_sched(kStart + kSecond, std::span(rows).first(1));
  host.tick(kStart + kSecond);
  const std::int64_t begin = kStart + kSecond + 100 * kMs;
  host.exec(900, begin, begin, "/tmp/burn", 1);
  host.tracker.advance(begin);
  EXPECT_EQ(host.out.asked.back(), 900u);
  host.tracker.on_facts(900, host.facts("/tmp/burn", "/user.slice/session-3.scope", {}, begin));
  for (int second = 2; second <= 5; ++second) {
    rows[0].second.on_cpu_ns += 50 * kMs;
    rows[1].second.on_cpu_ns += 900 * kMs;
    rows[1].second.run_queue_ns += 300 * kMs;
    rows[1].second.run_queue_count += 100;
    ++rows[1].second.switches;
    host.tracker.on_sched(kStart + second * kSecond, rows);
    host.tick(kStart + second * kSecond);
  }
  const auto starts = host.out.find(Kind::Change, "service:burn", "process.start");
  ASSERT_EQ(starts.size(), 1u);
  EXPECT_EQ(starts[0]->time_ns, begin);
  EXPECT_EQ(starts[0]->attribute("process.pid"), "900");
  EXPECT_EQ(host.out.find(Kind::Change, "service:burn", "service.start").size(), 1u);
  EXPECT_NEAR(*host.out.last("process:900", "cpu.time"), 0.9, 1e-9);
  EXPECT_NEAR(*host.out.last("service:burn", "cpu.time"), 0.9, 1e-9);
  EXPECT_NEAR(*host.out.last("service:burn", "cpu.run_queue.wait"), 0.3, 1e-9);
  EXPECT_NEAR(*host.out.last("service:burn", "cpu.run_queue.mean"), 0.003, 1e-9);
  EXPECT_NEAR(*host.out.last("service:shop", "cpu.time"), 0.05, 1e-9);
  EXPECT_NEAR(*host.out.last("host", "cpu.time"), 0.95, 1e-9);
}

// A row that is missing from a snapshot did not change: what comes with its return is only the difference.
TEST(Life, IdleProcessReturns) {
  Host host;
  host.runs(200, "shop");
  culprit_sched_counts counts{};
  counts.on_cpu_ns = 500 * kSecond;  // from before we looked
  counts.switches = 1;
  std::pair<std::uint32_t, culprit_sched_counts> rows[] = {{200, counts}};
  host.tracker.on_sched(kStart + kSecond, rows);
  host.tick(kStart + kSecond);
  for (int second = 2; second <= 90; ++second) {
    host.tracker.on_sched(kStart + second * kSecond, std::span(rows).first(0));
    host.tick(kStart + second * kSecond);
  }
  rows[0].second.on_cpu_ns += 50 * kMs;
  ++rows[0].second.switches;
  host.tracker.on_sched(kStart + 91 * kSecond, rows);
  host.tick(kStart + 91 * kSecond);
  EXPECT_NEAR(*host.out.last("service:shop", "cpu.time"), 0.05, 1e-9);
}

// A process that is stopped by somebody shows at once, with who did it, and until it goes on.
TEST(Life, StoppedBySignal) {
  Host host;
  host.runs(400, "redis");
  host.tick(kStart + kSecond);
  culprit_signal_event event{};
  event.task = task_of({777, 777, "bash"});
  event.target_tgid = 400;
  event.signal = SIGSTOP;
  std::strcpy(event.target_comm, "redis-server");
  host.send(event, CULPRIT_EVENT_SIGNAL, kStart + kSecond + kMs);
  host.tick(kStart + 2 * kSecond);
  EXPECT_EQ(host.out.last("service:redis", "process.stopped"), 1.0);
  EXPECT_EQ(host.out.last("process:400", "process.stopped"), 1.0);
  const auto signals = host.out.find(Kind::Kernel, "service:redis", "process.signal");
  ASSERT_EQ(signals.size(), 1u);
  EXPECT_EQ(signals[0]->attribute("signal"), "SIGSTOP");
  EXPECT_EQ(signals[0]->attribute("sender.comm"), "bash");
  EXPECT_EQ(signals[0]->attribute("sender.pid"), "777");
  event.signal = SIGCONT;
  host.send(event, CULPRIT_EVENT_SIGNAL, kStart + 2 * kSecond + kMs);
  host.tick(kStart + 3 * kSecond);
  EXPECT_EQ(host.out.last("service:redis", "process.stopped"), 0.0);
  EXPECT_EQ(host.out.last("process:400", "process.stopped"), 0.0);
}

// A service's signals to its own children are small talk.
TEST(Life, OwnSignalsAreDebug) {
  Host host;
  host.runs(300, "postgres");
  host.runs(301, "postgres");
  culprit_signal_event event{};
  event.task = task_of({300, 300, "postgres"});
  event.target_tgid = 301;
  event.signal = SIGTERM;
  host.send(event, CULPRIT_EVENT_SIGNAL, kStart + kMs);
  host.tick(kStart + kSecond);
  const auto signals = host.out.find(Kind::Kernel, "service:postgres", "process.signal");
  ASSERT_EQ(signals.size(), 1u);
  EXPECT_EQ(signals[0]->severity, stream::kDebug);
}

TEST(Life, OomKill) {
  Host host;
  host.runs(200, "shop");
  const CgroupFacts limits[] = {{"/lab/shop", 95'000'000, 100'000'000, -1}};
  host.tracker.on_cgroup_limits(kStart, limits);
  culprit_oom_event event{};
  event.task = task_of({200, 205, "python3"});
  event.victim_tgid = 200;
  event.anon_rss_bytes = 90'000'000;
  std::strcpy(event.victim_comm, "python3");
  host.send(event, CULPRIT_EVENT_OOM, kStart + kMs);
  host.exit(200, 0, SIGKILL, kStart + 2 * kMs);
  host.tick(kStart + kSecond);
  const auto kills = host.out.find(Kind::Kernel, "service:shop", "process.oom_kill");
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0]->attribute("memory.limit"), "100000000");
  EXPECT_EQ(kills[0]->attribute("victim.comm"), "python3");
  EXPECT_EQ(kills[0]->attribute("process.pid"), "200");
}

// Kernels before 6.10 tell the pid of a victim that is not the allocating process, and nothing else.
TEST(Life, OomVictimOfOldKernels) {
  Host host;
  ProcessFacts facts = host.facts("/usr/bin/python3", "/lab/shop", {}, kStart - 100 * kSecond);
  facts.comm = "shop-worker";
  host.tracker.on_facts(200, facts);
  culprit_oom_event event{};
  event.task = task_of({300, 300, "allocator"});
  event.victim_tgid = 200;
  host.send(event, CULPRIT_EVENT_OOM, kStart + kMs);
  host.tick(kStart + kSecond);
  const auto kills = host.out.find(Kind::Kernel, "service:shop", "process.oom_kill");
  ASSERT_EQ(kills.size(), 1u);
  EXPECT_EQ(kills[0]->attribute("victim.comm"), "shop-worker");
}

// A pid that is used again is another process; a late exit record of the first does not end the second.
TEST(Life, PidReuse) {
  Host host;
  host.runs(200, "shop");
  const std::int64_t begin = kStart + 100 * kMs;
  host.exec(200, begin, begin, "/usr/bin/other");
  host.tracker.advance(begin);
  host.tracker.on_facts(200, host.facts("/usr/bin/other", "/lab/other", {}, begin));
  EXPECT_EQ(host.tracker.service_of(200), "other");
  host.exit(200, kStart - 100 * kSecond, 0, begin + kMs);
  host.tick(kStart + kSecond);
  EXPECT_EQ(host.tracker.service_of(200), "other");
  EXPECT_EQ(host.out.find(Kind::Change, "service:shop", "service.stop").size(), 1u);
}

// Two cgroups of the same last name are two services; the watched one has the plain name, and is watched alone.
TEST(Life, SameNameInTwoCgroups) {
  for (const bool watched_first : {true, false}) {
    SCOPED_TRACE(watched_first);
    TrackerOptions options;
    options.watch.push_back({.cgroup = "/b/*"});
    Host host(std::move(options));
    const auto one = host.facts("/usr/bin/shop", "/a/shop", {}, kStart - kSecond), two = host.facts("/usr/bin/shop", "/b/shop", {}, kStart - kSecond);
    if (!watched_first) host.tracker.on_facts(10, one);
    host.tracker.on_facts(20, two);
    if (watched_first) host.tracker.on_facts(10, one);
    host.tracker.on_facts(11, one);
    host.tracker.on_facts(21, two);
    host.tick(kStart + kSecond);
    for (const std::uint32_t pid : {10u, 11u}) {
      EXPECT_EQ(host.tracker.service_of(pid), "shop@a");
      EXPECT_FALSE(host.out.watched.contains(pid));
    }
    for (const std::uint32_t pid : {20u, 21u}) {
      EXPECT_EQ(host.tracker.service_of(pid), "shop");
      EXPECT_EQ(host.out.watched[pid], kWatchPayload | kWatchLogs);
    }
    EXPECT_EQ(host.out.last("service:shop", "process.count"), 2.0);
    EXPECT_EQ(host.out.last("service:shop@a", "process.count"), 2.0);
  }
}

// Only what was asked for is watched: by name, port, pid with its children, or everything; never ourselves.
TEST(Life, Watch) {
  TrackerOptions options;
  options.watch.push_back({.service = "sho*"});
  options.watch.push_back({.port = 5432});
  options.watch.push_back({.pid = 600});
  options.own_pid = 201;
  Host host(std::move(options));
  host.runs(200, "shop");
  host.runs(201, "shop");
  host.runs(300, "postgres");
  host.runs(400, "redis");
  host.tracker.on_facts(600, host.facts("/usr/bin/tool", "/", {}, kStart - kSecond));
  host.tracker.on_facts(601, host.facts("/usr/bin/tool", "/", {}, kStart - kSecond));
  host.listen(300, 5432, 0x3000, kStart + kMs);
  host.fork(300, 302, kStart + 2 * kMs);
  host.fork(600, 602, kStart + 2 * kMs);
  host.exec(602, kStart + 2 * kMs, kStart + 3 * kMs, "/usr/bin/tool2", 600);
  host.tracker.advance(kStart + 4 * kMs);
  host.tracker.on_facts(602, host.facts("/usr/bin/tool2", "/", {}, kStart + 2 * kMs));
  const auto watched = [&](std::uint32_t pid) { return host.out.watched.contains(pid) && host.out.watched[pid] == (kWatchPayload | kWatchLogs); };
  EXPECT_TRUE(watched(200));
  EXPECT_FALSE(watched(201));
  EXPECT_TRUE(watched(300));
  EXPECT_TRUE(watched(302));
  EXPECT_FALSE(watched(400));
  EXPECT_TRUE(watched(600));
  EXPECT_FALSE(watched(601));
  EXPECT_TRUE(watched(602));
  host.exit(200, 0, 0, kStart + 5 * kMs);
  host.tracker.advance(kStart + 6 * kMs);
  EXPECT_EQ(host.out.watched[200], 0u);
}

// Cumulative counts become the differences of each second, by service and errno, device and process.
TEST(Life, Counts) {
  Host host;
  host.runs(300, "postgres");
  std::pair<culprit_syscall_error_key, culprit_syscall_error_counts> errors[] = {{{0, 300, 1, 28}, {5, 0}}};
  std::pair<culprit_timed_call_key, culprit_latency> calls[] = {{{300, CULPRIT_CALL_FSYNC}, {}}};
  std::pair<culprit_block_key, culprit_block_counts> blocks[] = {{{254u << 20, 300, CULPRIT_BLOCK_WRITE, 0}, {}}};
  const DeviceName names[] = {{254u << 20, "vda"}};
  host.tracker.on_devices(names);
  const auto snapshot = [&](std::int64_t t) {
    host.tracker.on_syscall_errors(t, errors);
    host.tracker.on_timed_calls(t, calls);
    host.tracker.on_block(t, blocks);
    host.tick(t);
  };
  snapshot(kStart + kSecond);  // base line
  EXPECT_EQ(host.out.last("service:postgres", "syscall.errors{errno=\"ENOSPC\",syscall=\"write\"}"), std::nullopt);
  errors[0].second.count += 3;
  calls[0].second = {4, 2'000'000'000, 1'500'000'000, {}};
  blocks[0].second.latency = {10, 100'000'000, 50'000'000, {}};
  blocks[0].second.latency.buckets[13] = 10;  // 8 to 16 ms
  blocks[0].second.bytes = 40'960;
  snapshot(kStart + 2 * kSecond);
  const struct { const char* entity; const char* series; double value; } cases[] = {
      {"service:postgres", "syscall.errors{errno=\"ENOSPC\",syscall=\"write\"}", 3},
      {"service:postgres", "fsync.rate", 4},
      {"service:postgres", "fsync.mean", 0.5},
      {"service:postgres", "fsync.max", 1.5},
      {"service:postgres", "disk.write.bytes", 40'960},
      {"service:postgres", "disk.wait", 0.1},
      {"device:vda", "disk.rate", 10},
      {"device:vda", "disk.bytes", 40'960},
      {"device:vda", "disk.latency.mean", 0.01},
      {"device:vda", "disk.busy", 0.1},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.series);
    const auto value = host.out.last(c.entity, c.series);
    ASSERT_TRUE(value.has_value());
    EXPECT_NEAR(*value, c.value, 1e-9);
  }
  EXPECT_NEAR(*host.out.last("device:vda", "disk.latency.p99"), 0.016, 0.001);
  const std::size_t all = host.out.all.size();
  snapshot(kStart + 3 * kSecond);  // nothing happened: zeroes, once
  EXPECT_EQ(host.out.last("service:postgres", "fsync.rate"), 0.0);
  EXPECT_GT(host.out.all.size(), all);
  const std::size_t zeroes = host.out.all.size();
  snapshot(kStart + 4 * kSecond);
  EXPECT_LE(host.out.all.size() - zeroes, 1u);  // process.count goes on
}

// Limits hold and are counted.
TEST(Life, LimitsAreCounted) {
  TrackerOptions options;
  options.limits.processes = 8;
  options.limits.services = 4;
  options.limits.sockets = 16;
  options.limits.edges = 2;
  options.limits.templates_per_service = 3;
  options.limits.spans_per_second = 8;
  options.limits.requests_open = 4;
  Host host(std::move(options));
  for (std::uint32_t pid = 100; pid < 120; ++pid) host.runs(pid, "s" + std::to_string(pid));
  const Thread shop{100, 100, "shop"};
  for (std::uint16_t i = 0; i < 50; ++i) {
    const culprit_socket server = socket_of(0x1000u + i, 80, static_cast<std::uint16_t>(50'000 + i));
    host.read(server, shop, Shop::get("/name" + std::string(1, static_cast<char>('a' + i % 26))), kStart + i * kMs);
    if (i % 2 == 0) host.write(server, shop, Shop::answer(200, 1), kStart + i * kMs + 1000);
    const culprit_socket client = socket_of(0x9000u + i, static_cast<std::uint16_t>(51'000 + i), static_cast<std::uint16_t>(1000 + i), 0x0a000001);
    host.state(client, shop, CULPRIT_TCP_CLOSE, CULPRIT_TCP_SYN_SENT, kStart + i * kMs + 2000);
    host.state(client, {}, CULPRIT_TCP_SYN_SENT, CULPRIT_TCP_ESTABLISHED, kStart + i * kMs + 3000);
  }
  host.tick(kStart + kSecond);
  const TrackStats stats = host.tracker.stats();
  EXPECT_EQ(stats.processes, 8u);
  EXPECT_LE(stats.services, 4u);
  EXPECT_LE(stats.sockets, 16u);
  EXPECT_LE(stats.edges, 2u);
  EXPECT_GT(stats.processes_refused, 0u);
  EXPECT_GT(stats.services_refused, 0u);
  EXPECT_GT(stats.sockets_evicted, 0u);
  EXPECT_GT(stats.edges_refused, 0u);
  EXPECT_GT(stats.templates_refused, 0u);
  EXPECT_GT(stats.spans_sampled_out, 0u);
  EXPECT_EQ(stats.records_in, stats.processed + stats.pending + stats.dropped_bad_size + stats.dropped_unknown_kind);
}

}  // namespace culprit::track::test
