#include "daemon/detect/examine.h"

#include <algorithm>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/detect/detector.h"

namespace culprit::detect {

namespace {
constexpr std::int64_t kLearnNs = 300 * kNsPerSecond;
}

Result<Incident> examine(const stream::EventStore& store, std::string_view service, std::int64_t from_ns,
                         std::int64_t to_ns) {
  Detector detector;
  std::vector<Incident> found;
  const auto take = [&](std::vector<IncidentUpdate> updates) {
    for (IncidentUpdate& update : updates) {
      if (update.what == IncidentUpdate::What::Closed) found.push_back(std::move(update.incident));
    }
  };
  std::vector<stream::Event> second;
  std::int64_t end = from_ns - kLearnNs + kNsPerSecond;
  const auto close_second = [&] {
    take(detector.on_samples(end, second));
    second.clear();
    end += kNsPerSecond;
  };
  stream::Query query;
  query.from_ns = from_ns - kLearnNs;
  query.to_ns = to_ns;
  query.kinds = {stream::Kind::Sample, stream::Kind::Kernel, stream::Kind::Change};
  query.names = {"request.rate", "request.errors", "request.inflight*", "request.duration.p99", "request.duration.mean",
                 "client.rate", "connect.failures*", "process.count", "service.restart", "process.exit",
                 "process.oom_kill"};
  query.entities = {"service:*", "edge:*", "process:*"};
  TRY(store.scan(query, [&](const stream::Event& event) {
    while (event.time_ns >= end) close_second();
    second.push_back(event);
    return true;
  }));
  while (end <= to_ns) close_second();
  std::ranges::move(detector.open_incidents(), std::back_inserter(found));

  Incident best;
  best.service = service;
  best.services = {best.service};
  best.onset_ns = best.wave_ns = from_ns;
  best.opened_ns = best.last_symptom_ns = to_ns;
  for (Incident& incident : found) {
    if (!std::ranges::binary_search(incident.services, service)) continue;
    if (incident.last_symptom_ns < from_ns) continue;
    const auto key = [](const Incident& i) { return std::pair(i.state == IncidentState::Open, i.onset_ns); };
    if (best.healthy() || key(incident) > key(best)) best = std::move(incident);
  }
  best.id = 0;
  return best;
}

}  // namespace culprit::detect
