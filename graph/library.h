// Library: the documents that people imported, in the tables of schema/003-library.sql of graph.db, found by full text
// (FTS5, BM25) and by vectors that the caller brings; graph does not know where vectors come from.
//
// Importing a source replaces it as a whole, in one transaction: documents that did not change keep their ids, links and
// vectors. Threads: a Library belongs to one thread; open as many as there are threads, on the same file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "graph/import.h"
#include "graph/knowledge.h"

namespace culprit::graph {

class Database;

struct SourceInfo {
  std::string name{};
  std::string hash{};
  std::int64_t imported_ns = 0;
  std::size_t documents = 0;
};

struct TextLink {
  std::int64_t text = 0;
  std::string mode{};
  double confidence = 0;
};

struct StoredText {
  std::int64_t id = 0;
  std::string source{};
  ImportItem item{};
};

struct TextKind {
  std::int64_t text = 0;
  std::string collection{};
  std::string middleware{};
};

struct StoredVector {
  std::int64_t text = 0;
  float scale = 0;
  std::string values{};  // INT8
};

struct PutCounts {
  std::size_t added = 0, changed = 0, removed = 0, unchanged = 0;
};

struct LibraryStats {
  std::int64_t sources = 0, documents = 0, links = 0, vectors = 0, bytes = 0;
};

struct TextScore {
  std::int64_t text = 0;
  double score = 0;  // BM25, higher is better
};

class Library {
 public:
  enum class Mode : std::uint8_t { Read, Write };
  // Errors: as Store::open.
  static Result<Library> open(const std::filesystem::path& file, Mode mode);
  Library(Library&&) noexcept;
  Library& operator=(Library&&) noexcept;
  ~Library();

  // Whether the source was imported with these bytes.
  Result<bool> is_current(std::string_view source, std::string_view hash);
  // Replaces the documents of the source. Errors: Invalid (a key given twice), Exhausted (disk), Busy.
  Result<PutCounts> put(std::string_view source, std::string_view hash, std::span<const ImportItem> items, std::int64_t now_ns,
                        std::span<const SharedVerdict> verdicts = {});
  // A source, or all below the folder of this name; answers how many sources went. Errors: NotFound.
  Result<std::size_t> remove(std::string_view source);
  Result<std::vector<SourceInfo>> sources();

  // Documents, by id; `after` pages through all of them.
  Result<std::vector<StoredText>> texts(std::int64_t after, std::size_t limit);
  Result<std::vector<StoredText>> texts(std::span<const std::int64_t> ids);
  Result<std::vector<TextKind>> kinds();  // of every document, by id
  Result<std::vector<std::int64_t>> without_vector(std::string_view model);

  // What was noted under the key; empty if nothing was.
  Result<std::string> noted(std::string_view key);
  Result<void> note(std::string_view key, std::string_view value);
  Result<void> set_links(std::span<const std::int64_t> texts, std::span<const TextLink> links);  // replaces theirs
  Result<std::vector<TextLink>> links(std::int64_t after, std::size_t limit);                     // pages by text
  Result<std::vector<TextLink>> links_of(std::string_view mode, std::size_t limit);
  Result<void> put_vectors(std::string_view model, std::span<const StoredVector> vectors);
  Result<std::vector<StoredVector>> vectors(std::string_view model, std::int64_t after, std::size_t limit);
  Result<std::vector<std::int64_t>> vector_ids(std::string_view model);  // by id
  Result<void> forget_vectors();

  // Full text: the best `limit` of a collection (empty = all). Common words are left out where there are many documents.
  Result<std::vector<TextScore>> find(std::string_view text, std::string_view collection, std::size_t limit);

  Result<std::string> mark();      // changes when documents come, change or go, and with nothing else
  Result<std::int64_t> version();  // changes with every write by anybody
  Result<LibraryStats> stats();

 private:
  struct Impl;
  explicit Library(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::graph
