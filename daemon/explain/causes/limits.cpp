// Limits of the system: file descriptors, local ports, accept queues.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr double kNearLimit = 0.95;

void descriptors(const Scene& scene, Drafts& drafts) {
  // Who fails with EMFILE or ENFILE, or sits at its limit.
  std::map<std::string, const View*> failing;
  for (const View& view : scene.views()) {
    if (view.base_name != "syscall.errors" || !view.entity.starts_with("service:") || view.score < 0.5) continue;
    const std::string_view name = view.label("errno");
    if (name != "EMFILE" && name != "ENFILE") continue;
    const View*& worst = failing[scene.service_of_entity(view.entity)];
    if (worst == nullptr || view.score > worst->score) worst = &view;
  }
  for (const auto& [service, flow] : scene.reach()) failing.try_emplace(service, nullptr);
  for (const auto& [service, errors] : failing) {
    const View* ratio = nullptr;  // of its fullest process
    std::int64_t pid = 0;
    for (const auto& [candidate, process] : scene.processes()) {
      if (process.service != service) continue;
      const View& view = scene.find(fmt::format("process:{}", candidate), "process.fds.ratio");
      if (view.now_points == 0 || (ratio != nullptr && view.peak <= ratio->peak)) continue;
      ratio = &view;
      pid = candidate;
    }
    const View& of_service = scene.of_service(service, "process.fds.ratio");
    if (of_service.now_points > 0 && (ratio == nullptr || of_service.peak > ratio->peak)) ratio = &of_service;
    const bool full = ratio != nullptr && ratio->peak >= kNearLimit;
    if (errors == nullptr && !full) continue;
    Draft draft = draft_of(scene, "linux-kernel/fd-limit", service);
    if (full && pid != 0) {
      blame_process(scene, draft, pid);
      draft.service = service;
    }
    draft.title = fmt::format("{}: out of file descriptors", service);
    if (full && pid != 0) {
      const View& fds = scene.find(fmt::format("process:{}", pid), "process.fds");
      draft.title = fmt::format("{}: process {} is out of file descriptors{}", service, pid,
                                fds.peak > 0 ? fmt::format(" ({:.0f} open)", fds.peak) : std::string());
    }
    if (errors != nullptr) {
      draft.title += fmt::format(", {} fails with {}", errors->label("syscall"), errors->label("errno"));
      draft.onset_ns = errors->onset_ns;
      draft.add(weight::kErrno, errors->onset_ns, fmt::format("{} of {} fails with {} {}", errors->label("syscall"), service, errors->label("errno"), per_second(std::max(errors->now, errors->peak))), {"kernel"});
    }
    if (ratio != nullptr && ratio->now_points > 0) {
      if (full) {
        draft.add(weight::kFullGauge, ratio->onset_ns != 0 ? ratio->onset_ns : scene.onset_ns(), fmt::format("open files at {} of the limit (normal {})", percent(ratio->peak), percent(ratio->normal)), {"kernel"});
        if (ratio->onset_ns != 0) draft.trigger = Trigger{ratio->onset_ns, fmt::format("open files of {} began to rise", service)};
      }
    }
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

void ports(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    const View* found = nullptr;
    std::string towards;
    for (const View* view : scene.with_base(fmt::format("service:{}", service), "syscall.errors")) {
      if (view->score >= 0.5 && view->label("errno") == "EADDRNOTAVAIL") found = view;
    }
    for (const Edge* edge : scene.callees_of(service)) {
      for (const View* view : scene.with_base(edge->entity, "connect.failures")) {
        if (view->score < 0.5 || view->label("errno") != "EADDRNOTAVAIL") continue;
        found = view;
        towards = edge->callee;
      }
    }
    if (found == nullptr) continue;
    Draft draft = draft_of(scene, "linux-kernel/port-exhaustion", service);
    draft.title = fmt::format("{}: out of local ports{}", service, towards.empty() ? "" : " towards " + towards);
    draft.onset_ns = found->onset_ns;
    draft.add(weight::kErrno, found->onset_ns, fmt::format("connect of {} fails with EADDRNOTAVAIL {}", service, per_second(std::max(found->now, found->peak))), {"kernel"});
    // The failing calls point at the callee, but it is the caller that has no port.
    draft.add(weight::kLocated * std::max(scene.flow(service), 0.0), scene.onset_ns(), fmt::format("{} of the trouble passes through {}", percent(scene.flow(service)), service), {"calls"});
    drafts.push_back(std::move(draft));
  }
}

void accept_queue(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    const View& view = scene.of_service(service, "tcp.accept_queue.ratio");
    if (!view.up() || view.peak < 0.8) continue;
    Draft draft = draft_of(scene, "linux-kernel/accept-queue", service);
    draft.generic = true;
    draft.title = fmt::format("{}: does not accept connections fast enough (queue {} full)", service, percent(view.peak));
    draft.onset_ns = view.onset_ns;
    draft.add(weight::kStrongSignal, view.onset_ns, fmt::format("accept queue {} full (normal {})", percent(view.peak), percent(view.normal)), {"kernel"});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

}  // namespace

void causes_limits(const Scene& scene, Drafts& drafts) {
  descriptors(scene, drafts);
  ports(scene, drafts);
  accept_queue(scene, drafts);
}

}  // namespace culprit::explain
