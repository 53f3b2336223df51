// Normals: what a series is like when nothing is wrong, for clauses that say `times_normal`. A fixed number cannot tell a slow disk
// from a fast one that became slow.
//
// Normal is the median of a series' means over 10 s, from kNormalNs before a sample to kNormalGapNs before it: the gap
// keeps the beginning of a fault out, the median the rest of it. It is known from kNormalSlotsMin such means on, so some
// 40 s after the series began. The same samples give the same normals.
// Threads: one. Limits: kNormalSeriesMax series; further ones have no normal and are counted.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/stream/event.h"
#include "rules/rule.h"

namespace culprit::rules {

inline constexpr std::int64_t kNormalSlotNs = 10LL * 1'000'000'000;
inline constexpr std::int64_t kNormalGapNs = 20LL * 1'000'000'000;
inline constexpr std::int64_t kNormalNs = 600LL * 1'000'000'000;
inline constexpr std::size_t kNormalSlotsMin = 2;
inline constexpr std::size_t kNormalSeriesMax = 10'000;
inline constexpr std::string_view kNormalAttribute = "normal";  // of a sample as clauses see it: {slow.normal:seconds}

class Normals {
 public:
  // Learns the sample and gives a copy that carries its series' normal, in the value's unit, as kNormalAttribute; without
  // that attribute while none is known, whatever the sample brought along.
  std::shared_ptr<const stream::Event> marked(const stream::Event& sample);
  void expire(std::int64_t before_ns);  // forgets series without a sample since then

  std::size_t size() const { return series_.size(); }
  std::uint64_t left_out() const { return left_out_; }  // samples of series that there was no room for

 private:
  struct Slot {
    std::int64_t number;  // time / kNormalSlotNs
    double sum;
    std::uint32_t count;
  };
  struct Series {
    std::deque<Slot> slots{};  // by number
    std::int64_t known_for = INT64_MIN;  // the slot that `normal` was worked out for
    std::optional<double> normal{};
  };
  static void learn(Series& series, std::int64_t slot, double value);
  static std::optional<double> normal_of(Series& series, std::int64_t slot);

  std::unordered_map<std::string, Series> series_;  // by name and entity
  std::uint64_t left_out_ = 0;
};

// The normal that a sample was marked with.
std::optional<double> normal_of(const stream::Event& sample);
// Does some clause of the rule compare with a normal?
bool uses_normals(const Rule& rule);
// Samples that such clauses look at become marked ones. `events` are in the order of time.
void mark_normals(const Rule& rule, std::span<std::shared_ptr<const stream::Event>> events);

}  // namespace culprit::rules
