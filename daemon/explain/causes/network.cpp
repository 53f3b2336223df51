// Network between services: loss, delay, resets, unreachable peers.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

// What the callee takes by its own clock; the rest of the caller's wait is the network's. Less than 0: unknown.
double gap(const Scene& scene, const Edge& edge) {
  const View& client = scene.find(edge.entity, "client.duration.mean");
  const View& server = scene.of_service(edge.callee, "request.duration.mean");
  if (client.now_points == 0 || server.now_points == 0) return -1;
  return (client.now - server.now) - std::max(0.0, client.normal - server.normal);
}

void loss(const Scene& scene, Drafts& drafts, const Edge& edge) {
  const View& retransmits = scene.find(edge.entity, "tcp.retransmits");
  const View& rtt = scene.find(edge.entity, "tcp.rtt");
  const View& resets = scene.find(edge.entity, "tcp.resets");
  if (!retransmits.up() && !rtt.up() && !resets.up()) return;
  const bool lossy = retransmits.up();
  const std::string_view mode = lossy ? "linux-kernel/tcp-retrans" : rtt.up() ? "linux-kernel/network-delay" : "linux-kernel/tcp-reset";
  Draft draft = draft_of(scene, mode, edge.callee);
  draft.entity = edge.entity;
  draft.generic = !lossy && !rtt.up();
  const std::string between = fmt::format("{} and {}", edge.caller, edge.callee);
  if (lossy) {
    draft.title = fmt::format("network: packets between {} get lost ({} retransmits)", between, per_second(retransmits.value()));
    draft.onset_ns = retransmits.onset_ns;
    draft.add(weight::kStrongSignal, retransmits.onset_ns, fmt::format("retransmits between {} {}", between, from_to(retransmits.normal, std::max(retransmits.now, retransmits.peak), per_second)), {"kernel"});
  }
  if (rtt.up()) {
    if (!lossy) draft.title = fmt::format("network: {} apart {}", between, from_to(rtt.normal, rtt.now, format_seconds));
    if (draft.onset_ns == 0) draft.onset_ns = rtt.onset_ns;
    draft.add(weight::kSignal, rtt.onset_ns, fmt::format("round trip between {} {}", between, from_to(rtt.normal, rtt.now, format_seconds)), {"kernel"});
  }
  if (resets.up()) {
    if (draft.generic) draft.title = fmt::format("network: connections between {} are reset {}", between, per_second(std::max(resets.now, resets.peak)));
    draft.add(weight::kHint, resets.onset_ns, fmt::format("resets between {} {}", between, from_to(resets.normal, std::max(resets.now, resets.peak), per_second)), {"kernel"});
  }
  // On a host without free CPUs acknowledgements come late: loss and delay are then effects, also on loopback.
  const View& queue = scene.of_service(edge.callee, "cpu.run_queue.mean");
  const View& caller_queue = scene.of_service(edge.caller, "cpu.run_queue.mean");
  if (queue.up() || caller_queue.up()) {
    const View& worse = queue.score > caller_queue.score ? queue : caller_queue;
    draft.add(weight::kStrongAgainst, worse.onset_ns, fmt::format("both ends wait for a CPU ({})", from_to(worse.normal, worse.value(), format_seconds)), {"run queue"});
  }
  const double between_s = gap(scene, edge);
  if (between_s > 0.005) {
    draft.add(weight::kStrongSignal, scene.onset_ns(), fmt::format("{} of each call from {} is spent between them", format_seconds(between_s), edge.caller), {"requests"});
    // The callee itself is well: what flows to it stays on the way.
    draft.add(weight::kLocated * scene.flow(edge.callee), scene.onset_ns(), fmt::format("{} waits on {} {} of its time", edge.caller, edge.callee, percent(edge.wait_now)), {"calls"});
  } else {
    if (between_s >= 0) draft.add(weight::kAgainst, scene.onset_ns(), fmt::format("{} itself is as slow as {} sees it", edge.callee, edge.caller), {"requests"});
    locate(scene, draft, edge.callee);
  }
  drafts.push_back(std::move(draft));
}

void unreachable(const Scene& scene, Drafts& drafts, const Edge& edge) {
  if (edge.connect_errno != "ETIMEDOUT" && edge.connect_errno != "EHOSTUNREACH" && edge.connect_errno != "ENETUNREACH") return;
  Draft draft = draft_of(scene, "linux-kernel/network-unreachable", edge.callee);
  draft.entity = edge.entity;
  draft.title = fmt::format("network: {} cannot reach {} ({})", edge.caller, edge.callee, edge.connect_errno);
  draft.add(weight::kErrno, scene.onset_ns(), fmt::format("connections from {} to {} fail ({}, {})", edge.caller, edge.callee, edge.connect_errno, per_second(edge.failures)), {"kernel"});
  locate(scene, draft, edge.callee);
  drafts.push_back(std::move(draft));
}

}  // namespace

void causes_network(const Scene& scene, Drafts& drafts) {
  for (const Edge& edge : scene.edges()) {
    if (!scene.in_reach(edge.caller)) continue;
    loss(scene, drafts, edge);
    unreachable(scene, drafts, edge);
  }
}

}  // namespace culprit::explain
