// The forms beside one ring: a ring a sender, and a capacity that follows the load.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "daemon/concurrent/select.h"

namespace culprit::concurrent {
namespace {

const Wait kNow{.timeout_ns = 0};

// A busy sender does not keep out another: each receive starts with the next one's ring.
TEST(ManyToOneTest, SendersTakeTurns) {
  Channel<int, Ends::ManyToOne> channel({.name = "c", .capacity = 8});
  auto first = *channel.sender();
  auto second = *channel.sender();
  std::array<int, 8> ones{1, 1, 1, 1, 1, 1, 1, 1};
  std::array<int, 2> twos{2, 2};
  ASSERT_EQ(first.send_n(std::span(ones)).count, 8U);
  ASSERT_EQ(second.send_n(std::span(twos)).count, 2U);
  std::array<int, 4> got{};
  std::vector<int> order;
  while (channel.recv_n(std::span(got).first(2), kNow).count == 2) order.insert(order.end(), {got[0], got[1]});
  EXPECT_EQ(order, (std::vector<int>{1, 1, 2, 2, 1, 1, 1, 1, 1, 1}));
  const ChannelStats stats = channel.stats();
  EXPECT_EQ(stats.sent, 10U);
  EXPECT_EQ(stats.received, 10U);
  EXPECT_EQ(stats.capacity, 16U);
}

// A receiver that sleeps is woken by a sender that came after it fell asleep; by close too.
TEST(ManyToOneTest, LateSenderWakesTheReceiver) {
  Channel<int, Ends::ManyToOne> channel({.name = "c", .capacity = 4});
  std::jthread receiver([&] {
    int item = 0;
    EXPECT_EQ(channel.recv(item), Outcome::Done);
    EXPECT_EQ(item, 7);
    EXPECT_EQ(channel.recv(item), Outcome::Closed);
  });
  while (channel.stats().parked_receivers == 0) std::this_thread::yield();
  {
    auto sender = *channel.sender();
    ASSERT_EQ(sender.send(7), Outcome::Done);
  }
  while (channel.stats().received == 0 || channel.stats().parked_receivers == 0) std::this_thread::yield();
  ASSERT_TRUE(channel.close());
}

// A place that was left is used again, behind what is still in it; more than there are is an error; after close all
// senders, also later ones, learn it, and the receiver drains.
TEST(ManyToOneTest, PlacesAreBoundedAndUsedAgain) {
  Channel<int, Ends::ManyToOne> channel({.name = "c", .capacity = 2});
  {
    auto sender = *channel.sender();
    ASSERT_EQ(sender.send(1), Outcome::Done);
  }
  std::vector<Sender<int>> senders;
  while (true) {
    auto sender = channel.sender();
    if (!sender) {
      EXPECT_EQ(sender.error().code, Code::Exhausted);
      break;
    }
    senders.push_back(std::move(*sender));
    ASSERT_LE(senders.size(), 64U);
  }
  EXPECT_EQ(senders.size(), 64U);
  ASSERT_EQ(senders.front().send(2), Outcome::Done);
  EXPECT_EQ(senders.front().try_send(3), Outcome::Full);
  ASSERT_TRUE(channel.close());
  EXPECT_EQ(senders.back().send(4), Outcome::Closed);
  senders.pop_back();
  EXPECT_EQ(channel.sender()->send(5), Outcome::Closed);
  int item = 0;
  EXPECT_EQ(channel.recv(item), Outcome::Done);
  EXPECT_EQ(item, 1);
  EXPECT_EQ(channel.recv(item), Outcome::Done);
  EXPECT_EQ(item, 2);
  EXPECT_EQ(channel.recv(item), Outcome::Closed);
}

// It stands in a select as one channel, on both sides.
TEST(ManyToOneTest, Selects) {
  Channel<int, Ends::ManyToOne> numbers({.name = "n", .capacity = 1});
  Channel<std::string> texts({.name = "t"});
  auto sender = *numbers.sender();
  auto other = *numbers.sender();
  int out = 3, in = 0;
  Send send(sender, out);
  ASSERT_EQ(select({&send}, kNow).index, 0U);
  EXPECT_EQ(select({&send}, kNow).outcome, Outcome::Empty);
  std::string text;
  Receive number(numbers, in);
  Receive string(texts, text);
  ASSERT_EQ(select({&string, &number}, kNow).index, 1U);
  EXPECT_EQ(in, 3);
  std::jthread late([&] {
    while (numbers.stats().parked_receivers == 0) std::this_thread::yield();
    ASSERT_EQ(other.send(4), Outcome::Done);
  });
  ASSERT_EQ(select({&string, &number}).index, 1U);
  EXPECT_EQ(in, 4);
}

template <typename C>
class AutomaticTest : public testing::Test {};
using Forms = testing::Types<Channel<std::unique_ptr<int>, Ends::Many>, Channel<std::unique_ptr<int>, Ends::OneToOne>>;
TYPED_TEST_SUITE(AutomaticTest, Forms);

std::vector<std::unique_ptr<int>> numbers(int from, int n) {
  std::vector<std::unique_ptr<int>> items;
  for (int i = 0; i < n; ++i) items.push_back(std::make_unique<int>(from + i));
  return items;
}

// A pause of the receiver makes the channel larger, up to its limit, and nothing loses its place.
TYPED_TEST(AutomaticTest, GrowsWhileTheReceiverPauses) {
  TypeParam channel({.name = "c", .bytes_max = 1000 * sizeof(std::unique_ptr<int>)});
  EXPECT_EQ(channel.stats().capacity, 64U);
  int sent = 0;
  for (int round = 0; round < 100; ++round) {
    auto items = numbers(sent, 17);
    const Batch put = channel.send_n(std::span(items), kNow);
    sent += static_cast<int>(put.count);
    if (put.outcome == Outcome::Full) break;
  }
  EXPECT_EQ(sent, 1000);
  EXPECT_EQ(channel.stats().capacity, 1000U);
  std::vector<std::unique_ptr<int>> got(77);
  int received = 0;
  while (const std::size_t n = channel.recv_n(std::span(got), kNow).count) {
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(*got[i], received++);
  }
  EXPECT_EQ(received, sent);
}

// A receiver that only is too slow gets no more room: that would add delay and save nothing.
TYPED_TEST(AutomaticTest, DoesNotGrowForASlowReceiver) {
  TypeParam channel({.name = "c", .bytes_max = 1U << 20});
  std::vector<std::unique_ptr<int>> got(1);
  for (int round = 0; round < 2000; ++round) {
    auto items = numbers(round, 2);
    (void)channel.send_n(std::span(items), kNow);
    (void)channel.recv_n(std::span(got), kNow);
  }
  EXPECT_LE(channel.stats().capacity, 256U);
}

// What is queued when the channel goes, in several blocks, is destroyed.
TYPED_TEST(AutomaticTest, DestroysWhatIsLeft) {
  TypeParam channel({.name = "c", .bytes_max = 1U << 16});
  auto items = numbers(0, 50);
  ASSERT_EQ(channel.send_n(std::span(items)).count, 50U);
  auto more = numbers(50, 500);
  ASSERT_EQ(channel.send_n(std::span(more)).count, 500U);
}

// Once the load is gone, the capacity follows it down.
TYPED_TEST(AutomaticTest, ShrinksAgain) {
  TypeParam channel({.name = "c", .bytes_max = 1U << 16});
  auto items = numbers(0, 3000);
  ASSERT_EQ(channel.send_n(std::span(items)).count, 3000U);
  EXPECT_EQ(channel.stats().capacity, 4096U);
  std::vector<std::unique_ptr<int>> got(1000);
  int received = 0;
  for (int sent = 3000; channel.stats().capacity > 64; ++sent) {  // a few seconds; the test's own limit ends it
    while (const std::size_t n = channel.recv_n(std::span(got), kNow).count) {
      for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(*got[i], received++);
    }
    ASSERT_EQ(channel.send(std::make_unique<int>(sent)), Outcome::Done);
  }
  EXPECT_EQ(channel.stats().sent, channel.stats().received + channel.stats().length);
}

}  // namespace
}  // namespace culprit::concurrent
