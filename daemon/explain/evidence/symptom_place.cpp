// Where a cause can be: it must be able to reach the service that was noticed, by calls from it.
#include <fmt/format.h>

#include <deque>
#include <map>

#include "daemon/explain/evidence/signal.h"

namespace culprit::explain {

void symptom_place(const RecordedCase& c, Signals& out) {
  if (c.fired.service == kNoService) return;
  const auto calls = c.all_calls();
  std::map<ServiceId, int> steps{{c.fired.service, 0}};
  std::deque<ServiceId> todo{c.fired.service};
  while (!todo.empty()) {
    const ServiceId at = todo.front();
    todo.pop_front();
    for (const auto& [caller, callee] : calls) {
      if (caller == at && steps.try_emplace(callee, steps[at] + 1).second) todo.push_back(callee);
    }
  }
  Signal reach = make_signal(c, "topology.reach", Modality::Topology);
  Signal noticed = make_signal(c, "topology.noticed", Modality::Topology);
  for (const auto& [service, away] : steps) {
    raise(reach, c, service, 1, away == 0 ? "" : fmt::format("{} reaches it in {} call{}", c.name(c.fired.service), away, away == 1 ? "" : "s"));
  }
  raise(noticed, c, c.fired.service, 1, fmt::format("the alert names it: {}", c.fired.text.empty() ? c.fired.metric : c.fired.text), c.fired.time_ns);
  out.push_back(std::move(reach));
  out.push_back(std::move(noticed));
}

}  // namespace culprit::explain
