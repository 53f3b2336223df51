// Search: full text (FTS5, BM25) over the documents in a database in memory, fused with vector
// similarities that the caller brings. Threads: find from any thread at once.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "graph/knowledge.h"

namespace culprit::graph {

class Database;

class Search {
 public:
  // `documents` must outlive the Search; ids are positions from 1.
  static Result<std::unique_ptr<Search>> create(const std::vector<Document>& documents);
  ~Search();
  std::vector<Hit> find(std::string_view text, std::size_t limit, std::span<const Scored> vectors, std::string_view middleware) const;

 private:
  Search(std::unique_ptr<Database> database, const std::vector<Document>& documents);
  std::unique_ptr<Database> database_;  // opened in serialized mode: SQLite takes turns
  const std::vector<Document>& documents_;
};

}  // namespace culprit::graph
