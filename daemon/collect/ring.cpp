#include "daemon/collect/ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <utility>

namespace culprit::collect {
namespace {

constexpr std::uint32_t kBusy = 1U << 31;     // BPF_RINGBUF_BUSY_BIT
constexpr std::uint32_t kDiscard = 1U << 30;  // BPF_RINGBUF_DISCARD_BIT
constexpr std::size_t kHead = 8;              // BPF_RINGBUF_HDR_SZ
constexpr std::size_t kReleaseEvery = 64;     // records between two updates of the reader's position

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

template <typename T>
T load_acquire(const std::byte* at) {
  // atomic_ref wants a mutable object; a load does not write to the read-only mapping.
  return std::atomic_ref<T>(*reinterpret_cast<T*>(const_cast<std::byte*>(at))).load(std::memory_order_acquire);
}

}  // namespace

Result<Ring> Ring::open(Fd fd, std::size_t bytes) {
  const std::size_t page = page_bytes();
  if (!std::has_single_bit(bytes) || bytes < page || bytes > (1U << 30)) {
    return fail(Code::Invalid, "ring of " + std::to_string(bytes) + " bytes");
  }
  void* consumer = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (consumer == MAP_FAILED) return fail_errno(errno, "map a ring's reader page");
  void* producer = mmap(nullptr, page + 2 * bytes, PROT_READ, MAP_SHARED, fd.get(), static_cast<off_t>(page));
  if (producer == MAP_FAILED) {
    const int error = errno;
    munmap(consumer, page);
    return fail_errno(error, "map a ring");
  }
  return Ring(std::move(fd), bytes, static_cast<std::byte*>(consumer), static_cast<std::byte*>(producer));
}

Ring::Ring(Ring&& other) noexcept
    : fd_(std::move(other.fd_)),
      bytes_(other.bytes_),
      consumer_(std::exchange(other.consumer_, nullptr)),
      producer_(std::exchange(other.producer_, nullptr)) {}

Ring::~Ring() {
  if (consumer_ != nullptr) munmap(consumer_, page_bytes());
  if (producer_ != nullptr) munmap(producer_, page_bytes() + 2 * bytes_);
}

const std::byte* Ring::data() const { return producer_ + page_bytes(); }

Ring::Read Ring::read(RecordBatch& batch, std::size_t bytes_max) {
  Read result;
  std::atomic_ref<std::uint64_t> position(*reinterpret_cast<std::uint64_t*>(consumer_));
  std::uint64_t at = position.load(std::memory_order_relaxed);
  const std::uint64_t start = at;
  const std::uint64_t end = load_acquire<std::uint64_t>(producer_);
  std::size_t unreleased = 0;
  while (at < end) {
    if (at - start >= bytes_max) {
      result.more = true;
      break;
    }
    const std::byte* head = data() + (at & (bytes_ - 1));
    const auto length = load_acquire<std::uint32_t>(head);
    if ((length & kBusy) != 0) break;
    const std::size_t size = length & ~(kBusy | kDiscard);
    if (size > bytes_ - kHead) {  // cannot be: the kernel wrote it. Give up what is there rather than loop.
      ++result.malformed;
      at = end;
      break;
    }
    if ((length & kDiscard) == 0) {
      const RecordBytes record(head + kHead, size);
      if (valid_record(record)) {
        batch.add(record);
        ++result.records;
      } else {
        ++result.malformed;
      }
    }
    at += (size + kHead + 7) / 8 * 8;
    if (++unreleased == kReleaseEvery) {
      position.store(at, std::memory_order_release);
      unreleased = 0;
    }
  }
  position.store(at, std::memory_order_release);
  return result;
}

std::uint64_t Ring::backlog_bytes() const {
  return load_acquire<std::uint64_t>(producer_) - load_acquire<std::uint64_t>(consumer_);
}

}  // namespace culprit::collect
