// Index: which clauses of a rule set may an event concern? Built once per set, then only read, by any thread.
//
// Clauses are found by the event's kind and name: exact names in a hash table, ordered by their `above` so that a value
// that passes none of a hundred thresholds is compared once; name globs are tried once per name and remembered. A body
// goes through one automaton over the literals of all clauses (RE2::Set; each clause's literals come from
// re2::FilteredRE2, so that a regex is only run on lines that have what it needs). So the cost of an event grows with
// the clauses that it nearly fits, not with the number of rules.
#pragma once

#include <re2/set.h>

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rules/rule.h"

namespace culprit::rules {

inline constexpr std::size_t kNamesRememberedMax = 32'768;  // names whose globs were tried; more start anew

// A match item of a rule, by position.
struct Clause {
  std::uint32_t rule = 0;
  std::uint32_t item = 0;
};

class Index {
 public:
  // What one thread remembers between events.
  struct Memory {
    std::unordered_map<std::string, std::vector<Clause>> by_name[7];  // kind -> name -> clauses by glob
    std::unordered_map<std::string, bool> wants_normal;  // by a sample's name
    std::vector<int> literals;
    std::vector<std::uint32_t> tries;  // by rule: bodies that its text or regex was tried on, since it was last taken
    std::uint32_t& tries_of(std::uint32_t rule) {
      if (rule >= tries.size()) tries.resize(rule + 1);
      return tries[rule];
    }
    std::uint64_t body_overflows = 0;  // bodies for which the automaton had no memory; all clauses were tried
  };

  explicit Index(const std::vector<std::shared_ptr<const Rule>>& rules);
  // Appends each clause that the event fits on its own.
  void match(const stream::Event& event, Memory& memory, std::vector<Clause>& found) const;

  // Does some clause compare this series with its normal? Then `match` wants the sample as Normals marked it.
  bool wants_normal(const stream::Event& event, Memory& memory) const;

  const std::vector<std::string>& normal_names() const { return normal_names_; }  // globs of the series that it wants so

  std::size_t literals() const { return clauses_of_literal_.size(); }
  std::size_t unfiltered() const { return unfiltered_; }  // clauses whose regex has no literal

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  struct Bucket {
    double above;
    Clause clause;
  };
  struct OfKind {
    std::unordered_map<std::string, std::vector<Bucket>, Hash, std::equal_to<>> exact;  // by `above`, rising
    std::vector<Clause> globs;
    std::vector<Clause> bodies;  // literal-filtered clauses, for when the automaton fails
    std::vector<Clause> always;  // any name, no literal
  };
  void match_body(const stream::Event& event, Memory& memory, std::vector<Clause>& found) const;
  const MatchItem& item(Clause clause) const { return (*rules_[clause.rule]).match[clause.item]; }

  std::vector<std::shared_ptr<const Rule>> rules_;  // shared with the set, which owns the index
  OfKind kinds_[7];
  std::unique_ptr<RE2::Set> automaton_;
  std::vector<std::vector<Clause>> clauses_of_literal_;  // by the automaton's number
  std::vector<std::string> normal_names_;  // globs
  std::size_t unfiltered_ = 0;
};

// Everything about an item that does not depend on other items.
bool fits(const MatchItem& item, const stream::Event& event);

}  // namespace culprit::rules
