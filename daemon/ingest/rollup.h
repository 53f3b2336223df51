// Rollup: spans and access log lines of other tools, second by second, as the same samples that the kernel's view gives
// (request.rate, request.duration.p99, client.errors, ...), so that detection and explanation need no second way to see a service.
//
// A span counts in the second in which it ended. Exporters send in batches, so a second is told kDelayNs after it is over;
// what comes later than that is counted as late and only stored. A service's server and consumer spans are its requests;
// client and producer spans are its calls, whose callee is the service of the server span that names them as parent, else the
// peer they name. Access log lines count for services that sent no spans lately. Seconds of a service whose requests the
// kernel sees are not told twice. Bounded by the constants below. Threads: one owner (stream).
#pragma once

#include <functional>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "daemon/ingest/record.h"

namespace culprit::ingest {

struct RollupStats {
  std::uint64_t counted = 0;  // spans and lines that went into samples
  std::uint64_t late = 0;     // too late for their second
  std::uint64_t refused = 0;  // of a service, operation or edge beyond the limits
  std::uint64_t samples = 0;
};

class Rollup {
 public:
  static constexpr std::int64_t kDelayNs = 10 * kNsPerSecond;
  static constexpr std::size_t kServicesMax = 512;
  static constexpr std::size_t kOperationsMax = 64;      // of a service in one second
  static constexpr std::size_t kEdgesMax = 2048;         // in one second
  static constexpr std::size_t kDurationsMax = 4096;     // kept one by one for the quantiles of a second
  static constexpr std::size_t kCallsMax = 20'000;       // of one second, whose callee is looked for
  static constexpr std::size_t kParentsMax = 100'000;    // spans remembered to find callees

  void add(const stream::Event& event, std::int64_t now_ns);
  // Tells the seconds that are over. `kernel_sees` answers whether the kernel's view tells requests of that service.
  void tick(std::int64_t now_ns, const std::function<bool(std::string_view service)>& kernel_sees, std::vector<stream::Event>& out);

  std::vector<std::string> services() const;  // seen in the last hour
  RollupStats stats() const { return stats_; }

 private:
  struct Window {
    std::uint64_t count = 0, errors = 0, timed = 0;
    double sum_s = 0, self_s = 0;
    std::vector<float> durations;
    void add(double seconds, bool error, bool has_time);
  };
  struct Request {
    std::string service;
    std::uint64_t work = 0;  // key of the calls made within it
    double seconds = 0;
  };
  struct Call {
    std::string service, peer;
    std::uint64_t span_id = 0;
    double seconds = 0;
    bool error = false, has_time = true;
  };
  struct Second {
    std::map<std::string, Window> services;
    std::map<std::string, Window> endpoints;
    std::vector<Request> requests;
    std::vector<Call> calls;
  };
  // The last kParentsMax entries at least, and at most twice as many.
  template <typename Value>
  struct Recent {
    std::unordered_map<std::uint64_t, Value> young, old;
    Value& at(std::uint64_t key) {
      if (const auto found = young.find(key); found != young.end()) return found->second;
      if (young.size() >= kParentsMax) {
        old = std::move(young);
        young.clear();
      }
      const auto before = old.find(key);
      return young.emplace(key, before == old.end() ? Value() : before->second).first->second;
    }
    const Value* find(std::uint64_t key) const {
      if (const auto found = young.find(key); found != young.end()) return &found->second;
      const auto found = old.find(key);
      return found == old.end() ? nullptr : &found->second;
    }
  };
  struct Known {
    std::int64_t span_ns = 0, seen_ns = 0;
  };

  Second* second_of(std::int64_t time_ns);
  Known* known(std::string_view service, std::int64_t now_ns);
  void add_request(Second& second, std::string_view service, std::string_view operation, double seconds, bool error, bool has_time);
  void tell(std::int64_t second_ns, Second& second, const std::function<bool(std::string_view)>& kernel_sees, std::vector<stream::Event>& out);

  std::map<std::int64_t, Second> seconds_;  // by the end of the second
  std::int64_t told_ns_ = 0;
  std::map<std::string, Known, std::less<>> known_;
  Recent<std::string> server_of_;  // a call's span id -> the service that answered it
  Recent<double> called_s_;        // (trace, service) -> time in calls
  std::set<std::string> last_told_;  // services whose rate was not zero: they get a zero once
  RollupStats stats_;
};

}  // namespace culprit::ingest
