#include "daemon/stream/block.h"

#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

struct Rows {
  std::vector<Row> rows;
  KeyTable keys;

  std::shared_ptr<DetailStore> details = std::make_shared<DetailStore>();

  void add(const Event& event) {
    rows.push_back({event.time_ns, event.value, DetailStore::needed(event) ? details->add(event) : nullptr,
                    keys.intern(event.entity, event.name, event.kind), event.kind, event.severity});
  }
  Block seal() const { return stream::seal(rows, keys, details, 100); }
};

std::vector<std::string> lines(const Block& block) {
  std::vector<Hit> hits;
  block.collect(Matcher(Query{}), 0, hits);
  std::sort(hits.begin(), hits.end());
  std::vector<std::string> lines;
  for (const Hit& hit : hits) lines.push_back(encode_json(hit.event()));
  return lines;
}

// Sealing, coding and decoding loses no row and no field, also with times at both ends of the range.
TEST(BlockTest, RoundTripIsExact) {
  RandomEvents random(test_seed());
  for (const std::size_t count : {1u, 2u, 37u, 5000u}) {
    Rows rows;
    std::vector<Event> events;
    for (std::size_t i = 0; i < count; ++i) events.push_back(random.event(static_cast<std::int64_t>(i) * 1'000'000));
    if (count > 2) {
      events[0].time_ns = INT64_MAX - 1;  // a window is [from, to)
      events[1].time_ns = INT64_MIN;
    }
    for (const Event& event : events) rows.add(event);
    std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.time_ns < b.time_ns; });
    std::vector<std::string> expected;
    for (const Event& event : events) expected.push_back(encode_json(event));

    const Block block = rows.seal();
    EXPECT_EQ(lines(block), expected);
    const auto again = decode(encode(block), kAllColumns, block.rows(), block.sequence_base);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(lines(*again), expected);
    EXPECT_EQ(again->kinds(), block.kinds());
  }
}

// A block of regular samples costs little: the reason for columns.
TEST(BlockTest, RegularSamplesAreSmall) {
  Rows rows;
  for (int second = 0; second < 100; ++second) {
    for (int series = 0; series < 100; ++series) {
      rows.add(sample(second * kNsPerSecond, "service:shop", fmt::format("series.{}", series), second % 3));
    }
  }
  std::size_t bytes = 0;
  for (const std::string& column : encode(rows.seal())) bytes += column.size();
  EXPECT_LT(bytes, rows.rows.size() * 2);
}

// Every column, the grams too.
Result<Block> decode_all(const Columns& columns, std::size_t rows, std::uint64_t base) {
  ASSIGN(Block block, decode(columns, kAllColumns, rows, base));
  const auto may = may_hold(columns[static_cast<std::size_t>(Column::Grams)], base, {});
  if (!may) return std::unexpected(may.error());
  return block;
}

// Cut, flipped or swapped columns: always an error.
TEST(BlockTest, DamageIsFound) {
  RandomEvents random(test_seed());
  Rows rows;
  for (int i = 0; i < 200; ++i) rows.add(random.event(0));
  const Block block = rows.seal();
  const Columns good = encode(block);
  for (std::size_t column = 0; column < kColumns; ++column) {
    for (std::size_t i = 0; i < good[column].size(); ++i) {
      Columns flipped = good, cut = good;
      flipped[column][i] = static_cast<char>(flipped[column][i] ^ 0x10);
      cut[column].resize(i);
      const auto got = decode_all(flipped, block.rows(), block.sequence_base);
      ASSERT_FALSE(got);
      EXPECT_EQ(got.error().code, Code::Corrupt);
      EXPECT_FALSE(decode_all(cut, block.rows(), block.sequence_base));
    }
    Columns swapped = good;
    std::swap(swapped[column], swapped[(column + 1) % kColumns]);
    EXPECT_FALSE(decode_all(swapped, block.rows(), block.sequence_base));
  }
  EXPECT_FALSE(decode_all(good, block.rows() + 1, block.sequence_base));
  EXPECT_FALSE(decode_all(good, block.rows() - 1, block.sequence_base));
}

}  // namespace
}  // namespace culprit::stream
