#include "daemon/explain/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/blocks.h"
#include "daemon/explain/draft.h"
#include "daemon/explain/headline.h"
#include "daemon/explain/rank.h"
#include "daemon/explain/scene.h"

namespace culprit::explain {

namespace {

constexpr std::array kGenerators = {
    causes_process_life, causes_memory,   causes_cpu,     causes_disk_space, causes_disk_speed, causes_limits, causes_logs,
    causes_database,     causes_network,  causes_change,  causes_load,       causes_callee,     causes_rules,
};

std::string completeness_text(const Completeness& completeness) {
  std::uint64_t dropped = 0;
  std::vector<std::string> reasons;
  for (const auto& [reason, count] : completeness.dropped) {
    if (count == 0) continue;
    dropped += count;
    reasons.push_back(reason);
  }
  std::string text;
  if (dropped > 0) text = fmt::format("{} events dropped: {}", group_digits(dropped), fmt::join(reasons, ", "));
  if (!completeness.blind.empty()) text += fmt::format("{}not seen: {}", text.empty() ? "" : "; ", fmt::join(completeness.blind, ", "));
  return text;
}

}  // namespace

Result<Explanation> explain(const stream::EventStore& store, const detect::Incident& incident, const ExplainOptions& options) {
  Explanation out;
  out.incident = incident.id;
  out.service = options.focus.empty() ? incident.service : options.focus;
  out.state = incident.state;
  out.symptoms = incident.symptoms;
  out.completeness = options.completeness;
  if (out.completeness.text.empty()) out.completeness.text = completeness_text(options.completeness);
  out.wall_offset_ns = options.wall_offset_ns;
  out.rules_fired = options.rule_hits;
  out.rules_hash = options.rules_hash;
  if (incident.healthy()) {
    out.verdict = Verdict::Healthy;
    ASSIGN(out.headline, healthy_headline(store, out.service, options));
    return out;
  }
  ASSIGN(const Scene scene, Scene::load(store, incident, options));
  ASSIGN(out.headline, incident_headline(store, scene));
  Drafts drafts;
  for (const auto& generate : kGenerators) generate(scene, drafts);
  merge(drafts);
  weigh(scene, drafts);
  TRY(weigh_blocks(store, scene, drafts));
  weigh_verdicts(scene, drafts);
  rank(scene, drafts, out);
  return out;
}

}  // namespace culprit::explain
