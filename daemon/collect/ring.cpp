#include "daemon/collect/ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <utility>

namespace culprit::collect {
namespace {

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

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
  return each(bytes_max, [&](RecordBytes record) {
    const bool valid = valid_record(record);
    if (valid) batch.add(record);
    return valid;
  });
}

std::uint64_t Ring::backlog_bytes() const {
  return load_acquire<std::uint64_t>(producer_) - load_acquire<std::uint64_t>(consumer_);
}

}  // namespace culprit::collect
