// Databases: sessions that wait for a lock (told by the log, or by silence), connection slots that run out.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr double kFlowFelt = 0.2;
constexpr double kManyMore = 15;  // processes more than before: somebody opens connections

std::int64_t number_after(std::string_view line, std::string_view words) {
  auto at = line.find(words);
  if (at == std::string_view::npos) return 0;
  at += words.size();
  std::size_t end = at;
  while (end < line.size() && std::isdigit(static_cast<unsigned char>(line[end])) != 0) ++end;
  return end > at && end - at < 12 ? parse_pid(line.substr(at, end - at)) : 0;
}

// What PostgreSQL's log_lock_waits says (src/backend/storage/lmgr/proc.c).
struct Locks {
  std::int64_t holder = 0, told_ns = 0;
  std::string mode, what;        // AccessShareLock, "relation 16385 of database 16384"
  std::set<std::int64_t> waiters;
};

Locks read_locks(const Scene& scene, const std::string& service) {
  Locks locks;
  for (const LogNews& news : scene.log_news()) {
    if (news.service != service) continue;
    for (const auto& [time_ns, line] : news.lines) {
      if (const auto at = line.find("still waiting for "); at != std::string::npos) {
        if (locks.told_ns == 0) locks.told_ns = time_ns;
        if (const std::int64_t pid = number_after(line, "process "); pid != 0) locks.waiters.insert(pid);
        const auto rest = std::string_view(line).substr(at + 18);
        const auto on = rest.find(" on ");
        if (on != std::string_view::npos && locks.mode.empty()) {
          locks.mode = rest.substr(0, on);
          locks.what = rest.substr(on + 4, rest.find(" after ") == std::string_view::npos ? std::string_view::npos : rest.find(" after ") - on - 4);
        }
      }
      std::int64_t holder = number_after(line, "Process holding the lock: ");
      if (holder == 0) holder = number_after(line, "Processes holding the lock: ");
      if (holder != 0 && locks.holder == 0) locks.holder = holder;
      if (const auto queue = line.find("Wait queue: "); queue != std::string::npos) {
        std::string_view rest = std::string_view(line).substr(queue + 12);
        while (!rest.empty() && locks.waiters.size() < 1000) {
          const auto comma = rest.find(',');
          std::string_view one = rest.substr(0, comma);
          while (!one.empty() && std::isdigit(static_cast<unsigned char>(one.front())) == 0) one.remove_prefix(1);
          while (!one.empty() && std::isdigit(static_cast<unsigned char>(one.back())) == 0) one.remove_suffix(1);
          if (const std::int64_t pid = parse_pid(one); pid != 0) locks.waiters.insert(pid);
          if (comma == std::string_view::npos) break;
          rest.remove_prefix(comma + 1);
        }
      }
    }
  }
  return locks;
}

// A client that came just before, other than the services on the way: it may hold the lock or the slots.
const Edge* new_client(const Scene& scene, const std::string& service) {
  for (const Edge* edge : scene.callers_of(service)) {
    if (edge->fresh && !scene.in_reach(edge->caller)) return edge;
  }
  return nullptr;
}

void lock_waits(const Scene& scene, Drafts& drafts, const std::string& service, const std::string& middleware) {
  const Locks locks = read_locks(scene, service);
  const View* age = nullptr;
  const View* duration = nullptr;
  for (const Edge* edge : scene.callers_of(service)) {
    const View& edge_age = scene.find(edge->entity, "client.inflight.age.max");
    const View& mean = scene.find(edge->entity, "client.duration.mean");
    if (edge_age.up() && (age == nullptr || edge_age.score > age->score)) age = &edge_age;
    if (mean.up() && (duration == nullptr || mean.score > duration->score)) duration = &mean;
  }
  const bool told = locks.holder != 0 || !locks.waiters.empty();
  if (!told && age == nullptr && duration == nullptr) return;
  Draft draft = draft_of(scene, middleware == "mysql" ? "mysql/lock-wait" : "postgresql/lock-wait", service);
  if (middleware != "mysql" && middleware != "postgresql") draft.mode = fmt::format("{}/lock-wait", middleware);
  if (locks.holder != 0) {
    blame_process(scene, draft, locks.holder);
    draft.service = service;
    draft.entity = fmt::format("process:{}", locks.holder);
    draft.title = fmt::format("{}: session {} holds a lock on {}, {} {} behind it", service, locks.holder,
                              locks.what.empty() ? "a row or table" : locks.what, locks.waiters.size(), locks.waiters.size() == 1 ? "session waits" : "sessions wait");
    draft.add(weight::kSignal, locks.told_ns, fmt::format("process {} holds the lock, waiting: {}", locks.holder, fmt::join(locks.waiters, ", ")).substr(0, 160), {fmt::format("{} log", service)});
  } else if (!locks.waiters.empty()) {
    draft.title = fmt::format("{}: {} sessions wait for {} on {}", service, locks.waiters.size(), locks.mode, locks.what);
  } else {
    draft.title = fmt::format("{}: sessions wait for a lock (they do nothing, and do not answer)", service);
  }
  if (const Edge* client = new_client(scene, service); client != nullptr) {
    const View& rate = scene.find(client->entity, "client.rate");
    const std::int64_t since = rate.onset_ns != 0 ? rate.onset_ns : scene.onset_ns();
    if (since <= scene.onset_ns() + 2 * kNsPerSecond) {
      draft.add(weight::kHint, since, fmt::format("{} connected to {} just before", client->caller, service), {"calls"});
      std::rotate(draft.evidence.begin(), draft.evidence.end() - 1, draft.evidence.end());
      draft.evidence.front().sources = {"kernel"};
      draft.trigger = Trigger{since, fmt::format("{} connected to {}", client->caller, service)};
      if (locks.holder == 0) draft.title += fmt::format("; {} is a new client", client->caller);
    }
  }
  // Waiting sessions use neither CPU nor disk.
  const View& cpu = scene.of_service(service, "cpu.time");
  const View& fsync = scene.of_service(service, "fsync.mean");
  const View& disk = scene.of_service(service, "disk.wait");
  const View& queue = scene.of_service(service, "cpu.run_queue.mean");
  const bool seen = scene.any("cpu.time");
  bool lossy = false;
  for (const Edge* edge : scene.callers_of(service)) {
    lossy = lossy || scene.find(edge->entity, "tcp.retransmits").up() || scene.find(edge->entity, "tcp.rtt").up();
  }
  const bool works = lossy || cpu.up() || fsync.up() || disk.up() || queue.up() || scene.of_service(service, "process.stopped").up();
  if (seen && !works) {
    draft.add(age != nullptr ? weight::kStrongSignal : weight::kQuiet, scene.onset_ns(),
              fmt::format("{} uses {:.2f} CPUs and waits for no disk while calls {}", service, cpu.now, age != nullptr ? fmt::format("hang for {}", format_seconds(age->peak)) : std::string("are slow")),
              {"kernel"});
  } else if (works && !told) {
    draft.add(weight::kStrongAgainst, scene.onset_ns(), fmt::format("{} is busy, or waits for something else", service), {"kernel"});
  }
  if (told) draft.onset_ns = std::min(scene.onset_ns(), locks.told_ns);
  locate(scene, draft, service);
  drafts.push_back(std::move(draft));
}

void too_many_clients(const Scene& scene, Drafts& drafts, const std::string& service, const std::string& middleware) {
  if (middleware != "postgresql" && middleware != "mysql") return;
  const bool processes = middleware == "postgresql";  // one process a connection; others: one descriptor
  const View& view = scene.of_service(service, processes ? "process.count" : "process.fds");
  if (!view.up() || view.change() < kManyMore || view.now < 1.5 * view.normal) return;
  Draft draft = draft_of(scene, processes ? "postgresql/too-many-clients" : "mysql/too-many-connections", service);
  draft.onset_ns = view.onset_ns;
  draft.title = fmt::format("{}: all connection slots are taken ({:.0f} {}, normal {:.0f})", service, view.now, processes ? "backends" : "descriptors", view.normal);
  draft.add(weight::kStrongSignal, view.onset_ns, fmt::format("{} has {:.0f} {} (normal {:.0f})", service, view.now, processes ? "processes" : "open descriptors", view.normal), {"kernel"});
  // Refused calls belong to it; slow ones need another reason.
  double failures = 0;
  for (const Edge* edge : scene.callers_of(service)) failures += edge->failures;
  if (failures > 0 || scene.has_symptom("request.errors")) {
    draft.add(weight::kHint, scene.onset_ns(), "callers get errors", {"requests"});
  } else {
    draft.add(weight::kAgainst, scene.onset_ns(), "no call fails", {"requests"});
  }
  if (const Edge* client = new_client(scene, service); client != nullptr) {
    draft.add(weight::kHint, view.onset_ns, fmt::format("{} connected to {} just before", client->caller, service), {"kernel"});
    draft.trigger = Trigger{view.onset_ns, fmt::format("{} began to open connections to {}", client->caller, service)};
    draft.title += fmt::format(", {} is a new client", client->caller);
  }
  locate(scene, draft, service);
  drafts.push_back(std::move(draft));
}

}  // namespace

void causes_database(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    const std::string middleware = scene.middleware(service);
    if (!is_database(middleware)) continue;
    too_many_clients(scene, drafts, service, middleware);
    if (flow >= kFlowFelt) lock_waits(scene, drafts, service, middleware);
  }
}

}  // namespace culprit::explain
