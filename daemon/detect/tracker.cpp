#include "daemon/detect/tracker.h"

#include <algorithm>

#include "daemon/base/clock.h"

namespace culprit::detect {

namespace {
constexpr std::size_t kValuesMax = 30;
}

void Tracker::deviate(std::int64_t second_ns, double value, double normal, double score, Gain gain) {
  if (points_ == 0) {
    reset();
    since_ns_ = second_ns - kNsPerSecond;
    normal_ = normal;
  }
  points_ = std::min(kPointsMax, points_ + static_cast<int>(gain));
  if (points_ >= kOpenPoints) active_ = true;
  last_ns_ = second_ns;
  if (gain != Gain::Weak) strong_ns_ = second_ns;
  score_ = std::max(score_, score);
  if (values_.size() < kValuesMax) {
    values_.push_back(value);
  } else {
    values_[next_] = value;
    next_ = (next_ + 1) % kValuesMax;
  }
}

void Tracker::rest() {
  if (points_ == 0) return;
  if (--points_ == 0) active_ = false;
}

double Tracker::value() const {
  if (values_.empty()) return 0;
  std::vector<double> sorted = values_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

}  // namespace culprit::detect
