// Knowledge: an immutable snapshot of all packs, ready to be asked.
//
//   ASSIGN(const std::shared_ptr<const graph::Knowledge> known, graph::Knowledge::load({}));
//   for (const graph::Match& match : known->match(line)) …          // which failure modes says this line?
//   known->find("pg-lock-wait")                                      // or "postgresql/lock-wait"
//   known->search("statements hang behind a migration", 5)           // full text, and vectors if given
//
// `match` runs one Aho-Corasick pass over the line for the literals of all symptoms, then RE2 for the few
// that hit; microseconds for a line that says nothing. Reloading makes a new snapshot; whoever holds
// the old one keeps it (hence shared_ptr). Threads: every method may be called from any thread at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "graph/pack.h"

namespace culprit::graph {

inline constexpr std::size_t kLineBytesMax = 16'384;  // of a line; the rest is not looked at
inline constexpr std::size_t kMatchesMax = 16;        // per line, the heaviest

enum class DocumentId : std::int64_t {};

// A failure mode that a line speaks for. Views live as long as the snapshot.
struct Match {
  const FailureMode* mode = nullptr;
  const Symptom* symptom = nullptr;  // null: only like it
  double weight = 0;                 // of the symptom

  std::string_view failure_mode() const { return mode->id; }
  std::string_view middleware() const { return mode->middleware; }
  std::string_view name() const { return mode->name; }
};

// Text to be found: one per failure mode. What people import is in the Library (graph/library.h).
struct Document {
  DocumentId id{};
  const FailureMode* mode = nullptr;
  std::string title{};
  std::string body{};
  std::string signal{};  // as programs print it: literals and examples
  std::string origin{};  // file:line
};

struct Scored {
  DocumentId id{};
  double score = 0;  // cosine, -1 … 1
};

struct Hit {
  const Document* document = nullptr;
  double score = 0;         // fused (graph/fuse.h), higher is better
  double text_score = 0;    // BM25
  double vector_score = 0;  // cosine as given, 0 if none
};

struct KnowledgeOptions {
  bool built_in = true;
  std::vector<PackText> packs{};  // further ones; may replace others by middleware
  std::vector<std::filesystem::path> pack_directories{};      // *.yaml; may replace built-in packs by middleware
};

class Knowledge {
 public:
  // Errors: Invalid with every finding (file:line); NotFound and Io for directories.
  static Result<std::shared_ptr<const Knowledge>> load(const KnowledgeOptions& options);
  static Result<std::shared_ptr<const Knowledge>> from_packs(std::vector<Pack> packs);
  ~Knowledge();

  // What the line says, heaviest first; modes of `middleware` (of the process that wrote the line, if
  // known) come before all others. At most one match a mode.
  std::vector<Match> match(std::string_view line, std::string_view middleware = {}) const;

  // By canonical id ("redis/maxmemory"), alias ("redis-oom-noeviction"), or null.
  const FailureMode* find(std::string_view id_or_alias) const;
  std::vector<std::string> suggest(std::string_view id) const;  // nearest ids, for messages
  std::span<const Mitigation> mitigations(std::string_view mode) const;  // empty if unknown
  // Modes that may bring this one about, and those that it may bring about, by confidence.
  struct Relation {
    const FailureMode* mode = nullptr;
    double confidence = 0;
  };
  std::vector<Relation> causes_of(std::string_view mode) const;
  std::vector<Relation> effects_of(std::string_view mode) const;
  // Whether the packs say that the first brings the second about (`causes_modes` of the one, or `from` of the other's causes).
  static bool brings_about(const FailureMode& cause, const FailureMode& effect);

  // The middleware that a process of this name is ("redis-server" -> "redis"), empty if none is known.
  std::string_view middleware_of_program(std::string_view program) const;
  std::string_view middleware_of_port(int port) const;

  // Documents about the text, best first. `vectors` are similarities from an embedding index over
  // documents(); without them the full-text ranking alone decides. `middleware` as in match().
  std::vector<Hit> search(std::string_view text, std::size_t limit, std::span<const Scored> vectors = {},
                          std::string_view middleware = {}) const;

  const std::vector<Pack>& packs() const;
  const std::vector<Document>& documents() const;
  std::size_t mode_count() const;
  std::string_view hash() const;  // of everything loaded: equal = same knowledge

 private:
  struct Impl;
  explicit Knowledge(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::graph
