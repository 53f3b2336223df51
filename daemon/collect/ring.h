// Ring: the reading end of one BPF ring buffer, mapped from a descriptor that somebody else created.
//
// Layout (kernel/bpf/ringbuf.c, documented in Documentation/bpf/ringbuf.rst): page 0 holds the reader's position
// and is ours to write; page 1 the writers' position; then the data, mapped twice in a row so that a record never
// wraps. Each record has 8 bytes in front: u32 length with a busy and a discard bit, u32 for the kernel.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "daemon/base/fd.h"
#include "daemon/base/result.h"
#include "daemon/collect/record.h"

namespace culprit::collect {

class Ring {
 public:
  // `bytes`: the ring's size, a power of two of at least a page. Errors: Invalid, Io, Denied.
  static Result<Ring> open(Fd fd, std::size_t bytes);
  Ring(Ring&& other) noexcept;
  Ring& operator=(Ring&&) = delete;
  ~Ring();

  struct Read {
    std::size_t records = 0;
    std::size_t malformed = 0;
    bool more = false;  // stopped at `bytes_max`, not at the end
  };
  // Copies valid records into `batch` until the end, a record still being written, or about `bytes_max`.
  Read read(RecordBatch& batch, std::size_t bytes_max);
  // The same walk over any records: calls take(bytes) for each, which says whether it is well formed. The bytes are
  // the kernel's again after the call.
  template <typename F>
  Read each(std::size_t bytes_max, F&& take);
  std::uint64_t backlog_bytes() const;
  int fd() const { return fd_.get(); }

 private:
  Ring(Fd fd, std::size_t bytes, std::byte* consumer, std::byte* producer)
      : fd_(std::move(fd)), bytes_(bytes), consumer_(consumer), producer_(producer) {}
  static constexpr std::uint32_t kBusy = 1U << 31;     // BPF_RINGBUF_BUSY_BIT
  static constexpr std::uint32_t kDiscard = 1U << 30;  // BPF_RINGBUF_DISCARD_BIT
  static constexpr std::size_t kHead = 8;              // BPF_RINGBUF_HDR_SZ
  static constexpr std::size_t kReleaseEvery = 64;     // records between two updates of the reader's position
  static constexpr std::size_t kAhead = 1024;          // bytes fetched ahead: another core has just written them

  template <typename T>
  static T load_acquire(const std::byte* at) {
    // atomic_ref wants a mutable object; a load does not write to the read-only mapping.
    return std::atomic_ref<T>(*reinterpret_cast<T*>(const_cast<std::byte*>(at))).load(std::memory_order_acquire);
  }
  const std::byte* data() const;

  Fd fd_;
  std::size_t bytes_;
  std::byte* consumer_;  // one page, writable
  std::byte* producer_;  // one page and the data twice, read only
};

template <typename F>
Ring::Read Ring::each(std::size_t bytes_max, F&& take) {
  Read result;
  std::atomic_ref<std::uint64_t> position(*reinterpret_cast<std::uint64_t*>(consumer_));
  std::uint64_t at = position.load(std::memory_order_relaxed);
  const std::uint64_t start = at;
  const std::uint64_t end = load_acquire<std::uint64_t>(producer_);
  const std::byte* const first = data();
  std::size_t unreleased = 0;
  while (at < end) {
    if (at - start >= bytes_max) {
      result.more = true;
      break;
    }
    const std::byte* head = first + (at & (bytes_ - 1));
    __builtin_prefetch(head + kAhead);
    const auto length = load_acquire<std::uint32_t>(head);
    if ((length & kBusy) != 0) break;
    const std::size_t size = length & ~(kBusy | kDiscard);
    if (size > bytes_ - kHead) {  // cannot be: the kernel wrote it. Give up what is there rather than loop.
      ++result.malformed;
      at = end;
      break;
    }
    if ((length & kDiscard) == 0) ++(take(RecordBytes(head + kHead, size)) ? result.records : result.malformed);
    at += (size + kHead + 7) / 8 * 8;
    if (++unreleased == kReleaseEvery) {
      position.store(at, std::memory_order_release);
      unreleased = 0;
    }
  }
  position.store(at, std::memory_order_release);
  return result;
}

}  // namespace culprit::collect
