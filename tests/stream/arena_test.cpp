// Memory in pieces: every piece keeps its bytes, and chunks come back without being kept for ever.
#include "daemon/stream/arena.h"

#include <algorithm>
#include <set>

#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kChunksInSlab = ChunkPool::kSlabBytes / ChunkPool::kChunkBytes;

TEST(ChunkPoolTest, ChunksAreApartAndTakenAgain) {
  ChunkPool pool;
  std::set<std::byte*> taken;
  for (std::size_t i = 0; i < 3 * kChunksInSlab; ++i) {
    std::byte* const chunk = pool.take();
    std::fill_n(chunk, ChunkPool::kChunkBytes, std::byte{static_cast<unsigned char>(i)});
    EXPECT_TRUE(taken.insert(chunk).second);
  }
  for (auto at = taken.begin(); std::next(at) != taken.end(); ++at) EXPECT_GE(*std::next(at) - *at, static_cast<std::ptrdiff_t>(ChunkPool::kChunkBytes));
  EXPECT_EQ(pool.slabs(), 3u);
  for (std::byte* const chunk : taken) pool.give(chunk);
  std::set<std::byte*> again;
  for (std::size_t i = 0; i < taken.size(); ++i) again.insert(pool.take());
  EXPECT_EQ(again, taken);
  for (std::byte* const chunk : again) pool.give(chunk);
}

TEST(ChunkPoolTest, KeepsFewIdleSlabsAndFillsThoseInUse) {
  ChunkPool pool;
  std::vector<std::byte*> taken;
  for (std::size_t i = 0; i < 20 * kChunksInSlab; ++i) taken.push_back(pool.take());
  EXPECT_EQ(pool.slabs(), 20u);
  std::sort(taken.begin(), taken.end());
  for (std::size_t i = 1; i < taken.size(); ++i) pool.give(taken[i]);  // one chunk of the first slab stays
  EXPECT_EQ(pool.slabs(), 1 + ChunkPool::kIdleSlabsMax);
  std::byte* const next = pool.take();
  EXPECT_LT(next - taken.front(), static_cast<std::ptrdiff_t>(ChunkPool::kSlabBytes));
  EXPECT_GT(next, taken.front());
  pool.give(next);
  pool.give(taken.front());
  EXPECT_EQ(pool.slabs(), ChunkPool::kIdleSlabsMax);
}

TEST(ArenaTest, PiecesKeepTheirBytes) {
  const auto pool = std::make_shared<ChunkPool>();
  std::mt19937_64 random(test_seed());
  for (int round = 0; round < 3; ++round) {
    Arena arena(pool);
    std::vector<std::pair<std::string, std::string_view>> kept;
    for (int i = 0; i < 3000; ++i) {
      const std::string text(random() % (i % 100 == 0 ? 200'000 : 2000), static_cast<char>('a' + i % 26));
      kept.emplace_back(text, arena.copy(text));
      const auto at = reinterpret_cast<std::uintptr_t>(arena.take(32, 32));
      ASSERT_EQ(at % 32, 0u);
    }
    for (const auto& [text, copy] : kept) ASSERT_EQ(copy, text);
    EXPECT_GE(arena.bytes(), 3000u * 1000);
  }
  EXPECT_LE(pool->slabs(), ChunkPool::kIdleSlabsMax);
}

}  // namespace
}  // namespace culprit::stream
