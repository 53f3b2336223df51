#include "daemon/stream/grams.h"

#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

// As docs/events.md says it, a byte at a time.
std::uint32_t slow_bit(std::string_view body, std::size_t at, unsigned log2_bits) {
  std::uint32_t gram = 0;
  for (const char c : body.substr(at, kGramBytes)) gram = gram << 8 | static_cast<std::uint8_t>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return (gram * 0x9E3779B1u) >> (32 - log2_bits);
}
std::string slow_column(const std::vector<std::string>& bodies) {
  std::size_t body_bytes = 0;
  for (const std::string& body : bodies) body_bytes += body.size();
  unsigned log2_bits = kGramBitsMin;
  while (log2_bits < kGramBitsMax && (std::size_t{1} << log2_bits) < body_bytes) ++log2_bits;
  std::string column(1 + (std::size_t{1} << log2_bits) / 8, '\0');
  column[0] = static_cast<char>(log2_bits);
  for (const std::string& body : bodies) {
    for (std::size_t i = 0; i + kGramBytes <= body.size(); i += 2) {
      const std::uint32_t bit = slow_bit(body, i, log2_bits);
      column[1 + bit / 8] = static_cast<char>(static_cast<std::uint8_t>(column[1 + bit / 8]) | 1u << (bit % 8));
    }
  }
  return column;
}

// Eight bytes at a time set the very bits of the format, whatever the bytes and lengths; no part of a body is missed.
TEST(GramsTest, AreThoseOfTheFormat) {
  RandomEvents random(test_seed());
  Grams grams;
  for (const std::size_t count : {0u, 1u, 20u, 400u, 4000u}) {
    std::vector<std::string> bodies;
    std::size_t body_bytes = 0;
    grams.clear();
    for (std::size_t i = 0; i < count; ++i) {
      std::string body(random.below(60), '\0');
      for (char& c : body) c = static_cast<char>(random.below(3) == 0 ? random.below(256) : '@' + random.below(60));
      grams.add(body);
      body_bytes += body.size();
      bodies.push_back(std::move(body));
    }
    std::string column;
    grams.put(body_bytes, column);
    EXPECT_EQ(column, slow_column(bodies)) << count;
    ASSERT_TRUE(well_formed_grams(column));
    for (const std::string& body : bodies) {
      const std::size_t begin = random.below(body.size() + 1);
      EXPECT_TRUE(may_hold_grams(column, std::string_view(body).substr(begin, random.below(20))));
    }
  }
  // And a text that is nowhere is known not to be, at least if it is long.
  grams.clear();
  grams.add("worker 7 took job mail:193 after 12 ms in queue");
  std::string column;
  grams.put(1 << 12, column);
  EXPECT_TRUE(may_hold_grams(column, "took job"));
  EXPECT_TRUE(may_hold_grams(column, "ook job "));
  EXPECT_FALSE(may_hold_grams(column, "took jobs"));
  EXPECT_FALSE(may_hold_grams(column, "segmentation fault"));
  for (const std::string& bad : {std::string(), std::string(1, '\x09'), std::string(1 + 64, '\x09'), std::string(1 + 128, '\x0b'), std::string("\x12") + std::string(1 << 15, 'x')}) {
    EXPECT_FALSE(well_formed_grams(bad));
  }
}

// Whatever a part's place and length: every gram of the body that touches it is there. A missing one would hide a line.
TEST(GramsTest, OfAPartMissNone) {
  RandomEvents random(test_seed());
  Grams grams;
  for (int round = 0; round < 20'000; ++round) {
    std::string body(1 + random.below(40), '\0');
    for (char& c : body) c = static_cast<char>('0' + random.below(70));
    const std::size_t begin = random.below(body.size());
    const std::size_t bytes = 1 + random.below(std::min<std::size_t>(body.size() - begin, 12));
    grams.clear();
    grams.add_part(body, begin, bytes);
    std::string column;
    grams.put(std::size_t{1} << kGramBitsMax, column);
    const std::size_t first = (begin < kGramBytes - 1 ? 0 : begin - (kGramBytes - 1)) + 1;
    for (std::size_t at = first / 2 * 2; at < begin + bytes && at + kGramBytes <= body.size(); at += 2) {
      const std::uint32_t bit = slow_bit(body, at, kGramBitsMax);
      ASSERT_NE(static_cast<std::uint8_t>(column[1 + bit / 8]) >> (bit % 8) & 1u, 0u) << body << " " << begin << " " << bytes << " " << at;
    }
  }
}

}  // namespace
}  // namespace culprit::stream
