#include "tests/bpf/live.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace culprit::test {

std::optional<std::string> no_bpf() {
  if (geteuid() != 0) return "BPF tests need root";
  if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) return "this kernel has no BTF (/sys/kernel/btf/vmlinux)";
  if (access(CULPRIT_SENSOR, X_OK) != 0) return "build culprit-sensor first";
  return std::nullopt;
}

std::unique_ptr<Live> Live::start(const sensor::SensorSettings& settings) {
  std::unique_ptr<Live> live(new Live());
  sensor::SensorSettings quick = settings;
  if (quick.snapshot_ms == 1000) quick.snapshot_ms = 200;
  if (quick.calls_percent == sensor::SensorSettings{}.calls_percent) quick.calls_percent = 100;  // a sample would prove nothing
  // The sensor denies itself ptrace, which a leak check at its end would need.
  setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
  auto spawned = sensor::spawn_sensor(CULPRIT_SENSOR, quick);
  if (!spawned) {
    ADD_FAILURE() << spawned.error().message;
    return nullptr;
  }
  live->pid_ = spawned->pid;
  collect::SensorHandlers handlers;
  Live* self = live.get();
  handlers.on_hello = [self](sensor::Hello hello, collect::RingFds fds) {
    auto collector = collect::Collector::open(hello.geometry, std::move(fds), self->clock_);
    if (!collector) {
      ADD_FAILURE() << collector.error().message;
      return;
    }
    self->hello_ = std::move(hello);
    self->collector_ = std::move(*collector);
  };
  handlers.on_snapshot = [self](sensor::Snapshot snapshot) {
    for (const auto& sample : snapshot.sched) self->sched_[sample.tgid] = sample;
    self->errors_.insert(self->errors_.end(), snapshot.syscall_errors.begin(), snapshot.syscall_errors.end());
    self->timed_.insert(self->timed_.end(), snapshot.timed_calls.begin(), snapshot.timed_calls.end());
    self->last_ = std::move(snapshot);
    ++self->snapshots_seen_;
  };
  handlers.on_lost = [self](const std::string&) { self->lost_ = true; };
  auto client = collect::SensorClient::open(std::move(spawned->socket), std::move(handlers));
  if (!client) {
    ADD_FAILURE() << client.error().message;
    return nullptr;
  }
  live->client_ = std::move(*client);
  const bool greeted = live->until([self] { return self->client_->counts().sensors > 0; }, milliseconds(30'000));
  if (!greeted || !live->collector_) {
    ADD_FAILURE() << "the sensor said no Hello";
    return nullptr;
  }
  // System calls are observed only once the sensor has attached to them, after its Hello.
  const bool observes = quick.calls_percent >= 100 && std::ranges::any_of(live->hello_.programs, [](const sensor::Program& program) {
    return program.name == "on_sys_enter" && program.state == sensor::ProgramState::Attached;
  });
  if (observes && !live->until([self] { return self->last_.entries_observed_ns > 0; })) {
    ADD_FAILURE() << "no system call is observed";
    return nullptr;
  }
  return live;
}

Live::~Live() {
  client_.reset();  // closes the socket: the sensor ends
  if (pid_ > 0) {
    for (int i = 0; i < 500; ++i) {
      if (waitpid(pid_, nullptr, WNOHANG) != 0) return;
      usleep(20'000);
    }
    ADD_FAILURE() << "the sensor did not end with its socket";
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

bool Live::until(const std::function<bool()>& done, milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!lost_) {
    if (done()) return true;
    if (std::chrono::steady_clock::now() > end) return false;
    if (!client_->dispatch(milliseconds(collector_ ? 1 : 20))) return done();  // the sensor is gone
    if (!collector_) continue;
    auto batch = std::make_unique<collect::RecordBatch>();
    if (auto polled = collector_->poll(milliseconds(2), *batch); polled && *polled > 0) batches_.push_back(std::move(batch));
  }
  return done();
}

void Live::drain() {
  for (int quiet = 0; quiet < 2;) {
    auto batch = std::make_unique<collect::RecordBatch>();
    const auto drained = collector_->drain(*batch);
    if (!drained || *drained == 0) {
      ++quiet;
    } else {
      batches_.push_back(std::move(batch));
    }
  }
}

bool Live::snapshots(std::size_t count) {
  const std::size_t target = snapshots_seen_ + count;
  return until([&] { return snapshots_seen_ >= target; });
}

const sensor::SchedSample* Live::sched(std::uint32_t tgid) const {
  const auto it = sched_.find(tgid);
  return it == sched_.end() ? nullptr : &it->second;
}

std::uint64_t Live::errors(std::uint32_t tgid, int syscall, int error) const {
  std::uint64_t count = 0;
  for (const auto& sample : errors_) {
    if (sample.key.tgid == tgid && sample.key.syscall == syscall && sample.key.error == error) count = sample.counts.count;
  }
  return count;
}

const culprit_latency* Live::timed(std::uint32_t tgid, culprit_timed_call call) const {
  const culprit_latency* latency = nullptr;
  for (const auto& sample : timed_) {
    if (sample.key.tgid == tgid && sample.key.call == static_cast<std::uint32_t>(call)) latency = &sample.latency;
  }
  return latency;
}

Result<void> Live::watch(pid_t pid, std::uint32_t capture) {
  std::optional<Result<void>> answer;
  client_->watch_tgid(static_cast<std::uint32_t>(pid), capture, [&](Result<void> result) { answer = std::move(result); });
  if (!until([&] { return answer.has_value(); })) return fail(Code::Busy, "no answer");
  return *answer;
}

Child::Child(const std::function<int()>& work) {
  int pipes[2];
  if (pipe(pipes) != 0) abort();
  pid_ = fork();
  if (pid_ == 0) {
    close(pipes[1]);
    char word = 0;
    while (read(pipes[0], &word, 1) < 0) {
    }
    close(pipes[0]);
    _exit(word == 'g' ? work() : 99);
  }
  close(pipes[0]);
  start_ = pipes[1];
}

Child::~Child() {
  if (start_ >= 0) close(start_);
  if (!status_) {
    ::kill(pid_, SIGKILL);
    wait();
  }
}

void Child::go() {
  (void)!write(start_, "g", 1);
  close(start_);
  start_ = -1;
}

int Child::wait() {
  if (!status_) {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    status_ = status;
  }
  return *status_;
}

void Child::kill(int signal) { ::kill(pid_, signal); }

}  // namespace culprit::test
