// Record: bytes of one ring record, checked and copied out of the ring; RecordBatch: many of them in one block of
// memory, ordered by time.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "bpf/include/culprit_events.h"

namespace culprit::collect {

using RecordBytes = std::span<const std::byte>;  // 8-aligned; a whole record of a known kind

// Bytes of the largest record.
inline constexpr std::size_t kRecordBytesMax = sizeof(culprit_payload_event);

// Whether `bytes` is a whole record that the probes could have made: known kind, its size, captured length
// within it, strings terminated. Everything that reads records relies on this having been asked.
bool valid_record(RecordBytes bytes);

// "exec", "tcp_state", ...; "unknown" for numbers that are none.
std::string_view kind_name(std::uint32_t kind);

template <typename Event>
struct EventKind;
#define CULPRIT_EVENT_KIND(type, number)            \
  template <>                                       \
  struct EventKind<type> {                          \
    static constexpr culprit_kind value = (number); \
  }
CULPRIT_EVENT_KIND(culprit_exec_event, CULPRIT_EVENT_EXEC);
CULPRIT_EVENT_KIND(culprit_exit_event, CULPRIT_EVENT_EXIT);
CULPRIT_EVENT_KIND(culprit_fork_event, CULPRIT_EVENT_FORK);
CULPRIT_EVENT_KIND(culprit_oom_event, CULPRIT_EVENT_OOM);
CULPRIT_EVENT_KIND(culprit_signal_event, CULPRIT_EVENT_SIGNAL);
CULPRIT_EVENT_KIND(culprit_tcp_state_event, CULPRIT_EVENT_TCP_STATE);
CULPRIT_EVENT_KIND(culprit_tcp_retransmit_event, CULPRIT_EVENT_TCP_RETRANSMIT);
CULPRIT_EVENT_KIND(culprit_tcp_reset_event, CULPRIT_EVENT_TCP_RESET);
CULPRIT_EVENT_KIND(culprit_syscall_slow_event, CULPRIT_EVENT_SYSCALL_SLOW);
CULPRIT_EVENT_KIND(culprit_payload_event, CULPRIT_EVENT_PAYLOAD);
CULPRIT_EVENT_KIND(culprit_log_event, CULPRIT_EVENT_LOG);
CULPRIT_EVENT_KIND(culprit_block_slow_event, CULPRIT_EVENT_BLOCK_SLOW);
#undef CULPRIT_EVENT_KIND

inline const culprit_header& header_of(RecordBytes record) {
  return *reinterpret_cast<const culprit_header*>(record.data());
}

// The record as its event type, or null if it is of another kind. A small payload record ends before its
// struct does: read its data only through payload_of().
template <typename Event>
const Event* as(RecordBytes record) {
  if (header_of(record).kind != EventKind<Event>::value) return nullptr;
  return reinterpret_cast<const Event*>(record.data());
}

inline std::span<const std::uint8_t> payload_of(const culprit_payload_event& event) {
  return {event.data, event.captured};
}
inline std::string_view line_of(const culprit_log_event& event) {
  return {reinterpret_cast<const char*>(event.data), event.captured};
}
// A zero-terminated field of a record: comm, filename.
template <std::size_t N>
std::string_view text_of(const char (&field)[N]) {
  return {field, strnlen(field, N)};
}

// Many records in one block. Move it, do not copy it. Not synchronised.
class RecordBatch {
 public:
  std::size_t size() const { return refs_.size(); }
  bool empty() const { return refs_.empty(); }
  std::size_t bytes() const { return words_.size() * sizeof(std::uint64_t); }
  RecordBytes operator[](std::size_t index) const {
    const Ref ref = refs_[index];
    return std::as_bytes(std::span(words_)).subspan(std::size_t{ref.word} * 8, ref.bytes);
  }
  // Copies one valid record to the end.
  void add(RecordBytes record);
  // Orders by time; records of equal time keep their order.
  void sort_by_time();
  // Moves records later than `time_ns` to `later`. The batch must be sorted.
  void split_after(std::int64_t time_ns, RecordBatch& later);
  void clear();

 private:
  struct Ref {
    std::uint64_t time_ns;
    std::uint32_t word;
    std::uint32_t bytes;
  };
  std::vector<std::uint64_t> words_;  // each record starts at a word
  std::vector<Ref> refs_;
};

}  // namespace culprit::collect
