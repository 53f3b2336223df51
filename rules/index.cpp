#include "rules/index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "daemon/base/text.h"
#include "rules/normal.h"
#include "rules/regex.h"

namespace culprit::rules {
namespace {

constexpr std::size_t kKinds = 7;                     // Kind's values and 0
constexpr std::int64_t kAutomatonBytesMax = 64 << 20;  // states are made as lines need them; few are

bool is_glob(std::string_view text) { return text.find_first_of("*?") != std::string_view::npos; }

bool contains_ignoring_case(std::string_view text, std::string_view part) {
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b)); };
  return !std::ranges::search(text, part, same).empty();
}

bool above_normal(double times, const stream::Event& sample) {
  const auto normal = normal_of(sample);
  return normal && sample.value > times * *normal;
}

}  // namespace

bool fits(const MatchItem& item, const stream::Event& e) {
  if (item.above && !(e.value > *item.above)) return false;
  if (item.below && !(e.value < *item.below)) return false;
  if (!item.name.empty() && item.name != e.name && !glob_match(item.name, e.name)) return false;
  if (!item.entity.empty() && !glob_match(item.entity, e.entity)) return false;
  for (const AttributeMatch& match : item.where) {
    const std::string_view value = e.attribute(match.attribute);
    if (std::ranges::none_of(match.globs, [value](const std::string& glob) { return glob_match(glob, value); })) return false;
  }
  if (item.times_normal && !above_normal(*item.times_normal, e)) return false;
  if (!item.filter.matches(e)) return false;
  if (!item.text.empty() && !contains_ignoring_case(e.body, item.text)) return false;
  return item.compiled == nullptr || item.compiled->matches(e.body);
}

Index::Index(const std::vector<std::shared_ptr<const Rule>>& rules) : rules_(rules) {
  std::map<std::string, std::vector<Clause>> literals;
  for (std::uint32_t r = 0; r < rules_.size(); ++r) {
    for (std::uint32_t i = 0; i < rules_[r]->match.size(); ++i) {
      const Clause clause{r, i};
      const MatchItem& item = rules_[r]->match[i];
      OfKind& of = kinds_[static_cast<std::size_t>(item.kind)];
      if (item.times_normal) normal_names_.push_back(item.name);
      if (!item.name.empty() && !is_glob(item.name)) {
        of.exact[item.name].push_back({item.above.value_or(-std::numeric_limits<double>::infinity()), clause});
      } else if (!item.literals.empty()) {
        of.bodies.push_back(clause);
        for (const std::string& literal : item.literals) literals[literal].push_back(clause);
      } else if (!item.name.empty()) {
        of.globs.push_back(clause);
      } else {
        of.always.push_back(clause);
        unfiltered_ += item.regex.empty() && item.text.empty() ? 0 : 1;
      }
    }
  }
  for (OfKind& of : kinds_) {
    for (auto& [name, buckets] : of.exact) std::ranges::stable_sort(buckets, {}, &Bucket::above);
  }
  if (literals.empty()) return;
  RE2::Options options(RE2::Quiet);
  options.set_max_mem(kAutomatonBytesMax);
  options.set_case_sensitive(false);
  options.set_literal(true);
  automaton_ = std::make_unique<RE2::Set>(options, RE2::UNANCHORED);
  for (auto& [literal, clauses] : literals) {
    if (automaton_->Add(literal, nullptr) < 0) {  // no UTF-8: nothing that a body of ours could have
      for (const Clause clause : clauses) kinds_[static_cast<std::size_t>(item(clause).kind)].always.push_back(clause);
      continue;
    }
    clauses_of_literal_.push_back(std::move(clauses));
  }
  if (clauses_of_literal_.empty() || !automaton_->Compile()) automaton_ = nullptr;
}

bool Index::wants_normal(const stream::Event& event, Memory& memory) const {
  if (event.kind != Kind::Sample || normal_names_.empty()) return false;
  if (const auto known = memory.wants_normal.find(event.name); known != memory.wants_normal.end()) return known->second;
  if (memory.wants_normal.size() == kNamesRememberedMax) memory.wants_normal.clear();
  const bool wants = std::ranges::any_of(normal_names_, [&event](const std::string& glob) { return glob_match(glob, event.name); });
  return memory.wants_normal.emplace(event.name, wants).first->second;
}

void Index::match(const stream::Event& event, Memory& memory, std::vector<Clause>& found) const {
  const auto kind = static_cast<std::size_t>(event.kind);
  if (kind >= kKinds) return;
  const OfKind& of = kinds_[kind];
  if (const auto exact = of.exact.find(std::string_view(event.name)); exact != of.exact.end()) {
    for (const Bucket& bucket : exact->second) {
      if (bucket.above >= event.value && std::isfinite(bucket.above)) break;
      if (fits(item(bucket.clause), event)) found.push_back(bucket.clause);
    }
  }
  if (!of.globs.empty()) {
    auto& names = memory.by_name[kind];
    auto known = names.find(event.name);
    if (known == names.end()) {
      if (names.size() == kNamesRememberedMax) names.clear();
      known = names.try_emplace(event.name).first;
      for (const Clause clause : of.globs) {
        if (glob_match(item(clause).name, event.name)) known->second.push_back(clause);
      }
    }
    for (const Clause clause : known->second) {
      if (fits(item(clause), event)) found.push_back(clause);
    }
  }
  for (const Clause clause : of.always) {
    ++memory.tries_of(clause.rule);
    if (fits(item(clause), event)) found.push_back(clause);
  }
  if (!of.bodies.empty() && !event.body.empty()) match_body(event, memory, found);
}

void Index::match_body(const stream::Event& event, Memory& memory, std::vector<Clause>& found) const {
  const auto try_all = [&](const std::vector<Clause>& clauses) {
    for (const Clause clause : clauses) {
      if (item(clause).kind != event.kind) continue;
      ++memory.tries_of(clause.rule);
      if (fits(item(clause), event)) found.push_back(clause);
    }
  };
  const OfKind& of = kinds_[static_cast<std::size_t>(event.kind)];
  RE2::Set::ErrorInfo error{RE2::Set::kNoError};
  memory.literals.clear();
  const bool any = automaton_ != nullptr && automaton_->Match(re2::StringPiece(event.body.data(), event.body.size()), &memory.literals, &error);
  if (automaton_ == nullptr || error.kind != RE2::Set::kNoError) {
    ++memory.body_overflows;
    return try_all(of.bodies);
  }
  if (!any) return;
  if (memory.literals.size() == 1) return try_all(clauses_of_literal_[static_cast<std::size_t>(memory.literals.front())]);
  // A clause with several literals is tried once.
  const std::size_t before = found.size();
  for (const int literal : memory.literals) try_all(clauses_of_literal_[static_cast<std::size_t>(literal)]);
  const auto key = [](Clause clause) { return std::pair(clause.rule, clause.item); };
  const auto from = found.begin() + static_cast<std::ptrdiff_t>(before);
  std::ranges::sort(from, found.end(), {}, key);
  const auto rest = std::ranges::unique(from, found.end(), {}, key);
  found.erase(rest.begin(), rest.end());
}

}  // namespace culprit::rules
