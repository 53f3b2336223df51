#include "rules/review.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace culprit::rules {
namespace {

// Never met, so that what must be absent always is.
constexpr std::size_t kNever = SIZE_MAX;

class Mutating {
 public:
  explicit Mutating(const Rule& rule) : rule_(rule) {}

  std::vector<Mutant> all() {
    for (std::size_t i = 0; i < rule_.match.size(); ++i) {
      drop_item(i);
      drop_conditions(i);
    }
    for (std::size_t i = 0; i < rule_.joins.size(); ++i) add(fmt::format("join '{}'", rule_.joins[i].text), 0, [i](Rule& rule) { rule.joins.erase(rule.joins.begin() + static_cast<std::ptrdiff_t>(i)); });
    for (std::size_t i = 0; i < rule_.paths.size(); ++i) add(fmt::format("path '{}'", rule_.paths[i].text), 0, [i](Rule& rule) { rule.paths.erase(rule.paths.begin() + static_cast<std::ptrdiff_t>(i)); });
    return std::move(mutants_);
  }

 private:
  template <typename Change>
  void add(std::string what, int line, Change change) {
    const auto rule = std::make_shared<Rule>(rule_);
    rule->tests.clear();
    change(*rule);
    mutants_.push_back({.what = std::move(what), .line = line, .rule = rule});
  }

  void drop_item(std::size_t i) {
    const MatchItem& item = rule_.match[i];
    if (i == rule_.anchor) return;
    add(fmt::format("'{}'", item.id), item.line, [i](Rule& rule) {
      MatchItem& of = rule.match[i];
      if (of.absent) {
        of.least = kNever;
      } else if (of.optional) {
        of.weight = 0;
      } else {
        of.optional = true;
        of.weight = 0;
      }
    });
  }

  // Of an optional item no condition is dropped: what it says alone is its weight.
  void drop_conditions(std::size_t i) {
    const MatchItem& item = rule_.match[i];
    if (item.optional) return;
    const auto condition = [&](std::string_view key, std::string_view value, auto change) {
      add(fmt::format("'{}: {}' of '{}'", key, value, item.id), item.line, [i, change](Rule& rule) { change(rule.match[i]); });
    };
    // The name beside attributes or words is where they are looked for: nothing else has them.
    if (!item.name.empty() && item.where.empty() && item.text.empty() && item.regex.empty()) {
      condition(kind_key(item.kind), item.name, [](MatchItem& of) { of.name.clear(); });
      mutants_.back().name_only = true;
    }
    if (!item.entity.empty()) condition("entity", item.entity, [](MatchItem& of) { of.entity.clear(); });
    if (item.above) condition("above", fmt::format("{}", *item.above), [](MatchItem& of) { of.above.reset(); });
    if (item.below) condition("below", fmt::format("{}", *item.below), [](MatchItem& of) { of.below.reset(); });
    if (item.times_normal) condition("times_normal", fmt::format("{}", *item.times_normal), [](MatchItem& of) { of.times_normal.reset(); });
    // A text beside a regex only spares trying the regex; both are one condition.
    if (!item.text.empty() && item.regex.empty()) condition("text", item.text, [](MatchItem& of) { of.text.clear(); });
    if (!item.regex.empty()) {
      condition("regex", item.regex, [](MatchItem& of) {
        of.text.clear();
        of.regex.clear();
        of.compiled = nullptr;
      });
    }
    if (!item.filter_text.empty()) condition("filter", item.filter_text, [](MatchItem& of) { of.filter = {}; });
    for (std::size_t w = 0; w < item.where.size(); ++w) {
      if (item.where[w].globs == std::vector<std::string>{"?*"} && is_joined(item.id, item.where[w].attribute)) continue;
      condition(item.where[w].attribute, fmt::format("{}", fmt::join(item.where[w].globs, " or ")), [w](MatchItem& of) { of.where.erase(of.where.begin() + static_cast<std::ptrdiff_t>(w)); });
    }
    if (item.when != When::Any) condition("within", fmt::format("{} s", item.within_ns / 1'000'000'000), [](MatchItem& of) { of.when = When::Any; });
    if (item.same_entity) condition("same_entity", "true", [](MatchItem& of) { of.same_entity = false; });
    if (item.least > 1) condition("least", fmt::format("{}", item.least), [](MatchItem& of) { of.least = 1; });
  }

  // Does a join or path ask for the attribute anyway? Then that it is there only spares the engine what has none.
  bool is_joined(const std::string& id, const std::string& field) const {
    const auto speaks = [&](const Reference& reference) { return reference.id == id && reference.field == field; };
    return std::ranges::any_of(rule_.joins, [&](const Join& join) { return speaks(join.left) || speaks(join.right); }) ||
           std::ranges::any_of(rule_.paths, [&](const Path& path) { return std::ranges::any_of(path.stops, [&](const Path::Stop& stop) { return stop.reference && speaks(*stop.reference); }); });
  }

  const Rule& rule_;
  std::vector<Mutant> mutants_;
};

}  // namespace

std::vector<Mutant> mutants_of(const Rule& rule) { return Mutating(rule).all(); }

Review review_cases(const Rule& rule) {
  Review review;
  std::vector<Mutant> mutants = mutants_of(rule);
  review.mutants = mutants.size();
  std::size_t events = 0;
  for (const RuleTest& test : rule.tests) events += test.events.size();
  if (events * rule.match.size() * mutants.size() > kReviewStepsMax) {
    review.too_large = true;
    return review;
  }
  // Another event of a busy host is no near miss, unless the name is all that the rule asks for.
  const bool only_names = std::ranges::all_of(mutants, &Mutant::name_only);
  std::vector<bool> missed(mutants.size());
  for (const RuleTest& test : rule.tests) {
    if (!test.todo.empty()) continue;
    const CaseRun own = run_case(rule, test);
    bool differs = false;
    for (std::size_t m = 0; m < mutants.size(); ++m) {
      const CaseRun run = run_case(*mutants[m].rule, test);
      if (run.result.passed) continue;
      missed[m] = true;
      // The words of an explanation may change for want of a regex alone; whom it blames does not.
      differs = differs || (run.blamed != own.blamed && (only_names || !mutants[m].name_only));
    }
    review.positive += test.expect.fires ? 1 : 0;
    (test.expect.fires ? review.noisy : review.near_misses) += differs ? 1 : 0;
  }
  for (std::size_t m = 0; m < mutants.size(); ++m) {
    if (!missed[m]) review.survivors.push_back(std::move(mutants[m]));
  }
  return review;
}

}  // namespace culprit::rules
