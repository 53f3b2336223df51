// One appender, several readers: each scan sees every event appended before it began, once. Also run under
// ThreadSanitizer (preset tsan).
#include <atomic>
#include <thread>

#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

TEST(ThreadTest, ScansSeeEveryEventAppendedBeforeExactlyOnce) {
  TemporaryFolder folder;
  SystemClock clock;
  StoreOptions options{.folder = folder.path() / "state", .memory_bytes = 400'000};
  options.memory_ns = 20 * kNsPerMs;
  options.commit_ns = 2 * kNsPerMs;
  options.block_rows = 300;
  auto opened = EmbeddedStore::open(options, clock);
  ASSERT_TRUE(opened);
  EmbeddedStore& store = **opened;
  constexpr std::int64_t kBatches = 400, kBatch = 20;
  std::atomic<std::int64_t> appended = 0;
  std::atomic<bool> failed = false;
  std::atomic<int> scans = 0;
  std::vector<std::jthread> readers;
  for (int reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&, reader](const std::stop_token& stop) {
      while (!stop.stop_requested() && !failed) {
        const std::int64_t least = appended;
        std::int64_t next = 0;
        bool good = true;
        if (reader == 0) {
          const auto series = store.series({});
          good = series.has_value();
          if (good && !series->empty()) {
            for (const Point& point : series->front().points) good = good && point.time_ns == next++;
          }
        } else {
          const auto done = store.scan({.newest_first = reader == 2}, [&](const Event& event) {
            if (reader == 1) good = good && event.time_ns == next;
            ++next;
            return good;
          });
          good = good && done.has_value();
        }
        if (!good || next < least) failed = true;
        (void)store.stats();
        ++scans;
      }
    });
  }
  for (std::int64_t batch = 0; batch < kBatches && !failed; ++batch) {
    std::vector<Event> events;
    for (std::int64_t i = 0; i < kBatch; ++i) events.push_back(sample(batch * kBatch + i, "host", "x", 1));
    ASSERT_TRUE(store.append(std::move(events)));
    appended = (batch + 1) * kBatch;
  }
  while (scans < 3 && !failed) std::this_thread::yield();
  readers.clear();
  EXPECT_FALSE(failed);
  EXPECT_EQ(scan_all(store).size(), static_cast<std::size_t>(kBatches * kBatch));
}

}  // namespace
}  // namespace culprit::stream
