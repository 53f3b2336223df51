#include <algorithm>
#include <cmath>
#include <set>

#include "daemon/explain/learn/alert_words.h"
#include "daemon/explain/learn/model.h"

namespace culprit::explain {

std::vector<Features> features_of(const RecordedCase& c, const Signals& signals, const Habits& habits) {
  std::vector<Features> out = alert_features(c, habits);
  out.resize(c.candidates.size());
  for (const Signal& signal : signals) {
    // A value alone, compared with the most suspicious candidate's, and how far the first is ahead of the second.
    double best = 0, second = 0;
    for (const double value : signal.value) {
      if (value > best) second = best, best = value;
      else second = std::max(second, value);
    }
    if (best <= 0) continue;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double value = signal.value[i];
      if (value <= 0) continue;
      out[i].push_back({signal.name, value});
      out[i].push_back({signal.name + " of best", value / best});
      if (value == best) out[i].push_back({signal.name + " lead", (best - second) / best});
    }
  }
  for (Features& one : out) std::ranges::sort(one, {}, &Feature::name);
  return out;
}

}  // namespace culprit::explain
