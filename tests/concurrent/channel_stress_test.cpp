#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "daemon/concurrent/channel.h"
#include "tests/concurrent/long.h"

namespace culprit::concurrent {
namespace {

struct Item {
  std::uint32_t producer = 0;
  std::uint32_t number = 0;
};

struct Shape {
  const char* name;
  int producers;
  int consumers;
  std::size_t capacity;
  WhenFull when_full;
  std::size_t bytes_max = 0;
};

// What a producer sends through: the channel, or its own sender.
template <Ends E>
auto sending_end(Channel<Item, E>& channel) {
  if constexpr (E == Ends::ManyToOne) {
    return std::make_unique<Sender<Item>>(std::move(*channel.sender()));
  } else {
    return &channel;
  }
}

// Checks, over random batch sizes, timeouts and pauses: FIFO per producer at each consumer, nothing twice,
// nothing lost that was not counted, and that all end when the channel closes.
template <Ends E>
void run(const Shape& shape, std::uint32_t items_each, std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << shape.name << " seed " << seed);
  Channel<Item, E> channel({.name = shape.name, .capacity = shape.capacity, .bytes_max = shape.bytes_max, .when_full = shape.when_full});
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> given_up{0};
  const auto producers = static_cast<std::size_t>(shape.producers);
  std::vector<std::vector<std::vector<std::uint32_t>>> seen(static_cast<std::size_t>(shape.consumers),
                                                            std::vector<std::vector<std::uint32_t>>(producers));
  {
    std::vector<std::jthread> consumers;
    for (std::size_t c = 0; c < seen.size(); ++c) {
      consumers.emplace_back([&, c] {
        std::mt19937_64 random(seed * 31 + c);
        std::array<Item, 17> batch;
        while (true) {
          const Wait wait = random() % 4 == 0 ? Wait{.timeout_ns = static_cast<std::int64_t>(random() % 20'000)} : Wait{};
          const Batch got = channel.recv_n(std::span(batch).first(1 + random() % batch.size()), wait);
          for (std::size_t i = 0; i < got.count; ++i) seen[c][batch[i].producer].push_back(batch[i].number);
          if (got.outcome == Outcome::Closed) return;
          if (random() % 64 == 0) std::this_thread::yield();
        }
      });
    }
    std::vector<std::jthread> senders;
    for (std::uint32_t p = 0; p < producers; ++p) {
      senders.emplace_back([&, p] {
        std::mt19937_64 random(seed * 77 + p);
        const auto end = sending_end(channel);
        std::vector<Item> batch;
        for (std::uint32_t next = 0; next < items_each;) {
          batch.clear();
          const auto size = static_cast<std::uint32_t>(1 + random() % 23);
          for (std::uint32_t i = 0; i < size && next + i < items_each; ++i) batch.push_back({p, next + i});
          const Wait wait = random() % 4 == 0 ? Wait{.timeout_ns = static_cast<std::int64_t>(random() % 20'000)} : Wait{};
          const Batch sent = end->send_n(std::span(batch), wait);
          accepted += sent.count;
          if (sent.outcome == Outcome::Dropped) {
            given_up += batch.size() - sent.count;
            next += static_cast<std::uint32_t>(batch.size());
          } else {
            next += static_cast<std::uint32_t>(sent.count);
          }
        }
      });
    }
    senders.clear();
    ASSERT_TRUE(channel.close());
  }
  const ChannelStats stats = channel.stats();
  std::uint64_t received = 0;
  for (std::size_t p = 0; p < producers; ++p) {
    std::vector<bool> got(items_each);
    for (const auto& consumer : seen) {
      received += consumer[p].size();
      for (std::size_t i = 0; i < consumer[p].size(); ++i) {
        ASSERT_FALSE(got[consumer[p][i]]) << "twice";
        got[consumer[p][i]] = true;
        ASSERT_TRUE(i == 0 || consumer[p][i - 1] < consumer[p][i]) << "out of order";
      }
    }
  }
  EXPECT_EQ(stats.length, 0U);
  EXPECT_EQ(stats.sent, accepted);
  EXPECT_EQ(stats.received, received);
  EXPECT_EQ(stats.dropped[0], given_up);
  EXPECT_EQ(accepted, received + stats.dropped[1]);
  EXPECT_EQ(accepted + given_up, std::uint64_t{items_each} * producers);
  const std::size_t most = shape.bytes_max != 0 ? shape.bytes_max / sizeof(Item) : shape.capacity;
  EXPECT_LE(stats.high_water, E == Ends::ManyToOne ? most * producers : most);
  EXPECT_TRUE(shape.when_full != WhenFull::Wait || stats.dropped_total() == 0);
}

TEST(ChannelStressTest, ManyEnds) {
  const Shape shapes[] = {
      {"one to one", 1, 1, 8, WhenFull::Wait},        {"rendezvous", 2, 2, 0, WhenFull::Wait},
      {"four to one", 4, 1, 16, WhenFull::Wait},      {"four to four", 4, 4, 3, WhenFull::Wait},
      {"drop newest", 3, 1, 16, WhenFull::DropNewest}, {"overwrite", 3, 2, 16, WhenFull::OverwriteOldest},
      {"automatic", 3, 2, 0, WhenFull::Wait, 4096},
  };
  for (const Shape& shape : shapes) {
    for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) run<Ends::Many>(shape, 5'000, seed);
  }
}

TEST(ChannelStressTest, OneToOne) {
  const Shape shapes[] = {
      {"tiny", 1, 1, 1, WhenFull::Wait},
      {"small", 1, 1, 5, WhenFull::Wait},
      {"large", 1, 1, 1024, WhenFull::Wait},
      {"rendezvous", 1, 1, 0, WhenFull::Wait},
      {"drop newest", 1, 1, 16, WhenFull::DropNewest},
      {"overwrite", 1, 1, 16, WhenFull::OverwriteOldest},
      {"automatic", 1, 1, 0, WhenFull::Wait, 65'536},
      {"automatic, drop newest", 1, 1, 0, WhenFull::DropNewest, 4096},
  };
  for (const Shape& shape : shapes) {
    for (std::uint64_t seed = 1; seed <= seeds(4); ++seed) run<Ends::OneToOne>(shape, 20'000, seed);
  }
}

TEST(ChannelStressTest, ManyToOne) {
  const Shape shapes[] = {
      {"two to one", 2, 1, 8, WhenFull::Wait},          {"seven to one", 7, 1, 64, WhenFull::Wait},
      {"rendezvous", 3, 1, 0, WhenFull::Wait},          {"drop newest", 3, 1, 16, WhenFull::DropNewest},
      {"overwrite", 3, 1, 16, WhenFull::OverwriteOldest}, {"automatic", 3, 1, 0, WhenFull::Wait, 8192},
  };
  for (const Shape& shape : shapes) {
    for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) run<Ends::ManyToOne>(shape, 8'000, seed);
  }
}

// Its move takes long, and lets others run.
struct Slow {
  Slow() = default;
  Slow(Slow&&) noexcept { std::this_thread::yield(); }
  Slow& operator=(Slow&&) noexcept { return *this; }
};

// Somebody else closes while a sender puts: what was taken is received, what was refused is not, and the receiver's end
// is the end.
TEST(ChannelStressTest, CloseBesidePuts) {
  for (std::uint64_t seed = 0; seed < seeds(300); ++seed) {
    Channel<Slow, Ends::OneToOne> channel({.name = "closed beside", .capacity = 8});
    std::uint64_t accepted = 0, received = 0;
    std::atomic<int> ready{0};
    {
      std::jthread sender([&] {
        std::array<Slow, 3> batch;
        for (++ready; ready != 2;) {}
        while (true) {
          const Batch sent = channel.send_n(std::span<Slow>(batch));
          accepted += sent.count;
          if (sent.outcome == Outcome::Closed) return;
        }
      });
      std::jthread closer([&] {
        for (++ready; ready != 2;) {}
        for (std::uint64_t i = 0; i < seed % 200; ++i) detail::cpu_pause();
        ASSERT_TRUE(channel.close());
      });
      std::array<Slow, 5> batch;
      Batch got;
      while ((got = channel.recv_n(std::span(batch))).outcome != Outcome::Closed) received += got.count;
    }
    ASSERT_EQ(received, accepted) << "seed " << seed;
    Slow left;
    ASSERT_EQ(channel.try_recv(left), Outcome::Closed);
  }
}

}  // namespace
}  // namespace culprit::concurrent
