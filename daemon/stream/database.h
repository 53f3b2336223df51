// Database: the little of SQLite that the stores use. A Database belongs to one thread at a time.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/handle.h"
#include "daemon/base/result.h"

namespace culprit::stream {

// One statement, prepared once. bind() keeps a borrowed view of text and blobs until reset().
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, double value);  // not a number is stored as NULL
  Statement& bind_text(int index, std::string_view text);
  Statement& bind_blob(int index, std::string_view bytes);

  // True if there is a row; false at the end. Errors: Exhausted (disk full), Corrupt, Busy, Io.
  Result<bool> step();
  Result<void> run();  // steps to the end and resets
  void reset();

  std::int64_t integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  double real(int column) const;             // NULL is not a number
  std::string_view bytes(int column) const;  // text or blob; valid until the next step

 private:
  Handle<sqlite3_stmt, sqlite3_finalize> statement_;
};

class Database {
 public:
  enum class Mode { Read, Write };

  Database() = default;
  static Result<Database> open(const std::filesystem::path& file, Mode mode, const std::string& vfs);

  explicit operator bool() const { return handle_ != nullptr; }
  Result<void> execute(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  Result<std::int64_t> integer(std::string_view sql);  // the first column of the first row; 0 if none
  std::int64_t last_id() const { return sqlite3_last_insert_rowid(handle_.get()); }
  std::uint64_t changes() const { return static_cast<std::uint64_t>(sqlite3_changes64(handle_.get())); }

 private:
  Handle<sqlite3, sqlite3_close_v2> handle_;
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

// The boot that this is: /proc/sys/kernel/random/boot_id, or "unknown".
std::string read_boot_id();
// "2026-11-23" of a wall time, UTC: the day that a file is named by.
std::string day_of(std::int64_t wall_ns);
// Every `<prefix>YYYY-MM-DD.db` of a folder, oldest first.
std::vector<std::filesystem::path> day_files(const std::filesystem::path& folder, std::string_view prefix);
Result<void> need_folder(const std::filesystem::path& folder);  // NotFound, or Denied if nobody lets us look
// Bytes of a database file with its write-ahead log; 0 if it is not there.
std::uint64_t file_bytes(const std::filesystem::path& file);
std::uint64_t log_bytes(const std::filesystem::path& file);  // of the write-ahead log alone
// Renames a damaged file (and what belongs to it) to `*.corrupt-N` and says so.
void set_aside(const std::filesystem::path& file, const Error& why);
void remove_file(const std::filesystem::path& file);

}  // namespace culprit::stream
