// Histogram: how long things took, for quantiles. Log-linear: 16 buckets an octave from 1 us on, so that a
// quantile is at most 1/32 of its value (3.2 %) away from the truth; below 1 us it is exact to 62 ns.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace culprit::track {

class Histogram {
 public:
  void add(std::int64_t ns) {
    if (buckets_.empty()) buckets_.resize(kBuckets);
    ns = std::max<std::int64_t>(ns, 0);
    ++buckets_[bucket_of(static_cast<std::uint64_t>(ns))];
    ++count_;
    sum_ns_ += static_cast<double>(ns);
    max_ns_ = std::max(max_ns_, ns);
  }
  void clear() {
    if (count_ == 0) return;
    std::ranges::fill(buckets_, 0u);
    count_ = 0;
    sum_ns_ = 0;
    max_ns_ = 0;
  }
  std::uint64_t count() const { return count_; }
  double mean_s() const { return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_) * 1e-9; }
  // q in [0, 1]; 0 if empty.
  double quantile_s(double q) const {
    if (count_ == 0) return 0;
    const auto rank = static_cast<std::uint64_t>(q * static_cast<double>(count_ - 1));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i];
      if (seen > rank) return std::min(middle_of(i), static_cast<double>(max_ns_)) * 1e-9;
    }
    return static_cast<double>(max_ns_) * 1e-9;
  }

 private:
  static constexpr std::size_t kSub = 16;
  static constexpr int kFirstBit = 10;  // values below 1024 ns are linear
  static constexpr int kOctaves = 34;   // up to 2^44 ns = 4.9 hours
  static constexpr std::size_t kBuckets = kSub * (kOctaves + 1);

  static std::size_t bucket_of(std::uint64_t ns) {
    const int top = ns == 0 ? 0 : static_cast<int>(std::bit_width(ns)) - 1;
    if (top < kFirstBit) return static_cast<std::size_t>(ns >> (kFirstBit - 4));
    const auto octave = static_cast<std::size_t>(top - kFirstBit) + 1;
    const auto sub = static_cast<std::size_t>(ns >> (top - 4)) & (kSub - 1);
    return std::min(octave * kSub + sub, kBuckets - 1);
  }
  static double middle_of(std::size_t bucket) {
    const std::size_t octave = bucket / kSub, sub = bucket % kSub;
    if (octave == 0) return (static_cast<double>(sub) + 0.5) * 64;
    const double base = static_cast<double>(std::uint64_t{1} << (octave - 1 + kFirstBit));
    return base * (1 + (static_cast<double>(sub) + 0.5) / kSub);
  }

  std::vector<std::uint32_t> buckets_;
  std::uint64_t count_ = 0;
  double sum_ns_ = 0;
  std::int64_t max_ns_ = 0;
};

}  // namespace culprit::track
