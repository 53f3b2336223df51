// Sketches keep their promise, and what differs is told with the effects of the book.
#include "daemon/stream/aggregate.h"

#include <algorithm>
#include <cmath>

#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

// Within one per cent of the nearest rank, over many decades, signs and zeros; merged in any order the same.
TEST(SketchTest, QuantilesAreWithinTheirErrorAndMerge) {
  std::mt19937_64 random(test_seed());
  std::lognormal_distribution<double> spread(0, 4);
  std::vector<double> values;
  Sketch whole, parts[3];
  for (int i = 0; i < 20'000; ++i) {
    double value = i % 50 == 0 ? 0 : spread(random);
    if (i % 3 == 0) value = -value;
    values.push_back(value);
    whole.add(value);
    parts[random() % 3].add(value);
  }
  whole.add(std::nan(""));
  Sketch forth = parts[0], back = parts[2];
  forth.merge(parts[1]);
  forth.merge(parts[2]);
  back.merge(parts[1]);
  back.merge(parts[0]);
  std::sort(values.begin(), values.end());
  EXPECT_EQ(whole.count(), values.size());
  for (const double share : {0.0, 0.01, 0.25, 0.33, 0.5, 0.75, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<std::size_t>(std::max(1.0, std::ceil(share * static_cast<double>(values.size())))) - 1;
    EXPECT_NEAR(whole.quantile(share), values[rank], kSketchError * std::abs(values[rank]) * 1.0001) << share;
    EXPECT_EQ(forth.quantile(share), whole.quantile(share));
    EXPECT_EQ(back.quantile(share), whole.quantile(share));
  }
  EXPECT_EQ(Sketch().quantile(0.5), 0);
}

// However far values are apart, the table stays small and the largest stay exact within the error.
TEST(SketchTest, RangeBeyondTheTableCostsOnlyTheSmallest) {
  Sketch sketch;
  for (int exponent = -300; exponent <= 300; ++exponent) sketch.add(std::pow(10.0, exponent));
  EXPECT_NEAR(sketch.quantile(1) / 1e300, 1, 0.0101);
  EXPECT_NEAR(sketch.quantile(0.99) / 1e294, 1, 0.0101);
  EXPECT_EQ(sketch.count(), 601u);
}

TEST(AggregateTest, CountsGroupsAndBuckets) {
  const FakeClock clock;
  auto store = EmbeddedStore::open({}, clock);
  ASSERT_TRUE(store);
  std::vector<Event> events;
  for (int i = 0; i < 100; ++i) events.push_back(sample(i * kNsPerSecond, i % 4 == 0 ? "a" : "b", "x", i));
  ASSERT_TRUE((*store)->append(events));
  auto answer = (*store)->aggregate({.by = {"entity"}, .order = Aggregation::Order::Count});
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->rows.size(), 2u);
  EXPECT_TRUE(answer->completeness.whole);
  EXPECT_EQ(answer->rows[0].group, std::vector<std::string>{"b"});
  EXPECT_EQ(answer->rows[0].count, 75u);
  EXPECT_EQ(answer->rows[1].latest, 96);
  EXPECT_EQ(answer->rows[1].max, 96);
  answer = (*store)->aggregate({.bucket_ns = 30 * kNsPerSecond});
  ASSERT_EQ(answer->rows.size(), 4u);
  EXPECT_EQ(answer->rows[3].bucket_ns, 90 * kNsPerSecond);
  EXPECT_EQ(answer->rows[3].count, 10u);
  answer = (*store)->aggregate({.by = {"entity"}, .top = 1});
  EXPECT_EQ(answer->groups_left_out, 1u);
}

// Ten per cent of requests failed before, half of them now: h = 2 asin sqrt(.5) - 2 asin sqrt(.1) = 0.9273.
TEST(ContrastTest, EffectsAreCohens) {
  const FakeClock clock;
  auto store = EmbeddedStore::open({}, clock);
  ASSERT_TRUE(store);
  std::vector<Event> events;
  for (int i = 0; i < 200; ++i) {
    Event& span = events.emplace_back();
    span.time_ns = i * kNsPerSecond;
    span.kind = Kind::Span;
    span.entity = "service:shop";
    span.name = "GET /";
    span.value = (i < 100 ? 10 : 12) + (i % 2 == 0 ? 1 : -1);  // deviation 1, means 10 and 12: d = 2
    const bool failed = i < 100 ? i % 10 == 0 : i % 2 == 0;
    span.attributes = {{"status", failed ? "503" : "200"}};
  }
  ASSERT_TRUE((*store)->append(events));
  const auto answer = (*store)->contrast({}, {0, 100 * kNsPerSecond}, {100 * kNsPerSecond, 200 * kNsPerSecond}, 10);
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->changes.size(), 3u);
  EXPECT_EQ(answer->changes[0].field, "duration");
  EXPECT_NEAR(answer->changes[0].effect, 2 * std::sqrt(198.0 / 200.0), 1e-9);
  EXPECT_EQ(answer->changes[1].value, "200");
  EXPECT_NEAR(answer->changes[1].effect, -0.9273, 1e-4);
  EXPECT_EQ(answer->changes[2].value, "503");
  EXPECT_NEAR(answer->changes[2].effect, 0.9273, 1e-4);
  EXPECT_DOUBLE_EQ(answer->changes[2].now_per_s, 0.5);
  EXPECT_EQ((*store)->contrast({}, {5, 5}, {6, 7}, 1).error().code, Code::Invalid);
}

// A line's template is told by its text where all lines have it, and by its number where one has not.
TEST(ContrastTest, TemplatesAreToldOnce) {
  const FakeClock clock;
  const auto fields_of = [&](bool all_have_text) {
    auto store = EmbeddedStore::open({}, clock);
    std::vector<Event> events;
    for (int i = 0; i < 200; ++i) {
      Event& line = events.emplace_back(log_line(i * kNsPerSecond, "service:shop", "a line"));
      line.name = i < 100 ? "t:1" : "t:2";
      if (all_have_text || i > 0) line.attributes = {{"template", i < 100 ? "served <*>" : "refused <*>"}};
    }
    EXPECT_TRUE((*store)->append(events));
    const auto answer = (*store)->contrast({}, {0, 100 * kNsPerSecond}, {100 * kNsPerSecond, 200 * kNsPerSecond}, 10);
    std::vector<std::string> values;
    for (const Contrast& change : answer->changes) {
      EXPECT_EQ(change.field, "template");
      values.push_back(change.value);
    }
    return values;
  };
  EXPECT_EQ(fields_of(true), (std::vector<std::string>{"refused <*>", "served <*>"}));
  EXPECT_EQ(fields_of(false), (std::vector<std::string>{"refused <*>", "t:1", "t:2", "served <*>"}));
}

}  // namespace
}  // namespace culprit::stream
