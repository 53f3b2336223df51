#include "graph/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "graph/fuse.h"
#include "graph/schema.h"
#include "graph/sqlite.h"
#include "graph/words.h"

namespace culprit::graph {
namespace {

constexpr std::size_t kCandidatesMax = 200;  // from full text
// Measured with tests/bench/retrieval on its development half.
constexpr FuseWeights kWeights{.text = 1.0, .vector = 1.0, .link = 1.0};
constexpr const char* kFind =
    "SELECT rowid, -bm25(document_fts, 1.5, 1.0, 1.0) FROM document_fts WHERE document_fts MATCH ?1 ORDER BY 2 DESC, rowid LIMIT ?2";

}  // namespace

Search::Search(std::unique_ptr<Database> database, const std::vector<Document>& documents)
    : database_(std::move(database)), documents_(documents) {}
Search::~Search() = default;

Result<std::unique_ptr<Search>> Search::create(const std::vector<Document>& documents) {
  ASSIGN(auto database, Database::open(":memory:", SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
  TRY(database->execute(schema_texts()[kKnowledgeSchema].text.c_str()));
  ASSIGN(Transaction transaction, Transaction::begin(*database));
  for (const Document& document : documents) {
    Query insert = database->query("INSERT INTO document_fts(rowid, title, body, signal) VALUES(?1, ?2, ?3, ?4)");
    insert.bind(1, static_cast<std::int64_t>(document.id)).bind(2, std::string_view(document.title));
    insert.bind(3, std::string_view(document.body)).bind(4, std::string_view(document.signal));
    TRY(insert.run());
  }
  TRY(transaction.commit());
  return std::unique_ptr<Search>(new Search(std::move(database), documents));
}

std::vector<Hit> Search::find(std::string_view text, std::size_t limit, std::span<const Scored> vectors, std::string_view middleware) const {
  std::vector<Hit> hits;
  std::vector<std::size_t> hit_of(documents_.size() + 1, 0);  // position in hits + 1, by document id
  const auto hit = [&](std::int64_t id) -> Hit* {
    if (id < 1 || static_cast<std::size_t>(id) > documents_.size()) return nullptr;
    std::size_t& at = hit_of[static_cast<std::size_t>(id)];
    if (at == 0) {
      hits.push_back({.document = &documents_[static_cast<std::size_t>(id) - 1]});
      at = hits.size();
    }
    return &hits[at - 1];
  };
  if (const std::string words = any_of(question_words(text)); !words.empty()) {
    // A statement of its own for each call: a shared one would be one thread's at a time.
    if (auto statement = database_->prepare(kFind)) {
      Query query{statement->get()};
      query.bind(1, std::string_view(words)).bind(2, static_cast<std::int64_t>(kCandidatesMax));
      while (true) {
        const auto row = query.next();
        if (!row || !*row) break;
        if (Hit* found = hit(query.integer(0)); found != nullptr) found->text_score = query.real(1);
      }
    }
  }
  for (const Scored& scored : vectors) {
    if (Hit* found = hit(static_cast<std::int64_t>(scored.id)); found != nullptr) found->vector_score = scored.score;
  }
  std::vector<Signals> signals;
  signals.reserve(hits.size());
  for (const Hit& found : hits) signals.push_back({.text = found.text_score, .vector = found.vector_score});
  const std::vector<double> scores = fuse(signals, kWeights);
  for (std::size_t i = 0; i < hits.size(); ++i) hits[i].score = scores[i];
  const auto own = [middleware](const Hit& one) { return !middleware.empty() && one.document->mode != nullptr && one.document->mode->middleware == middleware; };
  std::ranges::sort(hits, [&own](const Hit& a, const Hit& b) {
    if (own(a) != own(b)) return own(a);
    return a.score != b.score ? a.score > b.score : a.document->id < b.document->id;
  });
  if (hits.size() > limit) hits.resize(limit);
  return hits;
}

}  // namespace culprit::graph
