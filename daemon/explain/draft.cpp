#include "daemon/explain/draft.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::explain {

namespace {
constexpr std::string_view kWhere = "calls";  // the source that marks location evidence

std::vector<std::string_view> names_of(std::string_view mode) {
  std::vector<std::string_view> names = {mode};
  const auto& also = failure_mode(mode).also;
  names.insert(names.end(), also.begin(), also.end());
  return names;
}
}  // namespace

bool is_effect(const Scene& scene, std::string_view mode) {
  const Knowledge* knowledge = scene.options().knowledge;
  return knowledge != nullptr && knowledge->is_effect(names_of(mode));
}

bool brings_about(const Scene& scene, std::string_view cause, std::string_view effect) {
  const Knowledge* knowledge = scene.options().knowledge;
  return knowledge != nullptr && cause != effect && knowledge->brings_about(names_of(cause), names_of(effect));
}

Draft& Draft::add(double log_odds, std::int64_t time_ns, std::string text, std::vector<std::string> sources) {
  evidence.push_back({time_ns, std::move(text), std::move(sources), log_odds, log_odds >= 0});
  return *this;
}

double Draft::score() const {
  double sum = prior;
  for (const Evidence& item : evidence) sum += item.weight;
  return sum;
}

double Draft::support() const {
  double sum = 0;
  for (const Evidence& item : evidence) {
    const bool where = !item.sources.empty() && item.sources.front() == kWhere;
    if (item.weight > 0 && !where) sum += item.weight;
  }
  return sum;
}

Draft draft_of(const Scene& scene, std::string_view mode, std::string_view service) {
  Draft draft;
  draft.mode = mode;
  draft.service = service;
  draft.entity = fmt::format("service:{}", service);
  draft.prior = failure_mode(mode).prior;
  if (is_effect(scene, mode)) {
    draft.generic = true;
    draft.prior += weight::kAgainst;
  }
  // The program to name: that of its longest-lived process.
  std::int64_t oldest = INT64_MAX;
  for (const auto& [pid, process] : scene.processes()) {
    if (process.service != service || process.command.empty() || process.first_ns >= oldest) continue;
    oldest = process.first_ns;
    draft.process = process.command;
  }
  return draft;
}

void blame_process(const Scene& scene, Draft& draft, std::int64_t pid) {
  draft.pid = pid;
  const Process* process = scene.process(pid);
  if (process == nullptr) return;
  if (!process->command.empty()) draft.process = process->command;
  if (!process->service.empty()) draft.service = process->service;
}

void locate(const Scene& scene, Draft& draft, std::string_view service) { locate_any(scene, draft, {std::string(service)}); }

void locate_any(const Scene& scene, Draft& draft, const std::vector<std::string>& services) {
  std::string best;
  double share = 0;
  for (const std::string& service : services) {
    if (best.empty() || scene.self(service) > share) {
      best = service;
      share = scene.self(service);
    }
  }
  if (best.empty()) {
    draft.add(weight::kElsewhere, scene.onset_ns(), "nothing that it touches is slow", {std::string(kWhere)});
    return;
  }
  // A whole may be split over several sufferers: together they count.
  double together = 0;
  for (const std::string& service : services) together += scene.self(service);
  share = std::max(share, std::min(1.0, together));
  const std::string& root = scene.root();
  if (best == root && !scene.edges_known()) {
    draft.add(weight::kUnlocated, scene.onset_ns(), fmt::format("no calls of {} to others are known", root),
              {std::string(kWhere)});
    return;
  }
  if (share < 0.4 && scene.errors_hidden(best)) {
    draft.add(weight::kUnlocated, scene.onset_ns(), fmt::format("requests that call {} fail", best), {std::string(kWhere)});
    return;
  }
  const double log_odds = weight::kElsewhere + share * (weight::kLocated - weight::kElsewhere);
  std::string text;
  if (services.size() > 1 && share >= 0.3) {
    text = fmt::format("{} of the lost time is lost in {}", percent(share), fmt::join(services, ", "));
  } else if (best == root) {
    text = share >= 0.5 ? fmt::format("{} of the trouble of {} is its own, not its callees'", percent(share), root)
                        : fmt::format("{} spends the time elsewhere ({} its own)", root, percent(share));
  } else {
    const Edge* way = nullptr;
    for (const Edge* edge : scene.callers_of(best)) {
      if (scene.flow(edge->caller) <= 0) continue;
      if (way == nullptr || scene.flow(edge->caller) * edge->share > scene.flow(way->caller) * way->share) way = edge;
    }
    if (way == nullptr) {
      text = fmt::format("{} is not on the way of the requests", best);
    } else if (way->failures > 0 && way->wait_now < 0.5) {
      text = fmt::format("calls from {} to {} fail ({}{})", way->caller, best, per_second(way->failures),
                         way->connect_errno.empty() ? "" : ", " + way->connect_errno);
    } else if (const View& age = scene.find(way->entity, "client.inflight.age.max"); way->wait_now <= way->wait_normal && age.up()) {
      // Most of its requests wait for one of the calls' connections: the share falls while the calls hang.
      const View& waiting = scene.find(way->entity, "client.inflight");
      text = fmt::format("{:.0f} calls from {} to {} wait, the oldest for {}", std::max(1.0, waiting.now), way->caller, best, from_to(age.normal, age.peak, format_seconds));
    } else {
      text = fmt::format("{} waits on {} {} of its time (normal {})", way->caller, best, percent(way->wait_now),
                         percent(way->wait_normal));
    }
  }
  draft.add(log_odds, scene.onset_ns(), std::move(text), {std::string(kWhere)});
}

std::string per_second(double rate) { return rate < 10 ? fmt::format("{:.1f}/s", rate) : fmt::format("{:.0f}/s", rate); }
std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

std::string from_to(double normal, double now, std::string (*show)(double)) {
  return fmt::format("{} (normal {})", show(now), show(normal));
}

std::string short_line(std::string_view text, std::size_t length_max) {
  std::string out = sanitize_utf8(text);
  std::ranges::replace_if(out, [](unsigned char c) { return c < 0x20; }, ' ');
  if (out.size() <= length_max) return out;
  std::size_t cut = length_max;
  while (cut > 0 && (static_cast<unsigned char>(out[cut]) & 0xC0) == 0x80) --cut;  // not inside a character
  return out.substr(0, cut) + "…";
}

}  // namespace culprit::explain
