#include "rules/clauses.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "daemon/base/text.h"
#include "rules/regex.h"

namespace culprit::rules {
namespace {

constexpr std::size_t kShownBytes = 160;

std::string seconds_text(std::int64_t ns) { return format_seconds(static_cast<double>(ns) / 1e9); }

std::string clause_text(const Rule& rule, const MatchItem& item) {
  std::string text = fmt::format("{}{} {}", item.absent ? "no " : "", kind_key(item.kind), item.name.empty() ? "(any)" : item.name);
  if (item.least > 1) text += fmt::format(", {} times", item.least);
  if (item.same_entity) text += ", same entity";
  if (item.when != When::Any) {
    text += fmt::format(", within {} {} {}", seconds_text(item.within_ns), item.when == When::Before ? "before" : item.when == When::After ? "after" : "around", rule.match[item.of].id);
  }
  if (item.optional) text += fmt::format(", optional (+{})", item.weight);
  return text;
}

std::vector<Condition> conditions_of(const MatchItem& item, const stream::Event& event) {
  std::vector<Condition> result;
  const auto add = [&](std::string text, std::string got, bool holds) { result.push_back({std::move(text), std::move(got), holds}); };
  if (!item.entity.empty()) add("entity " + item.entity, event.entity, glob_match(item.entity, event.entity));
  if (item.above) add(fmt::format("above {:g}", *item.above), fmt::format("{:g}", event.value), event.value > *item.above);
  if (item.below) add(fmt::format("below {:g}", *item.below), fmt::format("{:g}", event.value), event.value < *item.below);
  for (const AttributeMatch& match : item.where) {
    const std::string_view value = event.attribute(match.attribute);
    add(fmt::format("{} is {}", match.attribute, fmt::join(match.globs, " or ")), std::string(value), std::ranges::any_of(match.globs, [value](const auto& glob) { return glob_match(glob, value); }));
  }
  if (!item.filter.empty()) add("filter " + item.filter_text, event.body.substr(0, kShownBytes), item.filter.matches(event));
  MatchItem alone;
  alone.kind = item.kind;
  if (!item.text.empty()) {
    alone.text = item.text;
    add("text " + item.text, event.body.substr(0, kShownBytes), fits(alone, event));
  }
  if (item.compiled != nullptr) add("regex " + item.regex, event.body.substr(0, kShownBytes), item.compiled->matches(event.body));
  return result;
}

}  // namespace

std::int64_t span_of(const Rule& rule) {
  std::int64_t span = 0;
  for (std::size_t i = 0; i < rule.match.size(); ++i) {
    if (i != rule.anchor && rule.match[i].when == When::Any) return kWindowNsMax;
    span = std::min(kWindowNsMax, span + rule.match[i].within_ns);
  }
  return std::max<std::int64_t>(span, 30'000'000'000);
}

RuleReport explain_rule(const RulePtr& rule, std::span<const stream::Event> events, std::int64_t at_ns) {
  RuleReport report;
  const std::int64_t span = span_of(*rule);
  report.from_ns = at_ns - span;
  report.to_ns = at_ns + span;
  std::vector<std::vector<Occurrence>> fitting(rule->match.size());
  Topology topology;
  std::vector<std::shared_ptr<const stream::Event>> window;
  for (const stream::Event& event : events) {
    topology.learn(event);
    if (event.time_ns >= report.from_ns && event.time_ns <= report.to_ns) window.push_back(std::make_shared<const stream::Event>(event));
  }
  std::ranges::stable_sort(window, {}, [](const auto& event) { return event->time_ns; });
  for (std::size_t i = 0; i < rule->match.size(); ++i) {
    const MatchItem& item = rule->match[i];
    ClauseReport clause{.id = item.id, .text = clause_text(*rule, item)};
    std::shared_ptr<const stream::Event> nearest;
    bool nearest_fits = false;
    for (const auto& event : window) {
      if (event->kind != item.kind || (!item.name.empty() && !glob_match(item.name, event->name))) continue;
      const bool fitted = fits(item, *event);
      if (fitted) {
        fitting[i].push_back({event});
        ++clause.fitting;
      }
      const bool nearer = !nearest || std::abs(event->time_ns - at_ns) < std::abs(nearest->time_ns - at_ns);
      if ((fitted && !nearest_fits) || (fitted == nearest_fits && nearer)) {
        nearest = event;
        nearest_fits = fitted;
      }
    }
    clause.holds = item.absent ? clause.fitting < item.least : clause.fitting >= item.least;
    if (nearest) {
      clause.nearest = fmt::format("{} {} {}", nearest->entity, nearest->name, nearest->kind == Kind::Sample ? fmt::format("{:g}", nearest->value) : nearest->body.substr(0, kShownBytes));
      clause.nearest_ns = nearest->time_ns;
      clause.conditions = conditions_of(item, *nearest);
    }
    report.clauses.push_back(std::move(clause));
  }
  Evaluation out;
  evaluate_rule(rule, fitting, topology, INT64_MAX, out);
  sort_findings(out.findings);
  report.findings = std::move(out.findings);
  const bool each = std::ranges::all_of(report.clauses, &ClauseReport::holds);
  for (const Join& join : rule->joins) report.relations.push_back({join.text, "", !report.findings.empty()});
  for (const Path& path : rule->paths) report.relations.push_back({path.text, fmt::format("{} edges known", topology.size()), !report.findings.empty()});
  if (!each) report.relations.clear();
  return report;
}

}  // namespace culprit::rules
