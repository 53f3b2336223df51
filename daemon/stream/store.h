// EventStore: the one time-series event stream. `append, scan, stats, prune` and one closed query algebra;
// the embedded store is the default, a plain SQLite table the reference both are tested against.
//
// Threads: one thread appends (it owns the writing connection); any thread scans. A scan sees every event
// appended before it began.
//
// Durable means: there after the process ends at any moment (kill -9, out of memory), nothing lost and nothing twice. What
// flush() was called after and gave no error is durable, and so is everything when stats().pending is 0. Between flushes the
// store commits by itself, every half second while events come; more rows at once than a group takes become a block, which a
// helper thread codes first, and which an append or flush after that saves. A power cut may take what the kernel had not
// written back yet (30 s, if nobody changed vm.dirty_expire_centisecs), but no older event, and it damages nothing: the log is
// not synced for each commit, which would cost a disk flush a second for events that a cut of power explains anyway.
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
#include "daemon/stream/filter.h"
#include "daemon/stream/sketch.h"

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
  Filter filter = {};                      // must match too; `near` must be resolved
  std::size_t limit = SIZE_MAX;
  bool newest_first = false;
  std::uint32_t sample = 1;    // one match in so many, chosen by time and names: the same ones each time
  bool minutes = false;        // instead of events: the one-minute summaries of samples that retention removed
  std::int64_t budget_ns = 0;  // answer with what was found by then (0 = take the time it needs)
};

// How much of the answer there is. `whole` is exact: false if anything that could match was not looked at.
struct Completeness {
  bool whole = true;
  bool limit_reached = false;    // there may be more matches than asked for
  bool budget_spent = false;     // the time was up
  std::uint64_t rows_lost = 0;   // in damaged blocks of the time and kinds asked for
  std::uint64_t blocks_read = 0, blocks_left_out = 0;  // from disk or memory; by what is kept beside them
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

// Count, sum, rate, quantiles, latest and the first k, per group and time bucket.
inline constexpr std::size_t kGroupsMax = 100'000;  // groups times buckets; more are counted, not kept
struct Aggregation {
  Query where = {};                   // limit and newest_first play no part
  std::vector<std::string> by = {};   // entity, name, kind, severity, or an attribute's name; empty: all in one
  std::int64_t bucket_ns = 0;         // > 0: one row a bucket; buckets begin at multiples of it
  enum class Order { Group, Count, Sum } order = Order::Group;  // Count and Sum: largest first
  std::size_t top = SIZE_MAX;
};
struct AggregateRow {
  std::vector<std::string> group = {};  // as `by`; an attribute that is absent is ""
  std::int64_t bucket_ns = 0;      // the bucket's begin
  std::uint64_t count = 0;
  double sum = 0, min = 0, max = 0, latest = 0;  // of values that are numbers; latest of all
  std::int64_t first_ns = 0, last_ns = 0;
  Sketch values = {};              // of those that are numbers
};
struct AggregateAnswer {
  std::vector<AggregateRow> rows = {};
  Completeness completeness = {};
  std::uint64_t groups_left_out = 0;  // beyond `top` or kGroupsMax
};

// What changed most between two windows. Shares of values (entities, templates, operations, attribute values ...) by
// Cohen's h, means of series and durations by Cohen's d; positive: more now.
inline constexpr std::size_t kContrastValuesMax = 2000;  // distinct values of an attribute; one with more is left out
inline constexpr std::size_t kContrastFieldsMax = 256;   // attributes
struct Window {
  std::int64_t from_ns, to_ns;
};
struct Contrast {
  std::string field = {};  // entity, template, operation, kernel, change, alert, series, duration, or an attribute's name
  std::string value = {};
  std::uint64_t before = 0, now = 0;  // events
  double before_per_s = 0, now_per_s = 0;
  double before_mean = 0, now_mean = 0;  // of series and durations
  double effect = 0;
};
struct ContrastAnswer {
  std::vector<Contrast> changes = {};  // the largest effects first
  std::uint64_t left_out = 0;          // beyond the limit
  std::vector<std::string> fields_left_out = {};  // attributes with too many values to compare
  Completeness before = {}, now = {};
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

  // Takes the events; they may come out of order. Errors: Exhausted: some are larger than all memory there is; they are counted as
  // dropped, the others taken. A disk error is no error here: the events stay readable in memory, and what is lost when memory is
  // full too is counted. Commits when the commit interval has passed since the last one.
  virtual Result<void> append(std::vector<Event> events) = 0;

  // Calls `visit` for each match in time order (events of one time: in order of append; newest_first turns
  // both around) until it returns false or the limit is reached. No lock is held during the call.
  virtual Result<Completeness> scan(const Query& query, const std::function<bool(const Event&)>& visit) const = 0;

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

  // Any grouping, with mergeable quantiles; see Aggregation. By default over scan().
  virtual Result<AggregateAnswer> aggregate(const Aggregation& what) const;

  // What differs most between two windows; the filter's own times play no part. Invalid if a window is empty.
  virtual Result<ContrastAnswer> contrast(const Query& filter, Window before, Window now, std::size_t limit) const;

  // Makes everything appended so far durable; waits for blocks that are being coded. The owner calls it every second.
  // Errors: Exhausted (disk full), Io; the events stay in memory. After a failure the disk is tried again at
  // growing distances of at most 30 s; a call before that only tells the error again.
  virtual Result<void> flush() = 0;

  // Drops whole days (or memory) older than this, and the oldest beyond the limit in bytes.
  virtual Result<void> prune(std::int64_t older_than_ns) = 0;

  virtual StoreStats stats() const = 0;
};

}  // namespace culprit::stream
