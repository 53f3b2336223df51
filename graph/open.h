// Opening graph.db: the checks and migrations that every user of the file shares. Only .cpp files include it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "daemon/base/result.h"
#include "graph/sqlite.h"

namespace culprit::graph {

// Creates and migrates the file if `write`. Errors: Io; NotFound (not `write`); Corrupt if it is no graph; Unsupported if
// a newer release wrote it; Busy while another process sets it aside.
//
// Whoever has the file open shares a lock on graph.db.lock beside it (flock: it goes with the process, however that ends): a file is
// never renamed away under a running daemon, which would go on writing into what was set aside. Not on graph.db itself: closing
// any descriptor of it would end SQLite's own locks.
Result<std::unique_ptr<Database>> open_graph(const std::filesystem::path& file, bool write);

// Errors: Busy if somebody has the file open, this process included.
Result<void> check_not_in_use(const std::filesystem::path& file);

// For the daemon's start: also reads every page (SQLite's quick_check). A damaged file is renamed and a new one made.
// Errors: as open_graph; Busy if the file is damaged and somebody else has it open.
Result<std::unique_ptr<Database>> open_graph_or_set_aside(const std::filesystem::path& file, std::string& said);

}  // namespace culprit::graph
