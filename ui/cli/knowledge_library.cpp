#include "ui/cli/knowledge_library.h"

#include <fmt/format.h>

#include <fstream>

#include "daemon/base/text.h"
#include "daemon/recall/groups.h"
#include "daemon/recall/incidents.h"
#include "embed/train.h"
#include "graph/lint.h"
#include "graph/store.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

struct Options {
  std::vector<std::string> paths;
  std::string path;
};

std::filesystem::path model_file(const Session& session) { return state_folder(session) / "model.bin"; }

// One line that is drawn over on a terminal; elsewhere nothing.
recall::Progress progress_bar(const Session& session) {
  if (!session.terminal) return {};
  return [&session](std::string_view what, std::size_t done, std::size_t all) {
    constexpr std::size_t kWidth = 30;
    const std::size_t filled = all == 0 ? kWidth : done * kWidth / all;
    session.err << fmt::format("\r{:10} [{}{}] {}/{}{}", what, std::string(filled, '#'), std::string(kWidth - filled, ' '), done, all, done == all ? "\n" : "") << std::flush;
  };
}

// The provider that culprit.yaml names; null if there is none.
std::shared_ptr<const embed::Embedder> embedder_of(const Session& session) {
  auto config = Config::load(own_folder(session) / "culprit.yaml");
  if (!config) {
    if (config.error().code != Code::NotFound) session.err << "culprit: " << config.error().message << "; going on with the built-in model\n";
    return nullptr;
  }
  auto made = recall::provider_of(*config);
  if (made) return std::move(*made);
  session.err << "culprit: " << made.error().message << "; going on with the built-in model\n";
  return nullptr;
}

bool is_pack(const std::filesystem::path& file) { return file.extension() == ".yaml" || file.extension() == ".yml"; }

// A pack takes effect only if all packs together are good with it: nothing half imported.
Result<std::size_t> import_packs(const Session& session, const std::filesystem::path& path) {
  ASSIGN(const auto files, graph::list_import(path));
  std::vector<graph::PackText> fresh;
  for (const auto& file : files) {
    if (!is_pack(file)) continue;
    ASSIGN(std::string text, graph::read_import(file));
    fresh.push_back({file.string(), std::move(text)});
  }
  if (fresh.empty()) return 0;
  ASSIGN(const auto packs, load_packs(session, fresh));
  const std::filesystem::path folder = own_folder(session) / "packs";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(error.value(), "make '" + folder.string() + "'");
  for (const graph::PackText& text : fresh) {
    const std::filesystem::path to = folder / std::filesystem::path(text.name).filename();
    const std::filesystem::path part = to.string() + ".new";
    std::ofstream out(part, std::ios::binary);
    out << text.text;
    if (!out.flush()) return fail(Code::Io, fmt::format("write '{}'", part.string()));
    out.close();
    std::filesystem::rename(part, to, error);
    if (error) return fail_errno(error.value(), "write '" + to.string() + "'");
  }
  return fresh.size();
}

Result<Exit> import(const Session& session, const Options& options) {
  std::size_t packs = 0;
  for (const std::string& path : options.paths) {
    ASSIGN(const std::size_t of_path, import_packs(session, path));
    packs += of_path;
  }
  ASSIGN(const auto modes, load_modes(session));
  std::error_code error;
  std::filesystem::create_directories(state_folder(session), error);
  if (error) return fail_errno(error.value(), "make '" + state_folder(session).string() + "'");
  ASSIGN(const auto recall, open_recall(session, modes, true));
  recall::ImportCounts sum;
  for (const std::string& path : options.paths) {
    if (is_pack(path)) continue;
    ASSIGN(const auto counts, recall->import(path, session.now_wall_ns(), progress_bar(session)));
    sum.files += counts.files;
    sum.current += counts.current;
    sum.failed += counts.failed;
    sum.documents.added += counts.documents.added;
    sum.documents.changed += counts.documents.changed;
    sum.documents.removed += counts.documents.removed;
    sum.documents.unchanged += counts.documents.unchanged;
    sum.problems.insert(sum.problems.end(), counts.problems.begin(), counts.problems.end());
  }
  for (const std::string& problem : sum.problems) session.err << "culprit: passed over: " << problem << "\n";
  ASSIGN(const Exit shown, session.show_document(
      {{"api", 1}, {"packs", packs}, {"files", sum.files}, {"files_unchanged", sum.current}, {"files_failed", sum.failed},
       {"added", sum.documents.added}, {"changed", sum.documents.changed}, {"removed", sum.documents.removed},
       {"unchanged", sum.documents.unchanged}, {"problems", sum.problems}},
      [](const Json& document, const Style&) {
        return fmt::format("{} files ({} unchanged, {} passed over), {} packs: {} documents added, {} changed, {} removed\n",
                           whole(document, "files"), whole(document, "files_unchanged"), whole(document, "files_failed"), whole(document, "packs"),
                           whole(document, "added"), whole(document, "changed"), whole(document, "removed"));
      }));
  return sum.failed > 0 ? kBadInput : shown;
}

Result<Exit> remove(const Session& session, const Options& options) {
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, true));
  ASSIGN(const std::size_t gone, recall->remove(options.path));
  return session.show_document({{"api", 1}, {"sources_removed", gone}}, [](const Json& document, const Style&) {
    return fmt::format("{} sources removed\n", whole(document, "sources_removed"));
  });
}

Result<Exit> sources(const Session& session, const Options&) {
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, false));
  Json rows = Json::array();
  if (recall->library() != nullptr) {
    ASSIGN(const auto all, recall->library()->sources());
    for (const graph::SourceInfo& one : all) rows.push_back({{"source", one.name}, {"documents", one.documents}, {"imported_ns", one.imported_ns}});
  }
  return session.show_document({{"api", 1}, {"sources", std::move(rows)}}, [](const Json& document, const Style& style) {
    Table table({{"source"}, {"documents", Table::Align::Right}});
    for (const Json& row : list(document, "sources")) table.add({text(row, "source"), whole(row, "documents")});
    return table.empty() ? std::string("nothing was imported yet; culprit knowledge import FILE|FOLDER\n") : table.text(style, 0);
  });
}

Result<Exit> stats(const Session& session, const Options&) {
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, false));
  const graph::Knowledge& known = modes->known();
  std::size_t symptoms = 0, causes = 0, mitigations = 0, paraphrases = 0, links = 0, produced = 0;
  for (const graph::Pack& pack : known.packs()) {
    for (const graph::FailureMode& mode : pack.modes) {
      symptoms += mode.symptoms.size();
      produced += static_cast<std::size_t>(std::ranges::count_if(mode.symptoms, [](const graph::Symptom& symptom) { return !symptom.produced.empty(); }));
      causes += mode.causes.size();
      mitigations += mode.mitigations.size();
      paraphrases += mode.paraphrases.size();
      links += mode.causes_modes.size();
    }
  }
  graph::LibraryStats library;
  if (recall->library() != nullptr) {
    ASSIGN(library, recall->library()->stats());
  }
  return session.show_document(
      {{"api", 1}, {"middleware", known.packs().size()}, {"failure_modes", known.mode_count()}, {"incomplete", graph::lint(known).size()},
       {"symptoms", symptoms}, {"examples_produced", produced}, {"causes", causes}, {"mitigations", mitigations}, {"paraphrases", paraphrases}, {"links_between_modes", links},
       {"sources", library.sources}, {"documents", library.documents}, {"document_links", library.links}, {"document_vectors", library.vectors},
       {"database_bytes", library.bytes}, {"model", modes->model().name()}, {"model_bytes", modes->model().bytes()}},
      [](const Json& document, const Style& style) {
        Table table({{""}, {"", Table::Align::Right}});
        for (const char* key : {"middleware", "failure_modes", "incomplete", "symptoms", "examples_produced", "causes", "mitigations", "paraphrases", "links_between_modes",
                                "sources", "documents", "document_links", "document_vectors", "database_bytes", "model_bytes"}) {
          table.add({key, whole(document, key)});
        }
        table.add({"model", text(document, "model")});
        return table.text(style, 0);
      });
}

Result<Exit> lint(const Session& session, const Options& options) {
  std::vector<graph::PackText> extra;
  for (const std::string& path : options.paths) {
    ASSIGN(const auto files, graph::list_import(path));
    for (const auto& file : files) {
      ASSIGN(std::string text, graph::read_import(file));
      extra.push_back({file.string(), std::move(text)});
    }
  }
  ASSIGN(const auto known, load_packs(session, extra));
  Json rows = Json::array();
  for (const graph::LintFinding& finding : graph::lint(*known)) rows.push_back({{"failure_mode", finding.mode->id}, {"origin", finding.mode->origin}, {"what", finding.what}});
  const bool clean = rows.empty();
  ASSIGN(const Exit shown, session.show_document({{"api", 1}, {"middleware", known->packs().size()}, {"failure_modes", known->mode_count()}, {"findings", std::move(rows)}},
      [](const Json& document, const Style&) {
        std::string out;
        for (const Json& row : list(document, "findings")) out += fmt::format("{}: {}: {}\n", text(row, "origin"), text(row, "failure_mode"), text(row, "what"));
        return out + fmt::format("{} failure modes of {} kinds of middleware, {} findings\n", whole(document, "failure_modes"), whole(document, "middleware"), list(document, "findings").size());
      }));
  return clean ? shown : kBadInput;
}

// What makes the whole library anew is not done under a running daemon: it would go on with a file that was renamed, or with vectors of a model
// that it does not have.
Result<void> check_not_in_use(const Session& session, std::string_view what) {
  if (auto alone = graph::Store::check_not_in_use(graph_file(session)); !alone) {
    return fail(alone.error().code, fmt::format("{}: culpritd runs on it, or another command does. {} is for a library that nobody uses: systemctl stop culprit, then run this again", alone.error().message, what));
  }
  return {};
}

// A damaged database is set aside; what was imported is imported again from its files.
Result<Exit> rebuild(const Session& session, const Options&) {
  TRY(check_not_in_use(session, "rebuild"));
  ASSIGN(const auto modes, load_modes(session));
  std::string said;
  ASSIGN(auto store, graph::Store::open_or_set_aside(graph_file(session), said));
  TRY(store.write_knowledge(modes->known()));
  ASSIGN(const auto recall, open_recall(session, modes, true));
  ASSIGN(const auto counts, recall->reimport(session.now_wall_ns(), progress_bar(session)));
  for (const std::string& problem : counts.problems) session.err << "culprit: passed over: " << problem << "\n";
  ASSIGN(const Exit shown, session.show_document({{"api", 1}, {"damage", said}, {"files", counts.files}, {"files_unchanged", counts.current}, {"files_failed", counts.failed}, {"added", counts.documents.added}, {"problems", counts.problems}},
      [](const Json& document, const Style&) {
        const std::string damage = text(document, "damage");
        return fmt::format("{}{} files ({} unchanged, {} passed over), {} documents added\n", damage.empty() ? "the database is sound\n" : damage + "\n", whole(document, "files"), whole(document, "files_unchanged"),
                           whole(document, "files_failed"), whole(document, "added"));
      }));
  return counts.failed > 0 ? kBadInput : shown;
}

// JSON lines that `import` reads again, of this host's own experience (what came from others would count twice): what people said about failure modes, and documents.
Result<Exit> export_library(const Session& session, const Options&) {
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, false));
  if (recall->library() == nullptr) return kAnswered;
  ASSIGN(auto store, graph::Store::open(graph_file(session), graph::Store::Mode::Read));
  ASSIGN(const auto verdicts, store.own_verdicts());
  for (const auto& [mode, counts] : verdicts) {
    session.out << Json{{"failure_mode", mode}, {"right", counts.right}, {"wrong", counts.wrong}, {"partly", counts.partly}}.dump() << "\n";
  }
  for (std::int64_t after = 0;;) {
    ASSIGN(const auto page, recall->library()->texts(after, 1'000));
    if (page.empty()) return kAnswered;
    for (const graph::StoredText& text : page) {
      // What others confirmed they pass on themselves.
      if (text.item.collection == recall::kIncidentCollection && !text.source.starts_with("incident:")) continue;
      session.out << Json{{"id", text.source + "#" + text.item.key}, {"collection", text.item.collection}, {"middleware", text.item.middleware},
                          {"title", text.item.title}, {"text", text.item.body}, {"signal", text.item.signal}}.dump() << "\n";
    }
    after = page.back().id;
  }
}

// Packs and own documents teach the model; every stored vector is made anew with it.
Result<Exit> train(const Session& session, const Options&) {
  TRY(check_not_in_use(session, "train"));
  ASSIGN(const auto before, load_modes(session));
  std::vector<embed::TextGroup> groups = recall::text_groups(before->known());
  {
    ASSIGN(const auto recall, open_recall(session, before, false));
    if (recall->library() != nullptr) {
      for (std::int64_t after = 0;;) {
        ASSIGN(const auto page, recall->library()->texts(after, 1'000));
        if (page.empty()) break;
        for (const graph::StoredText& text : page) groups.push_back({{text.item.body, text.item.title}});
        after = page.back().id;
      }
    }
  }
  ASSIGN(const embed::Trained trained, embed::train(groups, {}));
  const std::string bytes = embed::encode_model(trained.rows, trained.input_hash);
  std::error_code error;
  std::filesystem::create_directories(state_folder(session), error);
  if (error) return fail_errno(error.value(), "make '" + state_folder(session).string() + "'");
  const std::filesystem::path part = model_file(session).string() + ".new";
  std::ofstream out(part, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) return fail(Code::Io, fmt::format("write '{}'", part.string()));
  out.close();
  std::filesystem::rename(part, model_file(session), error);
  if (error) return fail_errno(error.value(), "write '" + model_file(session).string() + "'");
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, true));
  TRY(recall->relink(progress_bar(session)));
  return session.show_document({{"api", 1}, {"model", modes->model().name()}, {"bytes", bytes.size()}, {"groups", groups.size()}, {"loss_first", trained.loss_first}, {"loss_last", trained.loss_last}},
                               [](const Json& document, const Style&) {
                                 return fmt::format("trained {} ({} bytes) from {} groups of texts, loss {:.2f} -> {:.2f}\n", text(document, "model"), whole(document, "bytes"),
                                                    whole(document, "groups"), number_or(document, "loss_first", 0), number_or(document, "loss_last", 0));
                               });
}

}  // namespace

std::filesystem::path graph_file(const Session& session) { return state_folder(session) / "graph.db"; }

Result<std::shared_ptr<const recall::Modes>> load_modes(const Session& session) {
  ASSIGN(auto known, load_knowledge(session));
  std::string said;
  ASSIGN(embed::Model model, recall::load_model(state_folder(session), said));
  if (!said.empty()) session.err << "culprit: " << said << "; using the built-in model\n";
  return std::make_shared<const recall::Modes>(std::move(known), std::move(model));
}

Result<std::unique_ptr<recall::Recall>> open_recall(const Session& session, std::shared_ptr<const recall::Modes> modes, bool write) {
  auto opened = recall::Recall::open(std::move(modes), {.graph_file = graph_file(session), .write = write, .embedder = embedder_of(session)});
  if (!opened && opened.error().code == Code::Corrupt) return fail(Code::Corrupt, opened.error().message + "; to set it aside and import all again: culprit knowledge rebuild");
  return opened;
}

void add_knowledge_library(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callbacks
  const auto add = [&](const char* name, const char* summary, Result<Exit> (*run)(const Session&, const Options&)) {
    CLI::App* sub = app.add_subcommand(name, summary);
    sub->fallthrough()->group("Library");
    sub->callback([&session, options, run] { session.run = [&session, options, run] { return run(session, *options); }; });
    return sub;
  };
  add("import", "Packs, runbooks, wiki pages, RCA reports: .yaml .md .html .txt .jsonl, or whole folders", import)
      ->add_option("PATH", options->paths, "Files and folders; again imports only what changed")->required();
  add("remove", "Forget what was imported from a file or folder", remove)->add_option("PATH", options->path, "As imported")->required();
  add("sources", "What was imported", sources);
  add("stats", "How much is known", stats);
  add("lint", "Is every failure mode complete?", lint)->add_option("PATH", options->paths, "Packs to check beside the others");
  add("rebuild", "Check the database; a damaged one is set aside and filled again from the files", rebuild);
  add("export", "Documents and verdicts as JSON lines that import reads", export_library);
  add("train", "Train the embedding model from packs and own documents", train);
}

}  // namespace culprit::cli
