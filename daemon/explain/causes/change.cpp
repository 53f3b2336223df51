// Changes: a new version, a restart, a configuration write, followed by trouble of the very thing that changed.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

using stream::Event;

constexpr std::int64_t kBeforeNs = 120 * kNsPerSecond;  // a release can take this long to hurt
constexpr std::int64_t kAfterNs = 4 * kNsPerSecond;     // and its restart may be felt before it is seen
constexpr std::int64_t kRestartFeltNs = 20 * kNsPerSecond;  // cold caches and new settings are felt at once; this is generous
constexpr double kFlowFelt = 0.2;

bool orderly(std::string_view signal) {
  return signal == "15" || signal == "2" || signal == "1" || signal == "SIGTERM" || signal == "SIGINT" || signal == "SIGHUP";
}

// It came back because it had fallen: then the start is no cause.
bool fell_before(const Scene& scene, const std::string& service, std::int64_t start_ns) {
  return std::ranges::any_of(scene.kernel(), [&](const Event& event) {
    if (event.time_ns > start_ns || event.time_ns < start_ns - 20 * kNsPerSecond) return false;
    if (event.attribute("service") != service && scene.service_of_entity(event.entity) != service) return false;
    if (event.name == "process.oom_kill") return true;
    if (event.name != "process.exit") return false;
    const std::string_view signal = event.attribute("exit.signal");
    return !signal.empty() && signal != "0" && !orderly(signal);
  });
}

const Event* latest(const Scene& scene, const std::string& service, bool version) {
  const Event* found = nullptr;
  for (const Event& event : scene.changes()) {
    if (event.time_ns < scene.onset_ns() - kBeforeNs || event.time_ns > scene.onset_ns() + kAfterNs) continue;
    const bool kind = version ? event.name == "service.version"
                              : event.name == "service.restart" || event.name == "service.start";
    std::string of = scene.service_of_entity(event.entity);
    if (of.empty()) of = event.attribute("service");
    if (kind && of == service) found = &event;
  }
  return found;
}

// Calls to its callees for each request: a new loop over queries shows here.
const Edge* more_calls(const Scene& scene, const std::string& service, double* now, double* before) {
  const View& rate = scene.of_service(service, "request.rate");
  if (rate.now <= 0 || rate.normal <= 0) return nullptr;
  for (const Edge* edge : scene.callees_of(service)) {
    const View& calls = scene.find(edge->entity, "client.rate");
    *now = calls.now / rate.now;
    *before = calls.normal / rate.normal;
    if (*now > 1.7 * *before && *now - *before > 0.5) return edge;
  }
  return nullptr;
}

void release(const Scene& scene, Drafts& drafts, const std::string& service) {
  const Event* version = latest(scene, service, true);
  const Event* start = latest(scene, service, false);
  const Event* change = version != nullptr ? version : start;
  if (change == nullptr) return;
  if (version == nullptr && fell_before(scene, service, change->time_ns)) return;
  Draft draft = draft_of(scene, "application/bad-release", service);
  draft.change = true;
  draft.onset_ns = std::min(change->time_ns, scene.onset_ns());
  if (const std::int64_t pid = parse_pid(change->attribute("process.pid")); pid != 0) {
    blame_process(scene, draft, pid);
    draft.service = service;
  }
  const std::string_view old = change->attribute("old"), fresh = change->attribute("new");
  std::string what = version != nullptr ? fmt::format("another version of {} was started", service) : fmt::format("{} was started again", service);
  if (version != nullptr && !fresh.empty()) what += old.empty() ? fmt::format(" ({})", fresh) : fmt::format(" ({} instead of {})", fresh, old);
  draft.trigger = Trigger{change->time_ns, what};
  draft.add(version != nullptr ? weight::kVersionChange : weight::kRestartChange, change->time_ns, what, {"kernel"});
  if (const std::int64_t well_ns = scene.onset_ns() - change->time_ns; version == nullptr && well_ns > kRestartFeltNs) {
    const std::int64_t whole_s = well_ns / kNsPerSecond;
    draft.add(well_ns > 2 * kRestartFeltNs ? weight::kStrongAgainst : weight::kAgainst, change->time_ns,
              fmt::format("it worked as before for {} after that", format_seconds(static_cast<double>(whole_s))), {"requests"});
  }

  double felt = 0;
  const View& self = scene.of_service(service, "request.self.mean");
  if (self.up()) {
    felt = scene.self(service);
    draft.add(weight::kStrongSignal, self.onset_ns, fmt::format("own time a request {}", from_to(self.normal, self.now, format_seconds)), {"requests"});
  }
  double calls = 0, before = 0;
  if (const Edge* edge = more_calls(scene, service, &calls, &before); edge != nullptr) {
    felt = std::max(felt, scene.flow(service));
    draft.add(weight::kStrongSignal, scene.onset_ns(), fmt::format("{:.1f} calls to {} a request (normal {:.1f})", calls, edge->callee, before), {"requests"});
  }
  const View& errors = scene.of_service(service, "request.errors");
  if (errors.up() && scene.self(service) > 0.4) {
    draft.add(weight::kSignal, errors.onset_ns, fmt::format("{} answers {} with errors by itself", service, per_second(errors.now)), {"requests"});
  }
  const View& cpu = scene.of_service(service, "cpu.time");
  if (cpu.up() && cpu.onset_ns >= change->time_ns - 2 * kNsPerSecond) {
    draft.add(weight::kHint, cpu.onset_ns, fmt::format("{} uses {:.2f} CPUs (normal {:.2f})", service, cpu.now, cpu.normal), {"kernel"});
  }
  const std::string worse = self.up() ? fmt::format(" spends {} a request", from_to(self.normal, self.now, format_seconds))
                            : calls > 0 && before > 0 && calls > before ? fmt::format(" makes {:.1f} calls a request (normal {:.1f})", calls, before)
                            : errors.up() ? std::string(" answers with errors") : std::string(" is slower");
  draft.title = version != nullptr ? fmt::format("{}: the version started at {}{}", service, scene.time(change->time_ns), worse)
                                   : fmt::format("{}: since its start at {} it{}", service, scene.time(change->time_ns), worse);
  if (felt > scene.self(service)) {
    draft.add(weight::kElsewhere + felt * (weight::kLocated - weight::kElsewhere), scene.onset_ns(), fmt::format("{} of the trouble passes through {}", percent(felt), service), {"calls"});
  } else {
    locate(scene, draft, service);
  }
  drafts.push_back(std::move(draft));
}

// It came back with another address to call, and nobody answers there.
void another_address(const Scene& scene, Drafts& drafts, const std::string& service) {
  const Event* version = latest(scene, service, true);
  const Event* change = version != nullptr ? version : latest(scene, service, false);
  if (change == nullptr || scene.base_seconds() < kPastKnownS) return;
  const Edge* wrong = nullptr;
  std::string before;
  for (const Edge* edge : scene.callees_of(service)) {
    if (edge->fresh && !edge->connect_errno.empty() && (wrong == nullptr || edge->failures > wrong->failures)) wrong = edge;
    const View& rate = scene.find(edge->entity, "client.rate");
    if (!edge->fresh && rate.normal > 0 && rate.now <= 0) before = edge->callee;
  }
  if (wrong == nullptr) return;
  Draft draft = draft_of(scene, "application/config-change", service);
  draft.change = true;
  draft.onset_ns = std::min(change->time_ns, scene.onset_ns());
  draft.title = fmt::format("{}: since its start at {} it calls {}{}, where nothing answers ({})", service, scene.time(change->time_ns), wrong->callee,
                            before.empty() ? "" : fmt::format(" instead of {}", before), wrong->connect_errno);
  draft.trigger = Trigger{change->time_ns, fmt::format("{} was started again", service)};
  draft.add(weight::kRestartChange, change->time_ns, draft.trigger->text, {"kernel"});
  draft.add(weight::kErrno, scene.onset_ns(), fmt::format("connections to {}, which it never called before, fail ({}, {})", wrong->callee, wrong->connect_errno, per_second(wrong->failures)), {"kernel"});
  if (!before.empty()) draft.add(weight::kSignal, scene.onset_ns(), fmt::format("it calls {} no more", before), {"calls"});
  // The address is wrong, not ill: what stops there stops here.
  draft.add(weight::kElsewhere + scene.flow(service) * (weight::kLocated - weight::kElsewhere), scene.onset_ns(), fmt::format("{} of the trouble passes through {}", percent(scene.flow(service)), service), {"calls"});
  drafts.push_back(std::move(draft));
}

// A write that brought a known mistake says more than one that did not.
void configuration(const Scene& scene, Drafts& drafts, const std::string& service) {
  std::vector<const Event*> writes;
  for (const Event& event : scene.changes()) {
    if (event.name == "config.violation") writes.insert(writes.begin(), &event);
    else if (event.name == "config.write") writes.push_back(&event);
  }
  for (const Event* write : writes) {
    const Event& event = *write;
    if (event.time_ns < scene.onset_ns() - kBeforeNs || event.time_ns > scene.onset_ns() + kAfterNs) continue;
    std::string of = scene.service_of_entity(event.entity);
    if (of.empty()) of = event.attribute("service");
    if (of != service) continue;
    std::string_view path = event.attribute("file.path");
    if (path.empty()) path = event.attribute("path");
    Draft draft = draft_of(scene, "application/config-change", service);
    draft.change = true;
    draft.onset_ns = event.time_ns;
    draft.title = fmt::format("{}: its configuration{} was changed at {}", service, path.empty() ? "" : fmt::format(" {}", path), scene.time(event.time_ns));
    draft.trigger = Trigger{event.time_ns, fmt::format("configuration of {} was written", service)};
    draft.add(weight::kConfigChange, event.time_ns, fmt::format("{} was written", path.empty() ? "configuration" : path), {"configuration"});
    if (const std::string_view policy = event.attribute("policy"); !policy.empty()) {
      draft.title = fmt::format("{}: its configuration {} began to violate policy {} at {}", service, path, policy, scene.time(event.time_ns));
      draft.add(weight::kHint, event.time_ns, short_line(event.body), {fmt::format("policy {}", policy)});
    }
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
    return;
  }
}

}  // namespace

void causes_change(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    if (flow < kFlowFelt) continue;
    release(scene, drafts, service);
    another_address(scene, drafts, service);
    configuration(scene, drafts, service);
  }
}

}  // namespace culprit::explain
