// Sketch: quantiles of any number of values in a bounded table, mergeable in any order.
//
// DDSketch: C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
// Relative-Error Guarantees", PVLDB 12(12), 2019; bucket i holds (gamma^(i-1), gamma^i], gamma = (1+a)/(1-a).
// A quantile is within kSketchError of the true one, relative to it, while the values span less than
// gamma^kSketchBucketsMax (17 decades); beyond that the smallest lose their distinction, as in the paper.
#pragma once

#include <cstdint>
#include <vector>

namespace culprit::stream {

inline constexpr double kSketchError = 0.01;
inline constexpr std::size_t kSketchBucketsMax = 2048;

class Sketch {
 public:
  void add(double value, std::uint64_t times = 1);  // values that are no number are not taken
  void merge(const Sketch& other);
  std::uint64_t count() const { return zero_ + positive_.total + negative_.total; }
  // share in [0, 1]; 0 if nothing was added. Nearest rank, as Group's quantiles.
  double quantile(double share) const;

 private:
  struct Side {  // of one sign
    std::int32_t first = 0;  // index of counts[0]
    std::vector<std::uint64_t> counts;
    std::uint64_t total = 0;
    void add(std::int32_t index, std::uint64_t times);
  };
  Side positive_, negative_;
  std::uint64_t zero_ = 0;
};

}  // namespace culprit::stream
