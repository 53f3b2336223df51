// CPU: another program takes the CPUs, a quota throttles, or a service burns more by itself.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr double kHogCores = 0.3;       // less of a newcomer does not slow others
constexpr double kBusyHost = 0.8;       // of all CPUs
constexpr double kFlowFelt = 0.10;      // services with less of the trouble do not matter
constexpr double kHeldBack = 0.5;       // threads that wait for a CPU; fewer slow nobody much
constexpr double kAlone = 0.7;          // of what the host waits more than before: the others do not wait longer

struct Hog {
  std::string service;
  double cores = 0, before = 0;     // now and normally
  std::int64_t pid = 0;             // its largest process
  double pid_cores = 0;
  std::size_t processes = 0;
  std::int64_t onset_ns = 0;
  bool newcomer = false;
};

// CPU growth by service, summed from its processes where they are known (one program may be many processes).
std::vector<Hog> growing(const Scene& scene) {
  std::map<std::string, Hog> hogs;
  for (const View& view : scene.views()) {
    if (view.base_name != "cpu.time") continue;
    const double now = std::max(view.now, view.last);
    if (view.entity.starts_with("service:")) {
      if (!view.up()) continue;
      const std::string service = scene.service_of_entity(view.entity);
      Hog& hog = hogs[service];
      hog.service = service;
      hog.cores = std::max(hog.cores, now);
      hog.before = view.normal;
      if (hog.onset_ns == 0 || view.onset_ns < hog.onset_ns) hog.onset_ns = view.onset_ns;
    } else if (view.entity.starts_with("process:")) {
      if (now - view.normal < 0.1) continue;
      const std::int64_t pid = parse_pid(view.entity);
      const Process* process = scene.process(pid);
      std::string service = process != nullptr ? process->service : std::string();
      if (service.empty()) service = process != nullptr && !process->command.empty() ? process->command : view.entity;
      Hog& hog = hogs[service];
      if (hog.service.empty()) hog.service = service;
      ++hog.processes;
      if (now > hog.pid_cores) {
        hog.pid = pid;
        hog.pid_cores = now;
      }
      if (process != nullptr && process->newcomer) hog.newcomer = true;
      if (hog.onset_ns == 0 && view.onset_ns != 0) hog.onset_ns = view.onset_ns;
    }
  }
  std::vector<Hog> out;
  for (auto& [service, hog] : hogs) {
    for (const auto& [pid, process] : scene.processes()) {
      hog.newcomer = hog.newcomer || (process.newcomer && process.service == service);
    }
    const View& total = scene.of_service(service, "cpu.time");
    if (total.now_points == 0) {  // only processes are known
      double sum = 0;
      for (const auto& [pid, process] : scene.processes()) {
        if (process.service == service || process.command == service) sum += scene.find(fmt::format("process:{}", pid), "cpu.time").now;
      }
      hog.cores = std::max(hog.pid_cores, sum);
    }
    if (hog.cores - hog.before >= kHogCores) out.push_back(std::move(hog));
  }
  std::ranges::sort(out, [](const Hog& a, const Hog& b) {
    if (a.cores - a.before != b.cores - b.before) return a.cores - a.before > b.cores - b.before;
    return a.service < b.service;
  });
  return out;
}

// Services on the way of the requests that wait for a CPU longer than they did.
std::vector<std::string> waiting_for_cpu(const Scene& scene, const View** worst) {
  std::vector<std::string> out;
  for (const auto& [service, flow] : scene.reach()) {
    if (flow < kFlowFelt) continue;
    const View& mean = scene.of_service(service, "cpu.run_queue.mean");
    const View& wait = scene.of_service(service, "cpu.run_queue.wait");
    if (!mean.up() && !wait.up()) continue;
    out.push_back(service);
    const View* view = mean.up() ? &mean : &wait;
    if (*worst == nullptr || view->score > (*worst)->score) *worst = view;
  }
  return out;
}

void contention(const Scene& scene, Drafts& drafts) {
  const View* worst = nullptr;
  const std::vector<std::string> sufferers = waiting_for_cpu(scene, &worst);
  const View& host = scene.find("host", "cpu.time");
  const View& host_wait = scene.find("host", "cpu.run_queue.wait");
  double cpus = scene.find("host", "cpu.count").now;
  const bool known_cpus = cpus >= 1;
  if (!known_cpus) cpus = std::max(1.0, host.peak);
  const double busy = host.now / cpus;
  std::size_t made = 0;
  for (const Hog& hog : growing(scene)) {
    if (made >= 3) break;
    // A service that the requests pass through works more for a reason of its own: own_growth() and others look there.
    if (scene.in_reach(hog.service)) continue;
    // So does whoever calls it: a load generator.
    const bool client = std::ranges::any_of(scene.callees_of(hog.service), [&](const Edge* edge) {
      return scene.in_reach(edge->callee) && !edge->fresh;
    });
    if (client) continue;
    ++made;
    Draft draft = draft_of(scene, "linux-kernel/cpu-saturation", hog.service);
    if (hog.pid != 0) {
      blame_process(scene, draft, hog.pid);
      draft.entity = fmt::format("process:{}", hog.pid);
    }
    draft.service = hog.service;
    draft.onset_ns = hog.onset_ns;
    const std::string who = draft.process.empty() || draft.process == hog.service ? hog.service : fmt::format("{} ({})", hog.service, draft.process);
    draft.title = fmt::format("{}: takes {:.1f} {}CPUs{}, {} waits for its turn", who, hog.cores,
                              known_cpus ? fmt::format("of {:.0f} ", cpus) : std::string(),
                              hog.processes > 1 ? fmt::format(" with {} processes", hog.processes) : std::string(),
                              sufferers.empty() ? scene.root() : sufferers.front());
    draft.add(hog.cores >= 0.4 * cpus ? weight::kStrongSignal : weight::kSignal, hog.onset_ns,
              fmt::format("{} uses {:.2f} CPUs (normal {:.2f})", hog.service, hog.cores, hog.before), {"kernel"});
    if (hog.newcomer) {
      const Process* first = nullptr;
      for (const auto& [pid, process] : scene.processes()) {
        if (process.service != hog.service || !process.newcomer) continue;
        if (first == nullptr || process.first_ns < first->first_ns) first = &process;
      }
      const std::int64_t since = first != nullptr ? first->first_ns : hog.onset_ns;
      const std::string text = first != nullptr ? fmt::format("pid {} ({}) started", first->pid, first->command) : fmt::format("{} started", hog.service);
      draft.add(weight::kNewcomer, since, text, {"kernel"});
      draft.trigger = Trigger{since, text};
    } else if (hog.before < 0.02) {
      draft.add(weight::kHint, hog.onset_ns, fmt::format("{} was quiet before", hog.service), {"kernel"});
    }
    if (worst != nullptr) {
      const bool mean = worst->base_name == "cpu.run_queue.mean";
      draft.add(weight::kStrongSignal, worst->onset_ns,
                mean ? fmt::format("{} waits {} for a CPU each time", scene.service_of_entity(worst->entity), from_to(worst->normal, worst->now, format_seconds))
                     : fmt::format("{} waits for a CPU {:.2f} s/s (normal {:.2f})", scene.service_of_entity(worst->entity), worst->now, worst->normal),
                {"run queue"});
    } else if (scene.any("cpu.run_queue.wait")) {
      draft.add(host_wait.up() ? weight::kHint : weight::kStrongAgainst, scene.onset_ns(), "the services on the way do not wait for a CPU", {"run queue"});
    }
    if (known_cpus && host.now_points > 0) {
      if (busy >= kBusyHost) {
        draft.add(weight::kHint, scene.onset_ns(), fmt::format("the host's CPUs are {} busy", percent(std::min(1.0, busy))), {"kernel"});
      } else {
        draft.add(weight::kAgainst, scene.onset_ns(), fmt::format("the host's CPUs are only {} busy", percent(busy)), {"kernel"});
      }
    }
    // Everybody waits a little longer on a full host; it explains the trouble where the time is spent.
    if (sufferers.empty()) {
      locate(scene, draft, scene.root());
    } else {
      locate_any(scene, draft, sufferers);
    }
    drafts.push_back(std::move(draft));
  }
}

void throttled(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    const View& view = scene.of_service(service, "cpu.throttled");
    if (!view.up()) continue;
    Draft draft = draft_of(scene, "linux-kernel/cpu-throttled", service);
    draft.title = fmt::format("{}: is throttled at its CPU quota {:.2f} s/s", service, view.now);
    draft.onset_ns = view.onset_ns;
    draft.add(weight::kErrno, view.onset_ns, fmt::format("throttled {:.2f} s/s (normal {:.2f})", view.now, view.normal), {"cgroup"});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

// It waits for a CPU, nobody else waits longer than before, and nobody uses more: a quota of a cgroup that we do not read, or a low
// priority. The kernel counts the time of a throttled group as waiting.
void held_back(const Scene& scene, Drafts& drafts) {
  const View& host = scene.find("host", "cpu.run_queue.wait");
  if (std::ranges::any_of(growing(scene), [](const Hog& hog) { return hog.cores - hog.before >= kHogCores; })) return;
  for (const auto& [service, flow] : scene.reach()) {
    const View& wait = scene.of_service(service, "cpu.run_queue.wait");
    const View& cpu = scene.of_service(service, "cpu.time");
    if (!wait.up() || wait.change() < kHeldBack || cpu.up() || flow < kFlowFelt || scene.of_service(service, "cpu.throttled").up()) continue;
    if (host.now_points > 0 && wait.change() < kAlone * host.change()) continue;
    const bool others = std::ranges::any_of(scene.reach(), [&](const auto& other) {
      return other.first != service && scene.of_service(other.first, "cpu.run_queue.wait").change() > (1 - kAlone) * wait.change();
    });
    if (others) continue;
    Draft draft = draft_of(scene, "linux-kernel/cpu-throttled", service);
    draft.onset_ns = wait.onset_ns;
    draft.title = fmt::format("{}: is held back from the CPU, {:.1f} threads wait (normal {:.1f}) and no others", service, wait.now, wait.normal);
    draft.add(weight::kStrongSignal, wait.onset_ns, fmt::format("{:.1f} threads of {} wait for a CPU (normal {:.1f}), the other services wait no longer", wait.now, service, wait.normal), {"run queue"});
    draft.add(weight::kSignal, wait.onset_ns, fmt::format("nobody uses more CPU; it gets {:.2f} (normal {:.2f}): a quota or a low priority", cpu.now, cpu.normal), {"kernel"});
    // Who does not run reads no answers either: its callees look slow from here.
    draft.add(weight::kElsewhere + flow * (weight::kLocated - weight::kElsewhere), scene.onset_ns(), fmt::format("{} of the trouble passes through {}", percent(flow), service), {"calls"});
    drafts.push_back(std::move(draft));
  }
}

void own_growth(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    const View& cpu = scene.of_service(service, "cpu.time");
    if (!cpu.up() || scene.self(service) < kFlowFelt) continue;
    const std::string middleware = scene.middleware(service);
    const bool database = is_database(middleware), redis = middleware == "redis";
    const std::string_view mode = redis ? "redis/slow-command" : middleware == "postgresql" ? "postgresql/slow-query" : "application/cpu-growth";
    Draft draft = draft_of(scene, mode, service);
    draft.onset_ns = cpu.onset_ns;
    draft.title = database || redis ? fmt::format("{}: {} use {:.2f} CPUs (normal {:.2f})", service, redis ? "commands" : "queries", cpu.now, cpu.normal)
                                    : fmt::format("{}: its own code uses {:.2f} CPUs (normal {:.2f})", service, cpu.now, cpu.normal);
    draft.add(weight::kSignal, cpu.onset_ns, fmt::format("{} uses {:.2f} CPUs (normal {:.2f})", service, cpu.now, cpu.normal), {"kernel"});
    // Its own requests, else (nobody reads what it gets) the calls of others to it.
    const View& own = scene.of_service(service, "request.rate");
    double rate = own.now, normal_rate = own.normal;
    if (rate <= 0 || normal_rate <= 0) {
      rate = normal_rate = 0;
      for (const Edge* edge : scene.callers_of(service)) {
        const View& calls = scene.find(edge->entity, "client.rate");
        rate += calls.now;
        normal_rate += calls.normal;
      }
    }
    if (rate > 0 && normal_rate > 0) {
      const double each = cpu.now / rate, before = cpu.normal / normal_rate;
      if (each > 1.5 * before) {
        draft.add(weight::kSignal, cpu.onset_ns, fmt::format("{} CPU a request (normal {})", format_seconds(each), format_seconds(before)), {"kernel", "requests"});
      } else {
        draft.add(weight::kAgainst, cpu.onset_ns, "each request costs what it did", {"kernel", "requests"});
      }
    }
    const View& self = scene.of_service(service, "request.self.mean");
    if (self.up()) draft.add(weight::kHint, self.onset_ns, fmt::format("own time a request {}", from_to(self.normal, self.now, format_seconds)), {"requests"});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

}  // namespace

void causes_cpu(const Scene& scene, Drafts& drafts) {
  contention(scene, drafts);
  throttled(scene, drafts);
  held_back(scene, drafts);
  own_growth(scene, drafts);
}

}  // namespace culprit::explain
