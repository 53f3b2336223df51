// Vector index: "what is this like?" over FAISS (exact inner product), with ids of our own.
//
// FAISS neither checks ids nor promises to survive a bad file; this wrapper does: an id is added once,
// removed if present, and every exception of the library ends here as an Error. Threads: const methods
// from any thread at once; add, remove and load by one thread while nobody reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "embed/model.h"

namespace culprit::embed {

inline constexpr std::size_t kIndexVectorsMax = 1'000'000;

struct Neighbour {
  std::int64_t id = 0;
  float similarity = 0;  // cosine
};

class Index {
 public:
  static Result<Index> create();
  // What `save` wrote. Errors: NotFound, Corrupt, Unsupported if another model or version wrote it.
  static Result<Index> load(const std::filesystem::path& file, std::string_view model);
  Index(Index&&) noexcept;
  Index& operator=(Index&&) noexcept;
  ~Index();

  // All or none. Errors: Invalid for an id that is there already, negative or given twice, or a vector
  // that is not finite; Exhausted past kIndexVectorsMax.
  Result<void> add(std::span<const std::int64_t> ids, std::span<const Vector> vectors);
  Result<void> remove(std::int64_t id);  // NotFound
  bool contains(std::int64_t id) const;
  std::size_t size() const;

  // The nearest, best first, ties by id; fewer than `limit` if the index holds fewer.
  Result<std::vector<Neighbour>> search(const Vector& query, std::size_t limit) const;

  // Written beside and renamed: a crash leaves the old file.
  Result<void> save(const std::filesystem::path& file, std::string_view model) const;

 private:
  struct Impl;
  explicit Index(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::embed
