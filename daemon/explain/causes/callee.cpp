// Where, if nothing says what: the service at which the trouble stops is slow, silent or failing. Each is generic: a
// candidate that names a reason at the same place beats it.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr double kStopsHere = 0.2;

void callee(const Scene& scene, Drafts& drafts, const std::string& service) {
  const Edge* way = nullptr;
  for (const Edge* edge : scene.callers_of(service)) {
    if (scene.flow(edge->caller) > 0 && (way == nullptr || edge->share > way->share)) way = edge;
  }
  if (way == nullptr) return;
  const View& age = scene.find(way->entity, "client.inflight.age.max");
  const View& duration = scene.find(way->entity, "client.duration.mean");
  const View& p99 = scene.find(way->entity, "client.duration.p99");
  const View& errors = scene.find(way->entity, "client.errors");
  const bool hung = age.up() && age.peak > 1;
  const View& slow = duration.up() ? duration : p99;
  const bool failing = errors.up() || (way->failures > 0 && !slow.up());
  if (!hung && !slow.up() && !failing) return;
  const std::string_view mode = hung ? "application/dependency-hung" : slow.up() ? "application/dependency-slow" : "application/dependency-errors";
  Draft draft = draft_of(scene, mode, service);
  draft.generic = true;
  if (hung) {
    draft.title = fmt::format("{}: does not answer {} (a call waits for {})", service, way->caller, format_seconds(age.peak));
    draft.onset_ns = age.onset_ns;
    draft.add(weight::kSignal, age.onset_ns, fmt::format("a call from {} is unanswered for {}", way->caller, format_seconds(age.peak)), {"kernel"});
  } else if (slow.up()) {
    draft.title = fmt::format("{}: answers {} in {}", service, way->caller, from_to(slow.normal, slow.now, format_seconds));
    draft.onset_ns = slow.onset_ns;
    draft.add(weight::kSignal, slow.onset_ns, fmt::format("calls from {} take {}", way->caller, from_to(slow.normal, slow.now, format_seconds)), {"kernel"});
  } else {
    draft.title = fmt::format("{}: calls from {} fail {}", service, way->caller, per_second(way->failures));
    draft.onset_ns = errors.onset_ns;
    draft.add(weight::kSignal, scene.onset_ns(), fmt::format("calls from {} fail {}", way->caller, per_second(way->failures)), {"kernel"});
  }
  locate(scene, draft, service);
  drafts.push_back(std::move(draft));
}

void itself(const Scene& scene, Drafts& drafts, const std::string& service) {
  const View& self = scene.of_service(service, "request.self.mean");
  const View& errors = scene.of_service(service, "request.errors");
  const View& mean = scene.of_service(service, "request.duration.mean");
  const View& age = scene.of_service(service, "request.inflight.age.max");
  if (errors.up() && !mean.up()) {
    Draft draft = draft_of(scene, "application/errors", service);
    draft.generic = true;
    draft.onset_ns = errors.onset_ns;
    draft.title = fmt::format("{}: answers {} with errors by itself", service, per_second(std::max(errors.now, errors.peak)));
    draft.add(weight::kSignal, errors.onset_ns, fmt::format("{} errors {}", service, from_to(errors.normal, std::max(errors.now, errors.peak), per_second)), {"requests"});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
  if (!self.up() && !mean.up() && !age.up()) return;
  const View& view = self.up() ? self : mean.up() ? mean : age;
  Draft draft = draft_of(scene, "application/slow-code", service);
  draft.generic = true;
  draft.onset_ns = view.onset_ns;
  draft.title = fmt::format("{}: spends the time in itself, {} a request", service, from_to(view.normal, view.now, format_seconds));
  draft.add(self.up() ? weight::kSignal : weight::kHint, view.onset_ns, fmt::format("{} {}", self.up() ? "own time a request" : "time a request", from_to(view.normal, view.now, format_seconds)), {"requests"});
  const View& cpu = scene.of_service(service, "cpu.time");
  const View& queue = scene.of_service(service, "cpu.run_queue.mean");
  if (queue.up()) draft.add(weight::kAgainst, queue.onset_ns, "it waits for a CPU", {"run queue"});
  if (scene.any("cpu.time") && !cpu.up() && !queue.up() && self.up()) {
    draft.add(weight::kHint, scene.onset_ns(), fmt::format("it uses no more CPU ({:.2f}): it sleeps or waits inside", cpu.now), {"kernel"});
  }
  locate(scene, draft, service);
  drafts.push_back(std::move(draft));
}

}  // namespace

void causes_callee(const Scene& scene, Drafts& drafts) {
  for (const auto& [service, flow] : scene.reach()) {
    if (scene.self(service) < kStopsHere) continue;
    const bool answers = scene.of_service(service, "request.rate").base_points + scene.of_service(service, "request.rate").now_points > 0;
    if (answers) itself(scene, drafts, service);
    if (service != scene.root()) callee(scene, drafts, service);
  }
}

}  // namespace culprit::explain
