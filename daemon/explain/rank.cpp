#include "daemon/explain/rank.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <tuple>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::explain {

namespace {

constexpr std::int64_t kLateNs = 6 * kNsPerSecond;  // after the onset: too late to have caused it
constexpr double kNamesAReason = 2.5;               // support with which a specific candidate beats a generic one
constexpr double kShown = 0.02;                     // confidence below which a candidate is not worth a line
constexpr std::size_t kEvidenceMax = 8;

struct Accounts {
  std::string_view cause, effect;  // modes, '*' at the end = prefix
};
// At one service, the first accounts for the second: what explain finds by itself. What brings what about beyond that the packs say.
constexpr std::array kAccounts = std::to_array<Accounts>({
    {"application/bad-release", "application/cpu-growth"},
    {"application/bad-release", "application/slow-code"},
    {"application/bad-release", "application/errors"},
    {"application/bad-release", "linux-kernel/process-killed"},
    {"application/bad-release", "linux-kernel/process-exit"},
    {"application/bad-release", "linux-kernel/restart-loop"},
    {"application/cpu-growth", "application/dependency-slow"},
    {"application/cpu-growth", "application/slow-code"},
    {"postgresql/slow-query", "application/dependency-slow"},
    {"postgresql/slow-query", "application/slow-code"},
    {"redis/slow-command", "application/dependency-*"},
    {"application/load-spike", "application/cpu-growth"},
    {"application/load-spike", "application/slow-code"},
    {"linux-kernel/cgroup-oom", "linux-kernel/process-*"},
    {"linux-kernel/cgroup-oom", "linux-kernel/memory-limit"},
    {"linux-kernel/cgroup-oom", "linux-kernel/restart-loop"},
    {"linux-kernel/cgroup-oom", "application/bad-release"},
    {"linux-kernel/oom-kill", "linux-kernel/process-*"},
    {"linux-kernel/oom-kill", "application/bad-release"},
    {"linux-kernel/process-killed", "application/bad-release"},
    {"linux-kernel/process-crash", "linux-kernel/restart-loop"},
    {"linux-kernel/process-stopped", "postgresql/lock-wait"},
    {"linux-kernel/process-stopped", "mysql/lock-wait"},
    {"linux-kernel/disk-full", "linux-kernel/process-*"},
    {"linux-kernel/disk-full", "linux-kernel/disk-slow"},
    {"linux-kernel/disk-full", "postgresql/lock-wait"},
    {"linux-kernel/fs-readonly", "linux-kernel/process-*"},
    {"linux-kernel/fd-limit", "linux-kernel/accept-queue"},
    {"linux-kernel/fd-limit", "linux-kernel/process-*"},
    {"postgresql/too-many-clients", "linux-kernel/process-exit"},
    {"postgresql/too-many-clients", "postgresql/lock-wait"},
    {"linux-kernel/tcp-retrans", "linux-kernel/tcp-reset"},
    {"linux-kernel/tcp-retrans", "application/dependency-*"},
    {"linux-kernel/network-delay", "application/dependency-*"},
});

bool covers(std::string_view pattern, std::string_view mode) {
  if (pattern.ends_with('*')) return mode.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == mode;
}

bool by_calls(const Evidence& item) { return !item.sources.empty() && item.sources.front() == "calls"; }

bool better(const Draft& a, const Draft& b) {
  const double x = a.score(), y = b.score();
  if (x != y) return x > y;
  return std::tie(a.mode, a.entity, a.title) < std::tie(b.mode, b.entity, b.title);
}

std::vector<std::string> also_of(const Draft& draft) {
  std::vector<std::string> out;
  for (const std::string_view name : failure_mode(draft.mode).also) out.emplace_back(name);
  for (const std::string& name : draft.also) {
    if (std::ranges::find(out, name) == out.end()) out.push_back(name);
  }
  return out;
}

std::vector<std::string> next_of(const Scene& scene, const Draft& draft) {
  std::vector<std::string> out;
  const std::string entity = draft.pid != 0 ? fmt::format("process:{}", draft.pid) : draft.entity;
  const std::int64_t when = draft.trigger ? draft.trigger->time_ns : draft.onset_ns != 0 ? draft.onset_ns : scene.onset_ns();
  out.push_back(fmt::format("culprit events --entity {} --around {}", entity, scene.time(when)));
  const FailureMode& mode = failure_mode(draft.mode);
  if (scene.options().knowledge != nullptr) {
    for (const std::string& name : also_of(draft)) {
      for (std::string& text : scene.options().knowledge->mitigations(name)) {
        if (out.size() >= 3) break;
        out.push_back(std::move(text));
      }
      if (out.size() >= 3) break;
    }
  }
  if (out.size() == 1 && !mode.hint.empty()) out.emplace_back(mode.hint);
  return out;
}

// Requests seen in the incident, as the source of what calls tell.
std::string requests_seen(const Scene& scene) {
  const View& rate = scene.of_service(scene.root(), "request.rate");
  const double seconds = static_cast<double>(scene.windows().now_to_ns - scene.windows().now_from_ns) / 1e9;
  const double count = rate.now * seconds;
  if (count < 1) return "calls";
  return fmt::format("{} requests", group_digits(static_cast<std::uint64_t>(count)));
}

RankedCause cause_of(const Scene& scene, const Draft& draft) {
  RankedCause cause;
  cause.entity = draft.entity;
  cause.service = draft.service;
  cause.pid = draft.pid;
  cause.process = draft.process;
  cause.failure_mode = draft.mode;
  cause.also = also_of(draft);
  cause.title = draft.title;
  cause.trigger = draft.trigger;
  cause.evidence = draft.evidence;
  // The weightiest stay, in time order.
  std::ranges::stable_sort(cause.evidence, [](const Evidence& a, const Evidence& b) { return std::fabs(a.weight) > std::fabs(b.weight); });
  if (cause.evidence.size() > kEvidenceMax) cause.evidence.resize(kEvidenceMax);
  const std::string requests = requests_seen(scene);
  for (Evidence& item : cause.evidence) {
    if (by_calls(item)) item.sources = {requests};
    item.weight = std::round(item.weight * 100) / 100;
  }
  std::ranges::stable_sort(cause.evidence, {}, &Evidence::time_ns);
  cause.ruled_out = ruled_out(scene, draft);
  cause.next = next_of(scene, draft);
  return cause;
}

std::string what_to_collect(const Scene& scene, const Drafts& drafts) {
  std::vector<std::string> wishes;
  for (const std::string& blind : scene.options().completeness.blind) {
    if (wishes.size() < 2) wishes.push_back(fmt::format("{} (not seen: culprit doctor says why)", blind));
  }
  if (!scene.edges_known()) wishes.push_back(fmt::format("calls of {} to other services: watch it with payload capture", scene.root()));
  for (const auto& [service, flow] : scene.reach()) {
    if (wishes.size() >= 3) break;
    if (flow >= 0.3 && !scene.has_logs(service)) wishes.push_back(fmt::format("the log of {}", service));
  }
  if (scene.base_seconds() < 30) wishes.emplace_back("more healthy time to compare with: ask again in a minute");
  if (wishes.empty()) wishes.push_back(fmt::format("a profile and the log of {} at the debug level", drafts.empty() ? scene.root() : drafts.front().service));
  return fmt::format("no cause stands out; collect {}", fmt::join(wishes, "; "));
}

}  // namespace

void merge(Drafts& drafts) {
  Drafts out;
  for (Draft& draft : drafts) {
    const auto twin = std::ranges::find_if(out, [&](const Draft& other) { return other.mode == draft.mode && other.service == draft.service; });
    if (twin == out.end()) {
      out.push_back(std::move(draft));
      continue;
    }
    // What names a process says more than what does not.
    const bool renames = (draft.pid != 0 && twin->pid == 0) || (twin->pid == 0 && draft.support() > twin->support() && draft.title.size() > twin->title.size());
    if (renames) {
      std::swap(twin->title, draft.title);
      std::swap(twin->entity, draft.entity);
      std::swap(twin->pid, draft.pid);
      if (!draft.process.empty()) std::swap(twin->process, draft.process);
    }
    if (!twin->trigger) twin->trigger = std::move(draft.trigger);
    twin->generic = twin->generic && draft.generic;
    twin->judged = twin->judged || draft.judged;
    twin->prior = std::max(twin->prior, draft.prior);
    if (draft.onset_ns != 0 && (twin->onset_ns == 0 || draft.onset_ns < twin->onset_ns)) twin->onset_ns = draft.onset_ns;
    for (std::string& name : draft.also) twin->also.push_back(std::move(name));
    for (Evidence& item : draft.evidence) {
      const auto same = std::ranges::find_if(twin->evidence, [&](const Evidence& other) {
        return other.text == item.text || (by_calls(other) && by_calls(item));
      });
      if (same == twin->evidence.end()) {
        twin->evidence.push_back(std::move(item));
      } else if (item.weight > same->weight) {
        *same = std::move(item);
      }
    }
  }
  drafts = std::move(out);
}

void weigh(const Scene& scene, Drafts& drafts) {
  for (Draft& draft : drafts) {
    if (draft.onset_ns > scene.onset_ns() + kLateNs) {
      draft.add(weight::kTooLate, draft.onset_ns, fmt::format("it began {} after the symptom", format_seconds(static_cast<double>(draft.onset_ns - scene.onset_ns()) / 1e9)), {"time"});
    }
  }
  // All comparisons use the scores from before any of them, so that the order of drafts does not matter.
  std::vector<double> scores, supports;
  for (const Draft& draft : drafts) {
    scores.push_back(draft.score());
    supports.push_back(draft.support());
  }
  std::vector<std::pair<std::size_t, Evidence>> added;
  for (std::size_t i = 0; i < drafts.size(); ++i) {
    const Draft& draft = drafts[i];
    std::size_t beaten_by = drafts.size();
    double penalty = 0;
    for (std::size_t k = 0; k < drafts.size(); ++k) {
      if (k == i || scores[k] < scores[i]) continue;
      const bool here = drafts[k].service == draft.service;
      const bool accounts = here && (std::ranges::any_of(kAccounts, [&](const Accounts& row) { return covers(row.cause, drafts[k].mode) && covers(row.effect, draft.mode); }) ||
                                     brings_about(scene, drafts[k].mode, draft.mode));
      double cost = 0;
      if (accounts) cost = weight::kExplainedAway;
      // A host-wide cause names the reason for whoever suffers from it, wherever it runs itself.
      if (draft.generic && !drafts[k].generic && supports[k] >= kNamesAReason) cost = std::min(cost, weight::kGenericBeaten);
      if (cost < penalty) {
        penalty = cost;
        beaten_by = k;
      }
    }
    if (beaten_by < drafts.size()) {
      // What an effect was seen by is seen of its cause too. It says nothing more about which cause it is.
      if (is_effect(scene, draft.mode) && !draft.evidence.empty()) {
        const Evidence& seen = *std::ranges::max_element(draft.evidence, {}, &Evidence::weight);
        added.emplace_back(beaten_by, Evidence{seen.time_ns, fmt::format("accounts for: {}", seen.text), seen.sources, 0, true});
      }
      added.emplace_back(i, Evidence{scene.onset_ns(), fmt::format("accounted for by: {}", drafts[beaten_by].title), {"ranking"}, penalty, false});
    }
  }
  for (auto& [i, item] : added) drafts[i].evidence.push_back(std::move(item));
}

double seen_share(const Scene& scene) {
  const Completeness& completeness = scene.options().completeness;
  double seen = 0.5 + 0.5 * std::clamp(completeness.share, 0.0, 1.0);
  seen *= std::max(0.7, 1 - 0.06 * static_cast<double>(completeness.blind.size()));
  // Kinds of signals that are not there at all cannot rule anything out.
  for (const std::string_view needed : {"cpu.run_queue.wait", "cpu.time"}) {
    if (!scene.any(needed)) seen *= 0.93;
  }
  if (!scene.edges_known() && scene.edges().empty()) seen *= 0.93;
  for (const stream::Event& event : scene.kernel()) {
    if (event.name == "sensor.gap" && event.time_ns >= scene.onset_ns() - 5 * kNsPerSecond) {
      seen *= 0.85;
      break;
    }
  }
  const double base = scene.base_seconds();
  if (base < 30) seen *= 0.8 + 0.2 * std::max(0.0, base) / 30;
  return seen;
}

void rank(const Scene& scene, Drafts& drafts, Explanation& out) {
  std::ranges::stable_sort(drafts, better);
  double total = std::exp(weight::kUnknown);
  for (const Draft& draft : drafts) total += std::exp(draft.score());
  const double seen = seen_share(scene);
  for (const Draft& draft : drafts) {
    if (out.candidates.size() >= scene.options().candidates_max) break;
    double confidence = seen * std::exp(draft.score()) / total;
    confidence = std::round(100 * std::min(weight::kConfidenceMax, confidence)) / 100;
    if (confidence < kShown && !out.candidates.empty()) break;
    RankedCause cause = cause_of(scene, draft);
    cause.rank = static_cast<int>(out.candidates.size()) + 1;
    cause.confidence = confidence;
    out.candidates.push_back(std::move(cause));
  }
  if (out.candidates.empty() || out.candidates.front().confidence < weight::kConclusive) {
    out.verdict = Verdict::Inconclusive;
    out.inconclusive = what_to_collect(scene, drafts);
  } else {
    out.verdict = Verdict::Explained;
  }
}

}  // namespace culprit::explain
