// SQLite for this module: a connection, its prepared statements, transactions. Only .cpp files include it.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/base/fd.h"
#include "daemon/base/handle.h"
#include "daemon/base/result.h"

namespace culprit::graph {

using StatementHandle = Handle<sqlite3_stmt, sqlite3_finalize>;
using ConnectionHandle = Handle<sqlite3, sqlite3_close_v2>;

// A prepared statement in use; it goes back to its Database when this ends. The first error of a bind is
// answered by next() or run().
class Query {
 public:
  explicit Query(Result<sqlite3_stmt*> statement);
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  ~Query();

  Query& bind(int index, std::int64_t value);
  Query& bind(int index, double value);
  Query& bind(int index, std::string_view value);  // copied by SQLite
  Query& bind_null(int index);

  Result<bool> next();  // true = a row is there
  Result<void> run();   // to the end, rows ignored
  void reset();         // to be bound and run again

  std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  double real(int column) const { return sqlite3_column_double(statement_, column); }
  std::string text(int column) const;

 private:
  void note(int status);
  sqlite3_stmt* statement_ = nullptr;
  Result<void> state_;
};

class Database {
 public:
  // Errors: NotFound, Io, Denied, Corrupt. `file` ":memory:" for a private one.
  static Result<std::unique_ptr<Database>> open(const std::string& file, int flags);

  Result<void> execute(const char* sql);       // one or more statements without values
  Query query(const char* sql);                // `sql` is a literal: it is the key of the statement cache
  Result<StatementHandle> prepare(const char* sql);  // outside the cache, for statements used from several threads
  std::int64_t last_id() const { return sqlite3_last_insert_rowid(connection_.get()); }
  std::int64_t changes() const { return sqlite3_changes64(connection_.get()); }
  sqlite3* raw() { return connection_.get(); }
  void hold(Fd lock) { lock_ = std::move(lock); }  // to be let go of after the connection

 private:
  Fd lock_;
  ConnectionHandle connection_;
  std::unordered_map<const void*, StatementHandle> statements_;
};

// Rolls back unless commit() was reached.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<void> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

// What SQLite said, as an Error: Busy, Corrupt, Exhausted (disk full), Denied, Invalid (constraint) or Io.
Error sqlite_error(sqlite3* connection, int status, std::string_view what);

}  // namespace culprit::graph
