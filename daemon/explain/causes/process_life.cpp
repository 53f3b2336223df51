// Processes that were killed, crashed, exited, were stopped, or restart again and again; services that are gone.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

using stream::Event;

constexpr std::int64_t kLeadNs = 15 * kNsPerSecond;   // an end this long before the onset may have caused it
constexpr std::int64_t kPairNs = 2 * kNsPerSecond;    // between a signal and the end that it causes

struct Signal {
  std::string_view name;
  int number;
};
constexpr std::array kSignals = std::to_array<Signal>({
    {"SIGHUP", 1},  {"SIGINT", 2},   {"SIGQUIT", 3},  {"SIGILL", 4},   {"SIGTRAP", 5},  {"SIGABRT", 6},  {"SIGBUS", 7},
    {"SIGFPE", 8},  {"SIGKILL", 9},  {"SIGUSR1", 10}, {"SIGSEGV", 11}, {"SIGUSR2", 12}, {"SIGPIPE", 13}, {"SIGALRM", 14},
    {"SIGTERM", 15}, {"SIGCONT", 18}, {"SIGSTOP", 19}, {"SIGTSTP", 20}, {"SIGTTIN", 21}, {"SIGTTOU", 22}, {"SIGXCPU", 24},
    {"SIGSYS", 31},
});

std::string_view signal_name(int signal) {
  const auto found = std::ranges::find(kSignals, signal, &Signal::number);
  return found != kSignals.end() ? found->name : "a signal";
}

// "9", "SIGKILL": as a number; 0 if it is none.
int number(std::string_view text) {
  const auto found = std::ranges::find(kSignals, text, &Signal::name);
  if (found != kSignals.end()) return found->number;
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9' || value > 100'000) return 0;
    value = 10 * value + (c - '0');
  }
  return value;
}

bool is_crash(int signal) {
  return signal == 3 || signal == 4 || signal == 6 || signal == 5 || signal == 7 || signal == 8 ||
         signal == 11 || signal == 24 || signal == 31;
}
bool is_stop(int signal) { return signal >= 19 && signal <= 22; }

std::int64_t pid_of(const Event& event) {
  const std::int64_t pid = parse_pid(event.attribute("process.pid"));
  return pid != 0 ? pid : parse_pid(event.entity);
}

std::string service_of(const Scene& scene, const Event& event) {
  const std::string_view named = event.attribute("service");
  return named.empty() ? scene.service_of_entity(event.entity) : std::string(named);
}

const Event* signal_to(const Scene& scene, std::int64_t pid, std::int64_t time_ns, int signal) {
  const Event* best = nullptr;
  for (const Event& event : scene.kernel()) {
    if (event.name != "process.signal" || parse_pid(event.attribute("target.pid")) != pid) continue;
    if (number(event.attribute("signal")) != signal) continue;
    if (event.time_ns > time_ns + kPairNs / 4 || event.time_ns < time_ns - kPairNs) continue;
    best = &event;
  }
  return best;
}

std::string sender_of(const Event& event) {
  const std::string_view comm = event.attribute("sender.comm"), pid = event.attribute("sender.pid");
  if (pid.empty() || pid == "0") return "the kernel";
  return comm.empty() ? fmt::format("pid {}", pid) : fmt::format("pid {} ({})", pid, comm);
}

bool oom_killed(const Scene& scene, std::int64_t pid, std::int64_t time_ns) {
  return std::ranges::any_of(scene.kernel(), [&](const Event& event) {
    return event.name == "process.oom_kill" && pid_of(event) == pid && event.time_ns <= time_ns + kPairNs &&
           event.time_ns >= time_ns - 2 * kPairNs;
  });
}

// Refused or failing connections to the service from callers that are part of the trouble.
double refused(const Scene& scene, const std::string& service, std::string* who) {
  double rate = 0;
  for (const Edge* edge : scene.callers_of(service)) {
    if (edge->failures <= 0 || edge->connect_errno.empty()) continue;
    rate += edge->failures;
    if (who != nullptr && who->empty()) *who = fmt::format("{} from {}", edge->connect_errno, edge->caller);
  }
  return rate;
}

bool is_gone(const Scene& scene, const std::string& service) {
  const View& count = scene.of_service(service, "process.count");
  return count.normal >= 1 && count.last < 0.5;
}

void add_impact(const Scene& scene, Draft& draft, const std::string& service) {
  std::string who;
  const double rate = refused(scene, service, &who);
  if (rate > 0) {
    draft.add(weight::kStrongSignal, scene.onset_ns(), fmt::format("connections to {} fail ({}, {})", service, who, per_second(rate)),
              {"kernel"});
  }
  const View& count = scene.of_service(service, "process.count");
  if (is_gone(scene, service)) {
    draft.add(weight::kSignal, count.onset_ns, fmt::format("no process of {} is left", service), {"kernel"});
  } else if (rate <= 0 && count.now_points > 0) {
    // It runs, and is not refused: what came to an end is not what hurts now, unless nothing hurts any more.
    const bool over = scene.end_ns() - scene.incident().last_symptom_ns > 4 * kNsPerSecond ||
                      scene.incident().last_symptom_ns - scene.onset_ns() < 12 * kNsPerSecond;
    if (!over) draft.add(weight::kStrongAgainst, scene.end_ns(), fmt::format("{} runs again, and the trouble goes on", service), {"kernel"});
  }
}

// The same in the words of the middleware: "redis/down".
void also_of_middleware(const Scene& scene, Draft& draft, std::string_view what) {
  const std::string middleware = scene.middleware(draft.service);
  if (!middleware.empty()) draft.also.push_back(fmt::format("{}/{}", middleware, what));
}

constexpr std::int64_t kBackNs = 10 * kNsPerSecond;  // from an orderly end to the start that belongs to it

// The start that followed an orderly end: the two are one restart.
const Event* came_back(const Scene& scene, const std::string& service, int signal, std::int64_t end_ns) {
  if (signal != 1 && signal != 2 && signal != 15) return nullptr;
  const Event* found = nullptr;
  for (const Event& event : scene.changes()) {
    if (event.time_ns < end_ns - kPairNs || event.time_ns > end_ns + kBackNs) continue;
    std::string of = scene.service_of_entity(event.entity);
    if (of.empty()) of = event.attribute("service");
    if (of != service) continue;
    if (event.name == "service.version") return &event;
    if (event.name == "service.restart" || event.name == "service.start") found = &event;
  }
  return found;
}

struct End {
  const Event* event;
  std::int64_t pid;
  int signal, code;
};

void ended(const Scene& scene, Drafts& drafts, const std::string& service, const std::vector<End>& ends) {
  // The first one that matters: crashes and kills before failed exits.
  const End* first = &ends.front();
  for (const End& end : ends) {
    const auto rank = [](const End& e) { return e.signal != 0 ? 0 : 1; };
    if (rank(end) < rank(*first)) first = &end;
  }
  const Event* back = is_gone(scene, service) ? nullptr : came_back(scene, service, first->signal, first->event->time_ns);
  if (back != nullptr && back->name == "service.version") return;  // a step of a release: change.cpp tells that story
  const bool crash = is_crash(first->signal);
  const bool killed = first->signal != 0 && !crash;
  const std::string_view mode =
      crash ? "linux-kernel/process-crash" : killed ? "linux-kernel/process-killed" : "linux-kernel/process-exit";
  Draft draft = draft_of(scene, mode, service);
  blame_process(scene, draft, first->pid);
  draft.service = service;
  draft.entity = fmt::format("service:{}", service);
  draft.onset_ns = first->event->time_ns;
  also_of_middleware(scene, draft, "down");
  if (draft.process.empty()) draft.process = first->event->attribute("process.command");
  const std::string process = fmt::format("process {} ({})", first->pid, draft.process);
  const Event* sent = killed || crash ? signal_to(scene, first->pid, first->event->time_ns, first->signal) : nullptr;
  const std::string by = sent != nullptr ? fmt::format(" by {}", sender_of(*sent)) : std::string();
  std::string what;
  if (first->signal != 0) {
    what = fmt::format("{} ended by {}{}", process, signal_name(first->signal), by);
    draft.title = fmt::format("{}: process {} {} {}{}", service, first->pid, crash ? "crashed with" : "was killed with",
                              signal_name(first->signal), by);
  } else {
    what = fmt::format("{} exited with status {}", process, first->code);
    draft.title = fmt::format("{}: process {} exited with status {}", service, first->pid, first->code);
  }
  // A child that exits with an error is daily life for some servers; a kill or crash is not.
  const bool child = !is_gone(scene, service) && refused(scene, service, nullptr) <= 0 && first->event->attribute("process.main").empty();
  const double fact = first->signal != 0 ? weight::kKernelFact : child ? weight::kHint : weight::kStrongSignal;
  draft.add(fact, first->event->time_ns, what, {"kernel"});
  if (ends.size() >= 3) {
    draft.add(weight::kHint, ends.back().event->time_ns, fmt::format("{} processes of {} ended so", ends.size(), service), {"kernel"});
  }
  if (sent != nullptr) draft.trigger = Trigger{sent->time_ns, fmt::format("{} sent {} to {}", sender_of(*sent), signal_name(first->signal), first->pid)};
  if (back != nullptr) draft.add(weight::kStrongAgainst, back->time_ns, fmt::format("{} was started again: an orderly restart", service), {"kernel"});
  add_impact(scene, draft, service);
  if (crash && child) {
    draft.add(weight::kHint, first->event->time_ns, fmt::format("requests in process {} were lost", first->pid), {"kernel"});
  }
  locate(scene, draft, service);
  drafts.push_back(std::move(draft));
}

void ends_of_processes(const Scene& scene, Drafts& drafts) {
  std::map<std::string, std::vector<End>> by_service;
  for (const Event& event : scene.kernel()) {
    if (event.name != "process.exit" || event.time_ns < scene.onset_ns() - kLeadNs) continue;
    const int signal = number(event.attribute("exit.signal")), code = number(event.attribute("exit.code"));
    if (signal == 0 && code == 0) continue;
    if (signal == 13) continue;  // SIGPIPE ends readers and writers of pipes in good order
    const std::int64_t pid = pid_of(event);
    if (signal == 9 && oom_killed(scene, pid, event.time_ns)) continue;  // memory.cpp tells that story
    const std::string service = service_of(scene, event);
    if (service.empty()) continue;
    const bool felt = std::ranges::binary_search(scene.incident().services, service);
    if (!scene.in_reach(service) && !felt) continue;
    by_service[service].push_back({&event, pid, signal, code});
  }
  for (const auto& [service, ends] : by_service) ended(scene, drafts, service, ends);
}

void stopped(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    const Event* stop = nullptr;
    for (const Event& event : scene.kernel()) {
      if (event.name != "process.signal" || event.time_ns < scene.onset_ns() - kLeadNs) continue;
      const int signal = number(event.attribute("signal"));
      const Process* target = scene.process(parse_pid(event.attribute("target.pid")));
      std::string of = target != nullptr ? target->service : std::string();
      if (of.empty()) of = service_of(scene, event);
      if (of != service) continue;
      if (is_stop(signal)) stop = &event;
      if (signal == 18 && event.time_ns < scene.onset_ns()) stop = nullptr;  // SIGCONT before it hurt
    }
    const View& sample = scene.of_service(service, "process.stopped");
    if (stop == nullptr && !sample.up()) continue;
    Draft draft = draft_of(scene, "linux-kernel/process-stopped", service);
    also_of_middleware(scene, draft, "stopped");
    std::int64_t pid = stop != nullptr ? parse_pid(stop->attribute("target.pid")) : 0;
    for (const auto& [candidate, process] : scene.processes()) {
      if (pid == 0 && process.service == service && scene.find(fmt::format("process:{}", candidate), "process.stopped").up()) pid = candidate;
    }
    if (pid != 0) {
      blame_process(scene, draft, pid);
      draft.service = service;
    }
    draft.title = pid != 0 ? fmt::format("{}: process {} is stopped and answers nobody", service, pid)
                           : fmt::format("{}: is stopped and answers nobody", service);
    if (stop != nullptr) {
      const std::string text = fmt::format("{} sent {} to process {}", sender_of(*stop), signal_name(number(stop->attribute("signal"))), pid);
      draft.add(weight::kKernelFact, stop->time_ns, text, {"kernel"});
      draft.trigger = Trigger{stop->time_ns, text};
      draft.onset_ns = stop->time_ns;
      draft.title += fmt::format(" ({} by {})", signal_name(number(stop->attribute("signal"))), sender_of(*stop));
    }
    if (sample.up()) {
      draft.add(stop != nullptr ? weight::kSignal : weight::kKernelFact, sample.onset_ns, fmt::format("{} is in state T (stopped)", pid != 0 ? fmt::format("process {}", pid) : service), {"kernel"});
      if (draft.onset_ns == 0) draft.onset_ns = sample.onset_ns;
    }
    for (const Edge* edge : scene.callers_of(service)) {
      const View& age = scene.find(edge->entity, "client.inflight.age.max");
      if (!age.up()) continue;
      draft.add(weight::kSignal, age.onset_ns, fmt::format("a call from {} is unanswered for {}", edge->caller, format_seconds(age.peak)), {"kernel"});
      break;
    }
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

void restarts(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    std::vector<std::int64_t> starts;
    for (const Event& event : scene.changes()) {
      if (event.name != "service.start" && event.name != "service.restart") continue;
      if (event.time_ns < scene.onset_ns() - kLeadNs || scene.service_of_entity(event.entity) != service) continue;
      starts.push_back(event.time_ns);
    }
    if (starts.size() < 3) continue;
    Draft draft = draft_of(scene, "linux-kernel/restart-loop", service);
    draft.generic = true;
    draft.onset_ns = starts.front();
    draft.title = fmt::format("{}: restarts again and again ({} times)", service, starts.size());
    draft.add(weight::kStrongSignal, starts.front(), fmt::format("{} started {} times", service, starts.size()), {"kernel"});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

// Refused, but nobody saw it end.
void gone(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    std::string who;
    const double rate = refused(scene, service, &who);
    if (rate <= 0 || (who.find("ECONNREFUSED") == std::string::npos && !is_gone(scene, service))) continue;
    Draft draft = draft_of(scene, "linux-kernel/service-gone", service);
    draft.generic = true;
    also_of_middleware(scene, draft, "down");
    const auto callers = scene.callers_of(service);
    const bool known = scene.base_seconds() < kPastKnownS || std::ranges::any_of(callers, [](const Edge* edge) { return !edge->fresh; });
    draft.title = fmt::format("{}: nothing answers {}", service, known ? "its port any more" : "there");
    draft.add(weight::kErrno, scene.onset_ns(), fmt::format("connections to {} fail ({}, {})", service, who, per_second(rate)), {"kernel"});
    if (!known) draft.add(weight::kStrongAgainst, scene.onset_ns(), fmt::format("nobody called {} before", service), {"calls"});
    if (is_gone(scene, service)) draft.add(weight::kSignal, scene.onset_ns(), fmt::format("no process of {} is left", service), {"kernel"});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

}  // namespace

void causes_process_life(const Scene& scene, Drafts& drafts) {
  ends_of_processes(scene, drafts);
  stopped(scene, drafts);
  restarts(scene, drafts);
  gone(scene, drafts);
}

}  // namespace culprit::explain
