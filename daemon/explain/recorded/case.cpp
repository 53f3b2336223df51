#include "daemon/explain/recorded/case.h"

#include <algorithm>
#include <unordered_map>

namespace culprit::explain {

ServiceId RecordedCase::service(std::string_view wanted) const {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == wanted) return static_cast<ServiceId>(i);
  }
  return kNoService;
}

std::int32_t RecordedCase::candidate(ServiceId who) const {
  if (who < 0 || static_cast<std::size_t>(who) >= candidate_of.size()) return -1;
  return candidate_of[static_cast<std::size_t>(who)];
}

std::vector<std::pair<ServiceId, ServiceId>> RecordedCase::all_calls() const {
  std::vector<std::pair<ServiceId, ServiceId>> out = calls;
  for (const auto* spans_of : {&spans, &reference_spans}) {
    std::unordered_map<std::uint64_t, ServiceId> service_of;
    service_of.reserve(spans_of->size());
    for (const RecordedSpan& span : *spans_of) service_of[span.id ^ span.trace] = span.service;
    for (const RecordedSpan& span : *spans_of) {
      if (span.parent == 0) continue;
      const auto parent = service_of.find(span.parent ^ span.trace);
      if (parent != service_of.end() && parent->second != span.service) out.emplace_back(parent->second, span.service);
    }
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace culprit::explain
