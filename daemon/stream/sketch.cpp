#include "daemon/stream/sketch.h"

#include <algorithm>
#include <cmath>

namespace culprit::stream {
namespace {

constexpr double kGamma = (1 + kSketchError) / (1 - kSketchError);
constexpr double kSmallest = 1e-300;  // nearer to 0 is 0
const double kLogGamma = std::log(kGamma);

std::int32_t index_of(double magnitude) { return static_cast<std::int32_t>(std::ceil(std::log(std::min(magnitude, 1e300)) / kLogGamma)); }
double value_of(std::int32_t index) { return 2 * std::exp(index * kLogGamma) / (kGamma + 1); }

}  // namespace

void Sketch::Side::add(std::int32_t index, std::uint64_t times) {
  total += times;
  if (counts.empty()) {
    first = index;
    counts.push_back(times);
    return;
  }
  const std::int32_t last = first + static_cast<std::int32_t>(counts.size()) - 1;
  if (index > last) {
    counts.resize(counts.size() + static_cast<std::size_t>(index - last));
    if (counts.size() > kSketchBucketsMax) {  // the lowest buckets become one
      const std::size_t extra = counts.size() - kSketchBucketsMax;
      std::uint64_t low = 0;
      for (std::size_t i = 0; i <= extra; ++i) low += counts[i];
      counts.erase(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(extra));
      counts.front() = low;
      first += static_cast<std::int32_t>(extra);
    }
  } else if (index < first) {
    const std::size_t room = kSketchBucketsMax - counts.size();
    const std::size_t more = std::min(room, static_cast<std::size_t>(first - index));
    counts.insert(counts.begin(), more, 0);
    first -= static_cast<std::int32_t>(more);
  }
  counts[static_cast<std::size_t>(std::max(index, first) - first)] += times;
}

void Sketch::add(double value, std::uint64_t times) {
  if (std::isnan(value) || times == 0) return;
  if (std::abs(value) < kSmallest) {
    zero_ += times;
  } else {
    (value > 0 ? positive_ : negative_).add(index_of(std::abs(value)), times);
  }
}

void Sketch::merge(const Sketch& other) {
  zero_ += other.zero_;
  const auto add_all = [](Side& to, const Side& from) {
    for (std::size_t i = from.counts.size(); i-- > 0;) {
      if (from.counts[i] > 0) to.add(from.first + static_cast<std::int32_t>(i), from.counts[i]);
    }
  };
  add_all(positive_, other.positive_);
  add_all(negative_, other.negative_);
}

double Sketch::quantile(double share) const {
  const std::uint64_t total = count();
  if (total == 0) return 0;
  auto rank = static_cast<std::uint64_t>(std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(total)));
  rank = std::max<std::uint64_t>(rank, 1);
  std::uint64_t seen = 0;
  for (std::size_t i = negative_.counts.size(); i-- > 0;) {  // the most negative first
    seen += negative_.counts[i];
    if (seen >= rank) return -value_of(negative_.first + static_cast<std::int32_t>(i));
  }
  seen += zero_;
  if (seen >= rank) return 0;
  for (std::size_t i = 0; i < positive_.counts.size(); ++i) {
    seen += positive_.counts[i];
    if (seen >= rank) return value_of(positive_.first + static_cast<std::int32_t>(i));
  }
  return value_of(positive_.first + static_cast<std::int32_t>(positive_.counts.size()) - 1);
}

}  // namespace culprit::stream
