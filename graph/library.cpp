#include "graph/library.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "graph/open.h"
#include "graph/words.h"
#include "graph/yaml.h"

namespace culprit::graph {
namespace {

constexpr std::size_t kWordCountsMax = 100'000;  // cached document counts of words
// Where there are many documents, the rarest words of a question are asked for until so many documents are looked at.
constexpr std::int64_t kLookedAtMax = 12'000;
constexpr std::size_t kWordsLeast = 3;
constexpr std::size_t kBeginningLeast = 5;  // bytes of a word; shorter beginnings are anything's

constexpr const char* kFind =
    "SELECT rowid, -bm25(text_fts, 1.5, 1.0, 1.0, 1.0) FROM text_fts WHERE text_fts MATCH ?1 ORDER BY 2 DESC, rowid LIMIT ?2";
constexpr const char* kFindIn =
    "SELECT text_fts.rowid, -bm25(text_fts, 1.5, 1.0, 1.0, 1.0) FROM text_fts CROSS JOIN text ON text.id = text_fts.rowid "
    "WHERE text_fts MATCH ?1 AND text.collection = ?3 ORDER BY 2 DESC, text_fts.rowid LIMIT ?2";

StoredText read_text(const Query& row) {
  return {.id = row.integer(0),
          .source = row.text(1),
          .item = {.key = row.text(2), .collection = row.text(3), .middleware = row.text(4), .title = row.text(5), .body = row.text(6), .signal = row.text(7)}};
}

std::string item_hash(const ImportItem& item) {
  const std::string_view parts[] = {item.collection, item.middleware, item.title, item.body, item.signal};
  return hash_texts(parts);
}

}  // namespace

struct Library::Impl {
  std::unique_ptr<Database> database;
  // In how many documents a word is, as of `counted_version`.
  std::unordered_map<std::string, std::int64_t> word_counts;
  std::int64_t counted_version = -1;
  std::int64_t documents = 0;

  Result<std::int64_t> number(const char* sql) {
    Query query = database->query(sql);
    ASSIGN(const bool row, query.next());
    return row ? query.integer(0) : 0;
  }

  Result<void> forget_verdicts(std::string_view source) {
    Query query = database->query("DELETE FROM shared_verdict WHERE source = ?1");
    query.bind(1, source);
    return query.run();
  }

  // In how many documents the word is.
  Result<std::int64_t> documents_with(const std::string& word) {
    if (const auto known = word_counts.find(word); known != word_counts.end()) return known->second;
    Query query = database->query("SELECT count(*) FROM text_fts WHERE text_fts MATCH ?1");
    query.bind(1, std::string_view("\"" + word + "\""));
    ASSIGN(const bool row, query.next());
    return word_counts[word] = row ? query.integer(0) : 0;
  }

  // What no document has is asked for by the longest beginning that some have: programs glue words together ("deprecatedfoo", "overlayfs").
  Result<std::string> known_beginning(std::string word) {
    if (std::ranges::any_of(word, [](char c) { return (static_cast<unsigned char>(c) & 0x80U) != 0; })) return std::string();  // not inside a character
    while (word.size() > kBeginningLeast) {
      word.pop_back();
      ASSIGN(const std::int64_t count, documents_with(word));
      if (count > 0) return word;
    }
    return std::string();
  }

  Result<std::vector<std::string>> telling_words(std::string_view text, std::int64_t version) {
    std::vector<std::string> words = question_words(text);
    if (version != counted_version || word_counts.size() > kWordCountsMax) {
      word_counts.clear();
      counted_version = version;
      ASSIGN(documents, number("SELECT count(*) FROM text"));
    }
    std::vector<std::pair<std::int64_t, std::string>> counted;
    for (std::string& word : words) {
      ASSIGN(std::int64_t count, documents_with(word));
      if (count == 0) {
        ASSIGN(word, known_beginning(std::move(word)));
        if (word.empty()) continue;
        ASSIGN(count, documents_with(word));
      }
      if (std::ranges::find(counted, word, [](const auto& pair) { return std::string_view(pair.second); }) != counted.end()) continue;
      counted.emplace_back(count, std::move(word));
    }
    const bool all = documents <= kLookedAtMax / 4;
    std::ranges::stable_sort(counted, {}, [](const auto& pair) { return pair.first; });
    words.clear();
    std::int64_t looked_at = 0;
    for (auto& [count, word] : counted) {
      if (!all && words.size() >= kWordsLeast && looked_at + count > kLookedAtMax) break;
      looked_at += count;
      words.push_back(std::move(word));
    }
    return words;
  }
};

Library::Library(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Library::Library(Library&&) noexcept = default;
Library& Library::operator=(Library&&) noexcept = default;
Library::~Library() = default;

Result<Library> Library::open(const std::filesystem::path& file, Mode mode) {
  auto impl = std::make_unique<Impl>();
  ASSIGN(impl->database, open_graph(file, mode == Mode::Write));
  return Library(std::move(impl));
}

Result<bool> Library::is_current(std::string_view source, std::string_view hash) {
  Query query = impl_->database->query("SELECT 1 FROM source WHERE name = ?1 AND hash = ?2");
  query.bind(1, source).bind(2, hash);
  return query.next();
}

Result<PutCounts> Library::put(std::string_view source, std::string_view hash, std::span<const ImportItem> items, std::int64_t now_ns,
                               std::span<const SharedVerdict> verdicts) {
  Database& database = *impl_->database;
  ASSIGN(Transaction transaction, Transaction::begin(database));
  {
    Query query = database.query("INSERT INTO source(name, hash, imported_ns) VALUES(?1, ?2, ?3) ON CONFLICT(name) DO UPDATE SET hash = ?2, imported_ns = ?3");
    query.bind(1, source).bind(2, hash).bind(3, now_ns);
    TRY(query.run());
  }
  std::int64_t id = 0;
  {
    Query query = database.query("SELECT id FROM source WHERE name = ?1");
    query.bind(1, source);
    TRY(query.next());
    id = query.integer(0);
  }
  std::unordered_map<std::string, std::pair<std::int64_t, std::string>> old;  // key -> id, hash
  {
    Query query = database.query("SELECT key, id, hash FROM text WHERE source = ?1");
    query.bind(1, id);
    while (true) {
      ASSIGN(const bool row, query.next());
      if (!row) break;
      old[query.text(0)] = {query.integer(1), query.text(2)};
    }
  }
  const auto drop = [&](std::int64_t text) {
    Query query = database.query("DELETE FROM text WHERE id = ?1");
    query.bind(1, text);
    return query.run();
  };
  PutCounts counts;
  std::set<std::string_view> keys;
  for (const ImportItem& item : items) {
    if (!keys.insert(item.key).second) return fail(Code::Invalid, fmt::format("'{}': document '{}' is given twice", source, item.key.substr(0, 80)));
    const std::string now = item_hash(item);
    const auto before = old.find(item.key);
    if (before != old.end() && before->second.second == now) {
      ++counts.unchanged;
      old.erase(before);
      continue;
    }
    // A changed document is another one: its vector and links are not true any more.
    if (before != old.end()) {
      TRY(drop(before->second.first));
      old.erase(before);
      ++counts.changed;
    } else {
      ++counts.added;
    }
    Query query = database.query("INSERT INTO text(source, key, collection, title, body, signal, hash, middleware) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    query.bind(1, id).bind(2, std::string_view(item.key)).bind(3, std::string_view(item.collection)).bind(4, std::string_view(item.title));
    query.bind(5, std::string_view(item.body)).bind(6, std::string_view(item.signal)).bind(7, std::string_view(now));
    query.bind(8, std::string_view(item.middleware));
    TRY(query.run());
  }
  for (const auto& [key, row] : old) TRY(drop(row.first));
  counts.removed = old.size();
  TRY(impl_->forget_verdicts(source));
  for (const SharedVerdict& verdict : verdicts) {
    Query query = database.query("INSERT INTO shared_verdict(source, failure_mode, right, wrong, partly) VALUES(?1, ?2, ?3, ?4, ?5)");
    query.bind(1, source).bind(2, std::string_view(verdict.failure_mode)).bind(3, verdict.right).bind(4, verdict.wrong).bind(5, verdict.partly);
    TRY(query.run());
  }
  TRY(transaction.commit());
  return counts;
}

Result<std::size_t> Library::remove(std::string_view source) {
  Database& database = *impl_->database;
  ASSIGN(Transaction transaction, Transaction::begin(database));
  std::string folder(source);
  while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
  const std::string below = folder + "/";
  std::vector<std::pair<std::int64_t, std::string>> found;
  {
    Query query = database.query("SELECT id, name FROM source WHERE name = ?1 OR name = ?2 OR substr(name, 1, length(?3)) = ?3");
    query.bind(1, source).bind(2, std::string_view(folder)).bind(3, std::string_view(below));
    while (true) {
      ASSIGN(const bool row, query.next());
      if (!row) break;
      found.emplace_back(query.integer(0), query.text(1));
    }
  }
  if (found.empty()) return fail(Code::NotFound, fmt::format("nothing was imported from '{}'; what was: culprit knowledge sources", source));
  for (const auto& [id, name] : found) {
    TRY(impl_->forget_verdicts(name));
    Query texts = database.query("DELETE FROM text WHERE source = ?1");
    texts.bind(1, id);
    TRY(texts.run());
    Query gone = database.query("DELETE FROM source WHERE id = ?1");
    gone.bind(1, id);
    TRY(gone.run());
  }
  TRY(transaction.commit());
  return found.size();
}

Result<std::vector<SourceInfo>> Library::sources() {
  Query query = impl_->database->query(
      "SELECT name, hash, imported_ns, (SELECT count(*) FROM text WHERE text.source = source.id) FROM source ORDER BY name");
  std::vector<SourceInfo> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back({query.text(0), query.text(1), query.integer(2), static_cast<std::size_t>(query.integer(3))});
  }
}

Result<std::vector<StoredText>> Library::texts(std::int64_t after, std::size_t limit) {
  Query query = impl_->database->query(
      "SELECT text.id, source.name, key, collection, middleware, title, body, signal FROM text JOIN source ON source.id = text.source "
      "WHERE text.id > ?1 ORDER BY text.id LIMIT ?2");
  query.bind(1, after).bind(2, static_cast<std::int64_t>(limit));
  std::vector<StoredText> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back(read_text(query));
  }
}

Result<std::vector<StoredText>> Library::texts(std::span<const std::int64_t> ids) {
  std::vector<StoredText> result;
  for (const std::int64_t id : ids) {
    Query query = impl_->database->query(
        "SELECT text.id, source.name, key, collection, middleware, title, body, signal FROM text JOIN source ON source.id = text.source WHERE text.id = ?1");
    query.bind(1, id);
    ASSIGN(const bool row, query.next());
    if (row) result.push_back(read_text(query));
  }
  return result;
}

Result<std::vector<TextKind>> Library::kinds() {
  Query query = impl_->database->query("SELECT id, collection, middleware FROM text ORDER BY id");
  std::vector<TextKind> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back({query.integer(0), query.text(1), query.text(2)});
  }
}

Result<std::vector<std::int64_t>> Library::vector_ids(std::string_view model) {
  Query query = impl_->database->query("SELECT text FROM text_vector WHERE model = ?1 ORDER BY text");
  query.bind(1, model);
  std::vector<std::int64_t> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back(query.integer(0));
  }
}

Result<std::vector<std::int64_t>> Library::without_vector(std::string_view model) {
  Query query = impl_->database->query("SELECT id FROM text WHERE NOT EXISTS(SELECT 1 FROM text_vector WHERE text_vector.text = id AND model = ?1) ORDER BY id");
  query.bind(1, model);
  std::vector<std::int64_t> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back(query.integer(0));
  }
}

Result<std::string> Library::noted(std::string_view key) {
  Query query = impl_->database->query("SELECT value FROM library_meta WHERE key = ?1");
  query.bind(1, key);
  ASSIGN(const bool row, query.next());
  return row ? query.text(0) : std::string();
}

Result<void> Library::note(std::string_view key, std::string_view value) {
  Query query = impl_->database->query("INSERT INTO library_meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2");
  query.bind(1, key).bind(2, value);
  return query.run();
}

Result<void> Library::set_links(std::span<const std::int64_t> texts, std::span<const TextLink> links) {
  Database& database = *impl_->database;
  ASSIGN(Transaction transaction, Transaction::begin(database));
  for (const std::int64_t text : texts) {
    Query query = database.query("DELETE FROM text_mode WHERE text = ?1");
    query.bind(1, text);
    TRY(query.run());
  }
  for (const TextLink& link : links) {
    Query query = database.query("INSERT OR REPLACE INTO text_mode(text, mode, confidence) VALUES(?1, ?2, ?3)");
    query.bind(1, link.text).bind(2, std::string_view(link.mode)).bind(3, link.confidence);
    TRY(query.run());
  }
  return transaction.commit();
}

Result<std::vector<TextLink>> Library::links(std::int64_t after, std::size_t limit) {
  Query query = impl_->database->query("SELECT text, mode, confidence FROM text_mode WHERE text > ?1 ORDER BY text, mode LIMIT ?2");
  query.bind(1, after).bind(2, static_cast<std::int64_t>(limit));
  std::vector<TextLink> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back({query.integer(0), query.text(1), query.real(2)});
  }
}

Result<std::vector<TextLink>> Library::links_of(std::string_view mode, std::size_t limit) {
  Query query = impl_->database->query("SELECT text, mode, confidence FROM text_mode WHERE mode = ?1 ORDER BY confidence DESC, text LIMIT ?2");
  query.bind(1, mode).bind(2, static_cast<std::int64_t>(limit));
  std::vector<TextLink> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back({query.integer(0), query.text(1), query.real(2)});
  }
}

Result<void> Library::put_vectors(std::string_view model, std::span<const StoredVector> vectors) {
  Database& database = *impl_->database;
  ASSIGN(Transaction transaction, Transaction::begin(database));
  for (const StoredVector& vector : vectors) {
    Query query = database.query("INSERT OR REPLACE INTO text_vector(text, model, scale, vector) VALUES(?1, ?2, ?3, CAST(?4 AS BLOB))");
    query.bind(1, vector.text).bind(2, model).bind(3, static_cast<double>(vector.scale)).bind(4, std::string_view(vector.values));
    TRY(query.run());
  }
  return transaction.commit();
}

Result<std::vector<StoredVector>> Library::vectors(std::string_view model, std::int64_t after, std::size_t limit) {
  Query query = impl_->database->query("SELECT text, scale, vector FROM text_vector WHERE model = ?1 AND text > ?2 ORDER BY text LIMIT ?3");
  query.bind(1, model).bind(2, after).bind(3, static_cast<std::int64_t>(limit));
  std::vector<StoredVector> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back({query.integer(0), static_cast<float>(query.real(1)), query.text(2)});
  }
}

Result<void> Library::forget_vectors() { return impl_->database->execute("DELETE FROM text_vector"); }

Result<std::vector<TextScore>> Library::find(std::string_view text, std::string_view collection, std::size_t limit) {
  ASSIGN(const std::int64_t now, version());
  ASSIGN(const std::vector<std::string> words, impl_->telling_words(text, now));
  std::vector<TextScore> result;
  if (words.empty()) return result;
  Query query = impl_->database->query(collection.empty() ? kFind : kFindIn);
  query.bind(1, std::string_view(any_of(words))).bind(2, static_cast<std::int64_t>(limit));
  if (!collection.empty()) query.bind(3, collection);
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back({query.integer(0), query.real(1)});
  }
}

Result<std::string> Library::mark() {
  ASSIGN(const std::int64_t count, impl_->number("SELECT count(*) FROM text"));
  ASSIGN(const std::int64_t last, impl_->number("SELECT max(id) FROM text"));
  return fmt::format("{}/{}", count, last);
}

Result<std::int64_t> Library::version() {
  // data_version changes with commits of others, total_changes with our own.
  ASSIGN(const std::int64_t others, impl_->number("PRAGMA data_version"));
  return others * 1'000'003 + sqlite3_total_changes64(impl_->database->raw());
}

Result<LibraryStats> Library::stats() {
  LibraryStats stats;
  ASSIGN(stats.sources, impl_->number("SELECT count(*) FROM source"));
  ASSIGN(stats.documents, impl_->number("SELECT count(*) FROM text"));
  ASSIGN(stats.links, impl_->number("SELECT count(*) FROM text_mode"));
  ASSIGN(stats.vectors, impl_->number("SELECT count(*) FROM text_vector"));
  ASSIGN(const std::int64_t pages, impl_->number("PRAGMA page_count"));
  ASSIGN(const std::int64_t page, impl_->number("PRAGMA page_size"));
  stats.bytes = pages * page;
  return stats;
}

}  // namespace culprit::graph
