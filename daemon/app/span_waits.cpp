#include "daemon/app/span_waits.h"

#include <algorithm>

#include "daemon/base/clock.h"

namespace culprit::app {
namespace {

constexpr std::size_t kEntitiesMax = 64;
constexpr std::size_t kSlowMax = 10'000;

double seconds_of(std::int64_t ns) { return static_cast<double>(ns) / kNsPerSecond; }

}  // namespace

SpanWaits split_own_time(std::int64_t start_ns, std::int64_t end_ns, const OwnTime& own, const Seconds& seconds) {
  SpanWaits waits;
  const double self_s = own.self_s;
  waits.run_queue_exact = own.run_queue_s >= 0;
  const double in_calls_s = waits.run_queue_exact ? std::min(own.run_queue_s, own.run_queue_calls_s) : 0;
  waits.network_s = std::max(0.0, seconds_of(end_ns - start_ns) - self_s - in_calls_s);
  const double whole_s = std::max(1e-9, seconds_of(end_ns - start_ns));
  double requests_s = 0;  // own time of all requests of these seconds
  // `before_s`: own time of requests whose waits are in this second's sums, too.
  const auto add = [&](const Seconds::value_type& second, double own_s, double before_s) {
    const auto value = [&](std::string_view series) {
      const auto found = second.second.find(series);
      return found == second.second.end() ? 0.0 : found->second;
    };
    const double here_s = value("request.rate") * value("request.self.mean");
    const double all_s = std::max(own_s, here_s + before_s);
    const double share = all_s > 0 ? own_s / all_s : 0;
    waits.cpu_s += value("cpu.time") * share;
    waits.run_queue_s += value("cpu.run_queue.wait") * share;
    waits.disk_s += value("disk.wait") * share;
    requests_s += here_s;
  };
  auto second = seconds.lower_bound(start_ns);
  for (; second != seconds.end() && second->first - kNsPerSecond < end_ns; ++second) {
    const std::int64_t overlap_ns = std::min(end_ns, second->first) - std::max(start_ns, second->first - kNsPerSecond);
    if (overlap_ns > 0) add(*second, self_s * seconds_of(overlap_ns) / whole_s, 0);
  }
  // No request is answered without a CPU: the sensor read these sums after the second's end, into the next one.
  if (waits.cpu_s == 0 && second != seconds.end() && second->first - 2 * kNsPerSecond < end_ns) add(*second, self_s, requests_s);
  // Together they are no more than the own time; what was timed goes first.
  if (waits.run_queue_exact) waits.run_queue_s = std::min(self_s, own.run_queue_s - in_calls_s);
  const double left_of_s = self_s - (waits.run_queue_exact ? waits.run_queue_s : 0);
  waits.disk_s = std::min(left_of_s, std::max(waits.disk_s, own.slow_s));
  waits.timed_s = std::min(waits.disk_s, own.timed_s);
  const double left_s = left_of_s - waits.disk_s;
  if (waits.run_queue_exact) {
    waits.cpu_s = std::min(waits.cpu_s, left_s);
  } else if (const double others_s = waits.cpu_s + waits.run_queue_s; others_s > left_s) {
    waits.cpu_s *= left_s / others_s;
    waits.run_queue_s *= left_s / others_s;
  }
  waits.lock_s = std::max(0.0, self_s - waits.disk_s - waits.cpu_s - waits.run_queue_s);
  waits.run_queue_s += in_calls_s;
  return waits;
}

Result<SpanWaitsReader> SpanWaitsReader::read(const stream::EventStore& store, std::vector<std::string> entities, std::int64_t from_ns, std::int64_t to_ns, std::int64_t budget_ns) {
  SpanWaitsReader reader;
  if (entities.size() > kEntitiesMax) entities.resize(kEntitiesMax);
  if (entities.empty()) return reader;
  stream::Query query;
  query.kinds = {stream::Kind::Sample};
  query.entities = entities;
  query.names = {"cpu.time", "cpu.run_queue.wait", "disk.wait", "request.rate", "request.self.mean"};
  query.from_ns = from_ns;
  query.to_ns = to_ns + 2 * kNsPerSecond;
  query.budget_ns = budget_ns;
  TRY(store.scan(query, [&](const stream::Event& event) {
    // A summary of a minute is no second.
    reader.seconds_[event.entity][event.time_ns][event.name] = event.value;
    return true;
  }));
  query.kinds = {stream::Kind::Kernel};
  query.names = {"syscall.slow"};
  query.to_ns = to_ns;
  query.limit = kSlowMax;
  TRY(store.scan(query, [&](const stream::Event& event) {
    reader.slow_.push_back({event.start_ns(), event.time_ns, std::string(event.attribute("process.pid")), std::string(event.attribute("thread.id"))});
    return true;
  }));
  return reader;
}

SpanWaits SpanWaitsReader::of(const std::string& entity, std::string_view pid, std::string_view tid, std::int64_t start_ns, std::int64_t end_ns, OwnTime own) const {
  for (const Slow& call : slow_) {
    if (call.pid != pid || call.start_ns < start_ns || call.end_ns > end_ns) continue;
    own.slow_s += seconds_of(call.end_ns - call.start_ns);
    if (!tid.empty() && call.tid == tid) own.timed_s += seconds_of(call.end_ns - call.start_ns);
  }
  static const Seconds kNone;
  const auto found = seconds_.find(entity);
  return split_own_time(start_ns, end_ns, own, found == seconds_.end() ? kNone : found->second);
}

}  // namespace culprit::app
