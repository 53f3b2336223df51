// Ring: the reading end of one BPF ring buffer, mapped from a descriptor that somebody else created.
//
// Layout (kernel/bpf/ringbuf.c, documented in Documentation/bpf/ringbuf.rst): page 0 holds the reader's position
// and is ours to write; page 1 the writers' position; then the data, mapped twice in a row so that a record never
// wraps. Each record has 8 bytes in front: u32 length with a busy and a discard bit, u32 for the kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

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
  std::uint64_t backlog_bytes() const;
  int fd() const { return fd_.get(); }

 private:
  Ring(Fd fd, std::size_t bytes, std::byte* consumer, std::byte* producer)
      : fd_(std::move(fd)), bytes_(bytes), consumer_(consumer), producer_(producer) {}
  const std::byte* data() const;

  Fd fd_;
  std::size_t bytes_;
  std::byte* consumer_;  // one page, writable
  std::byte* producer_;  // one page and the data twice, read only
};

}  // namespace culprit::collect
