#include "graph/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "graph/schema.h"
#include "graph/sqlite.h"

namespace culprit::graph {
namespace {

constexpr std::size_t kWordsMax = 64;          // of a question
constexpr std::size_t kCandidatesMax = 200;    // from full text
constexpr std::size_t kSearchBytesMax = 8'192;

// Weights measured with tests/bench/retrieval on its development half: the sum is best, and flat, between 0.67 and 0.56
// for text; full text alone has 0.80 of the answers in its first three (mean of the tracks), vectors 0.65, both 0.81.
constexpr double kTextWeight = 0.6;
constexpr double kVectorWeight = 0.4;
constexpr double kOwnMiddleware = 0.15;
constexpr const char* kFind =
    "SELECT rowid, -bm25(document_fts, 1.5, 1.0, 1.0) FROM document_fts WHERE document_fts MATCH ?1 ORDER BY 2 DESC, rowid LIMIT ?2";

bool is_word(unsigned char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80; }

// Words that say nothing about a failure.
bool is_stop_word(std::string_view word) {
  static const std::set<std::string_view> kStop = {"a",  "an", "and", "are", "as",   "at",   "be",  "by",   "for", "from", "has", "have", "in",  "into",
                                                   "is", "it", "its", "of",  "on",   "or",   "so",  "that", "the", "then", "they", "this", "to", "was",
                                                   "we", "were", "which", "while", "with", "our", "their", "but", "after", "because", "since"};
  return kStop.contains(word);
}

// "a OR b OR c", each word quoted, so that no input is FTS5 syntax. A name like NotEnoughReplicas also gives
// its parts, which is how people write about it.
std::string fts_query(std::string_view text) {
  text = text.substr(0, kSearchBytesMax);
  std::set<std::string> seen;
  std::string query;
  const auto add = [&](const std::string& word) {
    if (word.empty() || word.size() > 64 || seen.size() == kWordsMax || is_stop_word(word) || !seen.insert(word).second) return;
    query += (query.empty() ? "\"" : " OR \"") + word + "\"";
  };
  for (std::size_t at = 0; at < text.size() && seen.size() < kWordsMax;) {
    if (!is_word(static_cast<unsigned char>(text[at]))) {
      ++at;
      continue;
    }
    std::string word;
    std::string part;
    bool parted = false;
    for (; at < text.size() && is_word(static_cast<unsigned char>(text[at])); ++at) {
      const char c = text[at];
      const bool big = c >= 'A' && c <= 'Z';
      if (big && !part.empty() && text[at - 1] >= 'a' && text[at - 1] <= 'z') {
        add(part);
        part.clear();
        parted = true;
      }
      const char small = big ? static_cast<char>(c + 32) : c;
      word += small;
      part += small;
    }
    if (parted) add(part);
    add(word);
  }
  return query;
}

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
  if (const std::string words = fts_query(text); !words.empty()) {
    // A statement of its own for each call: a shared one would be one thread's at a time.
    if (auto statement = database_->prepare(kFind)) {
      Query query{statement->get()};
      query.bind(1, std::string_view(words)).bind(2, static_cast<std::int64_t>(kCandidatesMax));
      double best = 0;
      while (true) {
        const auto row = query.next();
        if (!row || !*row) break;
        const double score = query.real(1);
        best = std::max(best, score);
        if (Hit* found = hit(query.integer(0)); found != nullptr && best > 0) found->text_score = std::max(0.0, score / best);
      }
    }
  }
  for (const Scored& scored : vectors) {
    if (Hit* found = hit(static_cast<std::int64_t>(scored.id)); found != nullptr) found->vector_score = scored.score;
  }
  for (Hit& found : hits) {
    found.score = kTextWeight * found.text_score + kVectorWeight * std::max(0.0, found.vector_score);
    if (vectors.empty()) found.score = found.text_score;
    if (!middleware.empty() && found.document->mode != nullptr && found.document->mode->middleware == middleware) found.score += kOwnMiddleware;
  }
  std::ranges::sort(hits, [](const Hit& a, const Hit& b) { return a.score != b.score ? a.score > b.score : a.document->id < b.document->id; });
  if (hits.size() > limit) hits.resize(limit);
  return hits;
}

}  // namespace culprit::graph
