#include "daemon/stream/day_file.h"

#include <fmt/format.h>

#include "daemon/stream/codec.h"

namespace culprit::stream {
namespace {

constexpr std::int64_t kApplication = 0x43'55'4C'50;  // "CULP"
constexpr std::int64_t kVersion = 1;
constexpr std::size_t kReadersMax = 4;  // idle connections a file keeps

constexpr const char* kSchema = R"(
  PRAGMA application_id = 0x43554C50;
  PRAGMA user_version = 1;
  CREATE TABLE IF NOT EXISTS pending(id INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL,
    wall_offset_ns INTEGER NOT NULL, rows INTEGER NOT NULL, data BLOB NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS blocks(id INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL,
    wall_offset_ns INTEGER NOT NULL, min_ns INTEGER NOT NULL, max_ns INTEGER NOT NULL, kinds INTEGER NOT NULL,
    rows INTEGER NOT NULL, sequence INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS columns(id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
)";

constexpr std::int64_t column_id(std::int64_t block, std::size_t column) {
  return block * 16 + static_cast<std::int64_t>(column);
}

}  // namespace

Result<std::shared_ptr<DayFile>> DayFile::open(std::filesystem::path file, std::string vfs) {
  std::shared_ptr<DayFile> day(new DayFile(std::move(file), std::move(vfs)));
  ASSIGN(day->writer_, Database::open(day->path_, Database::Mode::Write, day->vfs_));
  if (auto done = day->migrate(); !done) {
    return std::unexpected(done.error().context(fmt::format("open '{}'", day->path_.string())));
  }
  return day;
}

Result<void> DayFile::migrate() {
  TRY(writer_.execute("PRAGMA page_size = 8192"));
  ASSIGN(const std::int64_t application, writer_.integer("PRAGMA application_id"));
  ASSIGN(const std::int64_t version, writer_.integer("PRAGMA user_version"));
  ASSIGN(const std::int64_t tables, writer_.integer("SELECT count(*) FROM sqlite_schema"));
  if (tables > 0 && application != kApplication) return fail(Code::Corrupt, "not a stream of ours");
  if (version > kVersion) return fail(Code::Unsupported, "written by a newer release");
  TRY(writer_.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024"));
  if (version == kVersion) return {};
  ASSIGN(Transaction transaction, Transaction::begin(writer_));
  TRY(writer_.execute(kSchema));
  return transaction.commit();
}

Result<std::vector<StoredBlock>> DayFile::blocks() {
  ASSIGN(Statement select, writer_.prepare("SELECT id, boot_id, wall_offset_ns, min_ns, max_ns, kinds, rows, sequence "
                                           "FROM blocks ORDER BY id"));
  std::vector<StoredBlock> blocks;
  for (;;) {
    ASSIGN(const bool row, select.step());
    if (!row) return blocks;
    StoredBlock block{.id = select.integer(0), .boot_id = std::string(select.bytes(1))};
    block.wall_offset_ns = select.integer(2);
    block.min_ns = select.integer(3);
    block.max_ns = select.integer(4);
    block.kinds = static_cast<std::uint32_t>(select.integer(5));
    block.rows = static_cast<std::size_t>(select.integer(6));
    block.sequence = static_cast<std::uint64_t>(select.integer(7));
    if (block.rows == 0 || block.rows > UINT32_MAX || block.max_ns < block.min_ns) {
      return fail(Code::Corrupt, fmt::format("block {} is impossible", block.id));
    }
    blocks.push_back(std::move(block));
  }
}

Result<std::vector<PendingGroup>> DayFile::pending() {
  ASSIGN(Statement select, writer_.prepare("SELECT id, boot_id, wall_offset_ns, rows, data FROM pending ORDER BY id"));
  std::vector<PendingGroup> groups;
  for (;;) {
    ASSIGN(const bool row, select.step());
    if (!row) return groups;
    PendingGroup group{.id = select.integer(0), .boot_id = std::string(select.bytes(1))};
    group.wall_offset_ns = select.integer(2);
    const auto bytes = decompress(select.bytes(4));
    std::string_view rest = bytes ? std::string_view(*bytes) : std::string_view();
    while (!rest.empty()) {
      auto event = decode_bytes(rest);
      if (!event) break;
      group.events.push_back(std::move(*event));
    }
    group.damaged = group.events.size() != static_cast<std::uint64_t>(select.integer(3));
    groups.push_back(std::move(group));
  }
}

Result<std::int64_t> DayFile::commit_group(const Origin& origin, std::size_t rows, std::string_view data) {
  ASSIGN(Statement insert, writer_.prepare("INSERT INTO pending(boot_id, wall_offset_ns, rows, data) VALUES(?, ?, ?, ?)"));
  insert.bind_text(1, origin.boot_id).bind(2, origin.wall_offset_ns).bind(3, static_cast<std::int64_t>(rows));
  insert.bind_blob(4, data);
  TRY(insert.run());
  return writer_.last_id();
}

Result<std::int64_t> DayFile::commit_block(const Origin& origin, const Block& block, std::int64_t first_group,
                                           std::int64_t last_group) {
  const Columns columns = encode(block);
  const auto [min, max] = std::minmax_element(block.times.begin(), block.times.end());
  ASSIGN(Statement insert, writer_.prepare("INSERT INTO blocks(boot_id, wall_offset_ns, min_ns, max_ns, kinds, rows, "
                                           "sequence) VALUES(?, ?, ?, ?, ?, ?, ?)"));
  ASSIGN(Statement column, writer_.prepare("INSERT INTO columns(id, data) VALUES(?, ?)"));
  ASSIGN(Statement clear, writer_.prepare("DELETE FROM pending WHERE id BETWEEN ? AND ?"));
  ASSIGN(Transaction transaction, Transaction::begin(writer_));
  insert.bind_text(1, origin.boot_id).bind(2, origin.wall_offset_ns).bind(3, *min).bind(4, *max);
  insert.bind(5, std::int64_t{block.kinds()}).bind(6, static_cast<std::int64_t>(block.rows()));
  insert.bind(7, static_cast<std::int64_t>(block.sequence_base));
  TRY(insert.run());
  const std::int64_t id = writer_.last_id();
  for (std::size_t i = 0; i < kColumns; ++i) {
    TRY(column.bind(1, column_id(id, i)).bind_blob(2, columns[i]).run());
  }
  TRY(clear.bind(1, first_group).bind(2, last_group).run());
  TRY(transaction.commit());
  return id;
}

Result<void> DayFile::delete_block(std::int64_t id) {
  ASSIGN(Statement block, writer_.prepare("DELETE FROM blocks WHERE id = ?"));
  ASSIGN(Statement columns, writer_.prepare("DELETE FROM columns WHERE id BETWEEN ? AND ?"));
  ASSIGN(Transaction transaction, Transaction::begin(writer_));
  TRY(block.bind(1, id).run());
  TRY(columns.bind(1, column_id(id, 0)).bind(2, column_id(id, 15)).run());
  return transaction.commit();
}

Result<std::uint64_t> DayFile::live_bytes() {
  ASSIGN(const std::int64_t pages, writer_.integer("PRAGMA page_count"));
  ASSIGN(const std::int64_t free, writer_.integer("PRAGMA freelist_count"));
  ASSIGN(const std::int64_t size, writer_.integer("PRAGMA page_size"));
  return static_cast<std::uint64_t>((pages - free) * size);
}

void DayFile::finish() {
  if (!writer_) return;
  {
    const std::lock_guard lock(mutex_);
    readers_.clear();
  }
  (void)writer_.execute("PRAGMA wal_checkpoint(TRUNCATE)");  // else the next open does it
  writer_ = Database();
}

Result<Columns> DayFile::read(std::int64_t id, std::uint32_t wanted) const {
  Database reader;
  {
    const std::lock_guard lock(mutex_);
    if (!readers_.empty()) {
      reader = std::move(readers_.back());
      readers_.pop_back();
    }
  }
  if (!reader) {
    auto opened = Database::open(path_, Database::Mode::Read, vfs_);
    auto ready = opened ? opened->execute("PRAGMA cache_size = -512") : std::unexpected(opened.error());
    if (!ready) {  // retention may have deleted the file meanwhile
      std::error_code error;
      if (!std::filesystem::exists(path_, error)) return fail(Code::NotFound, "file was deleted");
      return std::unexpected(ready.error());
    }
    reader = std::move(*opened);
  }
  Columns columns;
  bool found = false;
  {
    ASSIGN(Statement select, reader.prepare("SELECT id, data FROM columns WHERE id BETWEEN ? AND ?"));
    select.bind(1, column_id(id, 0)).bind(2, column_id(id, kColumns - 1));
    for (;;) {
      ASSIGN(const bool row, select.step());
      if (!row) break;
      const auto column = static_cast<std::size_t>(select.integer(0) % 16);
      if (column >= kColumns || (wanted & (1u << column)) == 0) continue;  // its pages are not even read
      columns[column] = select.bytes(1);
      found = true;
    }
  }
  if (!found) return fail(Code::NotFound, fmt::format("block {} was deleted", id));
  const std::lock_guard lock(mutex_);
  if (readers_.size() < kReadersMax) readers_.push_back(std::move(reader));
  return columns;
}

}  // namespace culprit::stream
