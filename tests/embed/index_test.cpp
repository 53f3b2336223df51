#include "embed/index.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <limits>
#include <random>

namespace culprit::embed {
namespace {

class IndexTest : public ::testing::Test {
 protected:
  IndexTest() {
    std::string name = (std::filesystem::temp_directory_path() / "culprit-embed-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~IndexTest() override { std::filesystem::remove_all(folder_); }
  std::vector<Vector> random_vectors(std::size_t count) {
    SCOPED_TRACE(seed_);
    std::normal_distribution<float> normal;
    std::vector<Vector> vectors(count);
    for (Vector& vector : vectors) {
      float square = 0;
      for (float& value : vector) value = normal(random_), square += value * value;
      for (float& value : vector) value /= std::sqrt(square);
    }
    return vectors;
  }
  static std::vector<float> rows(const std::vector<Vector>& vectors) {
    std::vector<float> values;
    for (const Vector& vector : vectors) values.insert(values.end(), vector.begin(), vector.end());
    return values;
  }
  std::filesystem::path folder_;
  unsigned seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  Index index_ = std::move(*Index::create());
};

// What was put in is found, under its own id, as the nearest to itself.
TEST_F(IndexTest, FindsWhatWasPutIn) {
  const auto vectors = random_vectors(200);
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < 200; ++i) ids.push_back(i * 7 + 3);
  ASSERT_TRUE(index_.add(ids, rows(vectors)));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto found = index_.search(vectors[i], 3);
    ASSERT_EQ(found->size(), 3U);
    EXPECT_EQ(found->front().id, ids[i]);
    EXPECT_NEAR(found->front().similarity, 1.0F, 1e-4F);
  }
  ASSERT_TRUE(index_.remove(ids[5]));
  EXPECT_FALSE(index_.contains(ids[5]));
  EXPECT_NE(index_.search(vectors[5], 1)->front().id, ids[5]);
  EXPECT_EQ(index_.search(vectors[6], 1)->front().id, ids[6]);
  EXPECT_EQ(index_.search(vectors[0], 1000)->size(), 199U);
}

// Wrong input is refused whole.
TEST_F(IndexTest, RefusesWrongInput) {
  const auto vectors = random_vectors(2);
  const auto code = [&](std::vector<std::int64_t> ids, std::vector<Vector> given) { return index_.add(ids, rows(given)).error().code; };
  EXPECT_EQ(code({1}, vectors), Code::Invalid);
  EXPECT_EQ(code({1, 1}, vectors), Code::Invalid);
  EXPECT_EQ(code({-1, 1}, vectors), Code::Invalid);
  auto infinite = vectors;
  infinite[1][7] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(code({1, 2}, infinite), Code::Invalid);
  EXPECT_EQ(index_.size(), 0U);
  EXPECT_TRUE(index_.search(vectors[0], 5)->empty());
  ASSERT_TRUE(index_.add(std::vector<std::int64_t>{1, 2}, rows(vectors)));
  EXPECT_EQ(code({2}, random_vectors(1)), Code::Invalid);
  EXPECT_EQ(index_.remove(9).error().code, Code::NotFound);
}

// Beyond kFlatVectorsMax a graph answers: what was put in is found, what was removed is not, and it loads as it was saved.
TEST_F(IndexTest, ManyVectors) {
  const auto vectors = random_vectors(kFlatVectorsMax + 300);
  std::vector<std::int64_t> ids(vectors.size());
  std::iota(ids.begin(), ids.end(), 7);
  ASSERT_TRUE(index_.add(ids, rows(vectors)));
  const auto file = folder_ / "vectors";
  ASSERT_TRUE(index_.save(file, "m"));
  auto loaded = Index::load(file, "m");
  ASSERT_TRUE(loaded) << loaded.error().message;
  std::size_t found = 0;
  for (std::size_t i = 0; i < vectors.size(); i += 29) {
    const auto near = index_.search(vectors[i], 1);
    ASSERT_TRUE(near);
    found += !near->empty() && near->front().id == ids[i] ? 1U : 0U;
    EXPECT_EQ(loaded->search(vectors[i], 5)->front().id, near->front().id);
  }
  EXPECT_GT(found, (vectors.size() / 29) * 9 / 10);
  const std::vector<std::int64_t> among = {ids[0], ids[4], 999'999};
  const auto near = index_.search_among(vectors[4], among, 5);
  ASSERT_EQ(near->size(), 2U);
  EXPECT_EQ(near->front().id, ids[4]);
  // More than an eighth: the graph is made anew on the way.
  for (std::size_t i = 0; i < 700; ++i) ASSERT_TRUE(index_.remove(ids[i]));
  for (std::size_t i = 0; i < 700; i += 23) {
    const auto near_removed = index_.search(vectors[i], 10);
    for (const Neighbour& one : *near_removed) EXPECT_GE(one.id, ids[700]);
  }
  EXPECT_EQ(index_.size(), vectors.size() - 700);
  ASSERT_TRUE(index_.save(file, "m"));
  EXPECT_EQ(Index::load(file, "m")->size(), index_.size());
  EXPECT_EQ(index_.search(std::span(vectors[0]).first(8), 1).error().code, Code::Invalid);
  EXPECT_EQ(Index::create(0).error().code, Code::Invalid);
}

// A saved index loads; a damaged or foreign one is refused by reason.
TEST_F(IndexTest, SavesAndLoads) {
  const auto vectors = random_vectors(20);
  std::vector<std::int64_t> ids(20);
  std::iota(ids.begin(), ids.end(), 100);
  ASSERT_TRUE(index_.add(ids, rows(vectors)));
  ASSERT_TRUE(index_.remove(105));
  const auto file = folder_ / "vectors";
  ASSERT_TRUE(index_.save(file, "model-1"));
  const auto loaded = Index::load(file, "model-1");
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->size(), 19U);
  for (std::size_t i = 6; i < 20; ++i) EXPECT_EQ(loaded->search(vectors[i], 1)->front().id, ids[i]);
  EXPECT_EQ(Index::load(file, "model-2").error().code, Code::Unsupported);
  EXPECT_EQ(Index::load(folder_ / "none", "model-1").error().code, Code::NotFound);
  std::ifstream in(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  for (std::size_t cut = 0; cut < bytes.size(); cut += 97) {
    std::ofstream(folder_ / "cut", std::ios::binary) << bytes.substr(0, cut);
    EXPECT_EQ(Index::load(folder_ / "cut", "model-1").error().code, Code::Corrupt) << cut;
    std::string flipped = bytes;
    flipped[cut] = static_cast<char>(flipped[cut] ^ 0x10);
    std::ofstream(folder_ / "flipped", std::ios::binary) << flipped;
    EXPECT_EQ(Index::load(folder_ / "flipped", "model-1").error().code, Code::Corrupt) << cut;
  }
  EXPECT_EQ(index_.save(folder_ / "no" / "where", "m").error().code, Code::NotFound);
}

}  // namespace
}  // namespace culprit::embed
