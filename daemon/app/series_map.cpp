#include "daemon/app/series_map.h"

#include <algorithm>
#include <vector>

namespace culprit::app {
namespace {

constexpr std::size_t kSweepSlice = 4096;
constexpr std::size_t kScanSlice = 1024;

}  // namespace

std::optional<SeriesKey> SeriesKey::make(std::string_view entity, std::string_view name) {
  if (entity.size() + name.size() > kTextMax) return std::nullopt;
  SeriesKey key;
  key.entity_bytes = static_cast<std::uint8_t>(entity.size());
  key.name_bytes = static_cast<std::uint8_t>(name.size());
  std::ranges::copy(entity, key.text.begin());
  std::ranges::copy(name, key.text.begin() + static_cast<std::ptrdiff_t>(entity.size()));
  return key;
}

void SeriesAggregate::add(double value, std::int64_t time_ns) {
  min = count == 0 ? value : std::min(min, value);
  max = count == 0 ? value : std::max(max, value);
  ++count;
  sum += value;
  last = value;
  last_ns = time_ns;
}

void SeriesMap::add(std::span<const stream::Event> events) {
  struct Item {
    SeriesKey key;
    const stream::Event* event;
  };
  std::vector<Item> items;
  items.reserve(events.size());
  for (const stream::Event& event : events) {
    if (event.kind != stream::Kind::Sample) continue;
    if (const auto key = SeriesKey::make(event.entity, event.name)) {
      items.push_back({*key, &event});
    } else {
      refused_long_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  map_.update_n(std::span<const Item>(items), [](const Item& item) -> const SeriesKey& { return item.key; },
                [&](std::size_t i, SeriesAggregate& aggregate, bool) { aggregate.add(items[i].event->value, items[i].event->time_ns); });
}

void SeriesMap::sweep(std::int64_t now_ns) {
  const auto stale = [now_ns](const SeriesKey&, const SeriesAggregate& aggregate) { return now_ns - aggregate.last_ns > kStaleNs; };
  if (!map_.sweep(swept_, kSweepSlice, stale).more) swept_ = {};
}

std::optional<SeriesAggregate> SeriesMap::find(std::string_view entity, std::string_view name) const {
  const auto key = SeriesKey::make(entity, name);
  return key ? map_.find(*key) : std::nullopt;
}

void SeriesMap::each(const std::function<void(const SeriesKey&, const SeriesAggregate&)>& visit) const {
  concurrent::Cursor cursor;
  while (map_.scan(cursor, kScanSlice, visit)) {
  }
}

}  // namespace culprit::app
