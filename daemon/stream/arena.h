// Arena: memory that is given out in pieces and freed all at once; the pieces never move.
//
// Its chunks double from a few kilobytes to kChunkBytes, so that a quiet host pays for little. Chunks of full size go
// to a pool when the arena dies and to the next one from there: fresh memory costs a page fault for each four
// kilobytes (1.5 us, measured), and a large malloc() lets glibc sort all the small pieces that were freed before.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/mutex.h"

namespace culprit::stream {

class ChunkPool {
 public:
  using Chunk = std::unique_ptr<std::byte[]>;
  static constexpr std::size_t kChunkBytes = 256 << 10;
  static constexpr std::size_t kIdleMax = 48;  // 12 MiB: what the block that leaves memory hands to the next one

  Chunk take();
  void give(Chunk chunk);

 private:
  Mutex mutex_;
  std::vector<Chunk> idle_ GUARDED_BY(mutex_);
};

class Arena {
 public:
  explicit Arena(std::shared_ptr<ChunkPool> pool = nullptr) : pool_(std::move(pool)) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  std::byte* take(std::size_t bytes, std::size_t alignment);  // not initialised; alignment: a power of two
  std::string_view copy(std::string_view text);               // never with a null pointer
  std::size_t bytes() const { return bytes_; }

 private:
  void grow(std::size_t bytes);

  std::shared_ptr<ChunkPool> pool_;  // shared with the other arenas of a store; may be null
  std::vector<ChunkPool::Chunk> chunks_, pooled_;
  std::byte* at_ = nullptr;
  std::size_t left_ = 0, next_ = 4 << 10, bytes_ = 0;
};

// Things with a number each, in slabs of an arena.
template <typename T>
class Slabs {
 public:
  // Starts the life of one more.
  T& add(Arena& arena, const T& value) {
    if ((size_ & (kSlab - 1)) == 0) slabs_.push_back(reinterpret_cast<T*>(arena.take(sizeof(T) * kSlab, alignof(T))));
    return *std::construct_at(&slabs_.back()[size_++ & (kSlab - 1)], value);
  }
  T& operator[](std::size_t number) const { return slabs_[number / kSlab][number & (kSlab - 1)]; }
  std::size_t size() const { return size_; }

 private:
  static_assert(std::is_trivially_destructible_v<T>);
  static constexpr std::size_t kSlab = 128;
  std::vector<T*> slabs_;
  std::size_t size_ = 0;
};

}  // namespace culprit::stream
