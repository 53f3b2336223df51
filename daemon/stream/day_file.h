// DayFile: one day of the stream on disk, an SQLite file in WAL mode.
//
//   pending(id, boot_id, wall_offset_ns, rows, data)   commit groups: events one after the other, compressed
//   blocks(id, boot_id, wall_offset_ns, min_ns, max_ns, kinds, rows, sequence)   sealed blocks
//   columns(id, data)                                  id = block id * 16 + column
//
// Times are those of the boot that wrote them. synchronous=NORMAL: a crash of the process loses nothing that
// was committed; a power cut may lose the last commits but never damages the file.
// Threads: the store's owner writes; any thread reads, through a small pool of connections.
#pragma once

#include <mutex>

#include "daemon/stream/block.h"
#include "daemon/stream/database.h"

namespace culprit::stream {

struct StoredBlock {
  std::int64_t id = 0;
  std::string boot_id;
  std::int64_t wall_offset_ns = 0;
  std::int64_t min_ns = 0, max_ns = 0;
  std::uint32_t kinds = 0;
  std::size_t rows = 0;
  std::uint64_t sequence = 0;
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
  // Creates what is missing. Errors: Corrupt (not ours, damaged), Exhausted, Io, Denied.
  static Result<std::shared_ptr<DayFile>> open(std::filesystem::path file, std::string vfs);

  const std::filesystem::path& path() const { return path_; }
  Result<std::vector<StoredBlock>> blocks();
  Result<std::vector<PendingGroup>> pending();

  Result<std::int64_t> commit_group(const Origin& origin, std::size_t rows, std::string_view data);
  // Writes the block and deletes the groups [first, last] in one transaction.
  Result<std::int64_t> commit_block(const Origin& origin, const Block& block, std::int64_t first_group,
                                    std::int64_t last_group);
  Result<void> delete_block(std::int64_t id);
  Result<std::uint64_t> live_bytes();
  void finish();  // no more writes: moves the log into the file and closes the writing connection

  // Reads columns of a block, on any thread. NotFound if retention deleted it meanwhile; Corrupt, Io.
  Result<Columns> read(std::int64_t id, std::uint32_t wanted) const;

 private:
  DayFile(std::filesystem::path path, std::string vfs) : path_(std::move(path)), vfs_(std::move(vfs)) {}
  Result<void> migrate();

  std::filesystem::path path_;
  std::string vfs_;
  Database writer_;
  mutable std::mutex mutex_;               // guards readers_
  mutable std::vector<Database> readers_;  // idle ones
};

}  // namespace culprit::stream
