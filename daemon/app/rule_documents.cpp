// The API's documents about rules: the set in force, what each rule did, how the last reload went.
#include "daemon/app/live_backend.h"

namespace culprit::app {

using api::Json;

Result<Json> LiveBackend::rules() {
  const Diagnosis::RulesView view = parts_.diagnosis.rules();
  const rules::RuleBook::State state = parts_.rules.state();
  Json rows = Json::array();
  for (const auto& [rule, stats, off] : view.rules) {
    rows.push_back({{"rule", rule->id}, {"status", rules::status_name(rule->status)}, {"summary", rule->summary}, {"cause", rule->cause},
                    {"weight", rule->weight}, {"source", rule->source}, {"tests", rule->tests.size()}, {"origin", rule->origin},
                    {"off", off.empty() ? Json(nullptr) : Json(off)}, {"matched", stats.matched}, {"fired", stats.fired},
                    {"fired_last", stats.fired_ns == 0 ? Json(nullptr) : Json(wall(stats.fired_ns))}, {"steps", stats.steps}});
  }
  return Json{{"api", 1},
              {"hash", view.hash},
              {"rules", std::move(rows)},
              {"reload", {{"good", state.reloads}, {"failed", state.failures}, {"took_s", state.reload_s},
                          {"error", state.error.empty() ? Json(nullptr) : Json(state.error)},
                          {"changed", state.changed_ns == 0 ? Json(nullptr) : Json(wall(state.changed_ns))}, {"folder", parts_.rules.directory().string()}}},
              {"engine", {{"events", view.engine.events}, {"matched", view.engine.matched}, {"kept", view.engine.kept}, {"left_out", view.engine.left_out},
                          {"automaton_overflows", view.engine.overflows}, {"swaps", view.engine.swaps},
                          {"edges", view.engine.edges}, {"edges_forgotten", view.engine.edges_forgotten}, {"normals", view.engine.normals}, {"normals_left_out", view.engine.normals_left_out}}}};
}

Result<Json> LiveBackend::reload_rules() {
  TRY(parts_.rules.reload(parts_.clock.now_ns()));
  return rules();
}

}  // namespace culprit::app
