#include "daemon/collect/recording.h"

#include <gtest/gtest.h>

#include <fmt/format.h>
#include <fstream>
#include <iterator>

#include "tests/collect/made_records.h"

namespace culprit::collect {
namespace {

using test::bytes_of;
using test::make;

class RecordingTest : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(file_); }
  std::vector<std::byte> bytes() const {
    std::ifstream in(file_, std::ios::binary);
    const std::vector<char> chars((std::istreambuf_iterator<char>(in)), {});
    const auto view = std::as_bytes(std::span(chars));
    return {view.begin(), view.end()};
  }
  // Two records, a snapshot, a record.
  void write() {
    auto writer = RecordingWriter::create(file_);
    ASSERT_TRUE(writer);
    RecordBatch batch;
    batch.add(bytes_of(make<culprit_exit_event>(1)));
    batch.add(bytes_of(make<culprit_payload_event>(2, test::kSmallPayload)));
    ASSERT_TRUE(writer->add(batch));
    sensor::Snapshot snapshot;
    snapshot.sequence = 7;
    for (std::uint32_t i = 0; i < 2000; ++i) {
      sensor::SchedSample sample;
      sample.tgid = i;
      sample.counts.on_cpu_ns = i;
      snapshot.sched.push_back(sample);
    }
    snapshot.tables.push_back({"sched_counts", 1, 2, 3});
    ASSERT_TRUE(writer->add(snapshot));
    ASSERT_TRUE(writer->add(bytes_of(make<culprit_fork_event>(3))));
    ASSERT_TRUE(writer->flush());
  }
  std::filesystem::path file_ = std::filesystem::temp_directory_path() / fmt::format("culprit-{}.events", getpid());
};

TEST_F(RecordingTest, RoundTrip) {
  write();
  std::vector<std::uint64_t> times;
  std::size_t rows = 0;
  RecordingHandlers handlers;
  handlers.on_record = [&](RecordBytes record) { times.push_back(header_of(record).time_ns); };
  handlers.on_snapshot = [&](const sensor::Snapshot& snapshot) {
    EXPECT_EQ(snapshot.sequence, 7U);
    EXPECT_EQ(times.size(), 2U) << "in the order of writing";
    rows = snapshot.sched.size();
    EXPECT_EQ(snapshot.sched[1999].counts.on_cpu_ns, 1999U);
    ASSERT_EQ(snapshot.tables.size(), 1U);
    EXPECT_EQ(snapshot.tables[0].full, 3U);
  };
  const auto summary = replay_recording(file_, handlers);
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(times, (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(rows, 2000U);
  EXPECT_EQ(summary->records, 3U);
  EXPECT_EQ(summary->snapshots, 1U);
  EXPECT_EQ(summary->malformed, 0U);
  EXPECT_FALSE(summary->truncated);
}

// However a file is cut, what is whole is read and nothing is made up.
TEST_F(RecordingTest, CutAnywhere) {
  write();
  const auto whole = bytes();
  for (std::size_t size = 0; size < whole.size(); size += size < 600 ? 1 : 997) {
    const auto summary = replay_recording(std::span(whole).first(size), {});
    if (size < 16) {
      ASSERT_FALSE(summary);
      EXPECT_EQ(summary.error().code, Code::Corrupt);
      continue;
    }
    ASSERT_TRUE(summary);
    EXPECT_LE(summary->records, 3U);
    EXPECT_EQ(summary->malformed, 0U) << size;
  }
}

TEST_F(RecordingTest, OtherVersionsAndFilesAreRefused) {
  write();
  auto changed = bytes();
  changed[8] = std::byte{99};
  EXPECT_EQ(replay_recording(changed, {}).error().code, Code::Unsupported);
  changed[0] = std::byte{'X'};
  EXPECT_EQ(replay_recording(changed, {}).error().code, Code::Corrupt);
  EXPECT_EQ(replay_recording("/nonexistent.events", {}).error().code, Code::NotFound);
}

TEST_F(RecordingTest, StopsAtItsLimit) {
  auto writer = RecordingWriter::create(file_, 1000);
  ASSERT_TRUE(writer);
  Result<void> added;
  int count = 0;
  while ((added = writer->add(bytes_of(make<culprit_exit_event>(1))))) ASSERT_LT(++count, 100);
  EXPECT_EQ(added.error().code, Code::Exhausted);
  ASSERT_TRUE(writer->flush());
  EXPECT_EQ(replay_recording(file_, {})->records, static_cast<std::uint64_t>(count));
}

}  // namespace
}  // namespace culprit::collect
