// EventStore: the one time-series event stream. `append, scan, stats, prune` and one closed query algebra;
// the embedded store is the default, a plain SQLite table the reference both are tested against.
//
// Threads: one thread appends (it owns the writing connection); any thread scans. A scan sees every event
// appended before it began; events become durable in groups, at least every second.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/stream/event.h"

namespace culprit::stream {

// A filter. Empty fields match everything. Times are [from_ns, to_ns). Written with the fields that matter:
// `store.scan({.kinds = {Kind::Log}, .limit = 100, .newest_first = true}, visit)`.
struct Query {
  std::int64_t from_ns = INT64_MIN;
  std::int64_t to_ns = INT64_MAX;
  std::vector<Kind> kinds = {};
  std::vector<std::string> entities = {};  // exact, or a prefix if it ends in '*'
  std::vector<std::string> names = {};     // exact, or a prefix if it ends in '*'
  std::string text = {};                   // substring of body; case of ASCII letters does not matter
  std::uint8_t severity_min = 0;
  std::vector<std::pair<std::string, std::string>> attributes = {};  // all must be equal
  std::size_t limit = SIZE_MAX;
  bool newest_first = false;
};

// One second-resolution series, oldest first; never empty.
struct Point {
  std::int64_t time_ns;
  double value;
};
struct Series {
  std::string entity;
  std::string name;
  std::vector<Point> points;
};

// Values that are not a number count, but take no part in sum, min, max and quantiles (nearest rank).
struct Group {
  std::string entity;
  std::string name;
  std::uint64_t count = 0;
  double sum = 0, min = 0, max = 0, p50 = 0, p99 = 0;
  std::int64_t first_ns = 0, last_ns = 0;
};

// What differs between two windows: per (entity, name), its rate a second before and now.
struct Difference {
  std::string entity;
  std::string name;
  double before_per_s = 0, now_per_s = 0;
  double before_mean = 0, now_mean = 0;
  std::int64_t first_now_ns = 0;
};

struct StoreStats {
  std::uint64_t appended = 0, stored = 0;  // since open: appended = stored + dropped, always
  std::map<std::string, std::uint64_t> dropped;  // by reason: disk_full, io, memory_limit
  std::uint64_t pruned = 0;              // of stored (or of an earlier run): removed by retention
  std::uint64_t in_memory = 0;           // events that a query answers without the disk
  std::uint64_t in_memory_bytes = 0, on_disk_bytes = 0;
  std::int64_t oldest_ns = 0, newest_ns = 0;
  std::uint64_t pending = 0;             // in memory, not yet durable (counted in stored)
  std::uint64_t commits = 0, commit_failures = 0;
  std::uint64_t files_set_aside = 0;     // corrupt day files, renamed at open
  std::uint64_t blocks_unreadable = 0;   // corrupt parts that queries skipped
};

class EventStore {
 public:
  virtual ~EventStore() = default;

  // Takes the events (all or none); they may come out of order. Errors: Exhausted (memory limit; counted as
  // dropped). A disk error is no error here: the events stay readable in memory, and what is lost when memory
  // is full too is counted. Commits when the commit interval has passed since the last one.
  virtual Result<void> append(std::vector<Event> events) = 0;

  // Calls `visit` for each match in time order (events of one time: in order of append; newest_first turns
  // both around) until it returns false or the limit is reached. No lock is held during the call.
  virtual Result<void> scan(const Query& query, const std::function<bool(const Event&)>& visit) const = 0;

  // Samples only, grouped into series sorted by (entity, name): the fast path of detect and explain.
  // `limit` and `newest_first` play no part here, in group() and in differs().
  virtual Result<std::vector<Series>> series(const Query& query) const = 0;

  // Groups matches by (entity, name), sorted by both.
  virtual Result<std::vector<Group>> group(const Query& query) const = 0;

  // Compares the matches in two windows, each [from_ns, to_ns); the filter's own times play no part. Sorted by
  // (entity, name). Errors: Invalid if a window is empty.
  virtual Result<std::vector<Difference>> differs(const Query& filter, std::int64_t before_from_ns,
                                                  std::int64_t before_to_ns, std::int64_t now_from_ns,
                                                  std::int64_t now_to_ns) const = 0;

  // Makes everything appended so far durable. The owner calls it when no event came for a second.
  // Errors: Exhausted (disk full), Io; the events stay in memory. After a failure the disk is tried again at
  // growing distances of at most 30 s; a call before that only tells the error again.
  virtual Result<void> flush() = 0;

  // Drops whole days (or memory) older than this, and the oldest beyond the limit in bytes.
  virtual Result<void> prune(std::int64_t older_than_ns) = 0;

  virtual StoreStats stats() const = 0;
};

}  // namespace culprit::stream
