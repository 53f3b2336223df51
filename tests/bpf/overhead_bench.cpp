// What the probes add to a system call: the same loop with and without the sensor, in turns, in one run.
//
//   overhead_bench [--json]       one line per workload: nanoseconds a call without and with the probes
//
// The child is tied to one CPU and the best of many short rounds counts, since other work on the machine only ever
// adds time. "watched" rows capture payload or log lines, with a reader that empties the rings as the daemon does.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <optional>
#include <string_view>
#include <thread>

#include "daemon/base/clock.h"
#include "daemon/collect/collector.h"
#include "daemon/collect/sensor_client.h"
#include "daemon/sensor/supervise.h"

namespace {

using namespace culprit;

constexpr int kRoundsPerTurn = 300;  // short ones: a busy machine lets few run undisturbed
constexpr int kTurns = 4;  // without, with, without, ...

struct Workload {
  const char* id;
  const char* text;
  std::uint32_t capture;
  std::uint32_t calls_percent;
  int calls;  // a round
  void (*run)(int fd, int calls);
  int (*open)();
};

int open_null() { return open("/dev/null", O_WRONLY); }

int open_append() {
  const int fd = open("/dev/shm/culprit-bench.log", O_CREAT | O_WRONLY | O_APPEND | O_TRUNC, 0600);
  unlink("/dev/shm/culprit-bench.log");
  return fd;
}

// A connected TCP socket whose peer a thread of the child reads empty.
int open_tcp() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, 1) != 0) return -1;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) return -1;
  const int peer = accept(listener, nullptr, nullptr);
  if (fork() == 0) {  // its reads must not be the watched process's
    static char buffer[1 << 20];
    close(fd);
    while (read(peer, buffer, sizeof(buffer)) > 0) {
    }
    _exit(0);
  }
  close(peer);
  close(listener);
  return fd;
}

void getppid_loop(int, int calls) {
  for (int i = 0; i < calls; ++i) syscall(SYS_getppid);
}
void write_loop(int fd, int calls) {
  static const char line[100] = "2026-11-23T14:02:08Z INFO request handled path=/items/7 status=200 duration_ms=3 user=1234567890";
  for (int i = 0; i < calls; ++i) (void)!write(fd, line, sizeof(line));
}
void http_loop(int fd, int calls) {
  static char response[400] = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 300\r\n\r\n";
  for (int i = 0; i < calls; ++i) (void)!write(fd, response, sizeof(response));
}
void open_loop(int, int calls) {
  for (int i = 0; i < calls; ++i) close(open("/dev/null", O_RDONLY));
}
void enoent_loop(int, int calls) {
  for (int i = 0; i < calls; ++i) (void)open("/nonexistent-culprit", O_RDONLY);
}
// Two context switches a call: the child and its echo take turns on one CPU.
int open_echo() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) return -1;
  if (fork() == 0) {
    close(fds[0]);
    char byte = 0;
    while (read(fds[1], &byte, 1) == 1) (void)!write(fds[1], &byte, 1);
    _exit(0);
  }
  close(fds[1]);
  return fds[0];
}
void echo_loop(int fd, int calls) {
  char byte = 0;
  for (int i = 0; i < calls; ++i) {
    (void)!write(fd, &byte, 1);
    (void)!read(fd, &byte, 1);
  }
}

// The rows of every system call are measured twice: as it is while nothing is wrong, and while the daemon looks closely.
constexpr std::uint32_t kAsUsual = sensor::SensorSettings{}.calls_percent;
constexpr std::uint32_t kClosely = 100;

const Workload kWorkloads[] = {
    {"getppid", "getppid, a call that is not looked at", 0, kAsUsual, 4'000, getppid_loop, open_null},
    {"getppid-closely", "the same while system calls are observed", 0, kClosely, 4'000, getppid_loop, open_null},
    {"write-null-closely", "write of 100 bytes to /dev/null, not watched, while system calls are observed", 0, kClosely, 4'000, write_loop, open_null},
    {"write-null-watched", "the same by a watched process: neither socket nor log", 3, kAsUsual, 4'000, write_loop, open_null},
    {"write-log", "100 bytes appended to a file, not watched", 0, kAsUsual, 1'000, write_loop, open_append},
    {"write-log-watched", "the same, captured", 3, kAsUsual, 1'000, write_loop, open_append},
    {"tcp-write", "400 bytes of HTTP to a TCP socket, not watched", 0, kAsUsual, 300, http_loop, open_tcp},
    {"tcp-write-watched", "the same, captured", 3, kAsUsual, 300, http_loop, open_tcp},
    {"open-close", "open and close of /dev/null", 0, kAsUsual, 2'000, open_loop, open_null},
    {"open-close-closely", "the same while system calls are observed: two calls, one timed", 0, kClosely, 2'000, open_loop, open_null},
    {"open-enoent-closely", "open that fails: timed and counted", 0, kClosely, 2'000, enoent_loop, open_null},
    {"context-switch", "byte to and fro on one CPU: two switches, four calls", 0, kAsUsual, 300, echo_loop, open_echo},
};

// What the child shares with us: it runs one round whenever `go` rises.
struct Shared {
  std::atomic<int> go;
  std::atomic<int> done;
  std::atomic<std::int64_t> ns;
};

struct Runner {
  pid_t pid = -1;
  Shared* shared = nullptr;

  explicit Runner(const Workload& w) {
    shared = static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    new (shared) Shared{};
    pid = fork();
    if (pid != 0) return;
    setpgid(0, 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
    const int fd = w.open();
    for (int round = 1;; ++round) {
      while (shared->go.load() < round) usleep(100);
      const auto start = std::chrono::steady_clock::now();
      w.run(fd, w.calls);
      shared->ns = (std::chrono::steady_clock::now() - start).count();
      if (w.run == write_loop) (void)!ftruncate(fd, 0);
      shared->done = round;
    }
  }
  ~Runner() {
    kill(-pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  double best(int calls) const {
    std::int64_t best = INT64_MAX;
    for (int i = 0; i < kRoundsPerTurn; ++i) {
      const int round = shared->go.fetch_add(1) + 1;
      while (shared->done.load() < round) usleep(200);
      best = std::min(best, shared->ns.load());
    }
    return static_cast<double>(best) / calls;
  }
};

// A sensor with the daemon's reading side.
class Sensor {
 public:
  bool start(pid_t watched, std::uint32_t capture, std::uint32_t calls_percent) {
    sensor::SensorSettings settings;
    settings.calls_percent = calls_percent;
    settings.payload_records_per_cpu = 100'000'000;  // the cost of a record, not of a dropped one
    auto process = sensor::spawn_sensor(CULPRIT_SENSOR, settings);
    if (!process) return false;
    pid_ = process->pid;
    collect::SensorHandlers handlers;
    handlers.on_hello = [this](sensor::Hello hello, collect::RingFds fds) {
      if (auto opened = collect::Collector::open(hello.geometry, std::move(fds), clock_)) collector_ = std::move(*opened);
    };
    auto client = collect::SensorClient::open(std::move(process->socket), std::move(handlers));
    if (!client) return false;
    client_ = std::move(*client);
    while (!collector_ && client_->dispatch(std::chrono::milliseconds(100))) {
    }
    bool watching = capture == 0;
    if (!watching) {
      client_->watch_tgid(static_cast<std::uint32_t>(watched), capture, [&](Result<void> r) { watching = r.has_value(); });
      for (int i = 0; i < 100 && !watching; ++i) (void)client_->dispatch(std::chrono::milliseconds(50));
    }
    reader_ = std::jthread([this](const std::stop_token& stop) {
      collect::RecordBatch batch;
      while (!stop.stop_requested()) {
        (void)collector_->poll(std::chrono::milliseconds(4), batch);
        (void)client_->dispatch(std::chrono::milliseconds(0));
      }
    });
    return watching;
  }
  ~Sensor() {
    if (reader_.joinable()) {
      reader_.request_stop();
      reader_.join();
    }
    client_.reset();
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }
  collect::CollectorCounts counts() const { return collector_->counts(); }

 private:
  SystemClock clock_;
  pid_t pid_ = -1;
  std::unique_ptr<collect::SensorClient> client_;
  std::unique_ptr<collect::Collector> collector_;
  std::jthread reader_;
};

}  // namespace

int main(int argc, char** argv) {
  bool json = false;
  std::string_view only;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--json") {
      json = true;
    } else {
      only = argv[i];
    }
  }
  if (geteuid() != 0) {
    std::fprintf(stderr, "overhead_bench: needs root for the probes; run it with sudo\n");
    return 5;
  }
  if (!json) std::printf("%-20s %10s %10s %10s   ns a call\n", "workload", "without", "with", "added");
  bool good = true;
  for (const Workload& w : kWorkloads) {
    if (!only.empty() && only != w.id) continue;
    const Runner runner(w);
    double without = 1e18, with = 1e18;
    for (int turn = 0; turn < kTurns; ++turn) {
      if (turn % 2 == 0) {
        without = std::min(without, runner.best(w.calls));
        continue;
      }
      Sensor sensor;
      if (!sensor.start(runner.pid, w.capture, w.calls_percent)) {
        std::fprintf(stderr, "overhead_bench: the sensor did not start\n");
        return 7;
      }
      with = std::min(with, runner.best(w.calls));
    }
    const double added = with - without;
    const double budget = w.calls_percent != kClosely && w.capture == 0 ? 20 : w.run == getppid_loop || w.run == write_loop ? 200 : 600;
    good = good && added < budget;
    if (json) {
      std::printf("{\"id\":\"bpf.%s\",\"workload\":\"%s\",\"ours\":%.1f,\"opponent\":%.1f,\"ratio\":%.3f,\"unit\":\"ns\","
                  "\"asked\":\"adds < %.0f ns\",\"ok\":%s}\n",
                  w.id, w.text, with, without, with / without, budget, added < budget ? "true" : "false");
    } else {
      std::printf("%-20s %10.1f %10.1f %10.1f   %s\n", w.id, without, with, added, w.text);
    }
    std::fflush(stdout);
  }
  return good ? 0 : 1;
}
