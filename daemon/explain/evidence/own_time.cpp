// Whose own time grew: the duration of a span without that of its children (exclusive time, as MicroRank and
// TraceAnomaly use it; Yu et al., WWW 2021, sec. 4.1), for each operation against its own past.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "daemon/base/text.h"
#include "daemon/explain/evidence/robust.h"
#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/evidence/spans.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kCallsMin = 4;
constexpr double kFloorS = 0.001;

}  // namespace

void own_time(const RecordedCase& c, const SpanForest& forest, Signals& out) {
  if (!forest.usable()) return;
  struct Times {
    std::vector<double> base, now;
  };
  std::map<std::pair<ServiceId, std::uint32_t>, Times> operations;
  for (const SpanNode& node : forest.nodes) {
    // A client span's own time is the network's and the callee's queue: span_gap looks at it.
    if (forest.is_client(node)) continue;
    Times& times = operations[{node.span->service, node.span->operation}];
    (node.now ? times.now : times.base).push_back(static_cast<double>(node.own_ns) / 1e9);
  }
  Signal relative = make_signal(c, "traces.own_time", Modality::Traces, "cpu");
  std::map<ServiceId, double> seconds;  // added, over all traces of the incident
  double total = 0;
  for (auto& [key, times] : operations) {
    if (times.base.size() < kCallsMin || times.now.size() < kCallsMin) continue;
    const Center past = center_of(times.base);
    const double now = quantile(times.now, 0.5), high = quantile(times.now, 0.9), past_high = quantile(times.base, 0.9);
    const double growth = std::max(now - past.median, 0.5 * (high - past_high));
    const double spread = past.spread + kFloorS + 0.2 * past.median;
    if (growth > 0) {
      seconds[key.first] += growth * static_cast<double>(times.now.size());
      total += growth * static_cast<double>(times.now.size());
    }
    const double score = growth / spread;
    if (score < 0.5) continue;
    raise(relative, c, key.first, std::log1p(score), fmt::format("own time of {} {} (normal {})", c.words[key.second], format_seconds(now), format_seconds(past.median)), c.onset_ns);
  }
  Signal share = make_signal(c, "traces.own_share", Modality::Traces, "cpu");
  for (const auto& [service, added] : seconds) {
    if (total > 0 && added / total > 0.02) {
      raise(share, c, service, added / total, fmt::format("{:.0f} % of all time added inside services", 100 * added / total), c.onset_ns);
    }
  }
  out.push_back(std::move(relative));
  out.push_back(std::move(share));
}

}  // namespace culprit::explain
