// Where errors begin: failed spans none of whose children failed (the error origin of the Dapper and MEPFL line of work; Zhou et al.,
// ESEC/FSE 2019), as a share of all of them.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/evidence/spans.h"

namespace culprit::explain {

void span_failures(const RecordedCase& c, const SpanForest& forest, Signals& out) {
  if (std::ranges::none_of(c.spans, &RecordedSpan::failed)) return;
  struct Origin {
    double count = 0;
    std::int64_t first_ns = 0;
    std::uint32_t error = 0;
  };
  std::map<ServiceId, Origin> origins;
  double total = 0;
  for (const SpanNode& node : forest.nodes) {
    if (!node.span->failed) continue;
    const bool deeper = std::ranges::any_of(node.children, [&](std::uint32_t child) { return forest.nodes[child].span->failed; });
    if (deeper) continue;
    Origin& origin = origins[node.span->service];
    origin.count += 1;
    total += 1;
    if (origin.first_ns == 0 || node.span->start_ns < origin.first_ns) origin.first_ns = node.span->start_ns;
    if (origin.error == 0) origin.error = node.span->error;
  }
  Signal signal = make_signal(c, "traces.failures", Modality::Traces, "error");
  for (const auto& [service, origin] : origins) {
    raise(signal, c, service, origin.count / total, fmt::format("{:.0f} of {:.0f} failed requests fail first in it{}{}", origin.count, total, origin.error != 0 ? ": " : "", c.words[origin.error]), origin.first_ns);
  }
  out.push_back(std::move(signal));
}

}  // namespace culprit::explain
