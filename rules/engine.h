// Engine: rules over the stream, event by event. What fits some clause is kept for a while; the rest costs a look into
// the set's index and is forgotten. Asked for a window, the engine joins only what it kept; once a second it looks at
// the rules that something new fits, counts what fired, and switches off a rule that costs too much.
//
// The same events in the same order give the same findings: budgets count comparisons, not time.
// Threads: an Engine belongs to one thread (or to a mutex); the sets that it takes are immutable.
// Limits: kKeptPerClauseMax events a clause, kKeptMax in all, kWindowNsMax of age; what is left out is counted.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/stream/store.h"
#include "rules/evaluate.h"
#include "rules/loader.h"
#include "rules/normal.h"

namespace culprit::rules {

inline constexpr std::size_t kKeptPerClauseMax = 1'024;
inline constexpr std::size_t kKeptMax = 100'000;
inline constexpr std::size_t kKeptPerSecondMax = 64;   // of a clause; more of the same second are only counted
inline constexpr std::uint64_t kTrySteps = 10;         // what trying a text or regex on a body costs, in comparisons
inline constexpr std::int64_t kBudgetNs = 10LL * 1'000'000'000;

struct EngineOptions {
  Status least = Status::Stable;  // rules below it (sandbox < incubating < stable) are off; deprecated always
  // Comparisons that a rule may cost in kBudgetNs, some 30 ns each: about a hundredth of a core.
  std::uint64_t steps_max = 3'000'000;
  std::size_t kept_per_clause_max = kKeptPerClauseMax;
  std::size_t kept_max = kKeptMax;
  std::size_t kept_per_second_max = kKeptPerSecondMax;
};

struct RuleStats {
  std::uint64_t matched = 0;  // events that fitted one of its clauses
  std::uint64_t fired = 0;
  std::uint64_t steps = 0;
  std::int64_t fired_ns = 0;  // when last; 0 = never
  std::string off{};          // why the engine switched it off; empty = it did not
};

struct EngineStats {
  std::uint64_t events = 0;     // looked at
  std::uint64_t matched = 0;    // that fitted some clause
  std::uint64_t kept = 0;       // now
  std::uint64_t left_out = 0;   // that there was no room for
  std::uint64_t overflows = 0;  // bodies for which the automaton had no memory
  std::uint64_t swaps = 0;      // sets taken after the first
  std::uint64_t edges = 0;      // of the topology, now
  std::uint64_t edges_forgotten = 0;  // for want of room
  std::uint64_t normals = 0;           // series whose normal is followed, now
  std::uint64_t normals_left_out = 0;  // samples of series that there was no room for
};

class Engine {
 public:
  explicit Engine(RuleSetPtr set, EngineOptions options = {});

  void add(const stream::Event& event);
  // Once a second: forgets the old, counts what fired, keeps budgets.
  void advance(std::int64_t now_ns);
  // What the rules say of [from, to].
  Evaluation evaluate(std::int64_t from_ns, std::int64_t to_ns);
  // Takes another set. Rules that match as before keep what they gathered, whatever else of their text changed; the others
  // begin now.
  void swap(RuleSetPtr set, std::int64_t now_ns);

  const RuleSetPtr& set() const { return set_; }
  // Have all active rules seen everything since then, and is none of it forgotten by age?
  bool covers(std::int64_t from_ns) const;
  EngineStats stats() const;
  const RuleStats& stats_of(std::size_t rule) const { return states_[rule].stats; }  // as in set()->rules()
  // Why a rule does not take part; empty = it does.
  std::string off(std::size_t rule) const;

 private:
  struct OfClause {
    std::vector<Occurrence> kept{};
    std::int64_t second = INT64_MIN;
    std::size_t in_second = 0;
  };
  struct OfRule {
    std::vector<OfClause> clauses{};
    RuleStats stats{};
    std::int64_t since_ns = 0;  // has seen everything from then on
    std::int64_t span_ns = 0;   // how far its evidence may lie apart
    std::uint64_t steps_in_budget = 0;
    bool active = true;
    bool fresh = false;  // something new fits it
  };
  void find_paths();
  OfRule state_of(const Rule& rule, std::int64_t since_ns) const;
  void spend(std::size_t rule, std::uint64_t steps);
  std::vector<std::vector<Occurrence>> fitting(const OfRule& state, std::int64_t from_ns, std::int64_t to_ns) const;
  void keep(OfClause& clause, const std::shared_ptr<const stream::Event>& event);

  RuleSetPtr set_;
  EngineOptions options_;
  std::vector<OfRule> states_;  // as in set_->rules()
  bool with_paths_ = false;
  Topology topology_;
  Normals normals_;
  Index::Memory memory_;
  std::vector<Clause> found_;
  EngineStats stats_;
  std::int64_t budget_from_ns_ = INT64_MIN;
  std::int64_t kept_from_ns_ = INT64_MIN;  // what is older was forgotten
};

// What the rules say of a window of a store's past. Scans [from, until], at most `events_max` events, and before that what
// normals are learned from; findings are of [from, to]. Errors: the store's; what was found by then is lost.
Result<Evaluation> evaluate_stored(const RuleSetPtr& rules, const stream::EventStore& store, std::int64_t from_ns, std::int64_t until_ns, std::int64_t to_ns, std::size_t events_max = SIZE_MAX);

// A whole window at once: `events` in any order.
Evaluation evaluate(const RuleSetPtr& rules, std::span<const stream::Event> events, EngineOptions options = {});

}  // namespace culprit::rules
