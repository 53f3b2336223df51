#include "daemon/stream/database.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <regex>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"

namespace culprit::stream {
namespace {

constexpr const char* kSuffixes[] = {"", "-wal", "-shm", "-journal"};

std::unexpected<Error> sqlite_error(sqlite3* handle, int code, std::string_view what) {
  Code kind = Code::Io;
  switch (code & 0xff) {
    case SQLITE_FULL: kind = Code::Exhausted; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_MISMATCH:
    case SQLITE_ERROR: kind = Code::Corrupt; break;  // our SQL is fixed: a missing table or column is damage
    case SQLITE_BUSY:
    case SQLITE_LOCKED: kind = Code::Busy; break;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH: kind = Code::Denied; break;
    default: break;
  }
  const char* text = handle != nullptr ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
  return fail(kind, fmt::format("{}: {}", what, text));
}

}  // namespace

Statement& Statement::bind(int index, std::int64_t value) {
  sqlite3_bind_int64(statement_.get(), index, value);
  return *this;
}

Statement& Statement::bind(int index, double value) {
  sqlite3_bind_double(statement_.get(), index, value);
  return *this;
}

// A null pointer would bind NULL, so that an empty view needs some address.
Statement& Statement::bind_text(int index, std::string_view text) {
  sqlite3_bind_text64(statement_.get(), index, text.empty() ? "" : text.data(), text.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind_blob(int index, std::string_view bytes) {
  sqlite3_bind_blob64(statement_.get(), index, bytes.empty() ? "" : bytes.data(), bytes.size(), SQLITE_STATIC);
  return *this;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  sqlite3* const handle = sqlite3_db_handle(statement_.get());
  auto error = sqlite_error(handle, code, "sqlite");
  sqlite3_reset(statement_.get());
  return error;
}

Result<void> Statement::run() {
  for (;;) {
    ASSIGN(const bool row, step());
    if (!row) break;
  }
  reset();
  return {};
}

void Statement::reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
}

double Statement::real(int column) const {
  if (sqlite3_column_type(statement_.get(), column) == SQLITE_NULL) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return sqlite3_column_double(statement_.get(), column);
}

std::string_view Statement::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return data == nullptr ? std::string_view() : std::string_view(static_cast<const char*>(data), static_cast<std::size_t>(size));
}

Result<Database> Database::open(const std::filesystem::path& file, Mode mode, const std::string& vfs) {
  sqlite3* handle = nullptr;
  const int flags = (mode == Mode::Write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY) |
                    SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(file.c_str(), &handle, flags, vfs.empty() ? nullptr : vfs.c_str());
  Database database;
  database.handle_.reset(handle);
  if (code != SQLITE_OK) return sqlite_error(handle, code, fmt::format("open '{}'", file.string()));
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, 2000);
  return database;
}

Result<void> Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return sqlite_error(handle_.get(), code, "sqlite");
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_.get(), sql.data(), static_cast<int>(sql.size()), 0, &statement, nullptr);
  if (code != SQLITE_OK) return sqlite_error(handle_.get(), code, "sqlite");
  return Statement(statement);
}

Result<std::int64_t> Database::integer(std::string_view sql) {
  ASSIGN(Statement statement, prepare(sql));
  ASSIGN(const bool row, statement.step());
  return row ? statement.integer(0) : 0;
}

Result<Transaction> Transaction::begin(Database& database) {
  TRY(database.execute("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ != nullptr) (void)database_->execute("ROLLBACK");  // fails only if SQLite already rolled back
}

Result<void> Transaction::commit() {
  TRY(database_->execute("COMMIT"));
  database_ = nullptr;
  return {};
}

std::string read_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  return std::getline(file, id) && !id.empty() ? id : "unknown";
}

std::string day_of(std::int64_t wall_ns) { return format_wall(std::max<std::int64_t>(wall_ns, 0)).substr(0, 10); }

std::vector<std::filesystem::path> day_files(const std::filesystem::path& folder, std::string_view prefix) {
  static const std::regex kDay(R"(\d{4}-\d{2}-\d{2}\.db)");
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (name.starts_with(prefix) && std::regex_match(name.substr(prefix.size()), kDay)) files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Result<void> need_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  if (error == std::errc::permission_denied) return fail_errno(error.value(), fmt::format("look into '{}'", folder.string()));
  return fail(Code::NotFound, fmt::format("no folder '{}'", folder.string()));
}

std::uint64_t log_bytes(const std::filesystem::path& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file.string() + "-wal", error);
  return error ? 0 : size;
}

std::uint64_t file_bytes(const std::filesystem::path& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  return (error ? 0 : size) + log_bytes(file);
}

void set_aside(const std::filesystem::path& file, const Error& why) {
  std::error_code error;
  for (int n = 1; n < 10'000; ++n) {
    const std::string end = fmt::format(".corrupt-{}", n);
    if (std::filesystem::exists(file.string() + end, error)) continue;
    for (const char* suffix : kSuffixes) {
      const std::string name = file.string() + suffix;
      if (std::filesystem::exists(name, error)) std::filesystem::rename(name, file.string() + end + suffix, error);
    }
    log::warn("stream: '{}' is damaged ({}); set aside as '{}', going on without it", file.string(), why.message,
              file.filename().string() + end);
    return;
  }
}

void remove_file(const std::filesystem::path& file) {
  for (const char* suffix : kSuffixes) {
    std::error_code error;
    std::filesystem::remove(file.string() + suffix, error);
  }
}

}  // namespace culprit::stream
