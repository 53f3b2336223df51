// Whose own time or own errors make up the deviation that was noticed: metrics over the call graph.
//
// Volume = requests x (latency - normal), or requests x (normal success - success): seconds lost, or answers lost, in a row.
// It is conserved along calls: what a callee loses, its caller loses too. So a service's own part is its volume less that of
// its callees, and its share is how much of the noticed service's volume moves with it (a regression over the rows of the
// incident). The idea of explaining a node by its parents is CIRCA's (Li et al., KDD 2022, sec. 4: regression-based
// hypothesis testing on the call graph); here the regression has a known coefficient of one, so nothing is fitted and a
// handful of rows is enough. Compare also the PetShop traversal (Hardt et al., CLeaR 2024, sec. 4).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "daemon/explain/evidence/metric_family.h"
#include "daemon/explain/evidence/metric_window.h"
#include "daemon/explain/evidence/robust.h"
#include "daemon/explain/evidence/signal.h"

namespace culprit::explain {

namespace {

using Volume = std::vector<double>;  // one for each row of the incident
using Volumes = std::map<ServiceId, Volume>;

constexpr std::size_t kBaseMin = 5;
constexpr std::size_t kRowsMin = 3;

// A row that was lost is like the others, not nothing: a zero would look like the largest change of all.
std::vector<double> whole(const std::vector<double>& values) {
  std::vector<double> there;
  for (const double value : values) {
    if (std::isfinite(value)) there.push_back(value);
  }
  const double usual = quantile(there, 0.5);
  std::vector<double> out;
  out.reserve(values.size());
  for (const double value : values) out.push_back(std::isfinite(value) ? value : usual);
  return out;
}

// The best series of a family for each service: an average rather than a percentile.
std::map<ServiceId, const MetricSeries*> pick(const MetricWindows& windows, Family family) {
  std::map<ServiceId, const MetricSeries*> out;
  for (const MetricSeries& series : windows.series) {
    if (family_of(series.column->name) != family || series.column->name.starts_with("call.") || is_of_host(series.column->name)) continue;
    const MetricSeries*& place = out[series.column->service];
    if (place == nullptr || (!is_average(place->column->name) && is_average(series.column->name))) place = &series;
  }
  return out;
}

Volumes volumes_of(const MetricWindows& windows, Family family) {
  Volumes out;
  const auto loads = pick(windows, Family::Load);
  for (const auto& [service, series] : pick(windows, family)) {
    const auto load = loads.find(service);
    if (load == loads.end() || series->base.size() < kBaseMin) continue;
    const double normal = center_of(series->base).median;
    if (std::ranges::none_of(series->now, [](double value) { return std::isfinite(value); })) continue;
    const std::vector<double> values = whole(series->now), requests = whole(load->second->now);
    Volume volume;
    for (std::size_t row = 0; row < values.size(); ++row) {
      const double off = family == Family::Success ? normal - values[row] : values[row] - normal;
      volume.push_back(off * requests[row]);
    }
    out[service] = std::move(volume);
  }
  return out;
}

// Of y on x, both about their means; 0 if x does not move.
double slope(const Volume& x, const Volume& y) {
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) mean_x += x[i], mean_y += y[i];
  mean_x /= static_cast<double>(x.size());
  mean_y /= static_cast<double>(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) xx += (x[i] - mean_x) * (x[i] - mean_x), xy += (x[i] - mean_x) * (y[i] - mean_y);
  return xx > 1e-12 ? xy / xx : 0;
}

}  // namespace

void metric_flow(const RecordedCase& c, Signals& out) {
  if (c.fired.service == kNoService || c.calls.empty()) return;
  const Family family = family_of(c.fired.metric);
  if (family != Family::Latency && family != Family::Success) return;
  const MetricWindows windows = windows_of(c);
  if (windows.now_ns.size() < kRowsMin) return;
  const Volumes volumes = volumes_of(windows, family);
  const auto noticed = volumes.find(c.fired.service);
  if (noticed == volumes.end()) return;
  std::map<ServiceId, std::set<ServiceId>> callees;
  for (const auto& [caller, callee] : c.calls) {
    if (caller != callee) callees[caller].insert(callee);
  }
  // What has no series of its own hands through what it calls: its callees count as its caller's.
  std::set<ServiceId> reached{c.fired.service};
  std::vector<ServiceId> todo{c.fired.service};
  while (!todo.empty()) {
    const ServiceId at = todo.back();
    todo.pop_back();
    for (const ServiceId next : callees[at]) {
      if (reached.insert(next).second) todo.push_back(next);
    }
  }
  Signal own = make_signal(c, "metrics.own_share", Modality::Metrics);
  Signal whole = make_signal(c, "metrics.flow_share", Modality::Metrics);
  for (const ServiceId service : reached) {
    const auto volume = volumes.find(service);
    if (volume == volumes.end()) continue;
    Volume rest = volume->second;
    for (const ServiceId callee : callees[service]) {
      const auto below = volumes.find(callee);
      if (below == volumes.end()) continue;
      for (std::size_t row = 0; row < rest.size(); ++row) rest[row] -= std::max(0.0, below->second[row]);
    }
    const double share = slope(noticed->second, volume->second), own_share = slope(noticed->second, rest);
    const char* what = family == Family::Success ? "lost answers" : "added seconds";
    if (share > 0.02) {
      raise(whole, c, service, std::min(1.5, share), fmt::format("{:.0f} % of the {} of {} pass through it", 100 * std::min(1.0, share), what, c.name(c.fired.service)));
    }
    if (own_share > 0.02) {
      raise(own, c, service, std::min(1.5, own_share), fmt::format("{:.0f} % of the {} of {} begin in it, not in what it calls", 100 * std::min(1.0, own_share), what, c.name(c.fired.service)));
    }
  }
  out.push_back(std::move(own));
  out.push_back(std::move(whole));
}

}  // namespace culprit::explain
