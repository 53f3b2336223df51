#include "daemon/concurrent/select.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <thread>
#include <vector>

namespace culprit::concurrent {
namespace {

template <typename F>
void until(F&& condition) {
  while (!condition()) std::this_thread::yield();
}

TEST(SelectTest, TakesTheReadyCase) {
  Channel<int> numbers({.name = "numbers", .capacity = 2});
  Channel<std::unique_ptr<int>, Ends::OneToOne> pointers({.name = "pointers", .capacity = 1});
  int number = 0;
  auto pointer = std::make_unique<int>(4);
  Receive in(numbers, number);
  Send out(pointers, pointer);
  Selected got = select({&in, &out});
  EXPECT_EQ(got.index, 1U);
  EXPECT_EQ(got.outcome, Outcome::Done);
  EXPECT_EQ(pointer, nullptr);
  ASSERT_EQ(numbers.send(9), Outcome::Done);
  pointer = std::make_unique<int>(5);
  got = select({&in, &out});
  EXPECT_EQ(got.index, 0U);
  EXPECT_EQ(number, 9);
  EXPECT_NE(pointer, nullptr);
  EXPECT_EQ(select({&in, &out}, {.timeout_ns = 0}).index, 2U);
  EXPECT_EQ(select({&in, &out}, {.timeout_ns = 1'000'000}).outcome, Outcome::TimedOut);
  EXPECT_EQ(numbers.stats().parked_receivers, 0U);
  EXPECT_EQ(pointers.stats().parked_senders, 0U);
}

TEST(SelectTest, SleepsUntilSomethingComes) {
  Channel<int> a({.name = "a", .capacity = 0});
  Channel<int, Ends::OneToOne> b({.name = "b", .capacity = 8});
  std::jthread sender([&] {
    for (int i = 0; i < 200; ++i) {
      until([&] { return a.stats().parked_receivers == 1 && b.stats().parked_receivers == 1; });
      ASSERT_EQ(i % 2 == 0 ? a.send(i) : b.send(i), Outcome::Done);
    }
  });
  std::array<int, 4> batch{};
  int one = 0;
  Receive from_a(a, one);
  Receive from_b(b, batch);
  for (int i = 0; i < 200; ++i) {
    const Selected got = select({&from_a, &from_b});
    ASSERT_EQ(got.index, static_cast<std::size_t>(i % 2));
    ASSERT_EQ(i % 2 == 0 ? one : batch[0], i);
  }
}

TEST(SelectTest, ClosedAndStoppedAndDisabled) {
  Channel<int> a({.name = "a", .capacity = 1});
  Channel<int> b({.name = "b", .capacity = 1});
  int out = 0;
  Receive from_a(a, out);
  Receive from_b(b, out);
  std::stop_source stop;
  std::jthread stopper([&] {
    until([&] { return a.stats().parked_receivers == 1; });
    stop.request_stop();
  });
  EXPECT_EQ(select({&from_a, &from_b}, {.stop = stop.get_token()}).outcome, Outcome::Stopped);
  std::jthread closer([&] {
    until([&] { return b.stats().parked_receivers == 1; });
    ASSERT_TRUE(b.close());
  });
  const Selected closed = select({&from_a, &from_b});
  EXPECT_EQ(closed.index, 1U);
  EXPECT_EQ(closed.outcome, Outcome::Closed);
  from_b.enable(false);
  EXPECT_EQ(select({&from_a, &from_b}, {.timeout_ns = 0}).index, 2U);
  int item = 1;
  Send to_b(b, item);
  EXPECT_EQ(select({&to_b}).outcome, Outcome::Closed);
}

// Of two channels that are always ready, neither waits for the other.
TEST(SelectTest, IsFair) {
  Channel<int> a({.name = "a", .capacity = 1000});
  Channel<int> b({.name = "b", .capacity = 1000});
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(a.send(i), Outcome::Done);
    ASSERT_EQ(b.send(i), Outcome::Done);
  }
  int out = 0;
  Receive from_a(a, out);
  Receive from_b(b, out);
  std::array<int, 2> taken{};
  for (int i = 0; i < 1000; ++i) ++taken[select({&from_a, &from_b}).index];
  EXPECT_GT(taken[0], 300);
  EXPECT_GT(taken[1], 300);
}

// Two selects that meet on channels without a buffer: each item is handed over once.
TEST(SelectTest, SelectsMeetAtARendezvous) {
  Channel<int> a({.name = "a", .capacity = 0});
  Channel<int> b({.name = "b", .capacity = 0});
  constexpr int kItems = 2000;
  std::jthread sender([&] {
    for (int i = 0; i < kItems; ++i) {
      int item = i;
      Send to_a(a, item);
      Send to_b(b, item);
      ASSERT_EQ(select({&to_a, &to_b}).outcome, Outcome::Done);
    }
  });
  std::vector<int> seen;
  for (int i = 0; i < kItems; ++i) {
    int item = -1;
    Receive from_a(a, item);
    Receive from_b(b, item);
    ASSERT_EQ(select({&from_a, &from_b}).outcome, Outcome::Done);
    ASSERT_EQ(item, i);
  }
  sender.join();
  EXPECT_EQ(a.stats().received + b.stats().received, static_cast<std::uint64_t>(kItems));
}

// Selects, plain operations and timeouts on shared channels: nothing is lost or doubled.
TEST(SelectTest, MixedWithPlainOperations) {
  Channel<int> a({.name = "a", .capacity = 2});
  Channel<int, Ends::Many> b({.name = "b", .capacity = 0});
  constexpr int kEach = 3000;
  std::atomic<std::uint64_t> sum{0};
  std::atomic<int> received{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kEach;) {
          int item = i + 1;
          Send to_a(a, item);
          Send to_b(b, item);
          const Wait wait = i % 3 == 0 ? Wait{.timeout_ns = 5'000} : Wait{};
          if (t == 0) {
            if (select({&to_a, &to_b}, wait).outcome == Outcome::Done) ++i;
          } else if ((i % 2 == 0 ? a.send(item, wait) : b.send(item, wait)) == Outcome::Done) {
            ++i;
          }
        }
      });
      threads.emplace_back([&, t] {
        while (true) {
          int item = 0;
          Receive from_a(a, item);
          Receive from_b(b, item);
          const Wait wait{.timeout_ns = 50'000 + t};
          if (select({&from_a, &from_b}, wait).outcome == Outcome::Done) {
            sum += static_cast<std::uint64_t>(item);
            ++received;
          } else if (received == 2 * kEach) {
            return;
          }
        }
      });
    }
  }
  EXPECT_EQ(received, 2 * kEach);
  EXPECT_EQ(sum, std::uint64_t{kEach} * (kEach + 1));
}

}  // namespace
}  // namespace culprit::concurrent
