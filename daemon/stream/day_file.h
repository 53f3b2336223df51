// DayFile: one day of the stream on disk, an SQLite file in WAL mode.
//
//   pending(id, boot_id, wall_offset_ns, rows, data)   commit groups: events one after the other, compressed
//   blocks(id, boot_id, wall_offset_ns, min_ns, max_ns, kinds, rows, sequence, keys, crc)   sealed blocks
//   columns(id, data)                                  id = block id * 16 + column; 15 = the block's row again
//
// Times are those of the boot that wrote them. Every row carries a CRC-32, so that a damaged one is known and
// skipped alone; a block's row is there twice, in two trees, so that a damaged page of one does not lose it.
// synchronous=NORMAL: a crash of the process loses nothing that was committed; a power cut may lose the
// last commits but never damages the file.
// Threads: the store's owner writes; any thread reads, through a small pool of connections.
#pragma once

#include <mutex>

#include "daemon/base/fd.h"
#include "daemon/stream/block.h"
#include "daemon/stream/database.h"

namespace culprit::stream {

inline constexpr std::string_view kDayFilePrefix = "stream-";
inline constexpr std::string_view kMinuteFilePrefix = "minutes-";

// Takes the folder for this process, until the descriptor is closed. Busy if another process has it.
Result<Fd> lock_folder(const std::filesystem::path& folder);

struct StoredBlock {
  std::int64_t id = 0;
  std::string boot_id;
  std::int64_t wall_offset_ns = 0;
  std::int64_t min_ns = 0, max_ns = 0;
  std::uint32_t kinds = 0;
  std::size_t rows = 0;
  std::uint64_t sequence = 0;
  std::string keys = {};  // key_filter()
};

struct StoredBlocks {
  std::vector<StoredBlock> blocks = {};
  std::uint64_t damaged = 0;  // rows that could not be read or do not match their checksum
};

struct PendingGroup {
  std::int64_t id = 0;
  std::string boot_id;
  std::int64_t wall_offset_ns = 0;
  std::vector<Event> events = {};  // those before the damage, if any
  bool damaged = false;
};

// Whose clock the times of a group or block are.
struct Origin {
  std::string boot_id;
  std::int64_t wall_offset_ns = 0;
};

class DayFile {
 public:
  // Creates what is missing. Errors: Corrupt (damaged), Unsupported (not ours, or of a newer release: the file is
  // left as it is), Exhausted, Io, Denied. With own_checkpoints the log grows until checkpoint() is called.
  static Result<std::shared_ptr<DayFile>> open(std::filesystem::path file, std::string vfs, bool own_checkpoints = false);

  // The file as it is, only to read. Errors as above, and NotFound.
  static Result<std::shared_ptr<DayFile>> open_reading(std::filesystem::path file, std::string vfs);

  const std::filesystem::path& path() const { return path_; }
  Result<StoredBlocks> blocks();
  Result<std::vector<PendingGroup>> pending();

  Result<std::int64_t> commit_group(const Origin& origin, std::size_t rows, std::string_view data);
  // Writes the block and deletes the groups [first, last] in one transaction.
  Result<std::int64_t> commit_block(const Origin& origin, const Block& block, const Columns& columns, std::int64_t first_group,
                                    std::int64_t last_group);
  // On any thread: moves the log into the file as far as readers allow; Log::Empty then cuts it to nothing, if nobody reads it.
  enum class Log { Keep, Empty };
  void checkpoint(Log log) const;
  Result<void> delete_block(std::int64_t id);
  Result<std::uint64_t> live_bytes();  // of the pages that hold something; the log is not among them
  void finish();  // no more writes: moves the log into the file and closes the writing connection

  // Reads columns of a block, on any thread. NotFound if retention deleted it meanwhile; Corrupt, Io.
  Result<Columns> read(std::int64_t id, std::uint32_t wanted) const;
  bool holds(std::int64_t id) const;  // false only if the block is surely gone

 private:
  DayFile(std::filesystem::path path, std::string vfs) : path_(std::move(path)), vfs_(std::move(vfs)) {}
  Result<bool> check_ours();  // whether there is anything yet
  Result<void> migrate();
  Result<Database> take_reader() const;
  void give_back(Database reader) const;

  std::filesystem::path path_;
  std::string vfs_;
  Database writer_;
  mutable std::mutex mutex_;               // guards readers_
  mutable std::vector<Database> readers_;  // idle ones
};

}  // namespace culprit::stream
