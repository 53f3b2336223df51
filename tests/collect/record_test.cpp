#include "daemon/collect/record.h"

#include <gtest/gtest.h>

#include "tests/collect/made_records.h"

namespace culprit::collect {
namespace {

using test::bytes_of;
using test::kSmallPayload;
using test::make;

template <typename Event>
void expect_only_whole(const char* name) {
  SCOPED_TRACE(name);
  auto event = make<Event>(1);
  if constexpr (std::is_same_v<Event, culprit_syscall_slow_event>) event.call = CULPRIT_CALL_FSYNC;
  EXPECT_TRUE(valid_record(bytes_of(event)));
  const RecordBytes bytes = bytes_of(event);
  for (std::size_t size = 0; size < bytes.size(); size += 4) EXPECT_FALSE(valid_record(bytes.first(size))) << size;
  event.header.size -= 8;
  EXPECT_FALSE(valid_record(bytes_of(event))) << "shorter than its kind";
}

// Every kind is accepted at its own size and at no other.
TEST(RecordTest, OnlyWholeRecordsAreValid) {
  expect_only_whole<culprit_exec_event>("exec");
  expect_only_whole<culprit_exit_event>("exit");
  expect_only_whole<culprit_fork_event>("fork");
  expect_only_whole<culprit_oom_event>("oom");
  expect_only_whole<culprit_signal_event>("signal");
  expect_only_whole<culprit_tcp_state_event>("tcp_state");
  expect_only_whole<culprit_tcp_retransmit_event>("tcp_retransmit");
  expect_only_whole<culprit_tcp_reset_event>("tcp_reset");
  expect_only_whole<culprit_syscall_slow_event>("syscall_slow");
  expect_only_whole<culprit_log_event>("log");
  expect_only_whole<culprit_block_slow_event>("block_slow");
}

TEST(RecordTest, BadFieldsAreRefused) {
  const struct {
    const char* name;
    void (*spoil)(culprit_payload_event&);
    bool valid;
  } cases[] = {
      {"as it should be", [](auto&) {}, true},
      {"captured more than there is room", [](auto& e) { e.bytes = e.captured = CULPRIT_PAYLOAD_SMALL + 1; }, false},
      {"captured more than was moved", [](auto& e) { e.captured = 9; }, false},
      {"no such direction", [](auto& e) { e.direction = 2; }, false},
      {"comm without an end", [](auto& e) { memset(e.task.comm, 'x', sizeof(e.task.comm)); }, false},
      {"no kind", [](auto& e) { e.header.kind = CULPRIT_EVENT_NONE; }, false},
      {"unknown kind", [](auto& e) { e.header.kind = CULPRIT_EVENT_KINDS; }, false},
      {"another kind's size", [](auto& e) { e.header.kind = CULPRIT_EVENT_EXIT; }, false},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    auto event = make<culprit_payload_event>(1, kSmallPayload);
    event.bytes = 8;
    event.captured = 8;
    c.spoil(event);
    EXPECT_EQ(valid_record(bytes_of(event)), c.valid);
  }
}

TEST(RecordTest, ViewsStayWithinTheRecord) {
  auto payload = make<culprit_payload_event>(1, kSmallPayload);
  payload.bytes = payload.captured = 3;
  memcpy(payload.data, "abcdef", 6);
  EXPECT_EQ(payload_of(payload).size(), 3U);
  auto log = make<culprit_log_event>(1);
  log.bytes = 4;
  log.captured = 4;
  memcpy(log.data, "line more", 9);
  EXPECT_EQ(line_of(log), "line");
  auto exec = make<culprit_exec_event>(1);
  memcpy(exec.task.comm, "sixteen-letters", 16);
  EXPECT_EQ(text_of(exec.task.comm), "sixteen-letters");
  EXPECT_EQ(as<culprit_exit_event>(bytes_of(exec)), nullptr);
  EXPECT_NE(as<culprit_exec_event>(bytes_of(exec)), nullptr);
}

// A batch keeps records whole and aligned, orders them by time, and gives back the young ones.
TEST(RecordBatchTest, OrderAndSplit) {
  RecordBatch batch, later;
  for (const std::uint64_t time : {30U, 10U, 40U, 20U, 20U}) {
    auto payload = make<culprit_payload_event>(time, kSmallPayload);
    payload.fd = static_cast<int>(batch.size());
    batch.add(bytes_of(payload));
    batch.add(bytes_of(make<culprit_signal_event>(time + 1)));
  }
  batch.sort_by_time();
  ASSERT_EQ(batch.size(), 10U);
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    EXPECT_GE(header_of(batch[i]).time_ns, last);
    last = header_of(batch[i]).time_ns;
    EXPECT_TRUE(valid_record(batch[i]));
  }
  EXPECT_EQ(as<culprit_payload_event>(batch[2])->fd, 3 * 2);  // equal times keep their order
  batch.split_after(21, later);
  EXPECT_EQ(batch.size(), 6U);
  ASSERT_EQ(later.size(), 4U);
  EXPECT_EQ(header_of(later[0]).time_ns, 30U);
  batch.split_after(1000, later);
  EXPECT_EQ(batch.size(), 6U);
  batch.clear();
  EXPECT_TRUE(batch.empty());
}

TEST(RecordTest, KindNames) {
  EXPECT_EQ(kind_name(CULPRIT_EVENT_EXEC), "exec");
  EXPECT_EQ(kind_name(CULPRIT_EVENT_BLOCK_SLOW), "block_slow");
  EXPECT_EQ(kind_name(CULPRIT_EVENT_KINDS), "unknown");
}

}  // namespace
}  // namespace culprit::collect
