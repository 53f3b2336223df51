// ServiceWatch: what is normal for one service, and which symptoms it shows this second.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "daemon/detect/incident.h"
#include "daemon/detect/tracker.h"
#include "daemon/detect/window.h"

namespace culprit::detect {

// What one second said about a service. Samples are written while not zero, so an absent number is 0; an absent
// duration means that no request ended.
struct Second {
  double rate = 0, errors = 0, inflight = 0, age_max = 0;
  std::optional<double> p99, mean;
  double connect_failures = 0;  // towards this service, from callers that had reached it before
  std::string connect_errno;
  std::optional<double> process_count;
  int crashes = 0;              // ended by a signal that nobody sends on purpose, or killed, or out of memory
  int failed_exits = 0;         // status != 0, or a signal
  int main_failed = 0;          // of them, of the main process
  int restarts = 0;             // of the whole service
  std::string crash_text;       // "killed by signal 9"
  std::string alert_text;       // of an alert from outside that fires; empty = none does
  double called = 0;            // calls from other services [1/s]
};

class ServiceWatch {
 public:
  ServiceWatch(std::string name, int warm_up_s, int relearn_after_s)
      : name_(std::move(name)), warm_up_s_(warm_up_s), relearn_after_s_(relearn_after_s) {}

  void step(std::int64_t second_ns, const Second& now);

  // It has answered requests or calls, so that its trouble is somebody's trouble.
  bool serves() const { return serves_; }
  bool has_requests() const { return load_s_ > 0; }
  bool learned() const { return load_s_ >= warm_up_s_; }
  int load_s() const { return load_s_; }
  bool symptomatic() const;
  bool strongly(std::int64_t second_ns) const;  // something deviates strongly in this very second
  std::vector<Symptom> symptoms() const;  // the active ones
  std::int64_t last_seen_ns() const { return last_seen_ns_; }

 private:
  enum Series : std::size_t { kP99, kMean, kErrors, kRate, kAge, kConnect, kCrash, kRestart, kAlert, kSeriesCount };

  void judge_latency(std::int64_t second_ns, Series series, std::optional<double> value, bool waiting);
  void judge_errors(std::int64_t second_ns, const Second& now);
  void judge_demand(std::int64_t second_ns, const Second& now);
  void judge_life(std::int64_t second_ns, const Second& now);
  void judge_alert(std::int64_t second_ns, const Second& now);
  void learn(std::int64_t second_ns, const Second& now);
  Symptom describe(Series series) const;

  std::string name_;
  int warm_up_s_, relearn_after_s_;
  bool serves_ = false;
  int load_s_ = 0;
  std::int64_t last_seen_ns_ = 0, last_load_ns_ = 0, frozen_since_ns_ = 0;
  std::int64_t failed_exit_ns_ = 0;
  double process_count_ = 0;
  std::deque<std::int64_t> restarts_;  // at most kRestartsMax
  std::string connect_errno_, crash_text_, alert_text_;
  std::array<Window, 5> windows_;      // of kP99 ... kAge
  Window inflight_;
  std::array<Tracker, kSeriesCount> trackers_;
};

}  // namespace culprit::detect
