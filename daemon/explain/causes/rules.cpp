// Rules that fired: what a rule blames is a candidate like any other, with the rule's own weight.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {
constexpr std::int64_t kLeadNs = 60 * kNsPerSecond;

// What happened within an earlier incident, which is over, is that one's story.
bool of_earlier_incident(const Scene& scene, std::int64_t time_ns) {
  return std::ranges::any_of(scene.options().excluded, [&](const auto& span) { return time_ns >= span.first && time_ns < span.second; });
}
}  // namespace

void causes_rules(const Scene& scene, Drafts& drafts) {
  for (const RuleHit& hit : scene.options().rule_hits) {
    if (hit.time_ns < scene.onset_ns() - kLeadNs || hit.time_ns > scene.end_ns() || of_earlier_incident(scene, hit.time_ns)) continue;
    const std::string service = scene.service_of_entity(hit.entity);
    if (service.empty() || (!scene.in_reach(service) && !std::ranges::binary_search(scene.incident().services, service))) continue;
    const FailureMode* mode = find_mode(hit.failure_mode);
    Draft draft = draft_of(scene, mode != nullptr ? mode->id : std::string_view(hit.failure_mode), service);
    if (const std::int64_t pid = parse_pid(hit.entity); hit.entity.starts_with("process:") && pid != 0) {
      blame_process(scene, draft, pid);
      draft.entity = hit.entity;
    }
    draft.onset_ns = hit.time_ns;
    draft.judged = true;
    draft.title = fmt::format("{}: {}", service, hit.text.empty() ? std::string(failure_mode(draft.mode).name) : short_line(hit.text, 120));
    draft.add(weight::kRule * std::clamp(hit.weight, -4.0, 4.0), hit.time_ns, hit.text.empty() ? fmt::format("rule {} fired", hit.rule) : short_line(hit.text), {fmt::format("rule {}", hit.rule)});
    locate(scene, draft, service);
    drafts.push_back(std::move(draft));
  }
}

}  // namespace culprit::explain
