// EmbeddedStore: the event stream in this process, and the default.
//
// Events first land in the active rows: columns in memory, one dictionary of (entity, name). At least once a
// commit interval what is new of them goes to the day's SQLite file (WAL) as one compressed group, so that a
// crash loses at most the last interval. 65,536 rows, or five minutes, are sealed: sorted (samples by series
// and time, the rest by time), each column coded and compressed into a blob of its own; the groups are deleted
// in the same transaction. A sealed block also stays in memory until it is ten minutes old or memory is full.
//
//   append -> active rows -> (seal) -> block in memory -> (age, memory limit) -> block on disk only
//                 |  every interval        |  same transaction
//                 v                        v
//             table pending            tables blocks, columns       stream-YYYY-MM-DD.db
//
// A query takes a snapshot (active rows that match, the list of blocks) and merges; every event is in exactly
// one of them. Times are CLOCK_BOOTTIME, which restarts with the machine: each block keeps its boot id and the
// wall clock's offset, and blocks of another boot are moved along the wall clock into this boot's times (before
// this boot they are negative).
//
// Disk full or failing: events stay in memory and each interval tries again; when memory is full the oldest
// unsaved block is dropped and counted. A corrupt day file is renamed `*.corrupt-N` at open and counted.
// Retention: prune() removes raw days that are older than it is told, and the oldest beyond disk_bytes; of their
// samples it keeps one-minute summaries for minutes_ns (Query::minutes asks for them).
// Threads: one thread appends, flushes and prunes; any thread queries. So that a seal does not hold up what
// comes next, a helper thread codes and compresses each block (tens of milliseconds), and another one moves the
// write-ahead log into the file; the owner only writes the finished blobs. A third one sums up a day that retention
// removes (seconds): it goes with a commit or prune() after that.
#pragma once

#include <filesystem>
#include <memory>

#include "daemon/base/clock.h"
#include "daemon/stream/store.h"

namespace culprit::stream {

struct StoreOptions {
  std::filesystem::path folder = {};                // empty: memory only (replay, tests)
  std::size_t memory_bytes = 48u << 20;           // of events in memory
  std::int64_t memory_ns = 600 * kNsPerSecond;    // younger events are kept in memory
  std::int64_t commit_ns = kNsPerSecond / 2;      // longest time between commits while events come
  std::int64_t seal_ns = 300 * kNsPerSecond;      // oldest age of active rows
  std::size_t block_rows = 65'536;
  std::uint64_t disk_bytes = 2ull << 30;          // prune() deletes the oldest beyond this; 0 = no limit
  bool read_only = false;                          // beside another process that has the store; what it commits later is not seen
  std::int64_t minutes_ns = 30 * 86'400 * kNsPerSecond;  // how long one-minute summaries of pruned samples are kept; 0 = none are made
  std::string boot_id = {};                          // empty: of this boot
  bool background = true;                          // encode blocks, sum up days and move the log into the file on helper threads
  std::string vfs = {};                              // SQLite's file layer; empty = default (tests make it fail)
};

class EmbeddedStore final : public EventStore {
 public:
  // Creates the folder (its parent must exist) and takes it for this process. `clock` outlives the store.
  // Errors: Busy if another process has it; Denied, Io.
  static Result<std::unique_ptr<EmbeddedStore>> open(StoreOptions options, const Clock& clock);
  ~EmbeddedStore() override;  // commits what is pending

  Result<void> append(std::vector<Event> events) override;
  Result<Completeness> scan(const Query& query, const std::function<bool(const Event&)>& visit) const override;
  Result<std::vector<Series>> series(const Query& query) const override;
  Result<std::vector<Group>> group(const Query& query) const override;
  Result<std::vector<Difference>> differs(const Query& filter, std::int64_t before_from_ns,
                                          std::int64_t before_to_ns, std::int64_t now_from_ns,
                                          std::int64_t now_to_ns) const override;
  Result<AggregateAnswer> aggregate(const Aggregation& what) const override;
  Result<ContrastAnswer> contrast(const Query& filter, Window before, Window now, std::size_t limit) const override;
  Result<void> flush() override;
  Result<void> prune(std::int64_t older_than_ns) override;
  StoreStats stats() const override;

 private:
  struct State;
  explicit EmbeddedStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace culprit::stream
