#include "tests/explain/faults.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"

namespace culprit::test::faults {

namespace {
std::string errors(const std::string& name, const std::string& call) {
  return fmt::format("syscall.errors{{errno=\"{}\",syscall=\"{}\"}}", name, call);
}
std::string connect(const std::string& name) { return fmt::format("connect.failures{{errno=\"{}\"}}", name); }
}  // namespace

World::Fault cpu_hog(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) {
      for (int i = 0; i < 4; ++i) w.processes[7000 + i] = {"burner", "burner"};
      now.events.push_back(World::kernel("burner", 7000, "process.exec"));
      now.events.push_back(World::change("burner", "process.start", {{"process.pid", "7000"}, {"service", "burner"}}));
    }
    now.app_self = 0.012, now.db_time = 0.008, now.cache_time = 0.004, now.front_self = 0.003, now.tail = 2;
    now.rate = 120;
    now.set[{w.s("burner"), "cpu.time"}] = 1.5;
    for (int i = 0; i < 4; ++i) now.set[{fmt::format("process:{}", 7000 + i), "cpu.time"}] = 0.375;
    now.set[{w.s("burner"), "cpu.run_queue.wait"}] = 2.4;
    for (const auto& service : {w.names.front, w.names.app, w.names.db, w.names.cache}) {
      now.set[{w.s(service), "cpu.run_queue.wait"}] = 0.3;
      now.set[{w.s(service), "cpu.run_queue.mean"}] = 0.006;
    }
    now.set[{"host", "cpu.run_queue.wait"}] = 3.4;
    now.set[{"host", "cpu.time"}] = 2.0;
  };
}

World::Fault pg_lock(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) {
      w.processes[4210] = {"psql", "psql"};
      w.processes[4211] = {w.names.db, w.names.db_command};
      now.set[{w.e("psql", w.names.db), "client.rate"}] = 2;
    }
    now.db_hung = t + 0.8;
    if (t == 2) {
      for (int pid = 303; pid < 309; ++pid) {
        now.events.push_back(World::log(w.names.db, fmt::format("2026-11-23 14:02:11 UTC [{}] LOG:  process {} still waiting for AccessShareLock on relation 16385 of database 16384 after 1000.{} ms", pid, pid, pid), stream::kInfo, pid));
        now.events.push_back(World::log(w.names.db, fmt::format("2026-11-23 14:02:11 UTC [{}] DETAIL:  Process holding the lock: 4211. Wait queue: 303, 304, 305, 306, 307, 308.", pid), stream::kInfo, pid));
      }
    }
  };
}

World::Fault too_many_clients(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) {
      w.processes[5100] = {"report", "python3"};
      for (int i = 0; i < 85; ++i) w.processes[5200 + i] = {w.names.db, w.names.db_command};
    }
    now.set[{w.e("report", w.names.db), "client.rate"}] = t < 2 ? 85 : 0;
    now.set[{w.s(w.names.db), "process.count"}] = 97;
    now.app_errors = 0.6;
    now.set[{w.e(w.names.app, w.names.db), "client.errors"}] = 110;
    for (int i = 0; i < 3; ++i) {
      now.events.push_back(World::log(w.names.db, fmt::format("2026-11-23 14:02:11 UTC [{}] FATAL:  sorry, too many clients already", 6000 + t * 10 + i), stream::kFatal, 6000 + t * 10 + i));
      now.events.push_back(World::log(w.names.app, "psycopg2.OperationalError: connection to server failed: FATAL:  sorry, too many clients already", stream::kError, 200));
      now.events.push_back(World::kernel(w.names.db, 6000 + t * 10 + i, "process.exit", {{"exit.code", "1"}, {"exit.signal", "0"}}));
    }
  };
}

World::Fault cache_killed(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) {
      now.events.push_back(World::kernel(w.names.cache, 400, "process.signal", {{"signal", "SIGKILL"}, {"sender.pid", "77"}, {"sender.comm", "bash"}, {"target.pid", "400"}}));
      now.events.push_back(World::kernel(w.names.cache, 400, "process.exit", {{"exit.code", "0"}, {"exit.signal", "9"}}));
    }
    now.app_errors = 0.9;
    now.cache_time = 0.0001;
    for (const auto* name : {"cpu.time", "cpu.run_queue.wait", "cpu.run_queue.mean", "memory.rss", "process.count", "log.rate"}) now.set[{w.s(w.names.cache), name}] = 0;
    now.set[{w.e(w.names.app, w.names.cache), "client.rate"}] = 0;
    now.set[{w.e(w.names.app, w.names.cache), connect("ECONNREFUSED")}] = 180;
    if (t > 0) w.processes.erase(400);
    now.events.push_back(World::log(w.names.app, "redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1. Connection refused.", stream::kError, 200));
  };
}

World::Fault cache_stopped(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) now.events.push_back(World::kernel(w.names.cache, 400, "process.signal", {{"signal", "SIGSTOP"}, {"sender.pid", "77"}, {"sender.comm", "bash"}, {"target.pid", "400"}}));
    now.cache_hung = t + 0.9;
    now.set[{w.s(w.names.cache), "process.stopped"}] = 1;
    now.set[{"process:400", "process.stopped"}] = 1;
    now.set[{w.s(w.names.cache), "cpu.time"}] = 0;
  };
}

World::Fault disk_full(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) w.processes[8000] = {"dump", "dd"};
    if (t < 3) now.set[{"process:8000", "disk.write.bytes"}] = 300e6;
    now.set[{"mount:/var", "filesystem.used.ratio"}] = t < 1 ? 0.8 : 1.0;
    if (t < 1) return;
    now.app_errors = 0.5;
    now.set[{w.s(w.names.db), errors("ENOSPC", "pwrite64")}] = 60;
    now.events.push_back(World::log(w.names.db, fmt::format("ERROR:  could not extend file \"base/16384/{}\": No space left on device", 16385 + t), stream::kError, 305));
    now.events.push_back(World::log(w.names.app, "psycopg2.errors.DiskFull: could not extend file: No space left on device", stream::kError, 200));
  };
}

World::Fault slow_disk(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) w.processes[8100] = {"backup", "dd"};
    now.db_time = 0.12, now.rate = 90, now.tail = 2;
    now.set[{w.s(w.names.db), "fsync.mean"}] = 0.11;
    now.set[{w.s(w.names.db), "fsync.max"}] = 0.4;
    now.set[{w.s(w.names.db), "disk.wait"}] = 3.0;
    now.set[{w.s(w.names.db), "cpu.blocked"}] = 3.0;
    now.set[{"device:vda", "disk.latency.mean"}] = 0.06;
    now.set[{"device:vda", "disk.latency.p99"}] = 0.3;
    now.set[{"device:vda", "disk.busy"}] = 1.0;
    now.set[{w.s("backup"), "disk.write.bytes"}] = 180e6;
    now.set[{"process:8100", "disk.write.bytes"}] = 180e6;
    now.set[{w.s("backup"), "fsync.rate"}] = 40;
  };
}

World::Fault app_oom(World&) {
  return [](World& w, Second& now, int t) {
    now.set[{w.s(w.names.app), "memory.limit.ratio"}] = std::min(1.0, 0.5 + 0.2 * t);
    now.set[{w.s(w.names.app), "memory.rss"}] = 60e6 + 60e6 * t;
    if (t < 3) return;
    if (t % 6 == 3) {
      const std::int64_t pid = t == 3 ? 200 : 200 + 10 * (t / 6);
      now.events.push_back(World::kernel(w.names.app, pid, "process.oom_kill", {{"memory.limit", "268435456"}, {"victim.comm", w.names.app_command}}));
      now.events.push_back(World::kernel(w.names.app, pid, "process.exit", {{"exit.code", "0"}, {"exit.signal", "9"}}));
      now.set[{w.s(w.names.app), "process.count"}] = 0;
      w.processes.erase(pid);
    }
    if (t % 6 == 4) {
      w.processes[200 + 10 * (t / 6 + 1)] = {w.names.app, w.names.app_command};
      now.events.push_back(World::change(w.names.app, "service.restart", {{"process.pid", std::to_string(200 + 10 * (t / 6 + 1))}}));
      now.set[{w.s(w.names.app), "process.starts"}] = 1;
    }
    if (t % 6 == 3 || t % 6 == 4) {
      now.front_errors = 0.9;
      now.set[{w.s(w.names.app), "request.rate"}] = 0;
      now.set[{w.e(w.names.front, w.names.app), connect("ECONNREFUSED")}] = 150;
      now.set[{w.e(w.names.front, w.names.app), "client.rate"}] = 5;
    }
  };
}

World::Fault fd_leak(World&) {
  return [](World& w, Second& now, int t) {
    const double fds = std::min(1024.0, 20.0 + 250 * t);
    now.set[{"process:200", "process.fds"}] = fds;
    now.set[{"process:200", "process.fds.ratio"}] = fds / 1024;
    now.set[{w.s(w.names.app), "process.fds.ratio"}] = fds / 1024;
    if (fds < 1024) return;
    now.app_errors = 0.7;
    now.set[{w.s(w.names.app), errors("EMFILE", "socket")}] = 130;
    now.set[{w.e(w.names.app, w.names.db), "client.rate"}] = 60;
    now.set[{w.e(w.names.app, w.names.cache), "client.rate"}] = 60;
    now.events.push_back(World::log(w.names.app, "OSError: [Errno 24] Too many open files", stream::kError, 200));
  };
}

World::Fault bad_release(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) {
      now.events.push_back(World::kernel(w.names.app, 200, "process.signal", {{"signal", "SIGTERM"}, {"sender.pid", "77"}, {"sender.comm", "deploy"}, {"target.pid", "200"}}));
      now.events.push_back(World::kernel(w.names.app, 200, "process.exit", {{"exit.code", "0"}, {"exit.signal", "SIGTERM"}}));
      w.processes.erase(200);
      w.processes[900] = {w.names.app, w.names.app_command};
      now.events.push_back(World::kernel(w.names.app, 900, "process.exec"));
      now.events.push_back(World::change(w.names.app, "service.version", {{"old", "/srv/app/v1.py"}, {"new", "/srv/app/v2.py"}, {"process.pid", "900"}}));
    }
    if (t < 2) {  // nobody listens while it starts
      now.front_errors = 0.5;
      now.set[{w.e(w.names.front, w.names.app), connect("ECONNREFUSED")}] = 60;
    }
    now.app_self = 0.18;
    now.rate = 60;
  };
}

World::Fault wrong_address(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) {
      now.events.push_back(World::kernel(w.names.front, 100, "process.exit", {{"exit.code", "0"}, {"exit.signal", "SIGTERM"}}));
      w.processes.erase(100);
      w.processes[910] = {w.names.front, w.names.front_command};
      now.events.push_back(World::change(w.names.front, "service.restart", {{"process.pid", "910"}}));
    }
    now.front_errors = 1;
    for (const auto* name : {"client.rate", "client.wait.share", "client.inflight"}) now.set[{w.e(w.names.front, w.names.app), name}] = 0;
    for (const auto& from : {w.names.db, w.names.cache}) now.set[{w.e(w.names.app, from), "client.rate"}] = 0;
    now.set[{w.s(w.names.app), "request.rate"}] = 0;
    now.set[{w.e(w.names.front, "127.0.0.1:1"), connect("ECONNREFUSED")}] = 180;
    now.set[{w.e(w.names.front, "127.0.0.1:1"), "client.rate"}] = 0;
  };
}

World::Fault held_back(World&) {
  return [](World& w, Second& now, int) {
    now.app_self = 0.3, now.cache_time = 0.03, now.db_time = 0.02, now.rate = 100;
    now.set[{w.s(w.names.app), "cpu.run_queue.wait"}] = 8;
    now.set[{w.s(w.names.app), "cpu.run_queue.mean"}] = 0.009;
    now.set[{w.s(w.names.app), "cpu.time"}] = 0.2;
    now.set[{"host", "cpu.run_queue.wait"}] = 8.3;
  };
}

World::Fault slow_queries(World&) {
  return [](World& w, Second& now, int) {
    now.db_time = 0.09;
    now.rate = 100;
    now.set[{w.s(w.names.db), "cpu.time"}] = 0.9;
  };
}

World::Fault more_queries(World&) {
  return [](World& w, Second& now, int t) {
    if (t == 0) now.events.push_back(World::change(w.names.app, "service.version", {{"old", "v1"}, {"new", "v2"}, {"process.pid", "200"}}));
    now.db_calls = 40;
    now.set[{w.s(w.names.db), "cpu.time"}] = 0.6;
  };
}

World::Fault worker_crash(World&) {
  return [](World& w, Second& now, int t) {
    if (t % 3 != 0) return;
    now.events.push_back(World::kernel(w.names.front, 101 + t, "process.exit", {{"exit.code", "0"}, {"exit.signal", "SIGSEGV"}, {"process.command", w.names.front_command}}));
    now.front_errors = 0.1;
    now.set[{w.s(w.names.front), "process.crashes"}] = 1;
    now.set[{w.s(w.names.front), "process.starts"}] = 1;
  };
}

World::Fault retransmits(World&) {
  return [](World& w, Second& now, int) {
    now.db_time = 0.25, now.rate = 60, now.tail = 1.5;
    now.set[{w.e(w.names.app, w.names.db), "tcp.retransmits"}] = 45;
    now.set[{w.e(w.names.app, w.names.db), "tcp.rtt"}] = 0.12;
  };
}

World::Fault surge(World&) {
  return [](World& w, Second& now, int) {
    now.rate = 700;
    now.app_self = 0.02, now.db_time = 0.01, now.cache_time = 0.003, now.front_self = 0.004, now.tail = 2;
    for (const auto& service : {w.names.front, w.names.app, w.names.db, w.names.cache}) {
      now.set[{w.s(service), "cpu.run_queue.wait"}] = 0.4;
      now.set[{w.s(service), "cpu.run_queue.mean"}] = 0.004;
    }
    now.set[{"host", "cpu.run_queue.wait"}] = 2.0;
  };
}

}  // namespace culprit::test::faults
