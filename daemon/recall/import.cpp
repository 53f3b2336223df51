// Import: files become documents with vectors and links. The other half of Recall is in recall.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "daemon/base/log.h"
#include "daemon/recall/incidents.h"
#include "daemon/recall/recall.h"
#include "graph/yaml.h"

namespace culprit::recall {
namespace {

constexpr std::string_view kLinksKey = "links";  // "<packs> <model> <last text that has links>"
constexpr std::size_t kBatch = 256;          // documents whose vectors and links are written at once
constexpr std::size_t kLinksMax = 3;         // failure modes that one document speaks of
constexpr std::size_t kLinkTextMax = 2'000;  // bytes of a document that decide about links
constexpr double kLinkLeast = 0.1;           // weaker links are not kept
// How like a mode a document must be to speak of it at all, and to speak of it for sure (cosines).
constexpr double kLikenessLeast = 0.33;
constexpr double kLikenessSure = 0.6;

std::string document_text(const graph::ImportItem& item) { return item.middleware + " " + item.title + ". " + item.body + " " + item.signal; }

// INT8 with one scale.
graph::StoredVector pack_vector(std::int64_t id, const std::vector<float>& vector) {
  float largest = 0;
  for (const float value : vector) largest = std::max(largest, std::abs(value));
  graph::StoredVector packed{.text = id, .scale = largest / 127.0F, .values = {}};
  for (const float value : vector) packed.values += static_cast<char>(largest > 0 ? std::lround(value / packed.scale) : 0);
  return packed;
}

}  // namespace

// The modes that are most like the document, by how close each comes to the best. A weak best gives weak links.
Result<std::vector<graph::TextLink>> Recall::links_for(const graph::StoredText& text) const {
  std::vector<graph::TextLink> links;
  const std::string about = document_text(text.item).substr(0, kLinkTextMax);
  const std::vector<ModeAnswer> modes = modes_->ask(about, "", kLinksMax);
  for (const ModeAnswer& mode : modes) {
    const double near = std::exp(mode.score - modes.front().score);
    const double sure = std::clamp((mode.vector_score - kLikenessLeast) / (kLikenessSure - kLikenessLeast), 0.0, 1.0);
    const double confidence = std::min(1.0, near * sure);
    if (confidence >= kLinkLeast) links.push_back({text.id, mode.mode->id, confidence});
  }
  return links;
}

// Ids of texts only grow, and a changed text gets a new one: what has links is all up to an id, for these packs and this model.
Result<void> Recall::add_links(const Progress& progress) {
  const std::string maker = fmt::format("{} {} ", modes_->known().hash(), modes_->model().name());
  ASSIGN(const std::string noted, library_->noted(kLinksKey));
  std::int64_t after = 0;
  if (noted.starts_with(maker)) after = static_cast<std::int64_t>(graph::parse_number(std::string_view(noted).substr(maker.size())).value_or(0));
  ASSIGN(const graph::LibraryStats all, library_->stats());
  std::size_t done = 0;
  while (true) {
    ASSIGN(const auto texts, library_->texts(after, kBatch));
    if (texts.empty()) return {};
    if (options_.stop.stop_requested()) return fail(Code::Busy, "told to stop");
    std::vector<std::int64_t> ids;
    std::vector<graph::TextLink> links;
    for (const graph::StoredText& text : texts) {
      ids.push_back(text.id);
      ASSIGN(const auto of_text, links_for(text));
      links.insert(links.end(), of_text.begin(), of_text.end());
    }
    TRY(library_->set_links(ids, links));
    after = ids.back();
    TRY(library_->note(kLinksKey, fmt::format("{}{}", maker, after)));
    done += ids.size();
    if (progress) progress("links", done, std::max<std::size_t>(done, static_cast<std::size_t>(all.documents)));
  }
}

Result<std::size_t> Recall::add_vectors(const Progress& progress) {
  ASSIGN(const std::vector<std::int64_t> missing, library_->without_vector(embedder().name()));
  for (std::size_t at = 0; at < missing.size(); at += kBatch) {
    if (options_.stop.stop_requested()) return fail(Code::Busy, "told to stop");
    const auto batch = std::span(missing).subspan(at, std::min(kBatch, missing.size() - at));
    ASSIGN(const auto texts, library_->texts(batch));
    std::vector<std::string> said;
    for (const graph::StoredText& text : texts) {
      // What a person imported is meant to be read; an incident quotes what happened here and leaves the host as a question does.
      const bool quotes = options_.embedder != nullptr && text.item.collection == kIncidentCollection;
      said.push_back(quotes ? as_template(document_text(text.item)) : document_text(text.item));
    }
    const auto vectors = embedder().embed(said);
    if (!vectors && options_.embedder != nullptr) {
      log::warn("{}; {} documents are found by their words until it answers", vectors.error().message, missing.size() - at);
      return missing.size() - at;
    }
    if (!vectors) return std::unexpected(vectors.error());
    if (vectors->size() != said.size()) return fail(Code::Io, fmt::format("'{}' gave {} vectors for {} texts", embedder().name(), vectors->size(), said.size()));
    std::vector<graph::StoredVector> packed;
    for (std::size_t i = 0; i < texts.size(); ++i) packed.push_back(pack_vector(texts[i].id, (*vectors)[i]));
    TRY(library_->put_vectors(embedder().name(), packed));
    if (progress) progress("vectors", at + batch.size(), missing.size());
  }
  return std::size_t{0};
}

Result<std::size_t> Recall::complete(const Progress& progress) {
  if (!library_) return fail(Code::Denied, "the library is open for reading only");
  TRY(add_links(progress));
  return add_vectors(progress);
}

Result<ImportCounts> Recall::import(const std::filesystem::path& path, std::int64_t now_ns, const Progress& progress) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(path, error);
  if (error) return fail_errno(error.value(), "import '" + path.string() + "'");
  ASSIGN(const auto files, graph::list_import(whole));
  return import_files(files, now_ns, progress);
}

Result<ImportCounts> Recall::reimport(std::int64_t now_ns, const Progress& progress) {
  std::vector<std::filesystem::path> files;
  std::ifstream list(source_list());
  for (std::string line; std::getline(list, line) && files.size() < graph::kImportFilesMax;) {
    if (line.starts_with('/')) files.emplace_back(line);
  }
  return import_files(files, now_ns, progress);
}

// Files only: what the program made itself (confirmed incidents) is in no file.
Result<void> Recall::write_source_list() {
  ASSIGN(const auto sources, library_->sources());
  const std::filesystem::path part = source_list().string() + ".new";
  std::ofstream out(part);
  for (const graph::SourceInfo& source : sources) {
    if (source.name.starts_with('/') && source.name.find('\n') == std::string::npos) out << source.name << "\n";
  }
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(part, source_list(), error);
  if (!out || error) return fail(Code::Io, fmt::format("write '{}'", source_list().string()));
  return {};
}

Result<ImportCounts> Recall::import_files(std::span<const std::filesystem::path> files, std::int64_t now_ns, const Progress& progress) {
  if (!library_) return fail(Code::Denied, "the library is open for reading only");
  ImportCounts counts;
  for (const std::filesystem::path& file : files) {
    if (options_.stop.stop_requested()) return fail(Code::Busy, "told to stop");
    ++counts.files;
    if (progress) progress("files", counts.files, files.size());
    graph::ImportFormat format{};
    const auto one = [&]() -> Result<void> {
      if (!graph::import_format(file, format)) return fail(Code::Unsupported, fmt::format("'{}': no format that is imported (.md .html .txt .jsonl; packs are .yaml)", file.string()));
      ASSIGN(const std::string bytes, graph::read_import(file));
      const std::string_view parts[] = {bytes};
      const std::string hash = graph::hash_texts(parts);
      ASSIGN(const bool current, library_->is_current(file.string(), hash));
      if (current) {
        ++counts.current;
        return {};
      }
      ASSIGN(const auto read, graph::parse_import(file.string(), bytes, format));
      ASSIGN(const graph::PutCounts put, library_->put(file.string(), hash, read.items, now_ns, read.verdicts));
      counts.documents.added += put.added;
      counts.documents.changed += put.changed;
      counts.documents.removed += put.removed;
      counts.documents.unchanged += put.unchanged;
      return {};
    };
    if (file.extension() == ".yaml" || file.extension() == ".yml") continue;  // packs are the caller's
    if (auto done = one(); !done) {
      // Trouble with the database ends the import, trouble with a file only that file.
      if (done.error().code == Code::Busy || done.error().code == Code::Corrupt) return std::unexpected(done.error());
      ++counts.failed;
      counts.problems.push_back(done.error().message);
    }
  }
  TRY(complete(progress));
  TRY(write_source_list());
  TRY(save_index());
  return counts;
}

Result<void> Recall::put(std::string_view source, const graph::ImportItem& item, std::int64_t now_ns) {
  if (!library_) return fail(Code::Denied, "the library is open for reading only");
  const std::string_view parts[] = {item.title, item.body, item.signal};
  TRY(library_->put(source, graph::hash_texts(parts), std::span(&item, 1), now_ns));
  TRY(complete({}));
  return {};
}

Result<std::size_t> Recall::remove(std::string_view source) {
  if (!library_) return fail(Code::NotFound, "nothing was imported yet");
  std::error_code error;
  auto removed = library_->remove(source);
  if (!removed && removed.error().code == Code::NotFound) {
    const std::filesystem::path whole = std::filesystem::weakly_canonical(std::filesystem::path(source), error);
    if (!error) removed = library_->remove(whole.string());
  }
  if (removed) {
    TRY(write_source_list());
    TRY(save_index());
  }
  return removed;
}

Result<void> Recall::relink(const Progress& progress) {
  if (!library_) return fail(Code::Denied, "the library is open for reading only");
  TRY(library_->forget_vectors());
  TRY(library_->note(kLinksKey, ""));
  TRY(complete(progress));
  return save_index();
}

}  // namespace culprit::recall
