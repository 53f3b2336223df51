#include "rules/engine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::rules {

Engine::Engine(RuleSetPtr set, EngineOptions options) : set_(std::move(set)), options_(options) {
  for (const RulePtr& rule : set_->rules()) states_.push_back(state_of(*rule, INT64_MIN));
  find_paths();
}

// What of the topology do rules ask for?
void Engine::find_paths() {
  with_paths_ = false;
  bool processes = false;
  for (const RulePtr& rule : set_->rules()) {
    for (const Path& path : rule->paths) {
      with_paths_ = true;
      processes = processes || std::ranges::any_of(path.stops, [](const Path::Stop& stop) { return stop.relation == "belongs_to"; });
    }
  }
  topology_.learn_processes(processes);
}

Engine::OfRule Engine::state_of(const Rule& rule, std::int64_t since_ns) const {
  OfRule state;
  state.clauses.resize(rule.match.size());
  state.since_ns = since_ns;
  for (const MatchItem& item : rule.match) {
    // Windows may be measured one from the other.
    state.span_ns = item.when == When::Any && &item != &rule.match[rule.anchor] ? kWindowNsMax : std::min(kWindowNsMax, state.span_ns + item.within_ns);
  }
  state.active = rule.status != Status::Deprecated && rule.status >= options_.least && set_->disabled(rule.id).empty();
  return state;
}

std::string Engine::off(std::size_t rule) const {
  const Rule& of = *set_->rules()[rule];
  if (const std::string_view reason = set_->disabled(of.id); !reason.empty()) return fmt::format("switched off: {}", reason);
  if (!states_[rule].stats.off.empty()) return states_[rule].stats.off;
  if (!states_[rule].active) return fmt::format("status {}", status_name(of.status));
  return {};
}

void Engine::add(const stream::Event& event) {
  ++stats_.events;
  if (with_paths_) topology_.learn(event);
  std::shared_ptr<const stream::Event> shared;  // one copy for all clauses
  if (set_->index().wants_normal(event, memory_)) shared = normals_.marked(event);
  found_.clear();
  set_->index().match(shared ? *shared : event, memory_, found_);
  bool counted = false;
  for (const Clause clause : found_) {
    OfRule& state = states_[clause.rule];
    if (!state.active) continue;
    if (!shared) shared = std::make_shared<const stream::Event>(event);
    stats_.matched += std::exchange(counted, true) ? 0 : 1;
    ++state.stats.matched;
    spend(clause.rule, 1);
    state.fresh = true;
    keep(state.clauses[clause.item], shared);
  }
}

void Engine::keep(OfClause& clause, const std::shared_ptr<const stream::Event>& event) {
  const std::int64_t second = event->time_ns / kNsPerSecond;
  if (second != clause.second) {
    clause.second = second;
    clause.in_second = 0;
  }
  if (++clause.in_second > options_.kept_per_second_max && !clause.kept.empty()) {
    ++clause.kept.back().times;
    return;
  }
  if (stats_.kept >= options_.kept_max) {
    ++stats_.left_out;
    return;
  }
  if (clause.kept.size() >= options_.kept_per_clause_max) {
    // The oldest half goes at once, so that this costs little an event.
    const std::size_t half = clause.kept.size() / 2;
    clause.kept.erase(clause.kept.begin(), clause.kept.begin() + static_cast<std::ptrdiff_t>(half));
    stats_.kept -= half;
    stats_.left_out += half;
  }
  Occurrence occurrence{event};
  // Nearly always the newest; two sources may be a little apart.
  auto at = clause.kept.end();
  while (at != clause.kept.begin() && (at - 1)->event->time_ns > event->time_ns) --at;
  clause.kept.insert(at, std::move(occurrence));
  ++stats_.kept;
}

void Engine::spend(std::size_t rule, std::uint64_t steps) {
  states_[rule].stats.steps += steps;
  states_[rule].steps_in_budget += steps;
}

std::vector<std::vector<Occurrence>> Engine::fitting(const OfRule& state, std::int64_t from_ns, std::int64_t to_ns) const {
  const auto time = [](const Occurrence& o) { return o.event->time_ns; };
  std::vector<std::vector<Occurrence>> result;
  for (const OfClause& clause : state.clauses) {
    result.emplace_back(std::ranges::lower_bound(clause.kept, from_ns, {}, time), std::ranges::upper_bound(clause.kept, to_ns, {}, time));
  }
  return result;
}

void Engine::advance(std::int64_t now_ns) {
  if (budget_from_ns_ == INT64_MIN) budget_from_ns_ = now_ns;
  const bool budget_over = now_ns - budget_from_ns_ >= kBudgetNs;
  for (std::size_t r = 0; r < states_.size(); ++r) {
    OfRule& state = states_[r];
    if (r < memory_.tries.size()) spend(r, std::exchange(memory_.tries[r], 0) * kTrySteps);
    if (state.fresh && state.active) {
      Evaluation out;
      evaluate_rule(set_->rules()[r], fitting(state, now_ns - state.span_ns - kBudgetNs, now_ns), topology_, now_ns, out);
      spend(r, out.steps);
      for (const Finding& finding : out.findings) {
        if (finding.last_ns <= state.stats.fired_ns) continue;
        ++state.stats.fired;
        state.stats.fired_ns = finding.last_ns;
      }
    }
    state.fresh = false;
    if (state.active && state.steps_in_budget > options_.steps_max) {
      state.stats.off = fmt::format("cost {} comparisons in {}, more than its {}: narrow its clauses", group_digits(state.steps_in_budget),
                                    format_seconds(static_cast<double>(kBudgetNs) / 1e9), group_digits(options_.steps_max));
      state.active = false;
      for (OfClause& clause : state.clauses) {
        stats_.kept -= clause.kept.size();
        clause.kept.clear();
      }
    }
    if (budget_over) state.steps_in_budget = 0;
    for (OfClause& clause : state.clauses) {
      const auto young = std::ranges::find_if(clause.kept, [&](const Occurrence& o) { return o.event->time_ns >= now_ns - kWindowNsMax; });
      stats_.kept -= static_cast<std::uint64_t>(young - clause.kept.begin());
      clause.kept.erase(clause.kept.begin(), young);
    }
  }
  if (budget_over) {
    budget_from_ns_ = now_ns;
    topology_.expire(now_ns - kEdgeNsMax);
    normals_.expire(now_ns - kNormalNs);
  }
  kept_from_ns_ = now_ns - kWindowNsMax;
}

Evaluation Engine::evaluate(std::int64_t from_ns, std::int64_t to_ns) {
  Evaluation out;
  for (std::size_t r = 0; r < states_.size(); ++r) {
    if (states_[r].active) evaluate_rule(set_->rules()[r], fitting(states_[r], from_ns, to_ns), topology_, to_ns, out);
  }
  sort_findings(out.findings);
  return out;
}

void Engine::swap(RuleSetPtr set, std::int64_t now_ns) {
  const RuleSetPtr before = std::exchange(set_, std::move(set));
  std::vector<OfRule> old = std::exchange(states_, {});
  stats_.kept = 0;
  for (const RulePtr& rule : set_->rules()) {
    OfRule state = state_of(*rule, now_ns);
    const auto at = std::ranges::lower_bound(before->rules(), rule->id, {}, [](const RulePtr& r) -> const std::string& { return r->id; });
    if (at != before->rules().end() && (*at)->id == rule->id) {
      OfRule& earlier = old[static_cast<std::size_t>(at - before->rules().begin())];
      if ((*at)->matches == rule->matches) {
        const bool active = state.active && earlier.stats.off.empty();
        state = std::move(earlier);
        if (!active) {
          for (OfClause& clause : state.clauses) clause.kept.clear();
        } else if (!state.active) {
          state.since_ns = now_ns;  // switched on again: it has not seen what passed meanwhile
        }
        state.active = active;
      } else {
        state.stats = std::move(earlier.stats);
        state.stats.off.clear();  // another text deserves another chance
      }
    }
    for (const OfClause& clause : state.clauses) stats_.kept += clause.kept.size();
    states_.push_back(std::move(state));
  }
  find_paths();
  memory_ = {.by_name = {}, .wants_normal = {}, .literals = {}, .tries = {}, .body_overflows = memory_.body_overflows};
  ++stats_.swaps;
}

bool Engine::covers(std::int64_t from_ns) const {
  return from_ns >= kept_from_ns_ && std::ranges::all_of(states_, [from_ns](const OfRule& state) { return !state.active || state.since_ns <= from_ns; });
}

EngineStats Engine::stats() const {
  EngineStats stats = stats_;
  stats.overflows = memory_.body_overflows;
  stats.edges = topology_.size();
  stats.edges_forgotten = topology_.forgotten();
  stats.normals = normals_.size();
  stats.normals_left_out = normals_.left_out();
  return stats;
}

Result<Evaluation> evaluate_stored(const RuleSetPtr& rules, const stream::EventStore& store, std::int64_t from_ns, std::int64_t until_ns, std::int64_t to_ns, std::size_t events_max) {
  Engine engine(rules);
  const auto add = [&](const stream::Query& query) {
    std::size_t scanned = 0;
    return store.scan(query, [&](const stream::Event& event) {
      engine.add(event);
      return ++scanned < events_max;
    });
  };
  if (const auto& names = rules->index().normal_names(); !names.empty()) {
    stream::Query before{.from_ns = from_ns - kNormalNs, .to_ns = from_ns - 1, .kinds = {Kind::Sample}};
    for (const std::string& name : names) {
      const auto glob = name.find_first_of("*?");
      before.names.push_back(glob == std::string::npos ? name : name.substr(0, glob) + "*");
    }
    TRY(add(before));
  }
  TRY(add({.from_ns = from_ns, .to_ns = until_ns}));
  return engine.evaluate(from_ns, to_ns);
}

Evaluation evaluate(const RuleSetPtr& rules, std::span<const stream::Event> events, EngineOptions options) {
  options.kept_per_clause_max = options.kept_max = options.kept_per_second_max = SIZE_MAX;
  Engine engine(rules, options);
  std::vector<const stream::Event*> order;
  for (const stream::Event& event : events) order.push_back(&event);
  std::ranges::stable_sort(order, {}, &stream::Event::time_ns);
  for (const stream::Event* event : order) engine.add(*event);
  return engine.evaluate(INT64_MIN, INT64_MAX);
}

CaseRun run_case(const Rule& rule, const RuleTest& test) {
  CaseRun run{.result = {.rule = rule.id, .test = test.name, .origin = fmt::format("{}:{}", rule.origin.substr(0, rule.origin.rfind(':')), test.line), .todo = test.todo}};
  // A set of this rule alone that does not own it.
  const RulePtr borrowed(&rule, [](const Rule*) {});
  std::vector<std::vector<Occurrence>> fitting(rule.match.size());
  Topology topology;
  std::vector<std::shared_ptr<const stream::Event>> events;
  for (const stream::Event& event : test.events) {
    topology.learn(event);
    events.push_back(std::make_shared<const stream::Event>(event));
  }
  for (const std::string& edge : test.topology) topology.add(edge);
  std::ranges::stable_sort(events, {}, [](const auto& event) { return event->time_ns; });
  mark_normals(rule, events);
  for (std::size_t i = 0; i < rule.match.size(); ++i) {
    for (const auto& event : events) {
      if (event->kind == rule.match[i].kind && fits(rule.match[i], *event)) fitting[i].push_back({event});
    }
  }
  Evaluation out;
  evaluate_rule(borrowed, fitting, topology, INT64_MAX, out);
  sort_findings(out.findings);
  for (const Finding& finding : out.findings) run.blamed.push_back(finding.entity);
  std::ranges::sort(run.blamed);
  const Expectation& expect = test.expect;
  std::string& message = run.result.message;
  const auto wrong = [&message](std::string_view what) { message += fmt::format("{}{}", message.empty() ? "" : "; ", what); };
  const auto differs = [&wrong](std::string_view what, const std::string& expected, const std::string& got) {
    if (!expected.empty() && expected != got) wrong(fmt::format("expected {} '{}', got '{}'", what, expected, got));
  };
  if (out.findings.empty()) {
    if (expect.fires) wrong("expected it to fire, it did not");
  } else if (!expect.fires) {
    wrong(fmt::format("expected nothing, it blamed '{}': {}", out.findings.front().entity, out.findings.front().explanation));
  } else {
    const Finding& found = out.findings.front();
    differs("cause", expect.cause, found.cause);
    differs("explain", expect.explain, found.explanation);
    if (!expect.blame.empty() && expect.blame != run.blamed) wrong(fmt::format("expected blame '{}', got '{}'", fmt::join(expect.blame, "', '"), fmt::join(run.blamed, "', '")));
    if (expect.weight && std::abs(*expect.weight - found.weight) > 1e-9) wrong(fmt::format("expected weight {}, got {}", *expect.weight, found.weight));
  }
  run.result.passed = message.empty();
  return run;
}

std::vector<TestResult> run_tests(const Rule& rule) {
  std::vector<TestResult> results;
  for (const RuleTest& test : rule.tests) results.push_back(run_case(rule, test).result);
  return results;
}

std::vector<TestResult> run_tests(const RuleSet& rules) {
  std::vector<TestResult> results;
  for (const RulePtr& rule : rules.rules()) std::ranges::move(run_tests(*rule), std::back_inserter(results));
  return results;
}

}  // namespace culprit::rules
