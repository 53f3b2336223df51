// Load: more requests than before, or a new client that keeps a shared service busy.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr double kSurge = 1.5;

void surge(const Scene& scene, Drafts& drafts) {
  const std::string& root = scene.root();
  const View& rate = scene.of_service(root, "request.rate");
  if (!rate.up() || rate.normal < 1 || rate.peak < kSurge * rate.normal) return;
  const double times = std::max(rate.now, rate.peak) / rate.normal;
  Draft draft = draft_of(scene, "application/load-spike", root);
  draft.onset_ns = rate.onset_ns;
  draft.title = fmt::format("{}: {:.1f} times the usual requests ({:.0f}/s, normal {:.0f}/s)", root, times, std::max(rate.now, rate.peak), rate.normal);
  draft.add(times >= 2 ? weight::kErrno : weight::kStrongSignal, rate.onset_ns, fmt::format("{:.0f} requests/s (normal {:.0f})", std::max(rate.now, rate.peak), rate.normal), {"requests"});
  draft.trigger = Trigger{rate.onset_ns, fmt::format("requests to {} began to rise", root)};
  if (rate.onset_ns > scene.onset_ns() + 2 * kNsPerSecond) {
    draft.add(weight::kTooLate, rate.onset_ns, "it rose after the trouble began: callers try again", {"requests"});
  }
  const View& host = scene.find("host", "cpu.time");
  const View& queue = scene.find("host", "cpu.run_queue.wait");
  if (host.up() || queue.up()) {
    draft.add(weight::kSignal, host.onset_ns != 0 ? host.onset_ns : queue.onset_ns, fmt::format("the host uses {:.2f} CPUs (normal {:.2f})", host.now, host.normal), {"kernel"});
  }
  // More work for all: everything on the way is part of it.
  draft.add(weight::kHint, rate.onset_ns, "every service on the way gets more calls", {"calls"});
  drafts.push_back(std::move(draft));
}

void noisy_client(const Scene& scene, Drafts& drafts) {
  for (const Edge& edge : scene.edges()) {
    if (scene.in_reach(edge.caller) || !scene.in_reach(edge.callee) || edge.callee == scene.root()) continue;
    const View& rate = scene.find(edge.entity, "client.rate");
    if (!rate.up() || rate.now < 5 || rate.onset_ns > scene.onset_ns() + 2 * kNsPerSecond) continue;
    double others = 0;
    for (const Edge* other : scene.callers_of(edge.callee)) {
      if (other->caller != edge.caller) others += scene.find(other->entity, "client.rate").normal;
    }
    if (rate.now < 0.5 * others) continue;
    Draft draft = draft_of(scene, "application/load-spike", edge.caller);
    draft.onset_ns = rate.onset_ns;
    draft.title = fmt::format("{}: sends {:.0f} calls/s to {} (normal {:.0f}/s)", edge.caller, rate.now, edge.callee, rate.normal);
    draft.add(weight::kStrongSignal, rate.onset_ns, fmt::format("{} calls {} {:.0f}/s (normal {:.0f}/s, others {:.0f}/s)", edge.caller, edge.callee, rate.now, rate.normal, others), {"kernel"});
    if (edge.fresh) draft.add(weight::kHint, rate.onset_ns, fmt::format("{} is a new client of {}", edge.caller, edge.callee), {"kernel"});
    const View& cpu = scene.of_service(edge.callee, "cpu.time");
    if (cpu.up()) draft.add(weight::kSignal, cpu.onset_ns, fmt::format("{} uses {:.2f} CPUs (normal {:.2f})", edge.callee, cpu.now, cpu.normal), {"kernel"});
    locate(scene, draft, edge.callee);
    drafts.push_back(std::move(draft));
  }
}

}  // namespace

void causes_load(const Scene& scene, Drafts& drafts) {
  surge(scene, drafts);
  noisy_client(scene, drafts);
}

}  // namespace culprit::explain
