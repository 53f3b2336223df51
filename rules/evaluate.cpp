#include "rules/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "rules/regex.h"
#include "rules/template.h"

namespace culprit::rules {
namespace {

struct Span {
  std::int64_t from, to;
};

// Where an item may be, measured from the one that its `within` names.
Span span_of(const MatchItem& item, std::int64_t at) {
  if (item.when == When::Any) return {INT64_MIN, INT64_MAX};
  return {item.when == When::After ? at : at - item.within_ns, item.when == When::Before ? at : at + item.within_ns};
}

class Joining {
 public:
  Joining(const Rule& rule, const std::vector<std::vector<Occurrence>>& fitting, const Topology& topology, std::int64_t until_ns)
      : rule_(rule), fitting_(fitting), topology_(topology), until_ns_(until_ns), bound_(rule.match.size()) {}

  // Is everything else there around this anchor? Then `bound` and `weight` say how.
  bool holds_at(const Occurrence& anchor) {
    std::ranges::fill(bound_, nullptr);
    bound_[rule_.anchor] = &anchor;
    weight_ = rule_.weight;
    return relations_hold(rule_.anchor) && extend(0);
  }
  double weight() const { return weight_; }
  std::uint64_t steps() const { return steps_; }
  const std::vector<const Occurrence*>& bound() const { return bound_; }

  std::optional<std::string> value_of(const Reference& reference) const {
    for (std::size_t i = 0; i < rule_.match.size(); ++i) {
      if (rule_.match[i].id == reference.id && bound_[i] != nullptr) return field_of(rule_.match[i], *bound_[i]->event, reference.field);
    }
    return std::nullopt;
  }

 private:
  // Binds items from `i` on; goes back when a later one cannot be met with what an earlier one took.
  bool extend(std::size_t i) {
    if (i == rule_.match.size()) return true;
    if (i == rule_.anchor) return extend(i + 1);
    const MatchItem& item = rule_.match[i];
    const Occurrence* of = bound_[item.of];
    if (of == nullptr) return item.optional && extend(i + 1);  // measured from an optional one that is not there
    const std::int64_t at = of->event->time_ns;
    const Span span = span_of(item, at);
    const auto time = [](const Occurrence& o) { return o.event->time_ns; };
    std::vector<const Occurrence*> near;
    std::uint64_t count = 0;
    for (auto o = std::ranges::lower_bound(fitting_[i], span.from, {}, time); o != fitting_[i].end() && time(*o) <= span.to; ++o) {
      if (++steps_ > kStepsMax) return false;
      if (o->event == bound_[rule_.anchor]->event) continue;
      if (item.same_entity && o->event->entity != bound_[rule_.anchor]->event->entity) continue;
      bound_[i] = &*o;
      if (!relations_hold(i)) continue;
      count += o->times;
      near.push_back(&*o);
    }
    bound_[i] = nullptr;
    if (item.absent) return count < item.least && span.to <= until_ns_ && extend(i + 1);
    if (count >= item.least) {
      std::ranges::stable_sort(near, {}, [at](const Occurrence* o) { return std::abs(o->event->time_ns - at); });
      if (near.size() > kTriesPerItemMax) near.resize(kTriesPerItemMax);
      for (const Occurrence* o : near) {
        const double before = weight_;
        bound_[i] = o;
        if (item.optional) weight_ += item.weight;
        if (extend(i + 1)) return true;
        weight_ = before;
        if (steps_ > kStepsMax) return false;
      }
      bound_[i] = nullptr;
    }
    return item.optional && extend(i + 1);
  }

  // Do the joins and paths that speak of item `i`, and of nothing that is not bound yet, hold?
  bool relations_hold(std::size_t i) {
    const std::string& id = rule_.match[i].id;
    for (const Join& join : rule_.joins) {
      if (join.left.id != id && join.right.id != id) continue;
      if (!is_bound(join.left.id) || !is_bound(join.right.id)) continue;
      ++steps_;
      const auto left = value_of(join.left);
      const auto right = value_of(join.right);
      if (!left || !right || left->empty() || plain_name(*left) != plain_name(*right)) return false;
    }
    for (const Path& path : rule_.paths) {
      bool speaks = false;
      bool complete = true;
      for (const Path::Stop& stop : path.stops) {
        if (!stop.reference) continue;
        speaks = speaks || stop.reference->id == id;
        complete = complete && is_bound(stop.reference->id);
      }
      if (!speaks || !complete) continue;
      steps_ += path.stops.size();
      std::map<std::string, std::string> values;
      for (const Path::Stop& stop : path.stops) {
        if (!stop.reference) continue;
        if (auto value = value_of(*stop.reference)) values.insert_or_assign(stop.reference->id + "." + stop.reference->field, std::move(*value));
      }
      if (!topology_.walk(path, values)) return false;
    }
    return true;
  }

  bool is_bound(const std::string& id) const {
    for (std::size_t i = 0; i < rule_.match.size(); ++i) {
      if (rule_.match[i].id == id) return bound_[i] != nullptr;
    }
    return false;
  }

  const Rule& rule_;
  const std::vector<std::vector<Occurrence>>& fitting_;
  const Topology& topology_;
  std::int64_t until_ns_;
  std::vector<const Occurrence*> bound_;
  double weight_ = 0;
  std::uint64_t steps_ = 0;
};

}  // namespace

std::optional<std::string> field_of(const MatchItem& item, const stream::Event& event, const std::string& field) {
  if (item.compiled != nullptr) {
    if (auto group = item.compiled->group(event.body, field)) return group;
  }
  if (field == "entity") return event.entity;
  if (field == "name") return event.name;
  if (field == "body") return event.body;
  if (field == "value") return fmt::format("{:.6g}", event.value);
  for (const auto& [name, text] : event.attributes) {
    if (name == field) return std::string(text);
  }
  // Whose it is, however the event says it; and whose calls to whom.
  if (field == "service" && event.entity.starts_with("service:")) return event.entity.substr(8);
  if ((field == "caller" || field == "callee") && event.entity.starts_with("edge:")) {
    const auto arrow = event.entity.find("->");
    if (arrow == std::string::npos) return std::nullopt;
    return field == "caller" ? event.entity.substr(5, arrow - 5) : event.entity.substr(arrow + 2);
  }
  return std::nullopt;
}

void evaluate_rule(const RulePtr& rule, const std::vector<std::vector<Occurrence>>& fitting, const Topology& topology, std::int64_t until_ns, Evaluation& out) {
  for (std::size_t i = 0; i < rule->match.size(); ++i) {
    if (fitting[i].empty() && !rule->match[i].optional && !rule->match[i].absent) return;
  }
  Joining joining(*rule, fitting, topology, until_ns);
  std::map<std::string, Finding> by_blame;
  std::size_t anchors = 0;
  for (const Occurrence& anchor : fitting[rule->anchor]) {
    if (++anchors > kAnchorsMax || joining.steps() > kStepsMax) {
      ++out.skipped;
      continue;
    }
    if (!joining.holds_at(anchor)) {
      out.skipped += joining.steps() > kStepsMax ? 1 : 0;
      continue;
    }
    const auto lookup = [&joining](const Reference& reference) { return joining.value_of(reference); };
    std::string blame = render(rule->blame, lookup);
    if (const auto known = by_blame.find(blame); known != by_blame.end()) {
      known->second.count += anchor.times;
      known->second.last_ns = anchor.event->time_ns;
      known->second.weight = std::max(known->second.weight, joining.weight());
      continue;
    }
    if (by_blame.size() == kFindingsPerRuleMax) {
      ++out.skipped;
      continue;
    }
    Finding finding{.rule = rule, .time_ns = anchor.event->time_ns, .last_ns = anchor.event->time_ns, .entity = blame, .cause = rule->cause, .explanation = render(rule->explain, lookup), .weight = joining.weight(), .count = anchor.times};
    for (const std::string& next : rule->next) finding.next.push_back(render(next, lookup));
    for (std::size_t i = 0; i < rule->match.size(); ++i) {
      if (joining.bound()[i] != nullptr) finding.bound.push_back({rule->match[i].id, joining.bound()[i]->event});
    }
    by_blame.emplace(std::move(blame), std::move(finding));
  }
  out.steps += joining.steps() + anchors;
  for (auto& [blame, finding] : by_blame) {
    if (finding.count >= rule->match[rule->anchor].least) out.findings.push_back(std::move(finding));
  }
}

double learned_weight(const Rule& rule, double weight, const Verdicts& said) {
  if (rule.pinned) return weight;
  return std::max(0.0, weight + log_odds_after(said, kLearnedMax));
}

void sort_findings(std::vector<Finding>& findings) {
  std::ranges::sort(findings, [](const Finding& a, const Finding& b) {
    if (a.weight != b.weight) return a.weight > b.weight;
    if (a.time_ns != b.time_ns) return a.time_ns < b.time_ns;
    if (a.rule->id != b.rule->id) return a.rule->id < b.rule->id;
    return a.entity < b.entity;
  });
}

}  // namespace culprit::rules
