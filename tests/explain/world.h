// A made-up host for tests: front -> app -> {db, cache}, one second at a time, with noise from a seed. A fault is a
// function that changes the numbers of a second or adds events; what follows from them (latencies upstream, waits,
// requests in flight) is derived here, so that a fault says only what it does.
#pragma once

#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "daemon/detect/detector.h"
#include "daemon/explain/explain.h"
#include "daemon/explain/memory_store.h"
#include "daemon/stream/event.h"

namespace culprit::test {

struct Names {
  std::string front = "nginx", app = "shop", db = "postgres", cache = "redis";
  std::string front_command = "nginx", app_command = "python3", db_command = "postgres", cache_command = "redis-server";
};

// The causes of a second's numbers.
struct Second {
  double rate = 200;                  // offered [1/s]
  double front_self = 0.0002, app_self = 0.0015, db_time = 0.0015, cache_time = 0.0003;  // [s]
  double db_calls = 1;                // a request
  double app_errors = 0;              // share of requests that app answers with 500
  double front_errors = 0;            // share that front answers with 502 by itself
  double app_hung = 0, db_hung = 0, cache_hung = 0;  // seconds since it answers nobody; 0 = it answers
  double tail = 1;                    // factor on p99
  std::map<std::pair<std::string, std::string>, double> set;  // (entity, series) -> value, over what is derived
  std::vector<stream::Event> events;  // more events; time_ns is added to the second's start
};

class World {
 public:
  using Fault = std::function<void(World&, Second&, int)>;  // third: seconds since its start

  explicit World(unsigned seed = 1, Names services = {}) : names(std::move(services)), random_(seed) {}

  // Runs seconds of healthy load, or with a fault. What the detector says lands in `updates`.
  void run(int seconds, const Fault& fault = nullptr);
  // Runs the fault until the incident has been open for `more` seconds, at most `limit`; false if none opened.
  bool break_with(const Fault& fault, int more = 4, int limit = 30);

  detect::Incident incident() const;  // the open one, else the last closed; empty if none
  explain::ExplainOptions options() const;
  explain::Explanation explain() const;
  std::int64_t now_ns() const { return now_ns_; }
  int opened() const;  // incidents so far
  double seconds_to_open() const { return seconds_to_open_; }

  // Events for a fault to add.
  static stream::Event kernel(const std::string& service, std::int64_t pid, const std::string& name, stream::Attributes more = {});
  static stream::Event change(const std::string& service, const std::string& name, stream::Attributes more = {});
  static stream::Event log(const std::string& service, const std::string& text, stream::Severity severity, std::int64_t pid = 0);
  std::string s(const std::string& service) const { return "service:" + service; }
  std::string e(const std::string& a, const std::string& b) const { return "edge:" + a + "->" + b; }

  Names names;
  // Series and kinds that this host does not see (by name prefix), and services whose log is not read.
  std::vector<std::string> blind;
  bool no_logs = false, no_kernel = false;
  bool keep = true;  // store events; detection alone does not need them
  double noise = 0.08;
  explain::MemoryStore store;
  detect::Detector detector;
  std::vector<detect::IncidentUpdate> updates;
  // Processes that live: pid -> (service, command).
  std::map<std::int64_t, std::pair<std::string, std::string>> processes;

 private:
  void second(const Fault& fault, int since);
  std::map<std::pair<std::string, std::string>, double> derive(const Second& second);
  double jitter(double value, double more = 1);

  std::mt19937 random_;
  std::int64_t now_ns_ = 1000 * 1'000'000'000ll;
  std::map<std::pair<std::string, std::string>, bool> was_there_;
  double seconds_to_open_ = -1;
};

}  // namespace culprit::test
