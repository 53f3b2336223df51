#include "daemon/stream/day_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "daemon/stream/bytes.h"
#include "daemon/stream/codec.h"

namespace culprit::stream {
namespace {

constexpr std::int64_t kApplication = 0x43'55'4C'50;  // "CULP"
constexpr std::int64_t kVersion = 4;
constexpr std::size_t kReadersMax = 4;  // idle connections a file keeps

constexpr const char* kSchema = R"(
  PRAGMA application_id = 0x43554C50;
  PRAGMA user_version = 4;
  CREATE TABLE IF NOT EXISTS pending(id INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL,
    wall_offset_ns INTEGER NOT NULL, rows INTEGER NOT NULL, data BLOB NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS blocks(id INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL,
    wall_offset_ns INTEGER NOT NULL, min_ns INTEGER NOT NULL, max_ns INTEGER NOT NULL, kinds INTEGER NOT NULL,
    rows INTEGER NOT NULL, sequence INTEGER NOT NULL, keys BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS columns(id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
)";

constexpr std::size_t kMeta = 15;  // the column that holds the block's row again

// What a block's checksum covers, and column 15 holds.
std::string meta_bytes(const StoredBlock& block) {
  std::string out;
  put_signed(out, block.id);
  put_string(out, block.boot_id);
  put_signed(out, block.wall_offset_ns);
  put_signed(out, block.min_ns);
  put_signed(out, block.max_ns);
  put_varint(out, block.kinds);
  put_varint(out, block.rows);
  put_varint(out, block.sequence);
  put_string(out, block.keys);
  return out;
}

bool possible(const StoredBlock& block) { return block.rows > 0 && block.rows <= UINT32_MAX && block.max_ns >= block.min_ns; }

std::string with_checksum(std::string bytes) {
  const std::uint32_t sum = checksum(bytes);
  bytes.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  return bytes;
}

// The bytes before a right checksum; nothing if it is wrong.
std::optional<std::string_view> without_checksum(std::string_view bytes) {
  std::uint32_t sum = 0;
  if (bytes.size() < sizeof sum) return std::nullopt;
  const std::string_view body = bytes.substr(0, bytes.size() - sizeof sum);
  std::memcpy(&sum, bytes.data() + body.size(), sizeof sum);
  return checksum(body) == sum ? std::optional(body) : std::nullopt;
}

std::optional<StoredBlock> block_of(std::string_view meta) {
  const auto body = without_checksum(meta);
  if (!body) return std::nullopt;
  Reader in(*body);
  StoredBlock block{.id = in.signed_varint(), .boot_id = std::string(in.string())};
  block.wall_offset_ns = in.signed_varint();
  block.min_ns = in.signed_varint();
  block.max_ns = in.signed_varint();
  block.kinds = static_cast<std::uint32_t>(in.varint());
  block.rows = in.varint();
  block.sequence = in.varint();
  block.keys = in.string();
  return in.ok() && in.left() == 0 && possible(block) ? std::optional(std::move(block)) : std::nullopt;
}

std::string group_checksummed(const Origin& origin, std::int64_t rows, std::string_view data) {
  std::string covered;
  put_string(covered, origin.boot_id);
  put_signed(covered, origin.wall_offset_ns);
  put_signed(covered, rows);
  const std::uint32_t sum = checksum(data, checksum(covered));
  return std::string(reinterpret_cast<const char*>(&sum), sizeof sum) + std::string(data);
}

constexpr std::int64_t column_id(std::int64_t block, std::size_t column) {
  return block * 16 + static_cast<std::int64_t>(column);
}

}  // namespace

Result<Fd> lock_folder(const std::filesystem::path& folder) {
  const std::string path = folder / "stream.lock";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, fmt::format("open '{}'", path));
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return fail(Code::Busy, fmt::format("'{}' is in use by another process", folder.string()));
  return file;
}

Result<std::shared_ptr<DayFile>> DayFile::open(std::filesystem::path file, std::string vfs, bool own_checkpoints) {
  std::shared_ptr<DayFile> day(new DayFile(std::move(file), std::move(vfs)));
  ASSIGN(day->writer_, Database::open(day->path_, Database::Mode::Write, day->vfs_));
  if (auto done = day->migrate(); !done) {
    return std::unexpected(done.error().context(fmt::format("open '{}'", day->path_.string())));
  }
  if (own_checkpoints) TRY(day->writer_.execute("PRAGMA wal_autocheckpoint = 0"));
  return day;
}

Result<std::shared_ptr<DayFile>> DayFile::open_reading(std::filesystem::path file, std::string vfs) {
  std::shared_ptr<DayFile> day(new DayFile(std::move(file), std::move(vfs)));
  ASSIGN(day->writer_, Database::open(day->path_, Database::Mode::Read, day->vfs_));
  const auto ours = day->check_ours();
  if (!ours) return std::unexpected(ours.error().context(fmt::format("open '{}'", day->path_.string())));
  if (!*ours) return fail(Code::NotFound, fmt::format("open '{}': empty", day->path_.string()));
  return day;
}

Result<bool> DayFile::check_ours() {
  ASSIGN(const std::int64_t application, writer_.integer("PRAGMA application_id"));
  ASSIGN(const std::int64_t version, writer_.integer("PRAGMA user_version"));
  ASSIGN(const std::int64_t tables, writer_.integer("SELECT count(*) FROM sqlite_schema"));
  if (tables == 0) return false;
  if (application != kApplication) return fail(Code::Unsupported, "no event file of culprit; move it away to go on");
  if (version > kVersion) {
    return fail(Code::Unsupported, fmt::format("written by a newer release (format {}, this one knows {}); move it away or run that release", version, kVersion));
  }
  if (version < kVersion) return fail(Code::Corrupt, fmt::format("format {} of before the first release", version));
  return true;
}

Result<void> DayFile::migrate() {
  ASSIGN(const bool there, check_ours());
  if (!there) TRY(writer_.execute("PRAGMA page_size = 16384"));
  TRY(writer_.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024"));
  if (there) return {};
  ASSIGN(Transaction transaction, Transaction::begin(writer_));
  TRY(writer_.execute(kSchema));
  return transaction.commit();
}

Result<StoredBlocks> DayFile::blocks() {
  StoredBlocks found;
  std::set<std::int64_t> known, damaged;
  const auto read_rows = [&]() -> Result<void> {
    ASSIGN(Statement select, writer_.prepare("SELECT id, boot_id, wall_offset_ns, min_ns, max_ns, kinds, rows, sequence, keys, crc "
                                             "FROM blocks ORDER BY id"));
    for (;;) {
      ASSIGN(const bool row, select.step());
      if (!row) return {};
      StoredBlock block{.id = select.integer(0), .boot_id = std::string(select.bytes(1))};
      block.wall_offset_ns = select.integer(2);
      block.min_ns = select.integer(3);
      block.max_ns = select.integer(4);
      block.kinds = static_cast<std::uint32_t>(select.integer(5));
      block.rows = static_cast<std::size_t>(select.integer(6));
      block.sequence = static_cast<std::uint64_t>(select.integer(7));
      block.keys = select.bytes(8);
      if (!possible(block) || checksum(meta_bytes(block)) != static_cast<std::uint32_t>(select.integer(9))) {
        damaged.insert(block.id);
      } else if (known.insert(block.id).second) {
        found.blocks.push_back(std::move(block));
      }
    }
  };
  const auto read_copies = [&]() -> Result<void> {
    ASSIGN(Statement select, writer_.prepare("SELECT id, data FROM columns WHERE id % 16 = 15 ORDER BY id"));
    for (;;) {
      ASSIGN(const bool row, select.step());
      if (!row) return {};
      auto block = block_of(select.bytes(1));
      if (!block || known.contains(block->id)) continue;
      damaged.erase(block->id);
      known.insert(block->id);
      found.blocks.push_back(std::move(*block));
    }
  };
  const auto rows = read_rows();
  if (!rows && rows.error().code != Code::Corrupt) return std::unexpected(rows.error());
  if (!rows || !damaged.empty()) {
    const auto copies = read_copies();
    if (!copies && (copies.error().code != Code::Corrupt || (!rows && found.blocks.empty()))) return std::unexpected(copies.error());
    std::sort(found.blocks.begin(), found.blocks.end(), [](const StoredBlock& a, const StoredBlock& b) { return a.id < b.id; });
    found.damaged = damaged.size() + (rows || copies ? 0 : 1);
  }
  return found;
}

Result<std::vector<PendingGroup>> DayFile::pending() {
  ASSIGN(Statement select, writer_.prepare("SELECT id, boot_id, wall_offset_ns, rows, data FROM pending ORDER BY id"));
  std::vector<PendingGroup> groups;
  for (;;) {
    ASSIGN(const bool row, select.step());
    if (!row) return groups;
    PendingGroup group{.id = select.integer(0), .boot_id = std::string(select.bytes(1))};
    group.wall_offset_ns = select.integer(2);
    const std::string_view data = select.bytes(4);
    const bool sound = data.size() >= 4 && group_checksummed({group.boot_id, group.wall_offset_ns}, select.integer(3), data.substr(4)) == data;
    const auto bytes = sound ? decompress(data.substr(4)) : fail(Code::Corrupt, "checksum");
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
  const std::string bytes = group_checksummed(origin, static_cast<std::int64_t>(rows), data);
  insert.bind_blob(4, bytes);
  TRY(insert.run());
  return writer_.last_id();
}

Result<std::int64_t> DayFile::commit_block(const Origin& origin, const Block& block, const Columns& columns, std::int64_t first_group,
                                           std::int64_t last_group) {
  const auto [min, max] = std::minmax_element(block.times.begin(), block.times.end());
  ASSIGN(Statement insert, writer_.prepare("INSERT INTO blocks VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  ASSIGN(Statement column, writer_.prepare("INSERT INTO columns(id, data) VALUES(?, ?)"));
  ASSIGN(Statement clear, writer_.prepare("DELETE FROM pending WHERE id BETWEEN ? AND ?"));
  ASSIGN(Transaction transaction, Transaction::begin(writer_));
  ASSIGN(const std::int64_t last, writer_.integer("SELECT max(seq) FROM sqlite_sequence WHERE name = 'blocks'"));  // never reused
  ASSIGN(const std::int64_t last_column, writer_.integer("SELECT max(id) FROM columns"));
  StoredBlock row{.id = std::max(last, last_column / 16) + 1, .boot_id = origin.boot_id, .wall_offset_ns = origin.wall_offset_ns};
  row.min_ns = *min;
  row.max_ns = *max;
  row.kinds = block.kinds();
  row.rows = block.rows();
  row.sequence = block.sequence_base;
  row.keys = key_filter(block);
  const std::int64_t id = row.id;
  const std::string meta = meta_bytes(row);
  insert.bind(1, id).bind_text(2, row.boot_id).bind(3, row.wall_offset_ns).bind(4, row.min_ns).bind(5, row.max_ns);
  insert.bind(6, std::int64_t{row.kinds}).bind(7, static_cast<std::int64_t>(row.rows)).bind(8, static_cast<std::int64_t>(row.sequence));
  insert.bind_blob(9, row.keys).bind(10, std::int64_t{checksum(meta)});
  TRY(insert.run());
  for (std::size_t i = 0; i < kColumns; ++i) {
    TRY(column.bind(1, column_id(id, i)).bind_blob(2, columns[i]).run());
  }
  const std::string copy = with_checksum(meta);
  TRY(column.bind(1, column_id(id, kMeta)).bind_blob(2, copy).run());
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

// A failure leaves the log, for the next time.
void DayFile::checkpoint(Log log) const {
  auto database = Database::open(path_, Database::Mode::Write, vfs_);
  if (!database) return;
  (void)database->execute("PRAGMA wal_checkpoint(PASSIVE)");  // what takes long goes first, since the other keeps the writer waiting
  if (log == Log::Empty) (void)database->execute("PRAGMA wal_checkpoint(TRUNCATE)");
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

Result<Database> DayFile::take_reader() const {
  {
    const std::lock_guard lock(mutex_);
    if (!readers_.empty()) {
      Database reader = std::move(readers_.back());
      readers_.pop_back();
      return reader;
    }
  }
  auto opened = Database::open(path_, Database::Mode::Read, vfs_);
  auto ready = opened ? opened->execute("PRAGMA cache_size = -512") : std::unexpected(opened.error());
  if (ready) return opened;
  std::error_code error;  // retention may have deleted the file meanwhile
  if (!std::filesystem::exists(path_, error)) return fail(Code::NotFound, "file was deleted");
  return std::unexpected(ready.error());
}

void DayFile::give_back(Database reader) const {
  const std::lock_guard lock(mutex_);
  if (readers_.size() < kReadersMax) readers_.push_back(std::move(reader));
}

Result<Columns> DayFile::read(std::int64_t id, std::uint32_t wanted) const {
  ASSIGN(Database reader, take_reader());
  Columns columns;
  bool found = true;
  TRY(reader.execute("BEGIN"));  // retention may delete the block meanwhile
  {
    // Each by its own id: a step over several rows would read the whole of those that are not wanted too.
    ASSIGN(Statement select, reader.prepare("SELECT data FROM columns WHERE id = ?"));
    for (std::size_t column = 0; column < kColumns && found; ++column) {
      if ((wanted & (1u << column)) == 0) continue;
      select.reset();
      ASSIGN(found, select.bind(1, column_id(id, column)).step());
      if (found) columns[column] = select.bytes(0);
    }
  }
  TRY(reader.execute("COMMIT"));
  give_back(std::move(reader));
  if (!found) return fail(Code::NotFound, fmt::format("block {} is not whole or not there", id));
  return columns;
}

bool DayFile::holds(std::int64_t id) const {
  auto reader = take_reader();
  if (!reader) return reader.error().code != Code::NotFound;
  auto count = reader->integer(fmt::format("SELECT count(*) FROM blocks WHERE id = {}", id));
  give_back(std::move(*reader));
  return !count || *count > 0;
}

}  // namespace culprit::stream
