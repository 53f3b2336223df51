#include "daemon/app/series_map.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace culprit::app {
namespace {

stream::Event sample(std::string entity, std::string name, double value, std::int64_t time_ns) {
  stream::Event event;
  event.entity = std::move(entity);
  event.name = std::move(name);
  event.value = value;
  event.time_ns = time_ns;
  return event;
}

TEST(SeriesMapTest, AggregatesPerSeries) {
  SeriesMap map(nullptr);
  stream::Event log = sample("service:a", "t:1", 9, 1);
  log.kind = stream::Kind::Log;
  map.add(std::vector{sample("service:a", "x", 3, 1), sample("service:a", "x", 1, 2), sample("service:ax", "", 7, 2), log});
  const auto series = map.find("service:a", "x");
  ASSERT_TRUE(series);
  EXPECT_EQ(series->count, 2U);
  EXPECT_DOUBLE_EQ(series->sum, 4);
  EXPECT_DOUBLE_EQ(series->min, 1);
  EXPECT_DOUBLE_EQ(series->max, 3);
  EXPECT_DOUBLE_EQ(series->last, 1);
  // Where the entity ends and the name begins is part of the key.
  EXPECT_DOUBLE_EQ(map.find("service:ax", "")->last, 7);
  EXPECT_FALSE(map.find("service:a", "t:1"));
}

TEST(SeriesMapTest, StaleSeriesGoAndLongNamesAreCounted) {
  SeriesMap map(nullptr);
  map.add(std::vector{sample("service:old", "x", 1, 1), sample("service:new", "x", 1, SeriesMap::kStaleNs + 100),
                      sample("service:long", std::string(SeriesKey::kTextMax, 'n'), 1, 1)});
  EXPECT_EQ(map.refused_long(), 1U);
  for (int i = 0; i < 10; ++i) map.sweep(SeriesMap::kStaleNs + 100);
  std::map<std::string, double> left;
  map.each([&](const SeriesKey& key, const SeriesAggregate& aggregate) { left[std::string(key.entity())] = aggregate.last; });
  EXPECT_EQ(left, (std::map<std::string, double>{{"service:new", 1}}));
}

}  // namespace
}  // namespace culprit::app
