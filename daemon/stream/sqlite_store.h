// SqliteStore: the reference. One row an event in a plain SQLite table, one file a day, no cleverness: what
// EmbeddedStore answers is tested against it, and its numbers are what EmbeddedStore is measured by.
//
// Threads: as EventStore says; one connection behind one lock. Rows of another boot are moved into this boot's
// times once, at open.
#pragma once

#include "daemon/stream/embedded_store.h"

namespace culprit::stream {

class SqliteStore final : public EventStore {
 public:
  // Uses folder, boot_id, vfs, commit_ns and disk_bytes. Errors: Invalid without a folder; Denied, Io.
  static Result<std::unique_ptr<SqliteStore>> open(StoreOptions options, const Clock& clock);
  ~SqliteStore() override;

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
  explicit SqliteStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace culprit::stream
