// Time between a client span and its server span: the network's, or a queue's before the program.
//
// The gap of a call is the caller's span less the callee's (Sigelman et al., Dapper, 2010, fig. 3: client and server
// annotations). Its growth on each pair of services is the sum of what its two ends add; the ends are solved for by
// non-negative least squares (network tomography: Vardi, JASA 1996, with additive delays), so that a delayed service is told from its
// neighbours, who share only one of its calls. The ends with most growth around them are solved for first: where the pairs
// leave it open, few causes are likelier than many.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "daemon/base/text.h"
#include "daemon/explain/evidence/robust.h"
#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/evidence/spans.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kCallsMin = 3;
constexpr double kFloorS = 0.0005;
constexpr int kRounds = 60;

struct Pair {
  std::vector<double> base, now;
  double growth_s = 0, certainty = 0;
};

}  // namespace

void span_gap(const RecordedCase& c, const SpanForest& forest, Signals& out) {
  if (!forest.usable()) return;
  std::map<std::pair<ServiceId, ServiceId>, Pair> pairs;
  for (const SpanNode& node : forest.nodes) {
    if (node.parent < 0) continue;
    const SpanNode& caller = forest.nodes[static_cast<std::size_t>(node.parent)];
    if (caller.span->service == node.span->service || caller.children.size() != 1 || !forest.is_client(caller)) continue;  // a client span has one server span
    const double gap_s = static_cast<double>(caller.span->duration_ns - node.span->duration_ns) / 1e9;
    Pair& pair = pairs[{caller.span->service, node.span->service}];
    (node.now ? pair.now : pair.base).push_back(gap_s);
  }
  std::map<ServiceId, double> added;
  bool any = false;
  for (auto& [ends, pair] : pairs) {
    if (pair.base.size() < kCallsMin || pair.now.size() < kCallsMin) continue;
    any = true;
    const Center past = center_of(pair.base);
    pair.growth_s = quantile(pair.now, 0.5) - past.median;
    const double spread = past.spread + kFloorS + 0.1 * std::fabs(past.median);
    pair.certainty = std::sqrt(static_cast<double>(std::min<std::size_t>(100, pair.now.size())));
    if (pair.growth_s < 2 * spread / pair.certainty) pair.growth_s = std::min(0.0, pair.growth_s);
    added[ends.first] = 0;
    added[ends.second] = 0;
  }
  if (!any) return;
  std::vector<std::pair<double, ServiceId>> order;  // most growth first
  for (const auto& [service, value] : added) {
    double growth = 0;
    for (const auto& [ends, pair] : pairs) {
      if (ends.first == service || ends.second == service) growth += std::max(0.0, pair.growth_s);
    }
    order.emplace_back(-growth, service);
  }
  std::ranges::sort(order);
  // Coordinate descent, a fixed number of rounds: the problem is convex and tiny.
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& [growth, service] : order) {
      double sum = 0, weight = 1e-9;
      for (const auto& [ends, pair] : pairs) {
        if (pair.certainty <= 0 || (ends.first != service && ends.second != service)) continue;
        const double other = added.at(ends.first == service ? ends.second : ends.first);
        sum += pair.certainty * (std::max(0.0, pair.growth_s) - other);
        weight += pair.certainty;
      }
      added[service] = std::max(0.0, sum / weight - kFloorS / 2);
    }
  }
  Signal signal = make_signal(c, "traces.span_gap", Modality::Traces, "network");
  for (const auto& [service, value] : added) {
    if (value < kFloorS) continue;
    raise(signal, c, service, std::log1p(value / kFloorS), fmt::format("calls to and from it spend {} more between client and server span", format_seconds(value)), c.onset_ns);
  }
  out.push_back(std::move(signal));
}

}  // namespace culprit::explain
