// How far each metric of a service left its past, by what it measures.
//
// The robust score of BARO (Pham et al., FSE 2024, eq. 5): (value - median) / spread of the healthy past. Ours is by
// family, because a busy CPU says something else than a slow answer, and of a typical bad minute (75th percentile), not the
// worst one. Its logarithm keeps a series that was constant before from winning by an arbitrary factor.
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "daemon/explain/evidence/metric_family.h"
#include "daemon/explain/evidence/metric_window.h"
#include "daemon/explain/evidence/robust.h"
#include "daemon/explain/evidence/signal.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kBaseMin = 5;      // values without which there is no past
constexpr double kRelativeFloor = 0.05;  // of the median: a smaller change is no change
constexpr double kScoreMin = 3;          // spreads

struct Bin {
  Family family;
  bool up;
  const char* name;
  const char* fault;
};
constexpr std::array kBins = {
    Bin{Family::Cpu, true, "metrics.cpu", "cpu"},           Bin{Family::Memory, true, "metrics.memory", "memory"},
    Bin{Family::Disk, true, "metrics.disk", "disk"},        Bin{Family::Latency, true, "metrics.latency", ""},
    Bin{Family::Network, true, "metrics.network_up", ""},   Bin{Family::Network, false, "metrics.network_down", ""},
    Bin{Family::Errors, true, "metrics.errors", "error"},   Bin{Family::Success, false, "metrics.success", "error"},
    Bin{Family::Load, false, "metrics.load_down", "crash"}, Bin{Family::Load, true, "metrics.load_up", "overload"},
    Bin{Family::Other, true, "metrics.other", ""},
};

}  // namespace

void metric_shift(const RecordedCase& c, Signals& out) {
  const MetricWindows windows = windows_of(c);
  if (windows.now_ns.empty()) return;
  std::array<Signal, kBins.size()> signals;
  std::array<bool, kBins.size()> there{};
  for (std::size_t b = 0; b < kBins.size(); ++b) signals[b] = make_signal(c, kBins[b].name, Modality::Metrics, kBins[b].fault);
  for (const MetricSeries& series : windows.series) {
    const Family family = family_of(series.column->name);
    if (series.base.size() < kBaseMin || is_of_host(series.column->name) || c.candidate(series.column->service) < 0) continue;
    const Center past = center_of(series.base);
    const double floor = std::max(past.spread + kRelativeFloor * std::fabs(past.median) + 1e-9, series.column->matters / kScoreMin);
    std::vector<double> now;
    for (const double value : series.now) {
      if (std::isfinite(value)) now.push_back(value);
    }
    if (now.empty()) continue;
    for (std::size_t b = 0; b < kBins.size(); ++b) {
      if (kBins[b].family != family) continue;
      there[b] = true;
      const double bad = quantile(now, kBins[b].up ? 0.75 : 0.25);
      const double score = (kBins[b].up ? 1 : -1) * (bad - past.median) / floor;
      if (score < kScoreMin) continue;
      std::int64_t since_ns = 0;
      for (std::size_t row = 0; row < series.now.size() && since_ns == 0; ++row) {
        const double here = (kBins[b].up ? 1 : -1) * (series.now[row] - past.median) / floor;
        if (std::isfinite(here) && here >= kScoreMin) since_ns = windows.now_ns[row];
      }
      raise(signals[b], c, series.column->service, std::log1p(score),
            fmt::format("{} {:.4g} (normal {:.4g}, {:.0f} spreads)", series.column->name, bad, past.median, score), since_ns);
    }
  }
  for (std::size_t b = 0; b < kBins.size(); ++b) {
    if (there[b]) out.push_back(std::move(signals[b]));
  }
}

}  // namespace culprit::explain
