// Memory: killed at a limit or for want of memory, allocations that fail, a limit nearly reached.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

using stream::Event;

constexpr std::int64_t kLeadNs = 30 * kNsPerSecond;
constexpr double kNearLimit = 0.9;

void oom(const Scene& scene, Drafts& drafts) {
  std::map<std::string, std::vector<const Event*>> by_service;
  for (const Event& event : scene.kernel()) {
    if (event.name != "process.oom_kill" || event.time_ns < scene.onset_ns() - kLeadNs) continue;
    std::string service(event.attribute("service"));
    if (service.empty()) service = scene.service_of_entity(event.entity);
    by_service[service].push_back(&event);
  }
  for (const auto& [service, kills] : by_service) {
    const Event& kill = *kills.front();
    const std::string limit_text(kill.attribute("memory.limit"));
    const double limit = std::strtod(limit_text.c_str(), nullptr);
    const View& ratio = scene.of_service(service, "memory.limit.ratio");
    const bool cgroup = limit > 0 || ratio.peak >= kNearLimit || ratio.normal >= kNearLimit;
    Draft draft = draft_of(scene, cgroup ? "linux-kernel/cgroup-oom" : "linux-kernel/oom-kill", service);
    std::int64_t pid = parse_pid(kill.attribute("process.pid"));
    if (pid == 0) pid = parse_pid(kill.entity);
    if (pid != 0) {
      blame_process(scene, draft, pid);
      draft.service = service;
    }
    if (draft.process.empty()) draft.process = kill.attribute("victim.comm");
    draft.onset_ns = kill.time_ns;
    const std::string at = limit > 0 ? fmt::format(" at its limit of {}", format_bytes(limit)) : std::string(cgroup ? " at its memory limit" : ": the host is out of memory");
    draft.title = fmt::format("{}: process {} ({}) was killed{}", service, pid, draft.process, at);
    if (kills.size() > 1) draft.title += fmt::format(", {} times", kills.size());
    draft.add(weight::kKernelFact, kill.time_ns, fmt::format("the kernel's OOM killer ended process {} ({}){}", pid, draft.process, at), {"kernel"});
    if (kills.size() > 1) {
      draft.add(weight::kHint, kills.back()->time_ns, fmt::format("{} kills so far", kills.size()), {"kernel"});
    }
    if (ratio.peak >= kNearLimit) {
      draft.add(weight::kSignal, ratio.onset_ns != 0 ? ratio.onset_ns : kill.time_ns, fmt::format("memory of {} at {} of its limit", service, percent(ratio.peak)), {"cgroup"});
    }
    const View& rss = scene.of_service(service, "memory.rss");
    if (rss.up()) {
      draft.add(weight::kHint, rss.onset_ns, fmt::format("memory of {} grew to {}", service, from_to(rss.normal, rss.peak, format_bytes)), {"kernel"});
      draft.trigger = Trigger{rss.onset_ns, fmt::format("memory of {} began to grow", service)};
    }
    // The kernel's own act on a service that hurts needs no path of calls; elsewhere it does.
    if (std::ranges::binary_search(scene.incident().services, service) && service != scene.root() && scene.flow(service) < 0.5) {
      draft.add(weight::kSignal, kill.time_ns, fmt::format("{} itself shows symptoms", service), {"requests"});
    } else {
      locate(scene, draft, service);
    }
    drafts.push_back(std::move(draft));
  }
}

void limit(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    const View* enomem = nullptr;
    for (const View* view : scene.with_base(fmt::format("service:{}", service), "syscall.errors")) {
      if (view->up() && view->label("errno") == "ENOMEM") enomem = view;
    }
    const View& ratio = scene.of_service(service, "memory.limit.ratio");
    const bool near = ratio.now >= kNearLimit && ratio.up();
    if (enomem == nullptr && !near) continue;
    Draft draft = draft_of(scene, "linux-kernel/memory-limit", service);
    draft.title = fmt::format("{}: is at its memory limit ({})", service, percent(ratio.now));
    if (near) {
      draft.add(weight::kStrongSignal, ratio.onset_ns, fmt::format("memory at {} of the limit (normal {})", percent(ratio.now), percent(ratio.normal)), {"cgroup"});
      draft.onset_ns = ratio.onset_ns;
    } else {
      draft.title = fmt::format("{}: allocations fail (ENOMEM)", service);
    }
    if (enomem != nullptr) {
      draft.add(weight::kErrno, enomem->onset_ns, fmt::format("{} fails with ENOMEM {}", enomem->label("syscall"), per_second(std::max(enomem->now, enomem->peak))), {"kernel"});
    }
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

}  // namespace

void causes_memory(const Scene& scene, Drafts& drafts) {
  oom(scene, drafts);
  limit(scene, drafts);
}

}  // namespace culprit::explain
