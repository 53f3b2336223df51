// Vector index: "what is this like?" over FAISS (inner product), with ids of our own. Up to kFlatVectorsMax vectors
// are compared one by one, exactly; beyond that a navigable graph (HNSW) finds nearly all of the nearest in a fraction
// of the time. The file is a cache: everything in it can be made again from the texts.
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
inline constexpr std::size_t kIndexDimensionsMax = 4'096;
inline constexpr std::size_t kFlatVectorsMax = 4'096;  // beyond, HNSW

struct Neighbour {
  std::int64_t id = 0;
  float similarity = 0;  // cosine
};

class Index {
 public:
  static Result<Index> create(std::size_t dimensions = kDimensions);
  // What `save` wrote. Errors: NotFound, Corrupt, Unsupported if another model or version wrote it.
  static Result<Index> load(const std::filesystem::path& file, std::string_view model, std::size_t dimensions = kDimensions);
  Index(Index&&) noexcept;
  Index& operator=(Index&&) noexcept;
  ~Index();

  // `vectors`: ids.size() × dimensions floats, row-major. All or none. Errors: Invalid for an id that is there already,
  // negative or given twice, or a vector that is not finite; Exhausted past kIndexVectorsMax.
  Result<void> add(std::span<const std::int64_t> ids, std::span<const float> vectors);
  Result<void> remove(std::int64_t id);  // NotFound
  bool contains(std::int64_t id) const;
  std::size_t size() const;
  std::size_t dimensions() const;
  std::span<const std::int64_t> ids() const;  // in no order that means anything

  // The nearest, best first, ties by id; fewer than `limit` if the index holds fewer. Errors: Invalid (length).
  Result<std::vector<Neighbour>> search(std::span<const float> query, std::size_t limit) const;
  // Only among these, exactly; ids that are not in the index are passed over.
  Result<std::vector<Neighbour>> search_among(std::span<const float> query, std::span<const std::int64_t> among, std::size_t limit) const;

  // Written beside and renamed: a crash leaves the old file.
  Result<void> save(const std::filesystem::path& file, std::string_view model) const;

 private:
  struct Impl;
  explicit Index(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::embed
