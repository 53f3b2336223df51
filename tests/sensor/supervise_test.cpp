// The supervisor with a worker of the test's and a made-up sensor (a shell script): who ends with whom.
#include "daemon/sensor/supervise.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "daemon/base/log.h"
#include "daemon/sensor/protocol.h"

namespace culprit::sensor {
namespace {

constexpr int kPatienceMs = 10'000;

// What a worker reports to the test over a pipe.
struct Report {
  pid_t worker = 0;
  pid_t sensor = 0;  // 0: this is the worker's start
  int restarts = 0;
};

class SuperviseTest : public testing::Test {
 protected:
  void SetUp() override {
    script_ = std::filesystem::temp_directory_path() / ("culprit-sensor-" + std::to_string(getpid()));
    // Like the real one it ends with its socket, which is descriptor 3.
    std::ofstream(script_) << "#!/bin/sh\nexec cat <&3 >/dev/null\n";
    chmod(script_.c_str(), 0755);
    ASSERT_EQ(pipe(pipe_), 0);
  }
  void TearDown() override {
    if (supervisor_ > 0) {
      kill(supervisor_, SIGKILL);
      waitpid(supervisor_, nullptr, 0);
    }
    std::filesystem::remove(script_);
  }
  // The worker reports itself and every sensor it is handed, and ends as `on_term` says.
  void start(int exit_status, std::chrono::milliseconds backoff = std::chrono::milliseconds(20)) {
    supervisor_ = fork();
    if (supervisor_ != 0) {
      close(pipe_[1]);
      return;
    }
    log::set_level(log::Level::Error);
    close(pipe_[0]);
    SuperviseOptions options;
    options.sensor_path = script_;
    options.backoff_first = backoff;
    auto role = supervise(options);
    if (!role) _exit(90);
    if (!role->worker) _exit(role->exit_status);
    static int status;
    status = exit_status;
    signal(SIGTERM, [](int) { _exit(status); });
    Report report{getpid(), 0, role->restarts};
    (void)!write(pipe_[1], &report, sizeof(report));
    std::vector<Fd> sockets;
    while (true) {
      pollfd wait{role->control.get(), POLLIN, 0};
      poll(&wait, 1, -1);
      auto message = receive_message(role->control.get());
      if (!message) _exit(91);
      report.sensor = static_cast<pid_t>(message->header.id);
      for (Fd& fd : message->fds) sockets.push_back(std::move(fd));
      (void)!write(pipe_[1], &report, sizeof(report));
    }
  }
  Report next() {
    pollfd wait{pipe_[0], POLLIN, 0};
    Report report;
    if (poll(&wait, 1, kPatienceMs) != 1 || read(pipe_[0], &report, sizeof(report)) != sizeof(report)) {
      ADD_FAILURE() << "no report";
    }
    return report;
  }
  static bool gone(pid_t pid) {
    for (int i = 0; i < kPatienceMs / 10; ++i) {
      std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
      std::string number, name, state;
      if (!(file >> number >> name >> state) || state == "Z") return true;
      usleep(10'000);
    }
    return false;
  }
  std::filesystem::path script_;
  int pipe_[2] = {-1, -1};
  pid_t supervisor_ = -1;
};

TEST_F(SuperviseTest, AnEndedSensorIsReplaced) {
  start(0);
  const Report worker = next();
  const Report first = next();
  ASSERT_GT(first.sensor, 0);
  kill(first.sensor, SIGKILL);
  const Report second = next();
  EXPECT_EQ(second.worker, worker.worker) << "the worker goes on";
  EXPECT_NE(second.sensor, first.sensor);
}

TEST_F(SuperviseTest, AKilledWorkerIsStartedAgainWithANewSensor) {
  start(0);
  const Report first = next();
  const Report sensor = next();
  kill(first.worker, SIGKILL);
  const Report second = next();
  EXPECT_NE(second.worker, first.worker);
  EXPECT_EQ(second.restarts, 1);
  EXPECT_TRUE(gone(sensor.sensor));
  EXPECT_NE(next().sensor, sensor.sensor);
}

// A daemon that fails again and again must not be started without a pause; whoever wants the end does not wait for it.
TEST_F(SuperviseTest, ACrashIsFollowedByThePause) {
  start(0, std::chrono::hours(1));
  const Report worker = next();
  const Report sensor = next();
  kill(worker.worker, SIGKILL);
  EXPECT_TRUE(gone(sensor.sensor));
  pollfd wait{pipe_[0], POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 300), 0) << "no other worker is started";
  kill(supervisor_, SIGTERM);
  int status = 0;
  ASSERT_EQ(waitpid(supervisor_, &status, 0), supervisor_);
  supervisor_ = -1;
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(SuperviseTest, TermEndsAllWithTheWorkersStatus) {
  start(6);
  const Report worker = next();
  const Report sensor = next();
  kill(supervisor_, SIGTERM);
  int status = 0;
  ASSERT_EQ(waitpid(supervisor_, &status, 0), supervisor_);
  supervisor_ = -1;
  EXPECT_EQ(WEXITSTATUS(status), 6);
  EXPECT_TRUE(gone(worker.worker));
  EXPECT_TRUE(gone(sensor.sensor));
}

TEST_F(SuperviseTest, AKilledSupervisorTakesBothWithIt) {
  start(0);
  const Report worker = next();
  const Report sensor = next();
  kill(supervisor_, SIGKILL);
  waitpid(supervisor_, nullptr, 0);
  supervisor_ = -1;
  EXPECT_TRUE(gone(worker.worker));
  EXPECT_TRUE(gone(sensor.sensor));
}

TEST(SpawnTest, AMissingProgramIsNamed) {
  const auto spawned = spawn_sensor("/nonexistent/culprit-sensor", {});
  ASSERT_FALSE(spawned);
  EXPECT_EQ(spawned.error().code, Code::NotFound);
  EXPECT_NE(spawned.error().message.find("/nonexistent/culprit-sensor"), std::string::npos);
}

}  // namespace
}  // namespace culprit::sensor
