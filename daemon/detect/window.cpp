#include "daemon/detect/window.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace culprit::detect {

namespace {
// A window this small changes much with each value; a larger one is looked at again after as many values.
constexpr std::size_t kRecomputeEvery = 8;
}  // namespace

void Window::push(double value) {
  values_[next_] = static_cast<float>(value);
  next_ = (next_ + 1) % kCapacity;
  if (size_ < kCapacity) ++size_;
  if (++pushed_since_ >= kRecomputeEvery || size_ < 4 * kRecomputeEvery) stale_ = true;
}

const Normal& Window::normal() const {
  if (!stale_) return normal_;
  stale_ = false;
  pushed_since_ = 0;
  normal_ = {};
  if (size_ == 0) return normal_;
  std::vector<float> sorted(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(size_));
  std::ranges::sort(sorted);
  const float median = sorted[size_ / 2];
  normal_.median = median;
  normal_.high = sorted[std::min(size_ - 1, size_ * 95 / 100)];
  for (float& value : sorted) value = std::fabs(value - median);
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(size_ / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  normal_.spread = 1.4826 * static_cast<double>(*middle);
  return normal_;
}

}  // namespace culprit::detect
