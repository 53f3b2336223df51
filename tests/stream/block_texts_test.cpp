#include "daemon/stream/block_texts.h"

#include "daemon/stream/bytes.h"
#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

// The details of a run whose rows have these bodies; a row without one has no details at all, now and then.
struct Lines {
  explicit Lines(std::vector<std::string> bodies_of) : bodies(std::move(bodies_of)), kept(bodies.size()) {
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      kept[i].set_body(bodies[i]);
      rows.push_back(bodies[i].empty() && i % 2 == 0 ? nullptr : &kept[i]);
    }
  }
  Lines(Lines&&) = default;  // what `rows` points at does not move
  std::vector<std::string> bodies;
  std::vector<Detail> kept;
  std::vector<const Detail*> rows;
};

struct Coded {
  std::string column, grams;
};

Coded encode_texts(const std::vector<Lines>& runs) {
  TextEncoder encoder;
  encoder.clear();
  for (const Lines& run : runs) encoder.add(run.rows);
  Coded coded;
  encoder.put(coded.column, coded.grams);
  return coded;
}

// The bodies of the runs that are picked; nothing if the column is not well-formed.
std::optional<std::vector<std::string>> decode_texts(std::string_view column, const std::vector<Lines>& runs, const std::function<bool(std::size_t)>& picked) {
  TextDecoder decoder;
  if (!decoder.open(column)) return std::nullopt;
  DetailStore store;
  std::vector<std::string> found;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (!picked(i)) {
      if (!decoder.skip(runs[i].rows.size())) return std::nullopt;
      continue;
    }
    std::vector<Detail*> details;
    for (std::size_t row = 0; row < runs[i].rows.size(); ++row) details.push_back(&store.fresh());
    if (!decoder.read(details, store)) return std::nullopt;
    for (const Detail* detail : details) found.emplace_back(detail->body());
  }
  return decoder.at_end() ? std::optional(found) : std::nullopt;
}

std::string line(RandomEvents& random, std::size_t shape) {
  switch (shape) {
    case 0: return fmt::format("worker {} took job mail:{} after {} ms in queue", random.below(20), random.below(1 << random.below(24)), random.below(3000));
    case 1: return fmt::format("request finished route=/cart/{{id}} status={} user={} took={}.{}ms", random.below(20) == 0 ? 500 : 200, random.below(20000), random.below(900), random.below(1000));
    case 2: return fmt::format("{} key=session:{:08x} ttl={}", random.below(9) == 0 ? "cache miss, evicted" : "cache hit", random.below(1 << 30), random.below(3) * 60);
    case 3: return fmt::format("{}", random.below(100));
    case 4: return fmt::format("a{}b {}", std::string(random.below(3), ' '), std::string(random.below(40), 'x'));
    case 5: return random.below(3) == 0 ? "" : "the same each time";
    case 6: {
      std::string bytes(random.below(80), '\0');
      for (char& c : bytes) c = static_cast<char>(random.below(4) == 0 ? ' ' : random.below(256));
      return bytes;
    }
    default: {  // more words that differ than there are slots
      std::string words;
      for (int i = 0; i < 30; ++i) words += fmt::format("{} ", random.below(10));
      return words;
    }
  }
}

// Whatever the lines, they come back byte by byte, those of the runs that are asked for alone too; and the grams tell of every part of them.
TEST(BlockTextsTest, RoundTripIsExact) {
  RandomEvents random(test_seed());
  std::vector<Lines> runs;
  for (std::size_t shape = 0; shape < 8; ++shape) {
    for (const std::size_t rows : {std::size_t{1}, std::size_t{3}, std::size_t{4}, std::size_t{50}, kTextRows + 5}) {
      std::vector<std::string> bodies;
      for (std::size_t i = 0; i < rows; ++i) bodies.push_back(line(random, random.below(30) == 0 ? random.below(8) : shape));
      runs.emplace_back(std::move(bodies));
    }
  }
  const Coded coded = encode_texts(runs);
  std::vector<std::string> all, some;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    all.insert(all.end(), runs[i].bodies.begin(), runs[i].bodies.end());
    if (i % 3 == 1) some.insert(some.end(), runs[i].bodies.begin(), runs[i].bodies.end());
  }
  EXPECT_EQ(decode_texts(coded.column, runs, [](std::size_t) { return true; }), all);
  EXPECT_EQ(decode_texts(coded.column, runs, [](std::size_t i) { return i % 3 == 1; }), some);
  ASSERT_TRUE(well_formed_grams(coded.grams));
}

// A block of few lines, so that most bits of its grams are not set: no part of a line is missed, wherever it begins and ends.
TEST(BlockTextsTest, GramsTellOfEveryPart) {
  RandomEvents random(test_seed());
  for (std::size_t shape = 0; shape < 8; ++shape) {
    std::vector<std::string> bodies;
    for (std::size_t i = 0; i < 40; ++i) bodies.push_back(line(random, shape));
    std::vector<Lines> runs;
    runs.emplace_back(bodies);
    const Coded coded = encode_texts(runs);
    for (const std::string& body : bodies) {
      for (std::size_t begin = 0; begin < body.size(); ++begin) {
        for (const std::size_t size : {5UL, 9UL, 30UL}) ASSERT_TRUE(may_hold_grams(coded.grams, std::string_view(body).substr(begin, size))) << body << " at " << begin << ", " << size << " bytes";
      }
    }
    EXPECT_FALSE(may_hold_grams(coded.grams, "segmentation fault in libnothing")) << shape;
  }
}

// What lines of one template share is written once.
TEST(BlockTextsTest, SharedWordsCostNothing) {
  RandomEvents random(test_seed());
  std::vector<std::string> bodies;
  std::size_t words = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    const std::string worker = fmt::format("{}", random.below(20)), job = fmt::format("{}", random.below(100000)), wait = fmt::format("{}", random.below(3000));
    words += worker.size() + job.size() + wait.size();
    bodies.push_back(fmt::format("worker {} took job mail:{} after {} ms in queue", worker, job, wait));
  }
  std::vector<Lines> runs;
  runs.emplace_back(std::move(bodies));
  EXPECT_LE(encode_texts(runs).column.size(), words + 3 * 1000 + 100);  // and a length each
}

// A column that is cut or changed is refused, or gives as many texts, never more memory than they need.
TEST(BlockTextsTest, DamageIsRefusedOrHarmless) {
  RandomEvents random(test_seed());
  std::vector<Lines> runs;
  for (std::size_t shape = 0; shape < 8; ++shape) {
    std::vector<std::string> bodies;
    for (std::size_t i = 0; i < 12; ++i) bodies.push_back(line(random, shape));
    runs.emplace_back(std::move(bodies));
  }
  const std::string good = encode_texts(runs).column;
  const auto everything = [](std::size_t) { return true; };
  for (std::size_t at = 0; at < good.size(); ++at) {
    EXPECT_FALSE(decode_texts(good.substr(0, at), runs, everything)) << at;
    for (const int change : {1, 0x80, 0xff}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ change);
      const auto texts = decode_texts(bad, runs, everything);
      EXPECT_TRUE(!texts || texts->size() == 8 * 12);
    }
  }
  // A few bytes that ask for two gigabytes: a part of a megabyte in each of 4,096 rows.
  std::string head, column;
  put_varint(head, 1);
  put_string(head, std::string(1 << 20, 'x'));
  put_varint(head, 0);
  std::string heads;
  put_varint(heads, 0);
  put_string(heads, head);
  column = heads;
  put_fixed64(column, heads.size());
  std::vector<Lines> one;
  one.emplace_back(std::vector<std::string>(kTextRows));
  EXPECT_FALSE(decode_texts(column, one, everything));
}

}  // namespace
}  // namespace culprit::stream
