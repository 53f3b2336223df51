#include "daemon/explain/changes/climb.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace culprit::explain {

namespace {

constexpr std::size_t kRowsMin = 12;
constexpr std::size_t kRowsMax = 400;      // evenly picked from more: each is tried as the beginning
constexpr std::size_t kPhaseMin = 4;       // rows in each phase
constexpr double kFull = 0.02;             // of its range below the highest value: it cannot climb any more
constexpr double kUnexplained = 0.1;       // of the variance, at most
constexpr double kLineWorse = 1.5;         // how much worse one straight line must be, to say when it began

struct Point {
  std::int64_t time_ns;
  double x, y;
};

// What is left of the variance of y after a line over max(0, x - from); falling lines explain nothing.
double left_by_rise(const std::vector<Point>& points, double from) {
  const auto n = static_cast<double>(points.size());
  double sx = 0, sy = 0;
  for (const Point& one : points) sx += std::max(0.0, one.x - from), sy += one.y;
  double xx = 0, xy = 0, yy = 0;
  for (const Point& one : points) {
    const double x = std::max(0.0, one.x - from) - sx / n, y = one.y - sy / n;
    xx += x * x, xy += x * y, yy += y * y;
  }
  return xx > 0 && xy > 0 ? std::max(0.0, yy - xy * xy / xx) : yy;
}

double left_by_steps(const std::vector<Point>& points) {
  double all = 0, squares = 0;
  for (const Point& one : points) all += one.y, squares += one.y * one.y;
  double before = 0, best = squares;
  for (std::size_t i = 0; i + 1 < points.size(); ++i) {
    before += points[i].y;
    const auto n = static_cast<double>(i + 1), rest = static_cast<double>(points.size() - i - 1);
    best = std::min(best, squares - before * before / n - (all - before) * (all - before) / rest);
  }
  return std::max(0.0, best);
}

}  // namespace

std::int64_t climb_since(const std::vector<std::int64_t>& times_ns, const std::vector<double>& values, std::int64_t until_ns) {
  std::vector<Point> points;
  double least = 0, most = 0;
  for (std::size_t row = 0; row < std::min(times_ns.size(), values.size()) && times_ns[row] <= until_ns; ++row) {
    if (!std::isfinite(values[row])) continue;
    points.push_back({times_ns[row], static_cast<double>(times_ns[row] - times_ns.front()) / 1e9, values[row]});
    const double y = points.back().y;
    least = points.size() == 1 ? y : std::min(least, y), most = points.size() == 1 ? y : std::max(most, y);
  }
  if (!(most > least)) return 0;
  const auto full = std::ranges::find_if(points, [&](const Point& one) { return one.y >= most - kFull * (most - least); });
  points.erase(full + 1, points.end());
  for (Point& one : points) one.y = (one.y - least) / (most - least);  // squares of bytes lose their digits
  if (points.size() > kRowsMax) {
    std::vector<Point> some;
    for (std::size_t i = 0; i < kRowsMax; ++i) some.push_back(points[i * (points.size() - 1) / (kRowsMax - 1)]);
    points = std::move(some);
  }
  if (points.size() < kRowsMin) return 0;
  const double line = left_by_rise(points, points.front().x), all = left_by_rise(points, points.back().x);
  double best = all;
  std::int64_t since_ns = 0;
  for (std::size_t i = kPhaseMin; i + kPhaseMin < points.size(); ++i) {
    if (const double left = left_by_rise(points, points[i].x); left < best) best = left, since_ns = points[i].time_ns;
  }
  const bool climbs = best <= kUnexplained * all && best < left_by_steps(points);
  return climbs && line > kLineWorse * best ? since_ns : 0;
}

}  // namespace culprit::explain
