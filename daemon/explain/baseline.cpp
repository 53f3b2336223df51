#include "daemon/explain/baseline.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "daemon/base/clock.h"

namespace culprit::explain {

namespace {

struct KindRow {
  std::string_view name;
  SeriesKind kind;
};

// Floors are what a person would call a difference; docs/events.md has the units.
constexpr std::array kKinds = std::to_array<KindRow>({
    {"request.rate", {true, 3, 0.4}},
    {"request.errors", {true, 0.5, 1.0}},
    {"request.duration.p50", {false, 0.010, 0.6}},
    {"request.duration.p99", {false, 0.030, 1.0}},
    {"request.duration.mean", {false, 0.010, 0.6}},
    {"request.self.mean", {false, 0.008, 0.6}},
    {"request.inflight", {true, 3, 1.0}},
    {"request.inflight.age.max", {true, 0.5, 2.0}},
    {"client.rate", {true, 3, 0.4}},
    {"client.errors", {true, 0.5, 1.0}},
    {"client.duration.mean", {false, 0.005, 0.6}},
    {"client.duration.p99", {false, 0.020, 1.0}},
    {"client.inflight", {true, 2, 1.0}},
    {"client.inflight.age.max", {true, 0.5, 2.0}},
    {"client.wait.share", {true, 0.15, 0.3}},
    {"connect.failures", {true, 0.5, 1.0}},
    {"connect.duration.mean", {false, 0.005, 1.0}},
    {"tcp.retransmits", {true, 1.0, 2.0}},
    {"tcp.resets", {true, 1.0, 2.0}},
    {"tcp.rtt", {false, 0.006, 1.0}},
    {"tcp.accept_queue.ratio", {true, 0.3, 0.5}},
    {"cpu.time", {true, 0.15, 0.5}},
    {"cpu.run_queue.wait", {true, 0.10, 1.0}},
    {"cpu.run_queue.mean", {false, 0.001, 1.0}},
    {"cpu.blocked", {true, 0.10, 1.0}},
    {"cpu.throttled", {true, 0.05, 1.0}},
    {"cpu.count", {false, 1, 0.1}},
    {"process.stopped", {true, 0.5, 0.5}},
    {"process.count", {true, 0.7, 0.3}},
    {"process.starts", {true, 0.3, 1.0}},
    {"process.exits", {true, 0.3, 1.0}},
    {"process.crashes", {true, 0.2, 1.0}},
    {"process.fds", {false, 30, 0.5}},
    {"process.fds.ratio", {false, 0.2, 0.5}},
    {"disk.read.bytes", {true, 2e6, 1.0}},
    {"disk.write.bytes", {true, 2e6, 1.0}},
    {"disk.wait", {true, 0.10, 1.0}},
    {"fsync.rate", {true, 5, 1.0}},
    {"fsync.mean", {false, 0.005, 1.0}},
    {"fsync.max", {false, 0.020, 1.0}},
    {"open.mean", {false, 0.002, 1.0}},
    {"memory.rss", {false, 32e6, 0.3}},
    {"memory.limit.ratio", {false, 0.1, 0.15}},
    {"memory.available", {false, 200e6, 0.3}},
    {"memory.available.ratio", {false, 0.1, 0.3}},
    {"syscall.errors", {true, 0.8, 1.5}},
    {"log.rate", {true, 5, 1.0}},
    {"log.errors", {true, 0.5, 1.0}},
    {"disk.rate", {true, 20, 1.0}},
    {"disk.bytes", {true, 2e6, 1.0}},
    {"disk.latency.mean", {false, 0.003, 1.0}},
    {"disk.latency.p99", {false, 0.010, 1.0}},
    {"disk.busy", {true, 0.25, 0.6}},
    {"filesystem.used.ratio", {false, 0.03, 0.03}},
    {"filesystem.inodes.ratio", {false, 0.03, 0.03}},
    {"filesystem.avail", {false, 50e6, 0.2}},
    {"pressure.cpu", {true, 0.15, 0.5}},
    {"pressure.io", {true, 0.15, 0.5}},
    {"pressure.memory", {true, 0.1, 0.5}},
});

constexpr double kSpreads = 4;                               // outside this many spreads
constexpr std::int64_t kNewcomerNs = 20 * kNsPerSecond;      // first seen this shortly before the incident, or in it
constexpr std::int64_t kOnsetLeadNs = 30 * kNsPerSecond;     // a cause is looked for this long before the onset

double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::size_t>(std::lround(q * static_cast<double>(values.size() - 1)));
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(at);
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

// Adds zeros for the seconds in which an additive series was silent.
void fill(std::vector<double>& values, std::int64_t seconds) {
  if (seconds > static_cast<std::int64_t>(values.size())) values.resize(static_cast<std::size_t>(seconds), 0.0);
}

}  // namespace

bool Windows::is_base(std::int64_t time_ns) const {
  if (time_ns < base_from_ns || time_ns >= base_to_ns) return false;
  return std::ranges::none_of(excluded, [&](const auto& gap) { return time_ns >= gap.first && time_ns < gap.second; });
}

SeriesKind series_kind(std::string_view base_name) {
  static const auto sorted = [] {
    auto rows = kKinds;
    std::ranges::sort(rows, {}, &KindRow::name);
    return rows;
  }();
  const auto found = std::ranges::lower_bound(sorted, base_name, {}, &KindRow::name);
  if (found != sorted.end() && found->name == base_name) return found->kind;
  return {};
}

std::string_view View::label(std::string_view key) const {
  std::string_view rest = name;
  const auto brace = rest.find('{');
  if (brace == std::string_view::npos) return {};
  rest.remove_prefix(brace + 1);
  while (!rest.empty()) {
    const auto equals = rest.find("=\"");
    if (equals == std::string_view::npos) return {};
    const auto end = rest.find('"', equals + 2);
    if (end == std::string_view::npos) return {};
    if (rest.substr(0, equals) == key) return rest.substr(equals + 2, end - equals - 2);
    rest.remove_prefix(end + 1);
    if (rest.starts_with(',')) rest.remove_prefix(1);
  }
  return {};
}

View view_of(const stream::Series& series, const Windows& windows, std::int64_t entity_from_ns) {
  View view;
  view.entity = series.entity;
  view.name = series.name;
  view.base_name = series.name.substr(0, series.name.find('{'));
  const SeriesKind kind = series_kind(view.base_name);

  std::vector<double> base, now, last;
  for (const stream::Point& point : series.points) {
    if (!std::isfinite(point.value)) continue;
    if (!kind.additive && point.value <= 0) continue;  // a level or a duration of 0 means that there was none
    if (windows.is_base(point.time_ns)) base.push_back(point.value);
    if (point.time_ns > windows.now_from_ns && point.time_ns <= windows.now_to_ns) {
      now.push_back(point.value);
      if (point.time_ns > windows.now_to_ns - 3 * kNsPerSecond) last.push_back(point.value);
    }
  }
  view.base_points = base.size();
  view.now_points = now.size();
  if (kind.additive) {
    const bool newcomer = entity_from_ns > windows.base_to_ns - kNewcomerNs;
    const std::int64_t from =
        std::max({windows.base_from_ns, windows.seen_from_ns, newcomer ? windows.base_from_ns : entity_from_ns});
    std::int64_t base_ns = std::max<std::int64_t>(0, windows.base_to_ns - from);
    for (const auto& [gap_from, gap_to] : windows.excluded) {
      base_ns -= std::max<std::int64_t>(0, std::min(gap_to, windows.base_to_ns) - std::max(gap_from, from));
    }
    fill(base, base_ns / kNsPerSecond);
    fill(now, (windows.now_to_ns - windows.now_from_ns) / kNsPerSecond);
    fill(last, std::min<std::int64_t>(3, (windows.now_to_ns - windows.now_from_ns) / kNsPerSecond));
  }
  if (now.empty()) return view;

  view.normal = quantile(base, 0.5);
  std::vector<double> off(base.size());
  std::ranges::transform(base, off.begin(), [&](double value) { return std::fabs(value - view.normal); });
  view.spread = 1.4826 * quantile(off, 0.5);
  const double high = quantile(base, 0.95), low = quantile(base, 0.05);
  view.now = quantile(now, 0.5);
  view.peak = quantile(now, 0.9);
  double sum = 0;
  for (const double value : last) sum += value;
  view.last = last.empty() ? view.now : sum / static_cast<double>(last.size());

  const double bar = std::max({kSpreads * view.spread, kind.floor, kind.ratio * std::fabs(view.normal)});
  view.score = (view.now - view.normal) / bar;
  // Above what it does anyway now and then; a burst shorter than half the window counts half.
  if (view.score > 0 && base.size() >= 20) {
    view.score = std::min(view.score, (view.now - view.normal) / (std::max(0.0, high - view.normal) + kind.floor / 2));
  }
  if (view.score < 0 && base.size() >= 20) {
    view.score = std::max(view.score, (view.now - view.normal) / (std::max(0.0, view.normal - low) + kind.floor / 2));
  }
  if (view.score > -1 && view.score < 1) {
    double burst = (view.peak - view.normal) / bar;
    if (base.size() >= 20) burst = std::min(burst, (view.peak - high) / kind.floor);
    if (0.5 * burst > view.score) {
      view.score = 0.5 * burst;
      view.burst = true;
    }
  }
  view.score = std::clamp(view.score, -50.0, 50.0);

  if (view.up() || view.down()) {
    const double half = view.normal + 0.4 * ((view.up() ? std::max(view.now, view.peak) : view.now) - view.normal);
    for (const stream::Point& point : series.points) {
      if (point.time_ns <= windows.now_from_ns - kOnsetLeadNs || point.time_ns > windows.now_to_ns) continue;
      if (view.up() ? point.value < half : point.value > half) continue;
      // Before the incident only a level that lasts into it counts: one blip does not make an onset.
      if (point.time_ns <= windows.now_from_ns - 2 * kNsPerSecond) {
        const auto next = std::ranges::upper_bound(series.points, point.time_ns, {}, &stream::Point::time_ns);
        if (next == series.points.end() || (view.up() ? next->value < half : next->value > half)) continue;
      }
      view.onset_ns = point.time_ns - kNsPerSecond;
      break;
    }
    if (view.onset_ns == 0) view.onset_ns = windows.now_from_ns;
  }
  return view;
}

}  // namespace culprit::explain
