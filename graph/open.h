// Opening graph.db: the checks and migrations that every user of the file shares. Only .cpp files include it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "daemon/base/result.h"
#include "graph/sqlite.h"

namespace culprit::graph {

// Creates and migrates the file if `write`. Errors: Io; NotFound (not `write`); Corrupt if it is no graph; Unsupported if
// a newer release wrote it.
Result<std::unique_ptr<Database>> open_graph(const std::filesystem::path& file, bool write);

// For the daemon's start: also reads every page (SQLite's quick_check). A damaged file is renamed and a new one made.
Result<std::unique_ptr<Database>> open_graph_or_set_aside(const std::filesystem::path& file, std::string& said);

}  // namespace culprit::graph
