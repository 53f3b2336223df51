// Tracker: one possible symptom of one service. Seconds that pass the bar add points, normal ones take points away;
// enough points make it active, none left end it.
#pragma once

#include <cstdint>
#include <vector>

namespace culprit::detect {

class Tracker {
 public:
  static constexpr int kOpenPoints = 6;  // 3 strong seconds or 6 weak ones
  static constexpr int kPointsMax = 8;   // so that it ends at most this many seconds after the last deviation

  enum class Gain : std::uint8_t { Weak = 1, Strong = 2, Fact = kOpenPoints };

  // The second [second_ns - 1 s, second_ns) deviated: `score` times its bar.
  void deviate(std::int64_t second_ns, double value, double normal, double score, Gain gain);
  void rest();   // a normal second
  void reset() { *this = Tracker(); }

  bool active() const { return active_; }
  bool pending() const { return points_ > 0; }
  std::int64_t since_ns() const { return since_ns_; }
  std::int64_t last_ns() const { return last_ns_; }
  std::int64_t strong_ns() const { return strong_ns_; }  // last second of a strong deviation
  double normal() const { return normal_; }
  double score() const { return score_; }
  double value() const;  // the median of the recent deviating seconds

 private:
  int points_ = 0;
  bool active_ = false;
  std::int64_t since_ns_ = 0, last_ns_ = 0, strong_ns_ = 0;
  double normal_ = 0, score_ = 0;
  std::vector<double> values_;  // at most kValuesMax, a ring
  std::size_t next_ = 0;
};

}  // namespace culprit::detect
