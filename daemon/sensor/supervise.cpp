#include "daemon/sensor/supervise.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "daemon/base/log.h"
#include "daemon/sensor/protocol.h"

namespace culprit::sensor {
namespace {

constexpr int kSensorFd = 3;               // the sensor finds its socket here
constexpr std::chrono::seconds kStopWait{10};  // for a worker to end after SIGTERM

struct Pair {
  Fd ours;
  Fd theirs;
};

Result<Pair> make_pair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return fail_errno(errno, "socketpair");
  return Pair{Fd(fds[0]), Fd(fds[1])};
}

std::vector<std::string> sensor_arguments(const std::string& path, const SensorSettings& s,
                                          std::span<const pid_t> ignored) {
  std::vector<std::string> words = {path, "--fd", std::to_string(kSensorFd)};
  const auto add = [&](const char* name, std::uint32_t value) {
    words.emplace_back(name);
    words.push_back(std::to_string(value));
  };
  add("--payload-budget", s.payload_records_per_cpu);
  add("--slow-ms", s.slow_ms);
  add("--calls-percent", s.calls_percent);
  add("--control-ring-bytes", s.control_ring_bytes);
  add("--data-ring-bytes", s.data_ring_bytes);
  add("--rings-max", s.rings_max);
  add("--snapshot-ms", s.snapshot_ms);
  for (const pid_t pid : ignored) add("--ignore", static_cast<std::uint32_t>(pid));
  if (s.watch_all_payload) words.emplace_back("--watch-all-payload");
  if (s.watch_all_logs) words.emplace_back("--watch-all-logs");
  return words;
}

void reset_signals() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE}) signal(number, SIG_DFL);
}

// Ties the calling child to its parent's life. False: the parent is already gone.
bool die_with(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  return getppid() == parent;
}

// What the supervisor does with one worker and the sensors beside it.
class Supervisor {
 public:
  explicit Supervisor(const SuperviseOptions& options) : options_(options) {}

  // Returns Role{worker = true} in the worker, the exit status in the supervisor.
  Result<Role> run();

 private:
  Result<pid_t> start_worker();
  void start_sensor();
  void reap(pid_t& crashed_worker, int& status, bool& ended);
  std::chrono::milliseconds next_backoff();
  void stop_all();
  int wait_ms() const;

  using Clock = std::chrono::steady_clock;
  SuperviseOptions options_;
  Fd signals_;
  Fd control_;          // to the worker
  Fd worker_control_;   // in the child, what start_worker() leaves for the worker
  pid_t worker_ = -1;
  pid_t sensor_ = -1;
  int restarts_ = 0;
  bool stopping_ = false;
  std::chrono::milliseconds backoff_{0};
  Clock::time_point started_{};
  Clock::time_point sensor_due_{};
  Clock::time_point kill_due_{};
};

Result<pid_t> Supervisor::start_worker() {
  ASSIGN(Pair pair, make_pair());
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return fail_errno(errno, "fork the worker");
  if (pid == 0) {
    reset_signals();
    if (!die_with(parent)) _exit(1);
    signals_.reset();
    control_.reset();
    worker_control_ = std::move(pair.theirs);
    return 0;
  }
  worker_ = pid;
  control_ = std::move(pair.ours);
  started_ = Clock::now();
  return pid;
}

void Supervisor::start_sensor() {
  const pid_t ours[] = {getpid(), worker_};
  auto sensor = spawn_sensor(options_.sensor_path, options_.settings, ours);
  if (!sensor) {
    log::error("cannot start the sensor, trying again in {} ms: {}", options_.backoff_max.count(),
               sensor.error().message);
    sensor_due_ = Clock::now() + options_.backoff_max;
    return;
  }
  sensor_ = sensor->pid;
  started_ = Clock::now();
  const int fds[] = {sensor->socket.get()};
  MessageHeader header;
  header.type = static_cast<std::uint16_t>(MessageType::Ready);
  header.id = static_cast<std::uint32_t>(sensor->pid);
  // A worker that does not read will be found dead by waitpid; the sensor then ends with its socket.
  if (auto sent = send_message(control_.get(), header, {}, fds); !sent) {
    log::warn("cannot hand the sensor to the daemon: {}", sent.error().message);
  }
}

std::chrono::milliseconds Supervisor::next_backoff() {
  if (Clock::now() - started_ > 4 * options_.backoff_max) backoff_ = std::chrono::milliseconds(0);
  backoff_ = backoff_.count() == 0 ? options_.backoff_first : std::min(backoff_ * 2, options_.backoff_max);
  return backoff_;
}

void Supervisor::reap(pid_t& crashed_worker, int& status, bool& ended) {
  int how = 0;
  pid_t pid = 0;
  while ((pid = waitpid(-1, &how, WNOHANG)) > 0) {
    if (pid == sensor_) {
      sensor_ = -1;
      if (!stopping_) {
        const auto wait = next_backoff();
        log::warn("the sensor ended ({} {}), starting another in {} ms", WIFSIGNALED(how) ? "signal" : "status",
                  WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how), wait.count());
        sensor_due_ = Clock::now() + wait;
      }
    } else if (pid == worker_) {
      worker_ = -1;
      control_.reset();
      if (WIFSIGNALED(how) && !stopping_) {
        crashed_worker = pid;
        status = WTERMSIG(how);
      } else {
        ended = true;
        status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
      }
    }
  }
}

// The sensor ends by itself when the worker's end of its socket closes; this is for one that does not.
void Supervisor::stop_all() {
  for (int i = 0; i < 200 && sensor_ > 0; ++i) {
    if (i == 100) kill(sensor_, SIGKILL);
    if (waitpid(sensor_, nullptr, WNOHANG) == sensor_) sensor_ = -1;
    if (sensor_ > 0) poll(nullptr, 0, 20);
  }
}

int Supervisor::wait_ms() const {
  const auto due = stopping_ ? kill_due_ : sensor_due_;
  if (!stopping_ && sensor_ > 0) return -1;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(due - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000)) + 1;
}

Result<Role> Supervisor::run() {
  sigset_t mask;
  sigemptyset(&mask);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&mask, number);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  signals_ = Fd(signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail_errno(errno, "signalfd");
  while (true) {
    ASSIGN(const pid_t pid, start_worker());
    if (pid == 0) return Role{true, std::move(worker_control_), restarts_, 0};
    start_sensor();
    pid_t crashed = 0;
    int status = 0;
    bool ended = false;
    while (crashed == 0 && !ended) {
      pollfd wait = {signals_.get(), POLLIN, 0};
      poll(&wait, 1, wait_ms());
      signalfd_siginfo info{};
      while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
        const int number = static_cast<int>(info.ssi_signo);
        if (number == SIGCHLD || worker_ <= 0) continue;
        if (number == SIGHUP) {
          kill(worker_, SIGHUP);
          continue;
        }
        kill(worker_, stopping_ ? SIGKILL : SIGTERM);  // asked twice: no more patience
        if (!stopping_) kill_due_ = Clock::now() + kStopWait;
        stopping_ = true;
      }
      reap(crashed, status, ended);
      if (crashed != 0 || ended) break;
      if (stopping_ && Clock::now() >= kill_due_ && worker_ > 0) {
        log::error("the daemon did not end in {} s, killing it", kStopWait.count());
        kill(worker_, SIGKILL);
        kill_due_ = Clock::now() + kStopWait;
      }
      if (!stopping_ && sensor_ < 0 && Clock::now() >= sensor_due_) start_sensor();
    }
    stop_all();
    if (ended) return Role{false, Fd(), restarts_, status};
    ++restarts_;
    const auto wait = next_backoff();
    log::error("the daemon was ended by signal {}, starting it again in {} ms", status, wait.count());
    // The end of the sensor, which stop_all() has seen, is told here as well: that must not cut the wait short.
    for (const auto due = Clock::now() + wait; Clock::now() < due;) {
      pollfd asked = {signals_.get(), POLLIN, 0};
      poll(&asked, 1, static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(due - Clock::now()).count()) + 1);
      signalfd_siginfo info{};
      while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGHUP) return Role{false, Fd(), restarts_, 0};
      }
    }
  }
}

}  // namespace

std::string default_sensor_path() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "culprit-sensor";
  // In a build folder the programs lie side by side; installed, the sensor is no command for people.
  const auto installed = self.parent_path().parent_path() / "libexec/culprit/culprit-sensor";
  const auto beside = self.parent_path() / "culprit-sensor";
  return (!std::filesystem::exists(beside, error) && std::filesystem::exists(installed, error) ? installed : beside).string();
}

Result<SensorProcess> spawn_sensor(const std::string& path, const SensorSettings& settings,
                                   std::span<const pid_t> ignored) {
  if (access(path.c_str(), X_OK) != 0) return fail_errno(errno, "sensor '" + path + "'");
  ASSIGN(Pair pair, make_pair());
  std::vector<std::string> words = sensor_arguments(path, settings, ignored);
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return fail_errno(errno, "fork the sensor");
  if (pid == 0) {
    // Only calls that are safe after fork. The sensor must not hear the terminal's Ctrl-C before the daemon has
    // ended, so it gets its own process group.
    reset_signals();
    setpgid(0, 0);
    if (!die_with(parent)) _exit(1);
    if (pair.theirs.get() == kSensorFd) {
      fcntl(kSensorFd, F_SETFD, 0);
    } else {
      dup2(pair.theirs.get(), kSensorFd);
    }
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  return SensorProcess{pid, std::move(pair.ours)};
}

Result<Role> supervise(const SuperviseOptions& options) {
  SuperviseOptions filled = options;
  if (filled.sensor_path.empty()) filled.sensor_path = default_sensor_path();
  return Supervisor(filled).run();
}

}  // namespace culprit::sensor
