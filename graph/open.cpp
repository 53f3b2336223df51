#include "graph/open.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>

#include "graph/schema.h"
#include "graph/store.h"

namespace culprit::graph {
namespace {

constexpr std::int64_t kApplicationId = 0x43756C70;  // "Culp"
constexpr int kDamagedMax = 100;                     // files set aside that we look past for a free name

Result<std::int64_t> pragma(Database& database, const char* sql) {
  Query query = database.query(sql);
  ASSIGN(const bool row, query.next());
  return row ? query.integer(0) : 0;
}

// Brings the file to the newest schema in one transaction: who is killed meanwhile leaves the old one.
Result<void> migrate(Database& database, const std::string& name) {
  const auto steps = schema_texts();
  ASSIGN(const std::int64_t seen, pragma(database, "PRAGMA user_version"));
  if (seen == static_cast<std::int64_t>(steps.size())) return {};
  ASSIGN(Transaction transaction, Transaction::begin(database));
  ASSIGN(const std::int64_t version, pragma(database, "PRAGMA user_version"));  // another process may have been faster
  for (auto step = static_cast<std::size_t>(version); step < steps.size(); ++step) {
    const std::string sql = fmt::format("{}\nPRAGMA application_id = {};\nPRAGMA user_version = {};", steps[step].text,
                                        kApplicationId, step + 1);
    if (auto done = database.execute(sql.c_str()); !done) {
      return std::unexpected(done.error().context(fmt::format("migrate '{}' by {}", name, steps[step].name)));
    }
  }
  return transaction.commit();
}

Result<void> check_is_ours(Database& database, const std::string& name) {
  ASSIGN(const std::int64_t application, pragma(database, "PRAGMA application_id"));
  ASSIGN(const std::int64_t version, pragma(database, "PRAGMA user_version"));
  ASSIGN(const std::int64_t tables, pragma(database, "SELECT count(*) FROM sqlite_schema"));
  if (application != kApplicationId && (application != 0 || tables != 0)) {
    return fail(Code::Corrupt, fmt::format("'{}' is another program's database, not a Culprit graph", name));
  }
  const auto newest = static_cast<std::int64_t>(schema_texts().size());
  if (version > newest) {
    return fail(Code::Unsupported, fmt::format("'{}' has schema {}, this program knows up to {}; a newer release wrote it", name,
                                               version, newest));
  }
  return {};
}

// What quick_check finds first, or nothing.
Result<void> check_pages(Database& database, const std::string& name) {
  Query query = database.query("PRAGMA quick_check(1)");
  const auto row = query.next();
  if (!row) return fail(Code::Corrupt, fmt::format("'{}': {}", name, row.error().message));
  if (!*row || query.text(0) != "ok") return fail(Code::Corrupt, fmt::format("'{}': {}", name, *row ? query.text(0) : "no answer"));
  return {};
}

// LOCK_SH or LOCK_EX. Where a reader may not make the lock file nobody sets anything aside either: then there is no lock.
Result<Fd> lock_file(const std::filesystem::path& file, int how, bool write) {
  const std::string path = file.string() + ".lock";
  Fd lock(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (write ? O_CREAT : 0), 0644));
  if (!lock && !write) return lock;
  if (!lock) return fail_errno(errno, fmt::format("open '{}'", path));
  if (::flock(lock.get(), how | LOCK_NB) == 0) return lock;
  if (errno != EWOULDBLOCK) return fail_errno(errno, fmt::format("lock '{}'", path));
  return fail(Code::Busy, fmt::format("'{}' is in use by another process", file.string()));
}

Result<std::unique_ptr<Database>> open_unlocked(const std::filesystem::path& file, bool write) {
  const std::string name = file.string();
  ASSIGN(auto database, Database::open(name, SQLITE_OPEN_NOMUTEX | (write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY)));
  sqlite3_busy_timeout(database->raw(), kBusyTimeoutMs);
  if (auto ours = check_is_ours(*database, name); !ours) return std::unexpected(ours.error().context("open '" + name + "'"));
  TRY(database->execute("PRAGMA foreign_keys = ON"));
  if (write) {
    // NORMAL in WAL mode: a power cut may lose the last commits, never the file's order.
    TRY(database->execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216"));
    TRY(migrate(*database, name));
  } else {
    ASSIGN(const std::int64_t version, pragma(*database, "PRAGMA user_version"));
    if (version != static_cast<std::int64_t>(schema_texts().size())) {
      return fail(Code::Unsupported, fmt::format("'{}' has schema {}; the daemon of this release migrates it when it starts", name, version));
    }
  }
  return database;
}

Result<std::unique_ptr<Database>> open_checked(const std::filesystem::path& file) {
  ASSIGN(auto database, open_unlocked(file, true));
  TRY(check_pages(*database, file.string()));
  return database;
}

}  // namespace

Result<std::unique_ptr<Database>> open_graph(const std::filesystem::path& file, bool write) {
  ASSIGN(Fd lock, lock_file(file, LOCK_SH, write));
  ASSIGN(auto database, open_unlocked(file, write));
  database->hold(std::move(lock));
  return database;
}

Result<void> check_not_in_use(const std::filesystem::path& file) {
  ASSIGN(const Fd lock, lock_file(file, LOCK_EX, false));
  return {};
}

Result<std::unique_ptr<Database>> open_graph_or_set_aside(const std::filesystem::path& file, std::string& said) {
  ASSIGN(Fd lock, lock_file(file, LOCK_SH, true));
  auto database = open_checked(file);
  if (database) {
    (*database)->hold(std::move(lock));
    return database;
  }
  if (database.error().code != Code::Corrupt) return database;
  // Trying for the lock alone may let go of the shared one for a moment: what another process does then is seen by looking again.
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::Busy, fmt::format("{}; it cannot be set aside while another process has it open", database.error().message));
  }
  database = open_checked(file);
  if (database) {
    (void)::flock(lock.get(), LOCK_SH);  // from alone to shared: waits for nobody for long
    (*database)->hold(std::move(lock));
    return database;
  }
  if (database.error().code != Code::Corrupt) return database;
  for (int n = 1; n <= kDamagedMax; ++n) {
    const std::filesystem::path aside = fmt::format("{}.damaged-{}", file.string(), n);
    std::error_code error;
    if (std::filesystem::exists(aside, error)) continue;
    std::filesystem::rename(file, aside, error);
    if (error) return fail_errno(error.value(), fmt::format("set aside damaged '{}'", file.string()));
    // Its log belongs to the damaged file; a new one must not be replayed from it.
    for (const char* suffix : {"-wal", "-shm"}) {
      std::filesystem::rename(file.string() + suffix, aside.string() + suffix, error);  // may not be there
    }
    said = fmt::format("{}; set aside as '{}', a new one begun", database.error().message, aside.string());
    database = open_unlocked(file, true);
    (void)::flock(lock.get(), LOCK_SH);  // from alone to shared: waits for nobody for long
    if (database) (*database)->hold(std::move(lock));
    return database;
  }
  return fail(Code::Exhausted, fmt::format("{}; {} damaged files lie beside it already", database.error().message, kDamagedMax));
}

}  // namespace culprit::graph
