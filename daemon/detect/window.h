// Window: the last healthy seconds of one series, and what is normal in them. Bounded: kCapacity floats.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace culprit::detect {

// Level and spread that single outliers do not move.
struct Normal {
  double median = 0;
  double spread = 0;  // 1.4826 x median absolute deviation: the standard deviation of a normal distribution
  double high = 0;    // 95th percentile
};

class Window {
 public:
  static constexpr std::size_t kCapacity = 240;

  void push(double value);
  void clear() { size_ = next_ = 0, stale_ = true; }
  std::size_t size() const { return size_; }
  const Normal& normal() const;  // recomputed after some pushes, not each; zeros if empty

 private:
  std::array<float, kCapacity> values_{};
  std::size_t size_ = 0, next_ = 0;
  mutable std::size_t pushed_since_ = 0;
  mutable bool stale_ = true;
  mutable Normal normal_;
};

}  // namespace culprit::detect
