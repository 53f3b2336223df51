#include "daemon/stream/arena.h"

#include <algorithm>
#include <cstring>

namespace culprit::stream {

ChunkPool::Chunk ChunkPool::take() {
  {
    const MutexLock lock(mutex_);
    if (!idle_.empty()) {
      Chunk chunk = std::move(idle_.back());
      idle_.pop_back();
      return chunk;
    }
  }
  return std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
}

void ChunkPool::give(Chunk chunk) {
  const MutexLock lock(mutex_);
  if (idle_.size() < kIdleMax) idle_.push_back(std::move(chunk));
}

Arena::~Arena() {
  for (ChunkPool::Chunk& chunk : pooled_) pool_->give(std::move(chunk));
}

void Arena::grow(std::size_t bytes) {
  const bool pooled = pool_ != nullptr && next_ == ChunkPool::kChunkBytes;
  auto& chunks = pooled ? pooled_ : chunks_;
  chunks.push_back(pooled ? pool_->take() : std::make_unique_for_overwrite<std::byte[]>(std::max(next_, bytes)));
  at_ = chunks.back().get();
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
