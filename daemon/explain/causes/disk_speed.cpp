// Slow disks: a competing writer, or a device (or a limit on it) that is slow by itself.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr double kFlowFelt = 0.10;

// What a service says of its disk, worst first: how it is told.
struct Told {
  const View* view = nullptr;
  std::string text;
};

Told slow_for(const Scene& scene, const std::string& service) {
  struct Row {
    std::string_view series, words;
    bool seconds;
  };
  static constexpr std::array kRows = std::to_array<Row>({
      {"fsync.mean", "fsync", true},
      {"fsync.max", "the longest fsync", true},
      {"disk.wait", "waits for the disk", false},
      {"cpu.blocked", "is blocked in the kernel", false},
  });
  Told told;
  for (const Row& row : kRows) {
    const View& view = scene.of_service(service, row.series);
    if (!view.up()) continue;
    if (told.view != nullptr && view.score <= told.view->score) continue;
    told.view = &view;
    told.text = row.seconds ? fmt::format("{} of {} takes {}", row.words, service, from_to(view.normal, view.value(), format_seconds))
                            : fmt::format("{} {} {:.2f} s/s (normal {:.2f})", service, row.words, view.value(), view.normal);
  }
  // A call that never returned has no mean yet; the kernel tells of it singly.
  if (told.view == nullptr) {
    for (const stream::Event& event : scene.kernel()) {
      if (event.name != "syscall.slow" || event.time_ns < scene.onset_ns() - 2 * kNsPerSecond || event.value < 0.05) continue;
      const std::string_view call = event.attribute("call");
      if (!call.starts_with("f") || event.attribute("service") != service) continue;  // fsync, fdatasync
      static const View kEvent;
      told.view = &kEvent;
      told.text = fmt::format("{} of {} took {}", call, service, format_seconds(event.value));
      break;
    }
  }
  return told;
}

struct Writer {
  const View* view = nullptr;
  std::string service;
  std::int64_t pid = 0;
  bool newcomer = false;
};

// Who uses the disk more than before and is no part of the requests' way.
Writer competing(const Scene& scene) {
  Writer best;
  double most = 0;
  for (const View& view : scene.views()) {
    const bool bytes = view.base_name == "disk.write.bytes" || view.base_name == "disk.read.bytes";
    if ((!bytes && view.base_name != "fsync.rate") || !view.up()) continue;
    const bool process = view.entity.starts_with("process:");
    if (!process && !view.entity.starts_with("service:")) continue;
    const std::string service = scene.service_of_entity(view.entity);
    if (service.empty() || scene.in_reach(service)) continue;
    const double size = (bytes ? std::max(view.now, view.peak) - view.normal : 40e3 * view.change()) * (process ? 1.001 : 1);
    if (size <= most) continue;
    most = size;
    best.view = &view;
    best.service = service;
    best.pid = process ? parse_pid(view.entity) : 0;
    const Process* who = scene.process(best.pid);
    best.newcomer = who != nullptr && who->newcomer;
  }
  return best;
}

}  // namespace

void causes_disk_speed(const Scene& scene, Drafts& drafts) {
  std::vector<std::string> sufferers;
  Told told;
  for (const auto& [service, flow] : scene.reach()) {
    if (flow < kFlowFelt) continue;
    Told here = slow_for(scene, service);
    if (here.view == nullptr) continue;
    sufferers.push_back(service);
    if (told.view == nullptr || scene.self(service) > scene.self(sufferers.front())) told = std::move(here);
  }
  const View* device = nullptr;
  for (const View& view : scene.views()) {
    if (view.base_name != "disk.latency.mean" && view.base_name != "disk.latency.p99") continue;
    if (view.up() && (device == nullptr || view.score > device->score)) device = &view;
  }
  if (sufferers.empty() && device == nullptr) return;
  const Writer writer = competing(scene);
  const std::int64_t since = told.view != nullptr && told.view->onset_ns != 0 ? told.view->onset_ns : scene.onset_ns();
  const auto add_common = [&](Draft& draft) {
    if (told.view != nullptr) {
      draft.add(weight::kStrongSignal, since, told.text, {"kernel"});
    } else {
      draft.add(weight::kAgainst, since, "no service on the way waits for the disk", {"kernel"});
    }
    if (device != nullptr) {
      draft.add(weight::kSignal, device->onset_ns, fmt::format("requests of {} take {}", device->entity.substr(7), from_to(device->normal, device->value(), format_seconds)), {"block layer"});
    }
    const bool starved = std::ranges::any_of(sufferers, [&](const std::string& service) { return scene.of_service(service, "cpu.run_queue.mean").up(); });
    if (starved) draft.add(weight::kAgainst, since, fmt::format("{} also waits for a CPU", sufferers.front()), {"run queue"});
    locate_any(scene, draft, sufferers);
  };
  if (writer.view != nullptr) {
    Draft draft = draft_of(scene, "linux-kernel/disk-saturation", writer.service);
    if (writer.pid != 0) {
      blame_process(scene, draft, writer.pid);
      draft.entity = fmt::format("process:{}", writer.pid);
    }
    draft.service = writer.service;
    draft.onset_ns = writer.view->onset_ns;
    const bool bytes = writer.view->base_name != "fsync.rate";
    const double amount = std::max(writer.view->now, writer.view->peak);
    const std::string does = bytes ? fmt::format("{} {}/s", writer.view->base_name == "disk.read.bytes" ? "reads" : "writes", format_bytes(amount))
                                   : fmt::format("calls fsync {}", per_second(amount));
    const std::string who = writer.pid != 0 ? fmt::format("pid {} ({})", writer.pid, draft.process) : writer.service;
    draft.title = fmt::format("{}: {} {} and keeps the disk busy{}", writer.service, who, does,
                              sufferers.empty() ? std::string() : fmt::format(", {} waits", sufferers.front()));
    draft.add(weight::kStrongSignal, writer.view->onset_ns, fmt::format("{} {} (normal {})", who, does, bytes ? format_bytes(writer.view->normal) + "/s" : per_second(writer.view->normal)), {"kernel"});
    if (writer.newcomer) {
      draft.add(weight::kNewcomer, writer.view->onset_ns, fmt::format("{} started just before", who), {"kernel"});
      const Process* process = scene.process(writer.pid);
      if (process != nullptr) draft.trigger = Trigger{process->first_ns, fmt::format("{} started", who)};
    }
    add_common(draft);
    drafts.push_back(std::move(draft));
  }
  Draft draft = draft_of(scene, "linux-kernel/disk-slow", sufferers.empty() ? scene.root() : sufferers.front());
  if (device != nullptr) draft.entity = device->entity;
  draft.onset_ns = since;
  draft.title = device != nullptr ? fmt::format("{}: requests take {}, {} waits", device->entity.substr(7), from_to(device->normal, device->value(), format_seconds), draft.service)
                                  : fmt::format("{}: its disk answers slowly ({})", draft.service, told.text);
  add_common(draft);
  if (writer.view != nullptr) {
    draft.add(weight::kStrongAgainst, writer.view->onset_ns, fmt::format("{} uses the disk much more than before", writer.service), {"kernel"});
  } else {
    draft.add(weight::kHint, since, "nobody writes more than before", {"kernel"});
  }
  drafts.push_back(std::move(draft));
}

}  // namespace culprit::explain
