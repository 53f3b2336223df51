#include "daemon/concurrent/channel.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

namespace culprit::concurrent {
namespace {

const Wait kNow{.timeout_ns = 0};
constexpr std::int64_t kMs = 1'000'000;

// Waits, without a bound, until the condition holds: the test's own timeout catches a wait that never ends.
template <typename F>
void until(F&& condition) {
  while (!condition()) std::this_thread::yield();
}

template <typename C>
class ChannelTest : public testing::Test {};
struct Many {
  template <typename T> using Of = Channel<T, Ends::Many>;
};
struct OneToOne {
  template <typename T> using Of = Channel<T, Ends::OneToOne>;
};
using Forms = testing::Types<Many, OneToOne>;
TYPED_TEST_SUITE(ChannelTest, Forms);

// Items come out in the order in which they went in, for every capacity, also when indexes wrap often.
TYPED_TEST(ChannelTest, KeepsOrder) {
  for (const std::size_t capacity : {1U, 2U, 3U, 5U, 8U, 1000U}) {
    SCOPED_TRACE(capacity);
    typename TypeParam::template Of<int> channel({.name = "c", .capacity = capacity});
    int sent = 0;
    int received = 0;
    std::vector<int> batch(7);
    for (std::size_t round = 0; round < 500; ++round) {
      std::vector<int> items(1 + round % 6);
      std::iota(items.begin(), items.end(), sent);
      const Batch put = channel.send_n(std::span<const int>(items), kNow);
      EXPECT_EQ(put.outcome, put.count == items.size() ? Outcome::Done : Outcome::Full);
      sent += static_cast<int>(put.count);
      const Batch got = channel.recv_n(std::span(batch).first(1 + round % 7), kNow);
      for (std::size_t i = 0; i < got.count; ++i) ASSERT_EQ(batch[i], received++);
    }
    const ChannelStats stats = channel.stats();
    EXPECT_EQ(stats.sent, static_cast<std::uint64_t>(sent));
    EXPECT_EQ(stats.received, static_cast<std::uint64_t>(received));
    EXPECT_EQ(stats.length, static_cast<std::size_t>(sent - received));
    EXPECT_LE(stats.high_water, capacity);
    EXPECT_EQ(stats.capacity, capacity);
  }
}

TYPED_TEST(ChannelTest, TryAndTimedFormsSayWhy) {
  typename TypeParam::template Of<int> channel({.name = "c", .capacity = 1});
  int out = 0;
  EXPECT_EQ(channel.try_recv(out), Outcome::Empty);
  EXPECT_EQ(channel.recv(out, {.timeout_ns = kMs}), Outcome::TimedOut);
  EXPECT_EQ(channel.try_send(1), Outcome::Done);
  EXPECT_EQ(channel.try_send(2), Outcome::Full);
  EXPECT_EQ(channel.send(2, {.timeout_ns = kMs}), Outcome::TimedOut);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(channel.send(2, {.stop = stop.get_token()}), Outcome::Stopped);
  EXPECT_EQ(channel.recv(out, {.stop = stop.get_token()}), Outcome::Done);  // what is there is given
  EXPECT_EQ(out, 1);
  EXPECT_EQ(channel.recv(out, {.stop = stop.get_token()}), Outcome::Stopped);
  EXPECT_EQ(channel.stats().parked_receivers + channel.stats().parked_senders, 0U);
}

// A stop request wakes who sleeps, on both sides.
TYPED_TEST(ChannelTest, StopWakesTheParked) {
  typename TypeParam::template Of<int> channel({.name = "c", .capacity = 1});
  for (const bool full : {false, true}) {
    if (full) {
      ASSERT_EQ(channel.send(1), Outcome::Done);
    }
    std::jthread waiter([&](std::stop_token stop) {
      int item = 0;
      EXPECT_EQ(full ? channel.send(2, {.stop = stop}) : channel.recv(item, {.stop = stop}), Outcome::Stopped);
    });
    until([&] { return channel.stats().parked_senders + channel.stats().parked_receivers == 1; });
    waiter.request_stop();
  }
}

TYPED_TEST(ChannelTest, CloseLetsReceiversDrainAndIsAnErrorTwice) {
  typename TypeParam::template Of<int> channel({.name = "c", .capacity = 4});
  ASSERT_EQ(channel.send(1), Outcome::Done);
  ASSERT_EQ(channel.send(2), Outcome::Done);
  ASSERT_TRUE(channel.close());
  EXPECT_TRUE(channel.closed());
  EXPECT_EQ(channel.send(3), Outcome::Closed);
  int out = 0;
  EXPECT_EQ(channel.recv(out), Outcome::Done);
  EXPECT_EQ(channel.recv(out), Outcome::Done);
  EXPECT_EQ(out, 2);
  EXPECT_EQ(channel.recv(out), Outcome::Closed);
  const Result<void> again = channel.close();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Code::Invalid);
  EXPECT_NE(again.error().message.find("'c'"), std::string::npos);
}

TYPED_TEST(ChannelTest, CloseWakesTheParked) {
  typename TypeParam::template Of<int> channel({.name = "c", .capacity = 1});
  {
    std::jthread receiver([&] {
      int out = 0;
      EXPECT_EQ(channel.recv(out), Outcome::Closed);
    });
    until([&] { return channel.stats().parked_receivers == 1; });
    ASSERT_TRUE(channel.close());
  }
  typename TypeParam::template Of<int> full({.name = "full", .capacity = 1});
  std::jthread sender([&] {
    std::vector<int> items{1, 2, 3};
    const Batch sent = full.send_n(std::span(items));
    EXPECT_EQ(sent.count, 1U);
    EXPECT_EQ(sent.outcome, Outcome::Closed);
  });
  until([&] { return full.stats().parked_senders == 1; });
  ASSERT_TRUE(full.close());
}

// A batch larger than the channel goes through it in pieces; the sender sleeps once it is full.
TYPED_TEST(ChannelTest, ParkedSenderIsServedByReceivers) {
  typename TypeParam::template Of<int> channel({.name = "c", .capacity = 3});
  std::vector<int> items(100);
  std::iota(items.begin(), items.end(), 0);
  std::jthread sender([&] { EXPECT_EQ(channel.send_n(std::span(items)).count, 100U); });
  until([&] { return channel.stats().parked_senders == 1; });
  std::array<int, 8> batch{};
  for (int next = 0; next < 100;) {
    const Batch got = channel.recv_n(batch);
    ASSERT_EQ(got.outcome, Outcome::Done);
    for (std::size_t i = 0; i < got.count; ++i) ASSERT_EQ(batch[i], next++);
  }
  sender.join();
  EXPECT_GT(channel.stats().blocked_ns, 0U);
}

TYPED_TEST(ChannelTest, DropNewestCountsWhatItGaveUp) {
  typename TypeParam::template Of<int> channel({.name = "c", .capacity = 2, .when_full = WhenFull::DropNewest});
  std::vector<int> items{1, 2, 3, 4, 5};
  const Batch sent = channel.send_n(std::span(items));
  EXPECT_EQ(sent.count, 2U);
  EXPECT_EQ(sent.outcome, Outcome::Dropped);
  const ChannelStats stats = channel.stats();
  EXPECT_EQ(stats.sent, 2U);
  EXPECT_EQ(stats.dropped[static_cast<std::size_t>(DropReason::Full)], 3U);
  int out = 0;
  ASSERT_EQ(channel.recv(out), Outcome::Done);
  EXPECT_EQ(out, 1);
}

TYPED_TEST(ChannelTest, OverwriteOldestKeepsTheNewest) {
  for (const std::size_t n : {3U, 5U, 11U}) {
    typename TypeParam::template Of<int> channel(
        {.name = "c", .capacity = 3, .when_full = WhenFull::OverwriteOldest});
    std::vector<int> items(n);
    std::iota(items.begin(), items.end(), 0);
    ASSERT_EQ(channel.send(-1), Outcome::Done);
    EXPECT_EQ(channel.send_n(std::span(items)).count, n);
    std::array<int, 8> batch{};
    const Batch got = channel.recv_n(batch);
    ASSERT_EQ(got.count, 3U);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(batch[i], static_cast<int>(n - 3 + i));
    const ChannelStats stats = channel.stats();
    EXPECT_EQ(stats.sent, n + 1);
    EXPECT_EQ(stats.dropped[static_cast<std::size_t>(DropReason::Overwritten)], n + 1 - 3);
    EXPECT_EQ(stats.sent, stats.received + stats.length + stats.dropped_total());
  }
}

TYPED_TEST(ChannelTest, RendezvousAtCapacityZero) {
  typename TypeParam::template Of<int> channel({.name = "c", .capacity = 0});
  EXPECT_EQ(channel.try_send(1), Outcome::Full);
  std::jthread sender([&] {
    for (int i = 0; i < 100; ++i) ASSERT_EQ(channel.send(i), Outcome::Done);
  });
  int out = -1;
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(channel.recv(out), Outcome::Done);
    ASSERT_EQ(out, i);
  }
  sender.join();
  EXPECT_EQ(channel.stats().high_water, 0U);
  EXPECT_EQ(channel.stats().received, 100U);
  EXPECT_EQ(channel.try_recv(out), Outcome::Empty);
}

// Each object that is made is destroyed once, whatever way it took.
struct Counted {
  static inline std::atomic<int> alive{0};
  int value = 0;
  Counted() { ++alive; }
  explicit Counted(int v) : value(v) { ++alive; }
  Counted(Counted&& other) noexcept : value(std::exchange(other.value, -1)) { ++alive; }
  Counted& operator=(Counted&& other) noexcept {
    value = std::exchange(other.value, -1);
    return *this;
  }
  ~Counted() { --alive; }
};

TYPED_TEST(ChannelTest, MoveOnlyItemsAreDestroyedOnce) {
  ASSERT_EQ(Counted::alive, 0);
  {
    typename TypeParam::template Of<Counted> channel({.name = "c", .capacity = 3});
    std::vector<Counted> items(5);
    for (int i = 0; i < 5; ++i) items[static_cast<std::size_t>(i)].value = i;
    EXPECT_EQ(channel.send_n(std::span(items), kNow).count, 3U);
    EXPECT_EQ(items[3].value, 3);  // what was not sent is untouched
    EXPECT_EQ(items[4].value, 4);
    EXPECT_EQ(items[0].value, -1);
    Counted out;
    EXPECT_EQ(channel.recv(out), Outcome::Done);
    EXPECT_EQ(out.value, 0);
  }  // two are still inside
  EXPECT_EQ(Counted::alive, 0);
  typename TypeParam::template Of<std::unique_ptr<int>> pointers({.name = "p", .capacity = 1});
  EXPECT_EQ(pointers.send(std::make_unique<int>(5)), Outcome::Done);
  auto refused = std::make_unique<int>(6);
  EXPECT_EQ(pointers.try_send(std::move(refused)), Outcome::Full);
  ASSERT_NE(refused, nullptr);  // NOLINT(bugprone-use-after-move): not taken
  std::unique_ptr<int> out;
  EXPECT_EQ(pointers.recv(out), Outcome::Done);
  EXPECT_EQ(*out, 5);
}

struct ThrowingCopy {
  int value = 0;
  ThrowingCopy() = default;
  explicit ThrowingCopy(int v) : value(v) {}
  ThrowingCopy(const ThrowingCopy& other) : value(other.value) {
    if (value == 13) throw std::runtime_error("copy");
  }
  ThrowingCopy(ThrowingCopy&&) noexcept = default;
  ThrowingCopy& operator=(ThrowingCopy&&) noexcept = default;
  ThrowingCopy& operator=(const ThrowingCopy&) = default;
};

// A copy that throws leaves the channel as it was.
TYPED_TEST(ChannelTest, ThrowingCopyLeavesTheChannelAlone) {
  typename TypeParam::template Of<ThrowingCopy> channel({.name = "c", .capacity = 4});
  const ThrowingCopy good(1);
  const ThrowingCopy bad(13);
  ASSERT_EQ(channel.send(good), Outcome::Done);
  EXPECT_THROW((void)channel.send(bad), std::runtime_error);
  EXPECT_EQ(channel.stats().length, 1U);
  ASSERT_EQ(channel.send(good), Outcome::Done);
  EXPECT_EQ(channel.stats().length, 2U);
}

// Those who wait are served in order of arrival.
TEST(ChannelOrderTest, WaitersAreServedInOrderOfArrival) {
  Channel<int> channel({.name = "c", .capacity = 0});
  std::vector<std::jthread> senders;
  for (int i = 0; i < 4; ++i) {
    senders.emplace_back([&, i] { EXPECT_EQ(channel.send(i), Outcome::Done); });
    until([&] { return channel.stats().parked_senders == static_cast<std::size_t>(i) + 1; });
  }
  for (int i = 0; i < 4; ++i) {
    int out = -1;
    ASSERT_EQ(channel.recv(out), Outcome::Done);
    EXPECT_EQ(out, i);
  }
  std::array<int, 4> got{-1, -1, -1, -1};
  std::vector<std::jthread> receivers;
  for (std::size_t i = 0; i < 4; ++i) {
    receivers.emplace_back([&, i] { EXPECT_EQ(channel.recv(got[i]), Outcome::Done); });
    until([&] { return channel.stats().parked_receivers == i + 1; });
  }
  for (int i = 0; i < 4; ++i) ASSERT_EQ(channel.send(i), Outcome::Done);
  receivers.clear();
  EXPECT_EQ(got, (std::array<int, 4>{0, 1, 2, 3}));
}

}  // namespace
}  // namespace culprit::concurrent
