#include "daemon/stream/sqlite_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "daemon/base/log.h"
#include "daemon/stream/aggregate.h"
#include "daemon/stream/bytes.h"
#include "daemon/stream/database.h"
#include "daemon/stream/query.h"

namespace culprit::stream {
namespace {

constexpr std::string_view kPrefix = "rows-";

// A column for every field; ids and attributes as bytes. Sequences go on over all files.
constexpr const char* kSchema = R"(
  PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS boot(id INTEGER PRIMARY KEY CHECK (id = 1), boot_id TEXT NOT NULL,
    wall_offset_ns INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS events(sequence INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, kind INTEGER NOT NULL,
    severity INTEGER NOT NULL, entity TEXT NOT NULL, name TEXT NOT NULL, value REAL, ids BLOB, attributes BLOB, body TEXT) STRICT;
  CREATE INDEX IF NOT EXISTS events_time ON events(time_ns);
)";

struct StoredRow {
  std::int64_t time_ns, sequence;
  Event event;
};

}  // namespace

struct SqliteStore::State {
  State(StoreOptions options_of, const Clock& clock_of) : options(std::move(options_of)), clock(clock_of) {}

  struct Day {
    std::filesystem::path path;
    std::string day;
    Database database = {};
    bool open_transaction = false;
  };

  const StoreOptions options;
  const Clock& clock;
  mutable std::mutex mutex;  // guards all below: this store is simple, not parallel
  mutable std::vector<Day> days;
  std::int64_t sequence = 0;
  std::int64_t last_commit_ns = INT64_MIN;
  StoreStats counters;
  std::uint64_t uncommitted = 0;

  Result<void> open_day(const std::filesystem::path& path);
  Result<void> insert(std::span<const Event> events);
  Result<void> commit();
  template <typename Visit>
  Result<void> each(const Matcher& matcher, bool whole, Visit&& visit) const;
  Result<std::vector<StoredRow>> rows(const Matcher& matcher) const;
};

Result<void> SqliteStore::State::open_day(const std::filesystem::path& path) {
  Day day{.path = path, .day = path.filename().string().substr(kPrefix.size(), 10)};
  ASSIGN(day.database, Database::open(path, Database::Mode::Write, options.vfs));
  TRY(day.database.execute(kSchema));
  {
    ASSIGN(Transaction transaction, Transaction::begin(day.database));
    std::int64_t shift = 0;
    {
      ASSIGN(Statement boot, day.database.prepare("SELECT boot_id, wall_offset_ns FROM boot"));
      ASSIGN(const bool known, boot.step());
      if (known && boot.bytes(0) != options.boot_id) shift = wrapping_sub(boot.integer(1), clock.wall_offset_ns());
    }
    if (shift != 0) {
      ASSIGN(Statement move, day.database.prepare("UPDATE events SET time_ns = time_ns + ?"));
      TRY(move.bind(1, shift).run());
    }
    ASSIGN(Statement write, day.database.prepare("INSERT OR REPLACE INTO boot VALUES(1, ?, ?)"));
    TRY(write.bind_text(1, options.boot_id).bind(2, clock.wall_offset_ns()).run());
    TRY(transaction.commit());
  }
  ASSIGN(const std::int64_t last, day.database.integer("SELECT max(sequence) FROM events"));
  sequence = std::max(sequence, last);
  days.push_back(std::move(day));
  return {};
}

Result<void> SqliteStore::State::insert(std::span<const Event> events) {
  const std::string day = day_of(clock.wall_ns(clock.now_ns()));
  if (days.empty() || days.back().day != day) {
    TRY(commit());
    TRY(open_day(options.folder / fmt::format("{}{}.db", kPrefix, day)));
  }
  Database& database = days.back().database;
  if (!days.back().open_transaction) TRY(database.execute("BEGIN IMMEDIATE"));
  days.back().open_transaction = true;
  TRY(database.execute("SAVEPOINT batch"));
  auto done = [&]() -> Result<void> {
    ASSIGN(Statement insert, database.prepare("INSERT INTO events VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    std::int64_t next = sequence;
    for (const Event& event : events) {
      insert.bind(1, ++next).bind(2, event.time_ns).bind(3, static_cast<std::int64_t>(event.kind));
      insert.bind(4, static_cast<std::int64_t>(event.severity)).bind_text(5, event.entity).bind_text(6, event.name);
      const std::uint64_t ids[3] = {event.trace_id[0], event.trace_id[1], event.span_id};
      insert.bind(7, event.value);
      if (ids[0] != 0 || ids[1] != 0 || ids[2] != 0) insert.bind_blob(8, {reinterpret_cast<const char*>(ids), sizeof ids});
      if (!event.attributes.empty()) insert.bind_blob(9, event.attributes.coded());
      if (!event.body.empty()) insert.bind_text(10, event.body);
      TRY(insert.run());
    }
    return {};
  }();
  if (!done) (void)database.execute("ROLLBACK TO batch");
  (void)database.execute("RELEASE batch");
  if (done) {
    sequence += static_cast<std::int64_t>(events.size());
    uncommitted += events.size();
  }
  return done;
}

Result<void> SqliteStore::State::commit() {
  last_commit_ns = clock.now_ns();
  for (Day& day : days) {
    if (!day.open_transaction) continue;
    if (auto done = day.database.execute("COMMIT"); !done) {
      (void)day.database.execute("ROLLBACK");
      day.open_transaction = false;
      ++counters.commit_failures;
      counters.stored -= uncommitted;
      counters.dropped[done.error().code == Code::Exhausted ? "disk_full" : "io"] += std::exchange(uncommitted, 0);
      return done;
    }
    day.open_transaction = false;
    ++counters.commits;
  }
  uncommitted = 0;
  return {};
}

// Calls visit(hit) for each match, in no particular order. What the table can decide by itself, it does.
template <typename Visit>
Result<void> SqliteStore::State::each(const Matcher& matcher, bool whole, Visit&& visit) const {
  if (matcher.minutes()) return {};  // this store makes no summaries
  std::string where = "time_ns >= ? AND time_ns < ?";
  std::vector<std::string> texts;
  const auto any_of = [&](std::string_view column, const TextFilter& filter) {
    if (filter.exact().empty()) return;
    std::string list;
    for (const std::string& text : filter.exact()) {
      list += list.empty() ? "?" : ", ?";
      texts.push_back(text);
    }
    where += fmt::format(" AND {} IN ({})", column, list);
  };
  any_of("entity", matcher.entities());
  any_of("name", matcher.names());
  any_of("entity", matcher.bound_entities());
  any_of("name", matcher.bound_names());
  std::string kinds;
  for (int kind = 1; kind <= static_cast<int>(Kind::Alert); ++kind) {
    if (matcher.kind(static_cast<Kind>(kind))) kinds += fmt::format("{}{}", kinds.empty() ? "" : ", ", kind);
  }
  where += fmt::format(" AND kind IN ({})", kinds);
  const bool details = whole || !matcher.simple();
  const std::string sql = fmt::format("SELECT time_ns, sequence, kind, severity, entity, name, value{} FROM events WHERE {}",
                                      details ? ", ids, attributes, body" : "", where);
  const std::lock_guard lock(mutex);
  for (Day& day : days) {
    ASSIGN(Statement select, day.database.prepare(sql));
    select.bind(1, matcher.from_ns()).bind(2, matcher.to_ns());
    for (std::size_t i = 0; i < texts.size(); ++i) select.bind_text(static_cast<int>(i) + 3, texts[i]);
    Key key;
    for (;;) {
      ASSIGN(const bool more, select.step());
      if (!more) break;
      const auto severity = static_cast<std::uint8_t>(select.integer(3));
      if (!matcher.severity(severity) || !matcher.key(select.bytes(4), select.bytes(5))) continue;
      key.kind = static_cast<Kind>(select.integer(2));
      key.entity = select.bytes(4);
      key.name = select.bytes(5);
      Detail detail;
      Ids ids_of;
      AttributeList list;
      if (details) {
        const std::string_view ids = select.bytes(7);
        if (ids.size() == 24) {
          std::memcpy(ids_of.trace, ids.data(), 16);
          std::memcpy(&ids_of.span, ids.data() + 16, 8);
          detail.ids = &ids_of;
        }
        list.coded = select.bytes(8);
        if (!list.coded.empty()) detail.list = &list;
        detail.set_body(select.bytes(9));
      }
      const Hit hit{select.integer(0), static_cast<std::uint64_t>(select.integer(1)), select.real(6), &key, &detail, severity};
      if (matcher.simple() || matcher.rest(hit)) visit(hit);
    }
  }
  return {};
}

// All matches by time and sequence.
Result<std::vector<StoredRow>> SqliteStore::State::rows(const Matcher& matcher) const {
  std::vector<StoredRow> rows;
  TRY(each(matcher, true, [&](const Hit& hit) { rows.push_back({hit.time_ns, static_cast<std::int64_t>(hit.sequence), hit.event()}); }));
  std::sort(rows.begin(), rows.end(), [](const StoredRow& a, const StoredRow& b) {
    return a.time_ns != b.time_ns ? a.time_ns < b.time_ns : a.sequence < b.sequence;
  });
  return rows;
}

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(StoreOptions options, const Clock& clock) {
  if (options.folder.empty()) return fail(Code::Invalid, "the SQLite store needs a folder");
  if (options.boot_id.empty()) options.boot_id = read_boot_id();
  std::error_code error;
  std::filesystem::create_directory(options.folder, error);
  if (error) return fail_errno(error.value(), fmt::format("create folder '{}'", options.folder.string()));
  auto state = std::make_unique<State>(std::move(options), clock);
  for (const auto& path : day_files(state->options.folder, kPrefix)) {
    auto done = state->open_day(path);
    if (done) continue;
    if (done.error().code != Code::Corrupt) return std::unexpected(done.error());
    set_aside(path, done.error());
    ++state->counters.files_set_aside;
  }
  return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(state)));
}

SqliteStore::SqliteStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
SqliteStore::~SqliteStore() { (void)flush(); }

Result<void> SqliteStore::append(std::vector<Event> events) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  state.counters.appended += events.size();
  if (auto done = state.insert(events); !done) {
    state.counters.dropped[done.error().code == Code::Exhausted ? "disk_full" : "io"] += events.size();
    log::warn("stream: {}; {} events dropped", done.error().message, events.size());
    return {};
  }
  state.counters.stored += events.size();
  if (state.last_commit_ns == INT64_MIN) state.last_commit_ns = state.clock.now_ns();
  if (state.clock.now_ns() - state.last_commit_ns >= state.options.commit_ns) (void)state.commit();
  return {};
}

Result<Completeness> SqliteStore::scan(const Query& query, const std::function<bool(const Event&)>& visit) const {
  ASSIGN(std::vector<StoredRow> rows, state_->rows(Matcher(query)));
  if (query.newest_first) std::reverse(rows.begin(), rows.end());
  Completeness completeness;
  if (rows.size() > query.limit) {
    rows.resize(query.limit);
    completeness.limit_reached = true;
  }
  for (const StoredRow& row : rows) {
    if (visit(row.event)) continue;
    completeness.limit_reached = true;
    break;
  }
  completeness.whole = !completeness.limit_reached;
  return completeness;
}

Result<std::vector<Series>> SqliteStore::series(const Query& query) const {
  ASSIGN(const std::vector<StoredRow> rows, state_->rows(Matcher(query)));
  std::map<std::pair<std::string, std::string>, std::vector<Point>> points;
  for (const StoredRow& row : rows) {
    if (row.event.kind == Kind::Sample) {
      points[{row.event.entity, row.event.name}].push_back({row.time_ns, row.event.value});
    }
  }
  std::vector<Series> answer;
  answer.reserve(points.size());
  for (auto& [key, values] : points) answer.push_back({key.first, key.second, std::move(values)});
  return answer;
}

Result<std::vector<Group>> SqliteStore::group(const Query& query) const {
  Grouper grouper;
  TRY(state_->each(Matcher(query), false, [&](const Hit& hit) { grouper.add(grouper.slot(hit.key->entity, hit.key->name), hit.time_ns, hit.value); }));
  return grouper.finish();
}

Result<AggregateAnswer> SqliteStore::aggregate(const Aggregation& what) const {
  AggregateBuilder builder(what);
  TRY(state_->each(Matcher(what.where), builder.reads_attributes(), [&](const Hit& hit) { builder.add(hit.view()); }));
  return builder.finish({});
}

Result<ContrastAnswer> SqliteStore::contrast(const Query& filter, Window before, Window now, std::size_t limit) const {
  if (before.from_ns >= before.to_ns || now.from_ns >= now.to_ns) return fail(Code::Invalid, "empty window");
  ContrastBuilder builder(before, now);
  for (int window = 0; window < 2; ++window) {
    Query query = filter;
    query.from_ns = window == 0 ? before.from_ns : now.from_ns;
    query.to_ns = window == 0 ? before.to_ns : now.to_ns;
    TRY(state_->each(Matcher(query), true, [&](const Hit& hit) {
      ContrastBuilder::add(builder.key(*hit.key), window, hit.time_ns, hit.value);
      builder.add_attributes(window, hit.detail->attributes(), 1);
    }));
  }
  return builder.finish(limit, {}, {});
}

Result<std::vector<Difference>> SqliteStore::differs(const Query& filter, std::int64_t before_from_ns,
                                                     std::int64_t before_to_ns, std::int64_t now_from_ns,
                                                     std::int64_t now_to_ns) const {
  if (before_from_ns >= before_to_ns || now_from_ns >= now_to_ns) return fail(Code::Invalid, "empty window");
  Query query = filter;
  query.from_ns = before_from_ns;
  query.to_ns = before_to_ns;
  ASSIGN(const std::vector<Group> before, group(query));
  query.from_ns = now_from_ns;
  query.to_ns = now_to_ns;
  ASSIGN(const std::vector<Group> now, group(query));
  return compare(before, seconds_between(before_from_ns, before_to_ns), now, seconds_between(now_from_ns, now_to_ns));
}

Result<void> SqliteStore::flush() {
  const std::lock_guard lock(state_->mutex);
  return state_->commit();
}

Result<void> SqliteStore::prune(std::int64_t older_than_ns) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  std::uint64_t total = 0;
  for (const State::Day& day : state.days) total += file_bytes(day.path);
  for (std::size_t i = 0; i + 1 < state.days.size();) {  // never the day being written
    State::Day& day = state.days[i];
    ASSIGN(const std::int64_t rows, day.database.integer("SELECT count(*) FROM events"));
    ASSIGN(const std::int64_t newest, day.database.integer("SELECT max(time_ns) FROM events"));
    const bool too_much = state.options.disk_bytes != 0 && total > state.options.disk_bytes;
    if (rows > 0 && newest >= older_than_ns && !too_much) {
      ++i;
      continue;
    }
    total -= file_bytes(day.path);
    state.counters.pruned += static_cast<std::uint64_t>(rows);
    const std::filesystem::path path = day.path;
    state.days.erase(state.days.begin() + static_cast<std::ptrdiff_t>(i));
    remove_file(path);
  }
  return {};
}

StoreStats SqliteStore::stats() const {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  StoreStats stats = state.counters;
  stats.pending = state.uncommitted;
  bool first = true;
  for (State::Day& day : state.days) {
    stats.on_disk_bytes += file_bytes(day.path);
    const auto oldest = day.database.integer("SELECT min(time_ns) FROM events");
    const auto newest = day.database.integer("SELECT max(time_ns) FROM events");
    if (!oldest || !newest) continue;
    stats.oldest_ns = first ? *oldest : std::min(stats.oldest_ns, *oldest);
    stats.newest_ns = first ? *newest : std::max(stats.newest_ns, *newest);
    first = false;
  }
  return stats;
}

}  // namespace culprit::stream
