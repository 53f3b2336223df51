// Recall: "what is this like, where is it said, what fixed it?" The one place where the knowledge graph and the embedder
// meet: modes by literals, full text and vectors; documents by full text, vectors and the modes that they speak of.
//
// Threads: a Recall is used by one thread at a time; it holds its own connection. Knowledge and model are shared,
// read-only snapshots.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/base/config.h"
#include "daemon/base/result.h"
#include "embed/index.h"
#include "embed/model.h"
#include "embed/provider.h"
#include "graph/knowledge.h"
#include "graph/library.h"

namespace culprit::recall {

inline constexpr std::size_t kCandidatesMax = 200;  // of each kind, for one question
inline constexpr std::size_t kRemediesMax = 3;

// The model that the build trained from the packs.
Result<embed::Model> built_in_model();
// The one that `culprit knowledge train` left in the state folder, else the built-in; `said` tells why not, if one is there.
Result<embed::Model> load_model(const std::filesystem::path& state, std::string& said);

// The endpoint that the configuration names; null if it is off. Errors: as Provider::create, NotFound for its key.
Result<std::unique_ptr<embed::Provider>> provider_of(const Config& config, std::chrono::milliseconds timeout = embed::ProviderOptions{}.timeout);

// The text without its values (numbers, addresses, paths, quoted strings): what may leave the host about a log line.
std::string as_template(std::string_view text);

struct Question {
  std::string text{};
  std::string middleware{};  // known from process, port, protocol, image or log format; empty = not known
  std::string collection{};  // of the library; empty = all
  std::size_t limit = 10;
};

struct ModeAnswer {
  const graph::FailureMode* mode = nullptr;
  const graph::Symptom* symptom = nullptr;  // that the text shows literally, if any
  double score = 0;                         // standard deviations above the other modes
  double text_score = 0, vector_score = 0;
};

struct DocumentAnswer {
  graph::StoredText document{};
  double score = 0;
  double text_score = 0, vector_score = 0, link_score = 0;
  std::vector<std::string> modes{};  // that it speaks of
};

// The failure modes, ready to be asked. Const methods from any thread at once.
class Modes {
 public:
  Modes(std::shared_ptr<const graph::Knowledge> known, embed::Model model);
  // Best first, all that are candidates; modes of `middleware` come before all others.
  std::vector<ModeAnswer> ask(std::string_view text, std::string_view middleware, std::size_t limit) const;
  // For explain: the modes that a log template of this program speaks for, with weights 0 to 1. A text that shows a
  // tell-tale means that mode; a text of a known middleware that shows none may still be like a mode.
  std::vector<graph::Match> recognise(std::string_view text, std::string_view program) const;
  // What to do about a mode, best first, few, a line each with its command; empty for one that is not known.
  std::vector<std::string> remedies(std::string_view mode_id) const;
  // A mode has several names, the surest first: the first that is known stands for it.
  bool is_effect(std::span<const std::string_view> names) const;
  bool brings_about(std::span<const std::string_view> cause, std::span<const std::string_view> effect) const;
  const graph::Knowledge& known() const { return *known_; }
  const embed::Model& model() const { return model_; }

 private:
  const graph::FailureMode* first_known(std::span<const std::string_view> names) const;
  std::shared_ptr<const graph::Knowledge> known_;
  embed::Model model_;
  std::vector<embed::Vector> vectors_;  // by document of known_
};

struct ImportCounts {
  std::size_t files = 0, current = 0, failed = 0, packs = 0;
  graph::PutCounts documents{};
  std::vector<std::string> problems{};  // of files that were passed over, each with its name
};
// Called after each file (and batch of vectors): how many of how many are done.
using Progress = std::function<void(std::string_view what, std::size_t done, std::size_t all)>;

class Recall {
 public:
  struct Options {
    std::filesystem::path graph_file{};  // holds the library; if it does not exist the library is empty
    bool write = false;                  // creates it
    // For documents; null = the model of `modes`. Shared by all that were opened with it. One that does not answer costs its vectors, nothing else.
    std::shared_ptr<const embed::Embedder> embedder{};
    std::stop_token stop{};  // ends long work between two batches
  };
  static Result<std::unique_ptr<Recall>> open(std::shared_ptr<const Modes> modes, const Options& options);

  // Documents of the library, best first. Errors: of the database.
  Result<std::vector<DocumentAnswer>> documents(const Question& question);

  // Imports a file or folder. Files that cannot be read or parsed are named in `problems`, the others go on.
  Result<ImportCounts> import(const std::filesystem::path& path, std::int64_t now_ns, const Progress& progress);
  // Imports what was imported before into the database that lay here, by the list of files beside it.
  Result<ImportCounts> reimport(std::int64_t now_ns, const Progress& progress);
  // Vectors and links that are missing, and links made with other packs or another model. Answers how many documents still lack
  // a vector, because the embedder did not answer.
  Result<std::size_t> complete(const Progress& progress);
  // A document made by the program, such as a confirmed incident.
  Result<void> put(std::string_view source, const graph::ImportItem& item, std::int64_t now_ns);
  Result<std::size_t> remove(std::string_view source);
  // Links and vectors of all documents, made anew (after packs or the model changed).
  Result<void> relink(const Progress& progress);
  // Writes the vector index beside the database, so that the next start need not build it.
  Result<void> save_index();

  graph::Library* library() { return library_ ? &*library_ : nullptr; }
  const Modes& modes() const { return *modes_; }

 private:
  Recall(std::shared_ptr<const Modes> modes, Options options);
  Result<void> refresh();  // what changed in the file since
  Result<ImportCounts> import_files(std::span<const std::filesystem::path> files, std::int64_t now_ns, const Progress& progress);
  Result<void> add_links(const Progress& progress);
  Result<std::size_t> add_vectors(const Progress& progress);  // those that it could not add
  Result<void> write_source_list();
  Result<std::vector<graph::TextLink>> links_for(const graph::StoredText& text) const;
  const embed::Embedder& embedder() const;
  std::filesystem::path index_file() const;
  std::filesystem::path source_list() const;
  bool is_about(std::int64_t text, std::string_view middleware) const;

  std::shared_ptr<const Modes> modes_;
  Options options_;
  std::optional<graph::Library> library_;
  std::int64_t version_ = -1;
  std::optional<embed::Index> index_;
  std::unordered_map<std::int64_t, std::vector<std::pair<const graph::FailureMode*, double>>> links_;
  std::unordered_map<const graph::FailureMode*, std::vector<std::int64_t>> linked_;
  std::unordered_map<std::string, std::vector<std::int64_t>> collections_;  // "" = all
  std::unordered_map<std::int64_t, std::string> middleware_;                // where the import said it
};

}  // namespace culprit::recall
