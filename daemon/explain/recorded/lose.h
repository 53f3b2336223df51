// Loss on purpose: a recorded case with less in it, to measure what an answer is worth without it.
#pragma once

#include <string_view>

#include "daemon/base/result.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct Loss {
  bool metrics = false, traces = false, logs = false, topology = false, reference = false;
  double spans_kept = 1;    // share of spans, single ones, by their ids
  double samples_kept = 1;  // share of metric values
  double lines_kept = 1, alerts_kept = 1;

  bool any() const { return metrics || traces || logs || topology || reference || spans_kept < 1 || samples_kept < 1 || lines_kept < 1 || alerts_kept < 1; }
};

// Marks "metrics", "traces", "logs", "topology" or "reference". Errors: Invalid for another word.
Result<void> mark_lost(Loss& loss, std::string_view modality);

// Alerts go with the modality that they were drawn from. Deterministic.
void lose(RecordedCase& c, const Loss& loss);

}  // namespace culprit::explain
