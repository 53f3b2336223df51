// One round of the channel workloads C1-C5; every candidate in turn, in random order.
#include <sys/resource.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "daemon/concurrent/channel.h"
#include "tests/bench/concurrent/map_bench.h"
#include "tests/bench/concurrent/workload.h"

#if __has_include(<boost/lockfree/spsc_queue.hpp>)
#include <boost/lockfree/spsc_queue.hpp>
#define BENCH_BOOST_SPSC 1
#endif
#if __has_include(<tbb/concurrent_queue.h>)
#include <tbb/concurrent_queue.h>
#define BENCH_TBB 1
#endif

namespace bench {
namespace {

using culprit::concurrent::Channel;
using culprit::concurrent::Ends;
using culprit::concurrent::Outcome;

constexpr std::size_t kCapacity = 1024;

struct Item {
  std::uint64_t time_ns;
  std::uint64_t number;
  std::array<std::uint64_t, 6> rest;
};
static_assert(sizeof(Item) == 64);

// All or nothing, waiting as the candidate does.
template <Ends E>
struct Ours {
  Channel<Item, E> channel{{.name = "bench", .capacity = kCapacity}};
  void send(Item* items, std::size_t n) { (void)channel.send_n(std::span<Item>(items, n)); }
  std::size_t receive(Item* items, std::size_t n) { return channel.recv_n(std::span(items, n)).count; }
};

// A ring a producer.
struct OursLanes {
  Channel<Item, Ends::ManyToOne> channel{{.name = "bench", .capacity = kCapacity / 2}};
  struct End {
    culprit::concurrent::Sender<Item> sender;
    void send(Item* items, std::size_t n) { (void)sender.send_n(std::span<Item>(items, n)); }
  };
  End end() { return {*channel.sender()}; }
  std::size_t receive(Item* items, std::size_t n) { return channel.recv_n(std::span(items, n)).count; }
};

#ifdef BENCH_BOOST_SPSC
struct BoostSpsc {  // no waiting of its own: spins, then yields
  boost::lockfree::spsc_queue<Item, boost::lockfree::capacity<kCapacity>> queue;
  void send(Item* items, std::size_t n) {
    for (unsigned turn = 0; n != 0; ++turn) {
      const std::size_t put = queue.push(items, n);
      items += put;
      n -= put;
      if (put == 0) wait(turn);
    }
  }
  std::size_t receive(Item* items, std::size_t n) {
    for (unsigned turn = 0;; ++turn) {
      if (const std::size_t got = queue.pop(items, n); got != 0) return got;
      wait(turn);
    }
  }
  static void wait(unsigned turn) { turn % 256 == 255 ? std::this_thread::yield() : __builtin_ia32_pause(); }
};
#endif

#ifdef BENCH_TBB
struct TbbBounded {
  tbb::concurrent_bounded_queue<Item> queue;
  TbbBounded() { queue.set_capacity(kCapacity); }
  void send(Item* items, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) queue.push(items[i]);
  }
  std::size_t receive(Item* items, std::size_t n) {
    queue.pop(items[0]);
    std::size_t got = 1;
    while (got < n && queue.try_pop(items[got])) ++got;
    return got;
  }
};
#endif

struct MutexDeque {
  std::mutex mutex;
  std::condition_variable not_empty, not_full;
  std::deque<Item> queue;
  void send(Item* items, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      std::unique_lock lock(mutex);
      not_full.wait(lock, [&] { return queue.size() < kCapacity; });
      queue.push_back(items[i]);
      lock.unlock();
      not_empty.notify_one();
    }
  }
  std::size_t receive(Item* items, std::size_t n) {
    std::unique_lock lock(mutex);
    not_empty.wait(lock, [&] { return !queue.empty(); });
    const std::size_t got = std::min(n, queue.size());
    for (std::size_t i = 0; i < got; ++i) {
      items[i] = queue.front();
      queue.pop_front();
    }
    lock.unlock();
    not_full.notify_all();
    return got;
  }
};

// M items a second through the channel; a failed sum ends the benchmark. The first thread receives.
template <typename Q, std::size_t kBatch = 64>
void throughput(const char* workload, const char* name, int producers, std::size_t items) {
  const auto queue = std::make_unique<Q>();
  const std::size_t each = items / static_cast<std::size_t>(producers) / kBatch * kBatch;
  const std::size_t total = each * static_cast<std::size_t>(producers);
  std::uint64_t sum = 0;
  const auto produce = [](auto&& end, std::size_t count) {
    std::array<Item, kBatch> batch{};
    for (std::size_t i = 0; i < count; i += kBatch) {
      for (std::size_t j = 0; j < kBatch; ++j) batch[j].number = i + j;
      end.send(batch.data(), kBatch);
    }
  };
  const auto consume = [](Q& from, std::size_t count) {
    std::array<Item, kBatch> batch{};
    std::uint64_t all = 0;
    for (std::size_t got = 0; got < count;) {
      const std::size_t n = from.receive(batch.data(), kBatch);
      for (std::size_t i = 0; i < n; ++i) all += batch[i].number;
      got += n;
    }
    return all;
  };
  const Parts parts = together(producers + 1, [&](int thread) {
    if (thread == 0) {
      sum = consume(*queue, total);
    } else if constexpr (requires { queue->end(); }) {
      produce(queue->end(), each);
    } else {
      produce(*queue, each);
    }
  });
  if (sum != static_cast<std::uint64_t>(producers) * (each * (each - 1) / 2)) std::abort();
  report(workload, name, static_cast<double>(total) / parts[0].wall_s / 1e6, parts);
}

// An item every 100 us: median time from before the send to after the receive, and the receiver's CPU share.
template <typename Q>
void low_rate(const char* name) {
  const auto queue = std::make_unique<Q>();
  constexpr std::size_t kItems = 3000;
  std::vector<double> delays;
  const Parts parts = together(2, [&](int thread) {
    if (thread == 0) {
      std::vector<double> took;
      Item item{};
      while (took.size() < kItems) {
        queue->receive(&item, 1);
        took.push_back(wall_s() * 1e9 - static_cast<double>(item.time_ns));
      }
      delays = std::move(took);
      return;
    }
    for (std::size_t i = 0; i < kItems; ++i) {
      timespec pause{0, 100'000};
      clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      Item item{static_cast<std::uint64_t>(wall_s() * 1e9), i, {}};
      queue->send(&item, 1);
    }
  });
  std::ranges::sort(delays);
  report("C5 wake-up p50 at 10,000 items/s, us", name, delays[delays.size() / 2] / 1e3, parts);
  report("C5 receiver's CPU at 10,000 items/s, %", name, parts[0].of_a_core() * 100, parts);
}

// Capacities compared: items at a steady rate to a receiver that pauses now and then, for a second. What does not fit
// is dropped. The delay of an item is from its sending to its receipt.
void capacity(const char* name, std::size_t fixed, std::size_t bytes_max) {
  Channel<Item, Ends::OneToOne> channel({.name = "bench", .capacity = fixed, .bytes_max = bytes_max,
                                         .when_full = culprit::concurrent::WhenFull::DropNewest});
  std::vector<double> delays;
  std::size_t largest = 0;
  {
    std::jthread receiver([&] {
      std::vector<double> took;
      std::array<Item, 64> batch;
      double pause_at = wall_s() + 0.1;
      while (const std::size_t n = channel.recv_n(std::span(batch)).count) {
        const double now = wall_s();
        for (std::size_t i = 0; i < n; ++i) took.push_back(now * 1e6 - static_cast<double>(batch[i].time_ns) / 1e3);
        if (now < pause_at) continue;
        pause_at = now + 0.1;
        const timespec pause{0, 10'000'000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      }
      delays = std::move(took);
    });
    const double start = wall_s();
    std::array<Item, 20> batch{};
    for (double slot = start; slot - start < 1; slot += 1e-4) {  // 200,000 a second
      for (Item& item : batch) item.time_ns = static_cast<std::uint64_t>(wall_s() * 1e9);
      (void)channel.send_n(std::span<Item>(batch));
      largest = std::max(largest, channel.capacity());
      while (wall_s() < slot + 1e-4) std::this_thread::yield();
    }
    (void)channel.close();
  }
  const culprit::concurrent::ChannelStats stats = channel.stats();
  std::ranges::sort(delays);
  const double offered = static_cast<double>(stats.sent + stats.dropped_total());
  report("capacity: most memory of items, KB", name, static_cast<double>(largest * sizeof(Item)) / 1024);
  report("capacity: delay p50, us", name, delays[delays.size() / 2]);
  report("capacity: delay p99, us", name, delays[delays.size() * 99 / 100]);
  report("capacity: dropped, %", name, static_cast<double>(stats.dropped_total()) / offered * 100);
}

void idle() {
  Channel<Item, Ends::OneToOne> channel({.name = "idle", .capacity = kCapacity});
  double cpu = 1;
  std::jthread receiver([&] {
    const double before = thread_s();
    Item item{};
    (void)channel.recv(item);
    cpu = thread_s() - before;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  (void)channel.close();
  receiver.join();
  report("C5 idle receiver's CPU, %", "ours", cpu / 0.5 * 100);
}

}  // namespace

void channel_round(const Plan& plan) {
  const std::size_t items = plan.items;
  std::vector<std::function<void()>> jobs;
  std::mt19937_64 random(std::random_device{}());
  auto run = [&] {
    std::shuffle(jobs.begin(), jobs.end(), random);
    for (auto& job : jobs) job();
    jobs.clear();
  };
  if (plan.any({"C1"})) {
    constexpr const char* kOne = "C1 one producer, batches of 64, M/s";
    jobs.push_back([&] { throughput<Ours<Ends::OneToOne>>(kOne, "ours", 1, items); });
    jobs.push_back([&] { throughput<MutexDeque>(kOne, "mutex-deque", 1, items / 4); });
#ifdef BENCH_BOOST_SPSC
    jobs.push_back([&] { throughput<BoostSpsc>(kOne, "boost-spsc", 1, items); });
#endif
#ifdef BENCH_TBB
    jobs.push_back([&] { throughput<TbbBounded>(kOne, "tbb", 1, items / 4); });
#endif
    run();
  }
  if (plan.any({"C2"})) {
    constexpr const char* kTwo = "C2 two producers, batches of 64, M/s";
    jobs.push_back([&] { throughput<OursLanes>(kTwo, "ours", 2, items); });
    jobs.push_back([&] { throughput<Ours<Ends::Many>>(kTwo, "ours-many", 2, items); });
    jobs.push_back([&] { throughput<MutexDeque>(kTwo, "mutex-deque", 2, items / 4); });
#ifdef BENCH_TBB
    jobs.push_back([&] { throughput<TbbBounded>(kTwo, "tbb", 2, items / 4); });
#endif
    run();
  }
  if (plan.any({"C3"})) throughput<Ours<Ends::OneToOne>, 16>("C3 blocking, woken a batch of 16, M/s", "ours", 1, items);
  if (plan.any({"C4"})) {
    constexpr const char* kBusy = "C4 beside a third busy thread, M/s";
    alignas(64) std::atomic<bool> stop{false};
    std::jthread busy([&] {
      while (!stop) asm volatile("");
    });
    jobs.push_back([&] { throughput<Ours<Ends::OneToOne>>(kBusy, "ours", 1, items / 2); });
#ifdef BENCH_BOOST_SPSC
    jobs.push_back([&] { throughput<BoostSpsc>(kBusy, "boost-spsc", 1, items / 16); });
#endif
    run();
    stop = true;
  }
  if (plan.any({"C5"})) {
    jobs.push_back([] { low_rate<Ours<Ends::OneToOne>>("ours"); });
    jobs.push_back([] { low_rate<MutexDeque>("mutex-deque"); });
    run();
    idle();
  }
  if (plan.any({"capacity"})) {
    jobs.push_back([] { capacity("0", 0, 0); });
    jobs.push_back([] { capacity("64", 64, 0); });
    jobs.push_back([] { capacity("1024", 1024, 0); });
    jobs.push_back([] { capacity("auto", 0, std::size_t{1} << 20); });
    run();
  }
}

}  // namespace bench
