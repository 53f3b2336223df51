// The library behind `culprit knowledge`: graph.db of --state DIR, else of the daemon.
#pragma once

#include <memory>

#include "daemon/recall/recall.h"
#include "ui/cli/command.h"

namespace culprit::cli {

// The packs with the model: the one trained by `culprit knowledge train` if there is one, else the built-in.
Result<std::shared_ptr<const recall::Modes>> load_modes(const Session& session);
std::filesystem::path graph_file(const Session& session);
Result<std::unique_ptr<recall::Recall>> open_recall(const Session& session, std::shared_ptr<const recall::Modes> modes, bool write);

// import, remove, sources, stats, lint, export, train.
void add_knowledge_library(CLI::App& app, Session& session);

}  // namespace culprit::cli
