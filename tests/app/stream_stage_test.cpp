// The last stage of the pipeline, alone: seconds of events against a clock that the test moves.
#include "daemon/app/stream_stage.h"

#include <thread>

#include "tests/stream/support.h"

namespace culprit::app {
namespace {

TEST(StreamStageTest, WhatIsWrittenFastIsPrunedBeforeTheMinuteIsOver) {
  const stream::TemporaryFolder folder;
  FakeClock clock{5000 * kNsPerSecond, 1'700'000'000 * kNsPerSecond};
  Config config;
  config.retention_bytes = 2 << 20;
  const auto store =
      stream::EmbeddedStore::open({.folder = folder.path() / "state", .block_rows = 50, .disk_bytes = config.retention_bytes, .background = false}, clock).value();
  concurrent::Registry registry;
  DetectChannel detect({.name = "detect", .capacity = 64});
  StreamStage stage({config, clock, *store, registry, detect, {}, "host", [](std::string_view) { return false; }});
  std::jthread thread([&] { stage.run(); });
  stream::RandomEvents random(7);
  constexpr std::uint64_t kSecondBytes = 50 * 4096;
  for (int second = 0; second < 30; ++second) {
    std::vector<stream::Event> events;
    for (int i = 0; i < 50; ++i) events.push_back(stream::log_line(clock.now_ns(), "service:shop", random.letters(4096)));
    ASSERT_TRUE(stage.give({.events = std::move(events), .second_ns = clock.now_ns()}));
    DetectInput done;
    ASSERT_EQ(detect.recv(done), concurrent::Outcome::Done);
    clock.advance(kNsPerSecond);
  }
  stage.close();
  thread.join();
  const stream::StoreStats stats = store->stats();
  EXPECT_EQ(stats.appended, 1500U);
  EXPECT_GT(stats.pruned, 0U);
  EXPECT_LT(stats.on_disk_bytes, config.retention_bytes + config.retention_bytes / 16 + 2 * kSecondBytes);
}

}  // namespace
}  // namespace culprit::app
