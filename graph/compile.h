// Compiling: the packs as nodes and edges in the tables of schema/002-knowledge.sql.
#pragma once

#include "daemon/base/result.h"

namespace culprit::graph {

class Database;
class Knowledge;

// Replaces what the tables hold. The caller owns the transaction.
Result<void> compile(const Knowledge& knowledge, Database& database);

}  // namespace culprit::graph
