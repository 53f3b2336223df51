#include "daemon/concurrent/slab.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace culprit::concurrent::detail {
namespace {

using Words = Slab<std::uint64_t>;
constexpr std::size_t kMega = std::size_t{1} << 20;
constexpr Words::Lead kLead{.share = 4, .bytes_max = kMega, .from = kMega / 4};

// Every element is made once, starts as zero and keeps what is written to it, whoever made the memory ready.
TEST(SlabTest, GrowsWithAndWithoutHelp) {
  for (const bool helped : {false, true}) {
    for (const std::size_t huge_from : {Words::kNever, 2 * kMega}) {
      SCOPED_TRACE(testing::Message() << "helped " << helped << ", huge pages from " << huge_from);
      constexpr std::uint32_t kElements = 9 * kMega / 8;
      Words slab(2 * kElements, huge_from, kLead);
      Ahead ahead;
      ahead.serve({&slab});
      if (helped) slab.follow(ahead);
      for (std::uint32_t i = 0; i < kElements; ++i) {
        ASSERT_EQ(slab.make(), i);
        ASSERT_EQ(slab[i], 0U);
        slab[i] = i;
      }
      EXPECT_EQ(slab.size(), kElements);
      EXPECT_GE(slab.backed(), std::size_t{kElements} * 8);
      for (std::uint32_t i = 0; i < kElements; ++i) ASSERT_EQ(slab[i], i);
    }
  }
}

// A slab that asked is given its lead, and no more.
TEST(SlabTest, MemoryIsReadyAhead) {
  Words slab(64 * kMega, 4 * kMega, kLead);
  Ahead ahead;
  ahead.serve({&slab});
  slab.follow(ahead);
  while (slab.size() * 8 < 8 * kMega) ASSERT_NE(slab.make(), Words::kNone);
  while (slab.backed() < 9 * kMega) std::this_thread::yield();  // ends, or the test runs into its limit
  EXPECT_LE(slab.backed(), 12 * kMega);
}

// Below the size from which help is worth it nobody is asked: the memory is what is used, and a few pages.
TEST(SlabTest, SmallSlabsHaveNoLead) {
  Words slab(kMega, Words::kNever, kLead);
  Ahead ahead;
  ahead.serve({&slab});
  slab.follow(ahead);
  while (slab.size() * 8 < kMega / 8) ASSERT_NE(slab.make(), Words::kNone);
  EXPECT_LE(slab.backed(), kMega / 8 + 32 * 1024);
}

// At the end of what was reserved there are no more elements, and those before stay.
TEST(SlabTest, EndsWithoutHarm) {
  Words slab(1, Words::kNever, kLead);  // reserved is a whole huge page
  Ahead ahead;
  ahead.serve({&slab});
  slab.follow(ahead);
  std::uint32_t made = 0;
  for (std::uint32_t number = slab.make(); number != Words::kNone; number = slab.make()) slab[number] = ++made;
  EXPECT_EQ(std::size_t{made} * 8, 2 * kMega);
  EXPECT_EQ(slab.make_n(7, [](std::uint64_t* place, std::size_t) { *place = 0; }), Words::kNone);
  for (std::uint32_t i = 0; i < made; ++i) ASSERT_EQ(slab[i], i + 1);
}

// Many slabs behind one thread, growing at once, some given up while it works for them.
TEST(SlabTest, OneThreadServesMany) {
  for (int round = 0; round < 20; ++round) {
    Words first(kMega, Words::kNever, kLead), second(kMega, 2 * kMega, kLead);
    Ahead ahead;
    ahead.serve({&first, &second});
    first.follow(ahead);
    second.follow(ahead);
    std::vector<std::jthread> threads;
    for (Words* const slab : {&first, &second}) {
      threads.emplace_back([slab] {
        for (std::uint32_t i = 0; i < kMega / 4; ++i) {
          const std::uint32_t number = slab->make();
          (*slab)[number] = number;
        }
      });
    }
    threads.clear();
    for (Words* const slab : {&first, &second}) {
      ASSERT_EQ(slab->size(), kMega / 4);
      for (std::uint32_t i = 0; i < kMega / 4; ++i) ASSERT_EQ((*slab)[i], i);
    }
  }
}

}  // namespace
}  // namespace culprit::concurrent::detail
