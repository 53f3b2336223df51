// What EmbeddedStore consists of; only embedded_store.cpp (writing), retention.cpp, summaries.cpp and embedded_query.cpp (reading) see it.
#pragma once

#include <atomic>
#include <deque>
#include <future>
#include <map>
#include <set>
#include <shared_mutex>

#include "daemon/base/fd.h"
#include "daemon/base/mutex.h"
#include "daemon/base/worker.h"
#include "daemon/stream/block_encode.h"
#include "daemon/stream/day_file.h"
#include "daemon/stream/embedded_store.h"

namespace culprit::stream {

// What rows and texts that nobody needs any more leave to the next ones. Shared by all of a store's active rows and blocks,
// since the last reader of one may outlive the store's own interest in it.
class Memory {
 public:
  std::vector<Row> take_rows() {
    const MutexLock lock(mutex_);
    return std::exchange(rows_, {});
  }
  void give_rows(std::vector<Row> rows) {
    rows.clear();
    const MutexLock lock(mutex_);
    if (rows.capacity() > rows_.capacity()) rows_ = std::move(rows);
  }
  const std::shared_ptr<ChunkPool> chunks = std::make_shared<ChunkPool>();

 private:
  Mutex mutex_;
  std::vector<Row> rows_ GUARDED_BY(mutex_);
};

// The rows since the last seal. Only the owner adds, under the store's lock; keys never move.
struct Active {
  explicit Active(std::shared_ptr<Memory> memory_of = std::make_shared<Memory>())
      : memory(std::move(memory_of)), rows(memory->take_rows()), details(std::make_shared<DetailStore>(memory->chunks)) {}
  ~Active() { memory->give_rows(std::move(rows)); }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;

  std::shared_ptr<Memory> memory;
  std::vector<Row> rows;
  std::uint64_t sequence_base = 0;  // of the first row; those of the others follow it
  KeyTable keys;
  std::shared_ptr<DetailStore> details;  // the block sealed from these rows keeps it
  std::size_t key_bytes = 0;
  std::int64_t born_ns = 0;     // when the first row came
  std::size_t committed = 0;    // of rows: durable in groups of `file`
  std::shared_ptr<DayFile> file;
  std::int64_t first_group = 0, last_group = -1;

  std::size_t bytes() const { return rows.capacity() * sizeof(Row) + key_bytes + details->bytes(); }
  void add(std::span<const Event> events, std::uint64_t sequence);  // the first one's; it follows those of the rows
  Hit hit(std::size_t row) const {
    const Row& of = rows[row];
    return {of.time_ns, sequence_base + row, of.value, &keys[of.key], of.detail, of.severity};
  }
  Block sealed() const { return seal(rows, keys, details, sequence_base); }
  void collect(const Matcher& matcher, std::vector<Hit>& out) const;
};

// One sealed block: in memory, on disk, or both.
struct BlockRef {
  std::uint64_t serial = 0;
  std::shared_ptr<const Block> memory;  // null: on disk only
  std::shared_ptr<DayFile> file;        // null: not saved yet
  std::int64_t id = 0;
  std::int64_t shift_ns = 0;            // from the times of the boot that wrote it to ours
  std::int64_t min_ns = 0, max_ns = 0;  // in our times
  std::uint32_t kinds = 0;
  std::size_t rows = 0, bytes = 0;      // bytes in memory
  std::uint64_t sequence = 0;
  std::shared_ptr<const std::string> keys;  // key_filter(): shared by snapshots
  bool recovered = false;               // its rows are still in groups on disk: never dropped as lost
  std::shared_ptr<DayFile> group_file;  // not saved: where its groups are, to be deleted with the save
  std::int64_t first_group = 0, last_group = -1;

  bool saved() const { return file != nullptr; }
};

// Encoders that wait for the next block: as many as a store that keeps up uses at a time.
class IdleEncoders {
 public:
  Columns encode(const Block& block);

 private:
  Mutex mutex_;
  static constexpr std::size_t kIdleMax = 2;
  std::vector<std::unique_ptr<Encoder>> idle_ GUARDED_BY(mutex_);
};

// The one-minute summaries of a day: a file of their own, and its blocks. No file if there was nothing to sum up.
struct Summary {
  std::filesystem::path path;
  std::shared_ptr<DayFile> file = nullptr;
  std::vector<BlockRef> blocks = {};
};

struct EmbeddedStore::State {
  State(StoreOptions options_of, const Clock& clock_of) : options(std::move(options_of)), clock(clock_of) {}

  const StoreOptions options;
  const Clock& clock;

  // The owner's alone.
  Fd lock_file;
  std::vector<std::shared_ptr<DayFile>> files;  // oldest first
  std::vector<std::shared_ptr<DayFile>> minute_files;  // summaries, oldest first
  std::shared_ptr<DayFile> current;
  std::string current_day;
  std::uint64_t next_sequence = 1, next_serial = 1;
  std::shared_ptr<Memory> memory = std::make_shared<Memory>();
  std::shared_ptr<IdleEncoders> encoders = std::make_shared<IdleEncoders>();  // shared with the helper threads
  Worker encoding_worker;
  std::map<std::uint64_t, std::future<Columns>> encodings;  // by serial, of blocks that are not saved yet
  std::future<void> checkpoint;                             // of the write-ahead log, while it runs
  std::size_t commits_since_checkpoint = 0;
  std::deque<std::shared_ptr<DayFile>> leaving;             // raw days that go as soon as their summaries are made
  std::future<Result<Summary>> summary;                     // of the first of them, while it is made
  std::atomic<bool> stopping = false;                       // which it looks at
  std::string group_bytes;                                  // of the commit going on: kept for the next one
  std::int64_t last_commit_ns = INT64_MIN;
  std::int64_t retry_ns = INT64_MIN;  // after a disk error: not before
  std::int64_t backoff_ns = 0;
  std::string last_reason = "io";     // of the last disk error

  mutable std::shared_mutex mutex;  // guards what follows. The owner alone changes it (and so reads it without
                                    // the lock), but for what a reader notes when it finds a damaged block:
  mutable std::set<std::uint64_t> damaged;  // serials of blocks that queries skip
  mutable StoreStats counters;

  std::shared_ptr<Active> active = std::make_shared<Active>(memory);
  std::vector<BlockRef> refs;  // in order of append
  std::vector<BlockRef> minutes;  // blocks of summaries
  std::size_t block_bytes = 0;

  // Writing (embedded_store.cpp; what removes is in retention.cpp).
  Result<void> open();
  Result<void> load(const std::filesystem::path& file);
  Result<void> recover(const std::shared_ptr<DayFile>& file);
  Result<void> append(std::vector<Event> events);
  void take(std::span<const Event> events, std::int64_t now_ns);
  Result<void> flush();
  enum class Encodings { Wait, Ready };  // for all blocks that are being encoded, or only save those that are done
  Result<void> commit(bool even_if_waiting, Encodings encodings_wanted);
  Result<void> commit_active(std::int64_t now_ns, Encodings encodings_wanted);
  bool awaits_block(const std::shared_ptr<DayFile>& file) const;
  Result<void> save_blocks(Encodings encodings_wanted);
  void maybe_checkpoint(std::size_t weight);
  void start_checkpoint(DayFile::Log log);
  Result<void> open_current(std::int64_t now_ns);
  Result<void> save(BlockRef& ref);
  void seal_rows();
  void seal_active();
  void evict();
  void disk_failed(const Error& error);
  void abandon(const std::shared_ptr<DayFile>& file, const Error& why);
  void remove_refs(const std::function<bool(const BlockRef&)>& gone);
  void remove_day(const std::shared_ptr<DayFile>& file);
  void drop_day(const std::shared_ptr<DayFile>& file);
  Result<void> prune(std::int64_t older_than_ns);
  Result<void> prune_to_limit();
  Result<std::uint64_t> remove_beyond_limit();
  Origin origin() const { return {options.boot_id, clock.wall_offset_ns()}; }

  BlockRef ref_of(const std::shared_ptr<DayFile>& file, StoredBlock block);
  // Summaries (summaries.cpp). The two that make one run on a helper thread: all they need is given to them or never changes.
  Result<Summary> make_summary(std::filesystem::path path, std::vector<BlockRef> sources, Origin made_by) const;
  Result<void> write_summary(DayFile& target, std::vector<BlockRef> sources, const Origin& made_by, std::vector<BlockRef>& written) const;
  void go_on_leaving();
  Result<void> load_minutes(const std::filesystem::path& path);
  void remove_minutes(const std::shared_ptr<DayFile>& file);
  void prune_minutes();

  // Reading (embedded_query.cpp).
  struct Snapshot {
    std::shared_ptr<const Active> active;  // keeps the hits' keys alive
    std::vector<Hit> hits;                 // of the active rows, in order of append
    std::vector<BlockRef> refs;
    Completeness completeness;             // of the blocks that are left out already
  };
  Snapshot snapshot(const Matcher& matcher) const;
  // Null if retention or damage (counted) took the block away meanwhile, or if it surely holds no match. From
  // disk, only the runs whose keys match and the columns of `wanted` are there.
  Result<std::shared_ptr<const Block>> load_block(const BlockRef& ref, std::uint32_t wanted, const Matcher& matcher,
                                                  Completeness& completeness) const;
};

}  // namespace culprit::stream
