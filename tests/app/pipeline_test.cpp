// The pipeline without a sensor: events come from many threads at once, and each is stored or counted.
#include "daemon/app/pipeline.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "daemon/stream/embedded_store.h"

namespace culprit::app {
namespace {

// A supervisor that never says a word: its end and ours.
std::pair<Fd, Fd> silent_supervisor() {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  return {Fd(ends[1]), Fd(ends[0])};
}

std::vector<stream::Event> some(stream::Kind kind, std::size_t count, const std::string& body) {
  std::vector<stream::Event> events(count);
  for (stream::Event& event : events) {
    event.time_ns = SystemClock().now_ns();
    event.kind = kind;
    event.entity = "service:shop";
    event.body = body;
  }
  return events;
}

// Takes whatever comes and fails at it.
class FailingStore final : public stream::EventStore {
 public:
  Result<void> append(std::vector<stream::Event>) override { throw std::runtime_error("a bug"); }
  Result<stream::Completeness> scan(const stream::Query&, const std::function<bool(const stream::Event&)>&) const override { return stream::Completeness{}; }
  Result<std::vector<stream::Series>> series(const stream::Query&) const override { return std::vector<stream::Series>{}; }
  Result<std::vector<stream::Group>> group(const stream::Query&) const override { return std::vector<stream::Group>{}; }
  Result<std::vector<stream::Difference>> differs(const stream::Query&, std::int64_t, std::int64_t, std::int64_t, std::int64_t) const override { return std::vector<stream::Difference>{}; }
  Result<void> flush() override { return {}; }
  Result<void> prune(std::int64_t) override { return {}; }
  stream::StoreStats stats() const override { return {}; }
};

TEST(PipelineTest, ManyThreadsAddAtOnceAndNothingIsLost) {
  constexpr std::size_t kThreads = 8, kBatches = 2'000, kEvents = 1;
  const SystemClock clock;
  const Config config;
  const auto store = stream::EmbeddedStore::open({}, clock).value();
  concurrent::Registry registry;
  Accounting accounting;
  DetectChannel detect({.name = "detect", .capacity = 64});
  auto [supervisor, control] = silent_supervisor();
  auto pipeline = Pipeline::start({config, clock, *store, registry, accounting, detect, std::move(control), {}, [] { return false; }}).value();
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

// Of what other tools send in a second the rules get a bounded part; the rest is stored and counted.
TEST(PipelineTest, RulesAreToldWhatOtherToolsSend) {
  constexpr std::size_t kBodyBytes = 64 << 10, kEvents = 2 * kToldBytesMax / kBodyBytes;
  const SystemClock clock;
  const Config config;
  const auto store = stream::EmbeddedStore::open({}, clock).value();
  concurrent::Registry registry;
  Accounting accounting;
  DetectChannel detect({.name = "detect", .capacity = 64});
  auto [supervisor, control] = silent_supervisor();
  auto pipeline = Pipeline::start({config, clock, *store, registry, accounting, detect, std::move(control), {}, [] { return false; }}).value();
  ingest::Intake intake({}, [&](ingest::Batch&& batch) { return pipeline->ingest(std::move(batch)); });
  const auto source = std::make_shared<ingest::SourceState>("test", "test", "here");
  ASSERT_TRUE(intake.submit(source, some(stream::Kind::Alert, 1, "an alert"), 10'000));
  ASSERT_TRUE(intake.submit(source, some(stream::Kind::Span, kEvents, std::string(kBodyBytes, 'x')), 10'000));
  std::size_t told = 0, alerts = 0;
  for (DetectInput input; told + pipeline->stream_stage().told_left_out() < kEvents && detect.recv(input) == concurrent::Outcome::Done;) {
    told += input.told.size();
    for (const stream::Event& event : input.events) alerts += event.kind == stream::Kind::Alert ? 1 : 0;
  }
  EXPECT_GT(told, 0U);
  EXPECT_EQ(alerts, 1U);
  (void)detect.close();
  pipeline.reset();
  std::uint64_t stored = 0;
  ASSERT_TRUE(store->scan({.kinds = {stream::Kind::Span}}, [&](const stream::Event&) { return ++stored, true; }));
  EXPECT_EQ(stored, kEvents);
}

// A clock that goes on by itself and jumps when told, and a store that only notes what it is asked.
class JumpingClock final : public Clock {
 public:
  std::int64_t now_ns() const override { return system_.now_ns() + jumped_ns; }
  std::int64_t wall_offset_ns() const override { return system_.wall_offset_ns(); }
  std::atomic<std::int64_t> jumped_ns = 0;

 private:
  SystemClock system_;
};
class NotingStore final : public stream::EventStore {
 public:
  Result<void> append(std::vector<stream::Event>) override { return {}; }
  Result<stream::Completeness> scan(const stream::Query&, const std::function<bool(const stream::Event&)>&) const override { return stream::Completeness{}; }
  Result<std::vector<stream::Series>> series(const stream::Query&) const override { return std::vector<stream::Series>{}; }
  Result<std::vector<stream::Group>> group(const stream::Query&) const override { return std::vector<stream::Group>{}; }
  Result<std::vector<stream::Difference>> differs(const stream::Query&, std::int64_t, std::int64_t, std::int64_t, std::int64_t) const override { return std::vector<stream::Difference>{}; }
  Result<void> flush() override { return ++flushes, Result<void>(); }
  Result<void> prune(std::int64_t older_than_ns) override {
    kept_from_ns = older_than_ns;
    return ++prunes, Result<void>();
  }
  stream::StoreStats stats() const override { return {}; }
  std::atomic<std::uint64_t> flushes = 0, prunes = 0;
  std::atomic<std::int64_t> kept_from_ns = 0;
};

// Retention is looked after once a minute, by the days that the configuration gives.
TEST(PipelineTest, PrunesOnceAMinute) {
  JumpingClock clock;
  Config config;
  config.retention_days = 2;
  NotingStore store;
  concurrent::Registry registry;
  Accounting accounting;
  DetectChannel detect({.name = "detect", .capacity = 1024});
  auto [supervisor, control] = silent_supervisor();
  auto pipeline = Pipeline::start({config, clock, store, registry, accounting, detect, std::move(control), {}, [] { return false; }}).value();
  const auto more_than = [](const std::atomic<std::uint64_t>& count, std::uint64_t before) {
    for (int i = 0; i < 3'000 && count <= before; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return count > before;
  };
  ASSERT_TRUE(more_than(store.flushes, 1));
  EXPECT_EQ(store.prunes, 0U);
  for (std::uint64_t minute = 0; minute < 2; ++minute) {
    const std::int64_t before_ns = clock.now_ns();
    clock.jumped_ns += 61 * kNsPerSecond;
    ASSERT_TRUE(more_than(store.prunes, minute));
    const std::uint64_t flushes = store.flushes;
    ASSERT_TRUE(more_than(store.flushes, flushes + 1));  // two seconds on: not at each
    EXPECT_EQ(store.prunes, minute + 1);
    EXPECT_GE(store.kept_from_ns, before_ns + (61 - 2 * 86'400) * kNsPerSecond);
    EXPECT_LE(store.kept_from_ns, clock.now_ns() - 2 * 86'400 * kNsPerSecond);
  }
  (void)detect.close();
}

// A bug in one thread ends the daemon: nobody waits for that thread, neither with events nor for room.
TEST(PipelineTest, AThreadThatFailsHoldsNobodyUp) {
  constexpr std::uint64_t kRoom = 100;
  const SystemClock clock;
  const Config config;
  FailingStore store;
  concurrent::Registry registry;
  Accounting accounting;
  DetectChannel detect({.name = "detect", .capacity = 64});
  auto [supervisor, control] = silent_supervisor();
  auto pipeline = Pipeline::start({config, clock, store, registry, accounting, detect, std::move(control), {}, [] { return false; }}).value();
  ingest::Intake intake({.events_max = kRoom}, [&](ingest::Batch&& batch) { return pipeline->ingest(std::move(batch)); });
  const auto source = std::make_shared<ingest::SourceState>("test", "test", "here");
  Result<void> taken;
  do {
    taken = intake.submit(source, some(stream::Kind::Log, 1, "a line"), 10'000);
  } while (taken);
  EXPECT_EQ(taken.error().code, Code::Io);
  for (int i = 0; i < 10'000; ++i) pipeline->add(some(stream::Kind::Log, 1, "a line"));
  for (int i = 0; i < 3'000 && pipeline->failure().empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(pipeline->failure(), "thread 'stream': a bug");
  pipeline.reset();
  EXPECT_EQ(intake.in_flight(), 0U);
  (void)detect.close();
}

}  // namespace
}  // namespace culprit::app
