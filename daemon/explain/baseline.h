// Baseline: what one series did before the incident, what it does now, since when it is different.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/stream/store.h"

namespace culprit::explain {

// The windows of one explanation. All in whole seconds of the stream.
struct Windows {
  std::int64_t base_from_ns = 0, base_to_ns = 0;  // healthy past
  std::int64_t now_from_ns = 0, now_to_ns = 0;    // the incident
  std::int64_t seen_from_ns = 0;                  // the first sample there is at all
  std::vector<std::pair<std::int64_t, std::int64_t>> excluded;

  bool is_base(std::int64_t time_ns) const;
};

// How the numbers of a series are to be read.
struct SeriesKind {
  bool additive = true;   // a second without a sample is 0; otherwise it is unknown
  double floor = 1;       // a difference that matters, in the unit of the series
  double ratio = 0.5;     // and in proportion to its normal
};
SeriesKind series_kind(std::string_view base_name);

struct View {
  std::string entity;
  std::string name;       // with labels
  std::string base_name;  // without
  double normal = 0, spread = 0;
  double now = 0;         // median of the incident's seconds
  double peak = 0;        // 90th percentile of them
  double last = 0;        // mean of the last three seconds
  double score = 0;       // how many times over its bar it is up; negative: down
  std::int64_t onset_ns = 0;  // since when; 0 if it does not deviate
  std::size_t base_points = 0, now_points = 0;

  bool burst = false;     // it is up only at times: then peak, not now, is what deviates

  double value() const { return burst ? peak : now; }
  bool up() const { return score >= 1; }
  bool down() const { return score <= -1; }
  double change() const { return now - normal; }
  std::string_view label(std::string_view key) const;
};

// `entity_from_ns`: the first sample of the entity; seconds before it are no zeros unless it is a newcomer.
View view_of(const stream::Series& series, const Windows& windows, std::int64_t entity_from_ns);

}  // namespace culprit::explain
