// The pipeline without a sensor: events come from many threads at once, and each is stored or counted.
#include "daemon/app/pipeline.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "daemon/stream/embedded_store.h"

namespace culprit::app {
namespace {

TEST(PipelineTest, ManyThreadsAddAtOnceAndNothingIsLost) {
  constexpr std::size_t kThreads = 8, kBatches = 2'000, kEvents = 1;
  const SystemClock clock;
  const Config config;
  const auto store = stream::EmbeddedStore::open({}, clock).value();
  concurrent::Registry registry;
  Accounting accounting;
  DetectChannel detect({.name = "detect", .capacity = 64});
  int silent[2];  // a supervisor that never says a word
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, silent), 0);
  const Fd supervisor(silent[1]);
  auto pipeline = Pipeline::start({config, clock, *store, registry, accounting, detect, Fd(silent[0]), [] { return false; }}).value();
  ingest::Intake intake({}, [&](ingest::Batch&& batch) { return pipeline->ingest(std::move(batch)); });
  const auto source = std::make_shared<ingest::SourceState>("test", "test", "here");
  std::vector<std::jthread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t batch = 0; batch < kBatches; ++batch) {
        std::vector<stream::Event> events(kEvents);
        for (stream::Event& event : events) {
          event.kind = stream::Kind::Log;
          event.time_ns = clock.now_ns();
          event.entity = fmt::format("service:s{}", thread);
          event.body = fmt::format("order {} took {} ms", batch, thread);
        }
        if (thread % 2 == 0) pipeline->add(std::move(events));
        else EXPECT_TRUE(intake.submit(source, std::move(events), 10'000));
      }
    });
  }
  threads.clear();
  pipeline.reset();  // stores what was received
  (void)detect.close();
  const ingest::SourceStats stats = source->stats();
  EXPECT_EQ(stats.produced, kThreads / 2 * kBatches * kEvents);
  EXPECT_EQ(stats.stored, stats.produced);
  std::uint64_t logs = 0;
  ASSERT_TRUE(store->scan({.kinds = {stream::Kind::Log}}, [&](const stream::Event&) { return ++logs, true; }));
  EXPECT_EQ(logs, kThreads * kBatches * kEvents);
}

}  // namespace
}  // namespace culprit::app
