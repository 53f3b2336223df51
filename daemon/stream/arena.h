// Arena: memory that is given out in pieces and freed all at once; the pieces never move.
//
// Its chunks double from a few kilobytes to kChunkBytes, so that a quiet host pays for little. Chunks of full size come from a
// pool and go back there when the arena dies: fresh memory costs a page fault for each four kilobytes (1.5 to 3 us, measured).
// The pool has them from huge pages of 2 MB, where the kernel gives any: a fifth of that for four kilobytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/mutex.h"

namespace culprit::stream {

class ChunkPool {
 public:
  static constexpr std::size_t kChunkBytes = 256 << 10;
  static constexpr std::size_t kSlabBytes = 2 << 20;   // a huge page
  static constexpr std::size_t kIdleSlabsMax = 6;      // 12 MiB: what the block that leaves memory hands to the next one

  ChunkPool() = default;
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;
  ~ChunkPool();  // all chunks are back

  std::byte* take();  // throws bad_alloc
  void give(std::byte* chunk);
  std::size_t slabs() const;

 private:
  static constexpr std::uint32_t kAllFree = (1u << (kSlabBytes / kChunkBytes)) - 1;

  mutable Mutex mutex_;
  std::map<std::byte*, std::uint32_t> slabs_ GUARDED_BY(mutex_);  // by address; a bit for each free chunk
  std::size_t idle_slabs_ GUARDED_BY(mutex_) = 0;                 // of which all chunks are free
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
  std::vector<std::unique_ptr<std::byte[]>> chunks_;
  std::vector<std::byte*> pooled_;
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
