#include "rules/evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "daemon/base/text.h"
#include "rules/evaluate_rule.h"
#include "rules/regex.h"
#include "rules/template.h"

namespace culprit::rules {
namespace {

constexpr std::size_t kKinds = 7;            // Kind's values and 0
constexpr std::uint64_t kChecksMax = 5'000'000;  // comparisons a rule may cost in one window

bool contains_ignoring_case(std::string_view text, std::string_view part) {
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b)); };
  return !std::ranges::search(text, part, same).empty();
}

// Everything about an item that does not depend on other items.
bool fits(const MatchItem& item, const Observation& o) {
  if (!item.name.empty() && !glob_match(item.name, o.name)) return false;
  if (!item.entity.empty() && !glob_match(item.entity, o.entity)) return false;
  if (item.above && !(o.value > *item.above)) return false;
  if (item.below && !(o.value < *item.below)) return false;
  for (const auto& [attribute, glob] : item.where) {
    if (!glob_match(glob, o.attribute(attribute))) return false;
  }
  if (!item.text.empty() && !contains_ignoring_case(o.body, item.text)) return false;
  return item.compiled == nullptr || item.compiled->matches(o.body);
}

std::optional<std::string> field_of(const MatchItem& item, const Observation& o, const std::string& field) {
  if (item.compiled != nullptr && item.compiled->has_group(field)) {
    auto groups = item.compiled->groups(o.body);
    return groups[field];
  }
  if (field == "entity") return o.entity;
  if (field == "name") return o.name;
  if (field == "body") return o.body;
  if (field == "value") return fmt::format("{:.6g}", o.value);
  for (const auto& [name, text] : o.attributes) {
    if (name == field) return text;
  }
  return std::nullopt;
}

}  // namespace

Window::Window(std::span<const Observation> observations) : observations_(observations) {
  by_kind_.resize(kKinds);
  for (std::size_t i = 0; i < observations.size(); ++i) {
    const auto kind = static_cast<std::size_t>(observations[i].kind);
    if (kind < kKinds) by_kind_[kind].push_back(i);
  }
  for (auto& indices : by_kind_) {
    std::ranges::stable_sort(indices, {}, [this](std::size_t i) { return observations_[i].time_ns; });
  }
}

void evaluate_rule(const Rule& rule, const Window& window, Evaluation& out) {
  std::uint64_t checks = 0;
  // What fits each item on its own, in order of time.
  std::vector<std::vector<std::size_t>> candidates(rule.match.size());
  for (std::size_t i = 0; i < rule.match.size(); ++i) {
    for (const std::size_t index : window.of(rule.match[i].kind)) {
      if (fits(rule.match[i], window[index])) candidates[i].push_back(index);
    }
    if (candidates[i].empty() && !rule.match[i].optional && !rule.match[i].negated) return;
  }
  const auto time = [&window](std::size_t index) { return window[index].time_ns; };
  std::map<std::string, Finding> by_blame;
  std::size_t anchors = 0;
  for (const std::size_t anchor : candidates[rule.anchor]) {
    if (++anchors > kAnchorsMax || checks > kChecksMax) {
      ++out.skipped;
      continue;
    }
    std::vector<std::optional<std::size_t>> bound(rule.match.size());
    bound[rule.anchor] = anchor;
    double weight = rule.weight;
    bool holds = true;
    for (std::size_t i = 0; i < rule.match.size() && holds; ++i) {
      if (i == rule.anchor) continue;
      const MatchItem& item = rule.match[i];
      const auto& of = bound[item.of];
      std::optional<std::size_t> nearest;
      std::size_t count = 0;
      if (of) {
        const std::int64_t at = time(*of);
        const std::int64_t from = item.when == When::Any ? INT64_MIN : item.when == When::After ? at : at - item.within_ns;
        const std::int64_t to = item.when == When::Any ? INT64_MAX : item.when == When::Before ? at : at + item.within_ns;
        const auto first = std::ranges::lower_bound(candidates[i], from, {}, time);
        for (auto candidate = first; candidate != candidates[i].end() && time(*candidate) <= to; ++candidate) {
          ++checks;
          if (*candidate == anchor || (item.same_entity && window[*candidate].entity != window[anchor].entity)) continue;
          ++count;
          if (!nearest || std::abs(time(*candidate) - at) < std::abs(time(*nearest) - at)) nearest = *candidate;
        }
      }
      const bool satisfied = count >= item.least;
      if (item.negated) {
        holds = !satisfied;
      } else if (satisfied) {
        bound[i] = nearest;
        if (item.optional) weight += item.weight;
      } else {
        holds = item.optional;
      }
    }
    if (!holds) continue;
    const auto lookup = [&](const Reference& reference) -> std::optional<std::string> {
      for (std::size_t i = 0; i < rule.match.size(); ++i) {
        if (rule.match[i].id == reference.id && bound[i]) return field_of(rule.match[i], window[*bound[i]], reference.field);
      }
      return std::nullopt;
    };
    std::string blame = render(rule.blame, lookup);
    if (const auto known = by_blame.find(blame); known != by_blame.end()) {
      ++known->second.count;
      known->second.weight = std::max(known->second.weight, weight);
      continue;
    }
    if (by_blame.size() == kFindingsPerRuleMax) {
      ++out.skipped;
      continue;
    }
    Finding finding{.rule = &rule, .time_ns = time(anchor), .entity = blame, .cause = rule.cause, .explanation = render(rule.explain, lookup), .weight = weight};
    for (std::size_t i = 0; i < rule.match.size(); ++i) {
      if (bound[i]) finding.bound.push_back({rule.match[i].id, *bound[i]});
    }
    by_blame.emplace(std::move(blame), std::move(finding));
  }
  for (auto& [blame, finding] : by_blame) {
    if (finding.count >= rule.match[rule.anchor].least) out.findings.push_back(std::move(finding));
  }
}

void sort_findings(std::vector<Finding>& findings) {
  std::ranges::sort(findings, [](const Finding& a, const Finding& b) {
    if (a.weight != b.weight) return a.weight > b.weight;
    if (a.time_ns != b.time_ns) return a.time_ns < b.time_ns;
    if (a.rule->id != b.rule->id) return a.rule->id < b.rule->id;
    return a.entity < b.entity;
  });
}

Evaluation evaluate(const RuleSet& rules, std::span<const Observation> observations, const EvaluateOptions& options) {
  const Window window(observations);
  Evaluation out;
  for (const Rule& rule : rules.rules()) {
    if (rule.status == Status::Deprecated || rule.status < options.least) continue;
    evaluate_rule(rule, window, out);
  }
  sort_findings(out.findings);
  return out;
}

std::vector<TestResult> run_tests(const RuleSet& rules) {
  std::vector<TestResult> results;
  for (const Rule& rule : rules.rules()) {
    for (const RuleTest& test : rule.tests) {
      TestResult result{.rule = rule.id, .test = test.name, .origin = fmt::format("{}:{}", rule.origin.substr(0, rule.origin.rfind(':')), test.line)};
      Evaluation out;
      evaluate_rule(rule, Window(test.events), out);
      sort_findings(out.findings);
      const Finding* found = out.findings.empty() ? nullptr : &out.findings.front();
      const auto differs = [&result](std::string_view what, const std::string& expected, const std::string& got) {
        if (!expected.empty() && expected != got) result.message += fmt::format("{}expected {} '{}', got '{}'", result.message.empty() ? "" : "; ", what, expected, got);
      };
      if (test.expect.fires && found == nullptr) {
        result.message = "expected it to fire, it did not";
      } else if (!test.expect.fires && found != nullptr) {
        result.message = fmt::format("expected nothing, it blamed '{}': {}", found->entity, found->explanation);
      } else if (found != nullptr) {
        differs("cause", test.expect.cause, found->cause);
        differs("blame", test.expect.blame, found->entity);
        differs("explain", test.expect.explain, found->explanation);
      }
      result.passed = result.message.empty();
      results.push_back(std::move(result));
    }
  }
  return results;
}

}  // namespace culprit::rules
