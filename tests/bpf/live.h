// Live: a sensor of the test's own, with everything it reports, for tests on the real kernel.
//
// The daemon's side is the shipped one: SensorClient and Collector. Needs root; without it a test is skipped, or
// fails where CULPRIT_REQUIRE_BPF=1 says that rights are expected.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "daemon/base/clock.h"
#include "daemon/collect/collector.h"
#include "daemon/collect/sensor_client.h"
#include "daemon/sensor/supervise.h"

namespace culprit::test {

using std::chrono::milliseconds;
inline constexpr milliseconds kPatience{8000};  // far more than anything should take on a busy machine

// Why BPF cannot be used here, or nothing.
std::optional<std::string> no_bpf();

class Live {
 public:
  // Starts the sensor and waits for its Hello. Null with a message on failure.
  static std::unique_ptr<Live> start(const sensor::SensorSettings& settings = {});
  ~Live();

  const sensor::Hello& hello() const { return hello_; }
  collect::SensorClient& client() { return *client_; }
  collect::Collector& collector() { return *collector_; }
  pid_t sensor_pid() const { return pid_; }

  // Turns the loops until `done` says so. Every record of the first event type seen so far is offered to `done`.
  bool until(const std::function<bool()>& done, milliseconds patience = kPatience);
  // The first record of this type for which `match` holds, past or to come; null if none comes.
  template <typename Event>
  const Event* find(const std::function<bool(const Event&)>& match, milliseconds patience = kPatience) {
    const Event* found = nullptr;
    std::size_t batch = 0, index = 0;
    until(
        [&] {
          for (; batch < batches_.size(); ++batch, index = 0) {
            for (; index < batches_[batch]->size(); ++index) {
              const Event* event = collect::as<Event>((*batches_[batch])[index]);
              if (event != nullptr && match(*event)) {
                found = event;
                return true;
              }
            }
          }
          return false;
        },
        patience);
    return found;
  }
  // Every record of this type so far for which `match` holds.
  template <typename Event>
  std::vector<const Event*> all(const std::function<bool(const Event&)>& match) const {
    std::vector<const Event*> events;
    for (const auto& batch : batches_) {
      for (std::size_t i = 0; i < batch->size(); ++i) {
        const Event* event = collect::as<Event>((*batch)[i]);
        if (event != nullptr && match(*event)) events.push_back(event);
      }
    }
    return events;
  }
  // Waits for `count` more snapshots, whose rows are added to merged().
  bool snapshots(std::size_t count);
  const sensor::SchedSample* sched(std::uint32_t tgid) const;
  std::uint64_t errors(std::uint32_t tgid, int syscall, int error) const;
  const culprit_latency* timed(std::uint32_t tgid, culprit_timed_call call) const;
  const sensor::Snapshot& last_snapshot() const { return last_; }
  // Reads all rings empty.
  void drain();
  Result<void> watch(pid_t pid, std::uint32_t capture);

 private:
  Live() = default;
  SystemClock clock_;
  pid_t pid_ = -1;
  std::unique_ptr<collect::SensorClient> client_;
  std::unique_ptr<collect::Collector> collector_;
  sensor::Hello hello_;
  std::vector<std::unique_ptr<collect::RecordBatch>> batches_;
  std::size_t snapshots_seen_ = 0;
  sensor::Snapshot last_;
  std::map<std::uint32_t, sensor::SchedSample> sched_;
  std::vector<sensor::SyscallErrorSample> errors_;
  std::vector<sensor::TimedCallSample> timed_;
  bool lost_ = false;
};

// A child process that waits for go() and then runs `work`; its exit status is what `work` returns.
class Child {
 public:
  explicit Child(const std::function<int()>& work);
  ~Child();
  pid_t pid() const { return pid_; }
  void go();
  int wait();  // status as waitpid gives it
  void kill(int signal);

 private:
  pid_t pid_ = -1;
  int start_ = -1;
  std::optional<int> status_;
};

// Skips, or fails where BPF is required.
#define REQUIRE_BPF()                                                                         \
  do {                                                                                        \
    if (const auto why = ::culprit::test::no_bpf()) {                                         \
      if (const char* must = getenv("CULPRIT_REQUIRE_BPF"); must != nullptr && *must == '1') { \
        FAIL() << "BPF is required here but: " << *why;                                       \
      }                                                                                       \
      GTEST_SKIP() << *why;                                                                   \
    }                                                                                         \
  } while (false)

}  // namespace culprit::test
