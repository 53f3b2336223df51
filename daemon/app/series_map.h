// SeriesMap: the live aggregate of every series, by entity and name: what /metrics and status read without a scan
// of the stream. One batched update a second, stale series swept in slices.
//
// Threads: one updates and sweeps (stream), any reads; readers take no lock.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "daemon/concurrent/map.h"
#include "daemon/stream/event.h"

namespace culprit::app {

// Entity and name in one fixed block, so that readers copy it without a lock. Nothing if they do not fit.
struct SeriesKey {
  static constexpr std::size_t kTextMax = 158;
  std::uint8_t entity_bytes = 0;
  std::uint8_t name_bytes = 0;
  std::array<char, kTextMax> text{};

  static std::optional<SeriesKey> make(std::string_view entity, std::string_view name);
  std::string_view entity() const { return {text.data(), entity_bytes}; }
  std::string_view name() const { return {text.data() + entity_bytes, name_bytes}; }
  bool operator==(const SeriesKey&) const = default;
};

struct SeriesAggregate {
  std::uint64_t count = 0;
  double sum = 0, min = 0, max = 0, last = 0;
  std::int64_t last_ns = 0;

  void add(double value, std::int64_t time_ns);
};

class SeriesMap {
 public:
  static constexpr std::size_t kSeriesMax = 1'000'000;
  static constexpr std::int64_t kStaleNs = 600'000'000'000;

  explicit SeriesMap(concurrent::Registry* registry)
      : map_({.name = "series", .max_entries = kSeriesMax, .max_bytes = 0, .seed = 0, .registry = registry}) {}

  void add(std::span<const stream::Event> events);  // samples; others are skipped
  void sweep(std::int64_t now_ns);                  // one slice of the walk that erases stale series
  std::optional<SeriesAggregate> find(std::string_view entity, std::string_view name) const;
  void each(const std::function<void(const SeriesKey&, const SeriesAggregate&)>& visit) const;
  std::uint64_t refused_long() const { return refused_long_.load(std::memory_order_relaxed); }

 private:
  using Map = concurrent::Map<SeriesKey, SeriesAggregate, concurrent::KeyHash<SeriesKey>, concurrent::Writers::One>;
  Map map_;
  concurrent::Cursor swept_;
  std::atomic<std::uint64_t> refused_long_ = 0;
};

}  // namespace culprit::app
