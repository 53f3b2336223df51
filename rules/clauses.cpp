#include "rules/clauses.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "daemon/base/text.h"
#include "rules/normal.h"
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
  if (item.times_normal) {
    const auto normal = normal_of(event);
    add(fmt::format("above {:g} times its normal", *item.times_normal), normal ? fmt::format("{:g}, normal {:g}", event.value, *normal) : "its normal is not known yet", normal && event.value > *item.times_normal * *normal);
  }
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

std::string shown(const stream::Event& event) {
  return fmt::format("{} {} {}", event.entity, event.name, event.kind == Kind::Sample ? fmt::format("{:g}", event.value) : event.body.substr(0, kShownBytes));
}

bool named_as(const MatchItem& item, const stream::Event& event) { return event.kind == item.kind && (item.name.empty() || glob_match(item.name, event.name)); }

using EventPtr = std::shared_ptr<const stream::Event>;
constexpr std::size_t kAnchorsTried = 32;

class Explaining {
 public:
  Explaining(const RulePtr& rule, std::vector<EventPtr> window, const Topology& topology, std::int64_t at_ns) : rule_(rule), window_(std::move(window)), topology_(topology), at_ns_(at_ns), bound_(rule->match.size()) {
    for (const MatchItem& item : rule_->match) {
      std::vector<Occurrence>& fitting = fitting_.emplace_back();
      for (const EventPtr& event : window_) {
        if (event->kind == item.kind && fits(item, *event)) fitting.push_back({event});
      }
    }
  }

  void report(RuleReport& out) {
    out.findings = evaluate(*rule_);
    bind(out.findings);
    for (std::size_t i = 0; i < rule_->match.size(); ++i) out.clauses.push_back(clause(i));
    for (const Join& join : rule_->joins) {
      if (!speaks_of_absent(join)) out.relations.push_back(condition_of(join));
    }
    for (const Path& path : rule_->paths) {
      std::string told;
      const bool holds = topology_.walk(path, values_on(path), &told);
      out.relations.push_back({path.text, std::move(told), holds});
    }
  }

 private:
  std::vector<Finding> evaluate(const Rule& rule) const {
    Evaluation out;
    evaluate_rule(RulePtr(&rule, [](const Rule*) {}), fitting_, topology_, INT64_MAX, out);
    sort_findings(out.findings);
    for (Finding& finding : out.findings) finding.rule = rule_;
    return std::move(out.findings);
  }

  // Which events are shown: those of what fires, else of the nearest try.
  void bind(const std::vector<Finding>& fired) {
    const auto take = [this](const std::vector<Finding>& findings) {
      const Finding* nearest = nullptr;
      for (const Finding& finding : findings) {
        if (nearest == nullptr || std::abs(finding.time_ns - at_ns_) < std::abs(nearest->time_ns - at_ns_)) nearest = &finding;
      }
      if (nearest == nullptr) return false;
      anchors_ = nearest->count;
      for (std::size_t i = 0; i < rule_->match.size(); ++i) {
        for (const Bound& bound : nearest->bound) {
          if (bound.id == rule_->match[i].id) bound_[i] = bound.event;
        }
      }
      return true;
    };
    if (take(fired)) return;
    // Does it fail only for want of repetitions?
    Rule once = *rule_;
    once.match[once.anchor].least = 1;
    if (take(evaluate(once))) return;
    std::vector<EventPtr> anchors;
    for (const Occurrence& occurrence : fitting_[rule_->anchor]) anchors.push_back(occurrence.event);
    std::ranges::stable_sort(anchors, {}, [this](const EventPtr& event) { return std::abs(event->time_ns - at_ns_); });
    anchors_ = 0;
    std::vector<EventPtr> best(rule_->match.size());
    std::size_t most = 0;
    for (std::size_t k = 0; k < std::min(anchors.size(), kAnchorsTried); ++k) {
      const std::size_t holding = bind_around(anchors[k]);
      if (holding <= most) continue;
      most = holding;
      best = bound_;
    }
    bound_ = std::move(best);
    for (const EventPtr& event : anchors) anchors_ += bound_[rule_->anchor] != nullptr && event->entity == bound_[rule_->anchor]->entity ? 1 : 0;
  }

  // Takes for each other item what fits it best around this anchor. Returns how many clauses and relations hold then.
  std::size_t bind_around(const EventPtr& anchor) {
    std::ranges::fill(bound_, nullptr);
    bound_[rule_->anchor] = anchor;
    std::size_t holding = 1;
    for (std::size_t i = 0; i < rule_->match.size(); ++i) {
      if (i == rule_->anchor) continue;
      if (rule_->match[i].absent) {
        holding += count(i) < rule_->match[i].least ? 1 : 0;
        continue;
      }
      std::size_t most = 0;
      EventPtr best;
      for (const Occurrence& occurrence : fitting_[i]) {
        if (!in_window(i, *occurrence.event) || occurrence.event == anchor) continue;
        bound_[i] = occurrence.event;
        const std::size_t relations = relations_holding();
        if (best != nullptr && (relations < most || (relations == most && std::abs(occurrence.event->time_ns - base_ns(i)) >= std::abs(best->time_ns - base_ns(i))))) continue;
        most = relations;
        best = occurrence.event;
      }
      bound_[i] = best;
      holding += count(i) >= rule_->match[i].least ? 1 : 0;
    }
    return holding + relations_holding();
  }

  std::size_t relations_holding() const {
    std::size_t holding = 0;
    for (const Join& join : rule_->joins) holding += !speaks_of_absent(join) && condition_of(join).holds ? 1 : 0;
    for (const Path& path : rule_->paths) {
      holding += topology_.walk(path, values_on(path)) ? 1 : 0;
    }
    return holding;
  }

  // With `event` in the place of item `of`, whatever is bound to it.
  std::optional<std::string> value_of(const Reference& reference, std::size_t of = SIZE_MAX, const stream::Event* event = nullptr) const {
    for (std::size_t i = 0; i < rule_->match.size(); ++i) {
      if (rule_->match[i].id != reference.id) continue;
      const stream::Event* bound = i == of ? event : bound_[i].get();
      if (bound != nullptr) return field_of(rule_->match[i], *bound, reference.field);
    }
    return std::nullopt;
  }

  Condition condition_of(const Join& join, std::size_t of = SIZE_MAX, const stream::Event* event = nullptr) const {
    const auto left = value_of(join.left, of, event);
    const auto right = value_of(join.right, of, event);
    return {join.text, fmt::format("{} and {}", left.value_or("nothing"), right.value_or("nothing")), left && right && !left->empty() && plain_name(*left) == plain_name(*right)};
  }

  // Such a join is a condition of the item that must be absent.
  bool speaks_of_absent(const Join& join) const {
    return std::ranges::any_of(rule_->match, [&join](const MatchItem& item) { return item.absent && (item.id == join.left.id || item.id == join.right.id); });
  }
  std::vector<Condition> joins_of_absent(std::size_t i, const stream::Event& event) const {
    std::vector<Condition> result;
    const MatchItem& item = rule_->match[i];
    for (const Join& join : rule_->joins) {
      if (item.absent && (item.id == join.left.id || item.id == join.right.id)) result.push_back(condition_of(join, i, &event));
    }
    return result;
  }

  std::map<std::string, std::string> values_on(const Path& path) const {
    std::map<std::string, std::string> values;
    for (const Path::Stop& stop : path.stops) {
      if (!stop.reference) continue;
      if (auto value = value_of(*stop.reference)) values.insert_or_assign(stop.reference->id + "." + stop.reference->field, std::move(*value));
    }
    return values;
  }

  // What an item's window is measured from; the moment itself where that is not there.
  std::int64_t base_ns(std::size_t i) const {
    const EventPtr& of = bound_[rule_->match[i].of];
    return i != rule_->anchor && of != nullptr ? of->time_ns : at_ns_;
  }
  bool in_time(std::size_t i, const stream::Event& event) const {
    const MatchItem& item = rule_->match[i];
    if (i == rule_->anchor || item.when == When::Any) return true;
    const std::int64_t after = event.time_ns - base_ns(i);
    return (item.when == When::After ? after >= 0 : after >= -item.within_ns) && (item.when == When::Before ? after <= 0 : after <= item.within_ns);
  }
  bool of_entity(std::size_t i, const stream::Event& event) const {
    const EventPtr& anchor = bound_[rule_->anchor];
    return !rule_->match[i].same_entity || (anchor != nullptr && event.entity == anchor->entity);
  }
  bool in_window(std::size_t i, const stream::Event& event) const { return in_time(i, event) && of_entity(i, event) && std::ranges::all_of(joins_of_absent(i, event), &Condition::holds); }

  std::uint64_t count(std::size_t i) const {
    if (i == rule_->anchor) return anchors_;
    return static_cast<std::uint64_t>(std::ranges::count_if(fitting_[i], [&](const Occurrence& o) { return o.event != bound_[rule_->anchor] && in_window(i, *o.event); }));
  }

  std::vector<Condition> conditions(std::size_t i, const stream::Event& event) const {
    const MatchItem& item = rule_->match[i];
    std::vector<Condition> result = conditions_of(item, event);
    if (i == rule_->anchor) return result;
    if (item.when != When::Any) {
      const bool measured = bound_[item.of] != nullptr;
      const std::int64_t after = event.time_ns - base_ns(i);
      result.push_back({fmt::format("within {} {} {}", seconds_text(item.within_ns), item.when == When::Before ? "before" : item.when == When::After ? "after" : "around", measured ? rule_->match[item.of].id : "the moment"),
                        fmt::format("{} {}", seconds_text(std::abs(after)), after < 0 ? "before" : "after"), in_time(i, event)});
    }
    if (item.same_entity) result.push_back({fmt::format("same entity as {}", rule_->match[rule_->anchor].id), event.entity, of_entity(i, event)});
    std::ranges::move(joins_of_absent(i, event), std::back_inserter(result));
    return result;
  }

  // The event to show for an item that nothing was bound to: most of whose conditions hold, nearest in time.
  EventPtr nearest_miss(std::size_t i) const {
    EventPtr best;
    std::size_t most = 0;
    for (const EventPtr& event : window_) {
      if (!named_as(rule_->match[i], *event) || (i != rule_->anchor && event == bound_[rule_->anchor])) continue;
      const std::vector<Condition> all = conditions(i, *event);
      const auto holding = static_cast<std::size_t>(std::ranges::count_if(all, &Condition::holds));
      if (best != nullptr && (holding < most || (holding == most && std::abs(event->time_ns - base_ns(i)) >= std::abs(best->time_ns - base_ns(i))))) continue;
      best = event;
      most = holding;
    }
    return best;
  }

  ClauseReport clause(std::size_t i) const {
    const MatchItem& item = rule_->match[i];
    ClauseReport out{.id = item.id, .text = clause_text(*rule_, item), .optional = item.optional, .fitting = i == rule_->anchor ? fitting_[i].size() : count(i)};
    const std::uint64_t counted = count(i);
    out.holds = item.absent ? counted < item.least : counted >= item.least;
    const EventPtr event = bound_[i] != nullptr ? bound_[i] : nearest_miss(i);
    if (event == nullptr) return out;
    out.nearest = shown(*event);
    out.nearest_ns = event->time_ns;
    out.conditions = conditions(i, *event);
    if (item.least > 1) out.conditions.push_back({fmt::format("at least {} times", item.least), fmt::format("{}", counted), counted >= item.least});
    return out;
  }

  RulePtr rule_;
  std::vector<EventPtr> window_;
  const Topology& topology_;
  std::int64_t at_ns_;
  std::vector<std::vector<Occurrence>> fitting_;
  std::vector<EventPtr> bound_;
  std::uint64_t anchors_ = 0;  // that fit, with the blame or entity of the one shown
};

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
  Topology topology;
  std::vector<EventPtr> window;
  for (const stream::Event& event : events) {
    topology.learn(event);
    window.push_back(std::make_shared<const stream::Event>(event));
  }
  std::ranges::stable_sort(window, {}, [](const EventPtr& event) { return event->time_ns; });
  mark_normals(*rule, window);
  std::erase_if(window, [&report](const EventPtr& event) { return event->time_ns < report.from_ns || event->time_ns > report.to_ns; });
  Explaining(rule, std::move(window), topology, at_ns).report(report);
  return report;
}

}  // namespace culprit::rules
