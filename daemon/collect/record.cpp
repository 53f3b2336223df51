#include "daemon/collect/record.h"

#include <algorithm>
#include <array>

namespace culprit::collect {
namespace {

constexpr std::array<std::string_view, CULPRIT_EVENT_KINDS> kNames = {
    "none",           "exec",      "exit",         "fork",    "oom", "signal", "tcp_state",
    "tcp_retransmit", "tcp_reset", "syscall_slow", "payload", "log", "block_slow"};

// Size of each kind's record; 0 for kinds of more than one size.
constexpr std::array<std::size_t, CULPRIT_EVENT_KINDS> kSizes = {
    0,
    sizeof(culprit_exec_event),
    sizeof(culprit_exit_event),
    sizeof(culprit_fork_event),
    sizeof(culprit_oom_event),
    sizeof(culprit_signal_event),
    sizeof(culprit_tcp_state_event),
    sizeof(culprit_tcp_retransmit_event),
    sizeof(culprit_tcp_reset_event),
    sizeof(culprit_syscall_slow_event),
    0,
    sizeof(culprit_log_event),
    sizeof(culprit_block_slow_event)};

template <std::size_t N>
bool terminated(const char (&field)[N]) {
  return memchr(field, 0, N) != nullptr;
}

bool valid_payload(const culprit_payload_event& event, std::size_t size) {
  constexpr std::size_t kHead = offsetof(culprit_payload_event, data);
  if (size != kHead + CULPRIT_PAYLOAD_SMALL && size != kHead + CULPRIT_PAYLOAD_LARGE) return false;
  return event.captured <= size - kHead && event.captured <= event.bytes && event.direction <= CULPRIT_WRITE &&
         terminated(event.task.comm);
}

bool valid_text(RecordBytes bytes) {
  switch (header_of(bytes).kind) {
    case CULPRIT_EVENT_EXEC: {
      const auto& event = *as<culprit_exec_event>(bytes);
      return terminated(event.task.comm) && terminated(event.filename);
    }
    case CULPRIT_EVENT_EXIT: return terminated(as<culprit_exit_event>(bytes)->task.comm);
    case CULPRIT_EVENT_FORK: return terminated(as<culprit_fork_event>(bytes)->task.comm);
    case CULPRIT_EVENT_OOM: {
      const auto& event = *as<culprit_oom_event>(bytes);
      return terminated(event.task.comm) && terminated(event.victim_comm);
    }
    case CULPRIT_EVENT_SIGNAL: {
      const auto& event = *as<culprit_signal_event>(bytes);
      return terminated(event.task.comm) && terminated(event.target_comm);
    }
    case CULPRIT_EVENT_TCP_STATE: return terminated(as<culprit_tcp_state_event>(bytes)->task.comm);
    case CULPRIT_EVENT_SYSCALL_SLOW: {
      const auto& event = *as<culprit_syscall_slow_event>(bytes);
      return terminated(event.task.comm) && event.call > 0 && event.call < CULPRIT_CALLS;
    }
    case CULPRIT_EVENT_BLOCK_SLOW: {
      const auto& event = *as<culprit_block_slow_event>(bytes);
      return terminated(event.task.comm) && event.op <= CULPRIT_BLOCK_OTHER;
    }
    case CULPRIT_EVENT_LOG: {
      const auto& event = *as<culprit_log_event>(bytes);
      return terminated(event.task.comm) && event.captured <= CULPRIT_LINE_MAX && event.captured <= event.bytes;
    }
    default: return true;
  }
}

}  // namespace

bool valid_record(RecordBytes bytes) {
  if (bytes.size() < sizeof(culprit_header) || reinterpret_cast<std::uintptr_t>(bytes.data()) % 8 != 0) return false;
  const culprit_header& header = header_of(bytes);
  if (header.size != bytes.size() || header.kind == CULPRIT_EVENT_NONE || header.kind >= CULPRIT_EVENT_KINDS) {
    return false;
  }
  if (header.kind == CULPRIT_EVENT_PAYLOAD) {
    return bytes.size() >= offsetof(culprit_payload_event, data) &&
           valid_payload(*as<culprit_payload_event>(bytes), bytes.size());
  }
  return bytes.size() == kSizes[header.kind] && valid_text(bytes);
}

std::string_view kind_name(std::uint32_t kind) { return kind < kNames.size() ? kNames[kind] : "unknown"; }

void RecordBatch::add(RecordBytes record) {
  const std::size_t start = words_.size();
  words_.resize(start + (record.size() + 7) / 8);
  std::memcpy(words_.data() + start, record.data(), record.size());
  refs_.push_back({header_of(record).time_ns, static_cast<std::uint32_t>(start), static_cast<std::uint32_t>(record.size())});
}

void RecordBatch::sort_by_time() {
  const auto earlier = [](const Ref& a, const Ref& b) { return a.time_ns < b.time_ns; };
  if (!std::is_sorted(refs_.begin(), refs_.end(), earlier)) std::stable_sort(refs_.begin(), refs_.end(), earlier);
}

void RecordBatch::split_after(std::int64_t time_ns, RecordBatch& later) {
  const auto first = std::upper_bound(refs_.begin(), refs_.end(), static_cast<std::uint64_t>(time_ns),
                                      [](std::uint64_t time, const Ref& ref) { return time < ref.time_ns; });
  const auto index = static_cast<std::size_t>(first - refs_.begin());
  for (std::size_t i = index; i < refs_.size(); ++i) later.add((*this)[i]);
  refs_.resize(index);
}

void RecordBatch::clear() {
  words_.clear();
  refs_.clear();
}

}  // namespace culprit::collect
