#include "daemon/stream/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <new>

namespace culprit::stream {
namespace {

std::byte* map_slab() {
  constexpr std::size_t kBytes = ChunkPool::kSlabBytes;
  void* const memory = ::mmap(nullptr, 2 * kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<std::byte*>(memory);
  const std::size_t skip = (0 - reinterpret_cast<std::uintptr_t>(begin)) & (kBytes - 1);  // a huge page begins at a multiple of its size
  if (skip != 0) ::munmap(begin, skip);
  ::munmap(begin + skip + kBytes, kBytes - skip);
  (void)::madvise(begin + skip, kBytes, MADV_HUGEPAGE);  // small pages do too
  return begin + skip;
}

}  // namespace

ChunkPool::~ChunkPool() {
  for (const auto& [slab, free] : slabs_) ::munmap(slab, kSlabBytes);
}

// From a slab that is in use rather than from an idle one, so that idle ones can go.
std::byte* ChunkPool::take() {
  const MutexLock lock(mutex_);
  auto from = slabs_.end();
  for (auto at = slabs_.begin(); at != slabs_.end(); ++at) {
    if (at->second == 0) continue;
    from = at;
    if (at->second != kAllFree) break;
  }
  if (from == slabs_.end()) {
    std::byte* const slab = map_slab();
    from = slabs_.emplace(slab, kAllFree).first;
    ++idle_slabs_;
  }
  if (from->second == kAllFree) --idle_slabs_;
  const int chunk = std::countr_zero(from->second);
  from->second &= from->second - 1;
  return from->first + static_cast<std::size_t>(chunk) * kChunkBytes;
}

void ChunkPool::give(std::byte* chunk) {
  const MutexLock lock(mutex_);
  const std::size_t place = reinterpret_cast<std::uintptr_t>(chunk) & (kSlabBytes - 1);
  const auto slab = slabs_.find(chunk - place);
  assert(slab != slabs_.end());
  slab->second |= 1u << (place / kChunkBytes);
  if (slab->second != kAllFree) return;
  if (idle_slabs_ == kIdleSlabsMax) {
    ::munmap(slab->first, kSlabBytes);
    slabs_.erase(slab);
  } else {
    ++idle_slabs_;
  }
}

std::size_t ChunkPool::slabs() const {
  const MutexLock lock(mutex_);
  return slabs_.size();
}

Arena::~Arena() {
  for (std::byte* const chunk : pooled_) pool_->give(chunk);
}

void Arena::grow(std::size_t bytes) {
  const bool pooled = pool_ != nullptr && next_ == ChunkPool::kChunkBytes;
  if (pooled) {
    if (pooled_.size() == pooled_.capacity()) pooled_.reserve(2 * pooled_.size() + 4);  // first: a chunk that is taken must not be lost
    at_ = pooled_.emplace_back(pool_->take());
  } else {
    at_ = chunks_.emplace_back(std::make_unique_for_overwrite<std::byte[]>(std::max(next_, bytes))).get();
  }
  left_ = std::max(next_, bytes);
  bytes_ += left_;
  next_ = std::min(next_ * 2, ChunkPool::kChunkBytes);
}

std::byte* Arena::take(std::size_t bytes, std::size_t alignment) {
  if (bytes > ChunkPool::kChunkBytes / 4 && alignment == 1) {  // a chunk of its own wastes nothing
    bytes_ += bytes;
    return chunks_.emplace_back(std::make_unique_for_overwrite<std::byte[]>(bytes)).get();
  }
  const auto skip = [&] { return (0 - reinterpret_cast<std::uintptr_t>(at_)) & (alignment - 1); };
  if (bytes + skip() > left_) grow(bytes + alignment);
  std::byte* const taken = at_ + skip();
  left_ -= static_cast<std::size_t>(taken + bytes - at_);
  at_ = taken + bytes;
  return taken;
}

std::string_view Arena::copy(std::string_view text) {
  if (text.empty()) return "";
  auto* const to = reinterpret_cast<char*>(take(text.size(), 1));
  std::memcpy(to, text.data(), text.size());
  return {to, text.size()};
}

}  // namespace culprit::stream
