#include "graph/sqlite.h"

#include <array>

#include "graph/words.h"

namespace culprit::graph {
namespace {

// title_words(title, body, signal, middleware) of graph/words.h, for the triggers of schema/005-title-words.sql.
void on_title_words(sqlite3_context* context, int, sqlite3_value** values) {
  const auto text = [values](std::size_t i) {
    const auto* bytes = sqlite3_value_text(values[i]);
    return bytes == nullptr ? std::string_view() : std::string_view(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_value_bytes(values[i])));
  };
  const std::array<std::string_view, 3> others = {text(1), text(2), text(3)};
  const std::string out = title_words(text(0), others);
  sqlite3_result_text64(context, out.data(), out.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

}  // namespace

Error sqlite_error(sqlite3* connection, int status, std::string_view what) {
  Code code = Code::Io;
  switch (status & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED: code = Code::Busy; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: code = Code::Corrupt; break;
    case SQLITE_FULL:
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG: code = Code::Exhausted; break;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: code = Code::Denied; break;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH: code = Code::Invalid; break;
    default: break;
  }
  const char* detail = connection != nullptr ? sqlite3_errmsg(connection) : sqlite3_errstr(status);
  return {code, std::string(what) + ": " + detail};
}

Query::Query(Result<sqlite3_stmt*> statement) {
  if (statement) {
    statement_ = *statement;
  } else {
    state_ = std::unexpected(std::move(statement).error());
  }
}

Query::~Query() { reset(); }

void Query::reset() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void Query::note(int status) {
  if (status != SQLITE_OK && state_) {
    state_ = std::unexpected(sqlite_error(sqlite3_db_handle(statement_), status, "bind"));
  }
}

Query& Query::bind(int index, std::int64_t value) {
  if (statement_ != nullptr) note(sqlite3_bind_int64(statement_, index, value));
  return *this;
}

Query& Query::bind(int index, double value) {
  if (statement_ != nullptr) note(sqlite3_bind_double(statement_, index, value));
  return *this;
}

Query& Query::bind(int index, std::string_view value) {
  if (statement_ != nullptr) {
    // A null pointer would bind NULL; an empty view may hold one.
    const char* data = value.empty() ? "" : value.data();
    note(sqlite3_bind_text64(statement_, index, data, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  }
  return *this;
}

Query& Query::bind_null(int index) {
  if (statement_ != nullptr) note(sqlite3_bind_null(statement_, index));
  return *this;
}

Result<bool> Query::next() {
  TRY(state_);
  const int status = sqlite3_step(statement_);
  if (status == SQLITE_ROW) return true;
  if (status == SQLITE_DONE) return false;
  return std::unexpected(sqlite_error(sqlite3_db_handle(statement_), status, "sqlite"));
}

Result<void> Query::run() {
  while (true) {
    ASSIGN(const bool row, next());
    if (!row) return {};
  }
}

std::string Query::text(int column) const {
  const auto* bytes = sqlite3_column_text(statement_, column);
  if (bytes == nullptr) return {};
  return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

Result<std::unique_ptr<Database>> Database::open(const std::string& file, int flags) {
  auto database = std::make_unique<Database>();
  sqlite3* connection = nullptr;
  const int status = sqlite3_open_v2(file.c_str(), &connection, flags, nullptr);
  database->connection_.reset(connection);  // also after a failure: it holds the message
  if (status != SQLITE_OK) {
    Error error = sqlite_error(connection, status, "open '" + file + "'");
    std::error_code ignored;
    if ((flags & SQLITE_OPEN_CREATE) == 0 && file != ":memory:" && !std::filesystem::exists(file, ignored)) {
      error.code = Code::NotFound;
    }
    return std::unexpected(std::move(error));
  }
  sqlite3_extended_result_codes(connection, 1);
  const int added = sqlite3_create_function_v2(connection, "title_words", 4, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, nullptr, on_title_words, nullptr, nullptr, nullptr);
  if (added != SQLITE_OK) return std::unexpected(sqlite_error(connection, added, "open '" + file + "'"));
  return database;
}

Result<void> Database::execute(const char* sql) {
  const int status = sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
  if (status != SQLITE_OK) return std::unexpected(sqlite_error(connection_.get(), status, "sqlite"));
  return {};
}

Result<StatementHandle> Database::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  const int status = sqlite3_prepare_v3(connection_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (status != SQLITE_OK) return std::unexpected(sqlite_error(connection_.get(), status, "prepare"));
  return StatementHandle(statement);
}

Query Database::query(const char* sql) {
  StatementHandle& cached = statements_[sql];
  if (!cached) {
    auto prepared = prepare(sql);
    if (!prepared) return Query(std::unexpected(std::move(prepared).error()));
    cached = std::move(*prepared);
  }
  return Query(cached.get());
}

Result<Transaction> Transaction::begin(Database& database) {
  TRY(database.execute("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ != nullptr) (void)database_->execute("ROLLBACK");  // may have rolled back by itself: fine
}

Result<void> Transaction::commit() {
  TRY(database_->execute("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace culprit::graph
