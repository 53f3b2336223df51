#include "daemon/explain/evidence/signal.h"

#include "daemon/explain/evidence/complaints.h"
#include "daemon/explain/evidence/spans.h"
#include "daemon/explain/evidence/templates.h"

namespace culprit::explain {

std::string_view name_of(Modality modality) {
  static constexpr std::string_view kNames[] = {"metrics", "traces", "logs", "alerts", "topology", "changes"};
  return kNames[static_cast<std::size_t>(modality)];
}

Signal make_signal(const RecordedCase& c, std::string_view name, Modality modality, std::string_view fault) {
  const std::size_t n = c.candidates.size();
  return {std::string(name), modality, std::vector<double>(n), std::vector<std::string>(n), std::vector<std::int64_t>(n), std::string(fault)};
}

void raise(Signal& signal, const RecordedCase& c, ServiceId service, double value, std::string reason, std::int64_t since_ns) {
  const std::int32_t at = c.candidate(service);
  if (at < 0) return;
  const auto i = static_cast<std::size_t>(at);
  if (value <= signal.value[i]) return;
  signal.value[i] = value;
  signal.reason[i] = std::move(reason);
  signal.since_ns[i] = since_ns;
}

Signals all_signals(const RecordedCase& c) {
  Signals out;
  metric_shift(c, out);
  metric_flow(c, out);
  const SpanForest forest = forest_of(c);
  const CaseTemplates templates = c.logs.empty() && !forest.usable() ? CaseTemplates() : templates_of(c);
  const Complaints complaints = complaints_of(c, templates);
  span_gap(c, forest, out);
  own_time(c, forest, out);
  event_order(c, forest, templates, complaints, out);
  log_news(c, templates, complaints, out);
  span_failures(c, forest, out);
  symptom_place(c, out);
  return out;
}

}  // namespace culprit::explain
