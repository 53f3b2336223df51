// One-minute summaries: what retention keeps of samples when their raw days go. For each day that is removed, each
// series' minutes become four samples in `minutes-YYYY-MM-DD.db`, a day file like the others:
//   <series>:count, :mean, :min and :max, at the minute's begin (minutes of the wall clock).
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "daemon/base/log.h"
#include "daemon/stream/bytes.h"
#include "daemon/stream/embedded_state.h"

namespace culprit::stream {
namespace {

constexpr std::int64_t kMinuteNs = 60 * kNsPerSecond;
constexpr std::int64_t kLateNs = 600 * kNsPerSecond;  // events may come so late: a block may hold minutes of the one before

struct Sum {
  std::uint64_t count = 0;
  double sum = 0, min = 0, max = 0;
};

}  // namespace

// Reads the blocks in order of time and writes minutes as soon as no later block can add to them, so that memory
// holds some minutes of each series, not a day. The file gets its name when it is whole.
Result<Summary> EmbeddedStore::State::make_summary(std::filesystem::path path, std::vector<BlockRef> sources, Origin made_by) const {
  const std::filesystem::path unfinished = path.string() + ".new";
  remove_file(unfinished);  // of a run that ended before it was whole
  Summary made{.path = std::move(path)};
  auto done = [&]() -> Result<void> {
    ASSIGN(const std::shared_ptr<DayFile> target, DayFile::open(unfinished, options.vfs));
    TRY(write_summary(*target, std::move(sources), made_by, made.blocks));
    target->finish();
    std::error_code error;
    if (std::filesystem::exists(unfinished.string() + "-wal", error)) return fail(Code::Io, fmt::format("'{}' could not be finished", unfinished.string()));
    if (made.blocks.empty()) return {};
    std::filesystem::rename(unfinished, made.path, error);
    if (error) return fail_errno(error.value(), fmt::format("rename '{}'", unfinished.string()));
    ASSIGN(made.file, DayFile::open_reading(made.path, options.vfs));
    for (BlockRef& ref : made.blocks) ref.file = made.file;
    return {};
  }();
  remove_file(unfinished);  // nothing, if it was renamed
  if (!done) return std::unexpected(done.error());
  return made;
}

Result<void> EmbeddedStore::State::write_summary(DayFile& target, std::vector<BlockRef> sources, const Origin& made_by, std::vector<BlockRef>& written) const {
  std::sort(sources.begin(), sources.end(), [](const BlockRef& a, const BlockRef& b) { return a.min_ns < b.min_ns; });
  const Matcher samples(Query{.kinds = {Kind::Sample}});
  const std::int64_t offset = made_by.wall_offset_ns;
  KeyTable keys;
  std::map<std::int64_t, std::map<std::uint32_t, Sum>> open_minutes;
  auto rows = std::make_unique<Active>();
  std::uint64_t sequence = 1;
  const auto write_rows = [&]() -> Result<void> {
    if (rows->rows.empty()) return {};
    const Block block = rows->sealed();
    ASSIGN(const std::int64_t id, target.commit_block(made_by, block, encoders->encode(block), 0, -1));
    BlockRef ref;
    const auto [min, max] = std::minmax_element(block.times.begin(), block.times.end());
    ref.id = id;
    ref.min_ns = *min;
    ref.max_ns = *max;
    ref.kinds = block.kinds();
    ref.rows = block.rows();
    ref.sequence = block.sequence_base;
    ref.keys = std::make_shared<const std::string>(key_filter(block));
    written.push_back(std::move(ref));
    rows = std::make_unique<Active>();
    return {};
  };
  const auto close_before = [&](std::int64_t time_ns) -> Result<void> {
    while (!open_minutes.empty() && open_minutes.begin()->first < time_ns) {
      for (const auto& [key, sum] : open_minutes.begin()->second) {
        Event event;
        event.time_ns = open_minutes.begin()->first;
        event.entity = keys[key].entity;
        const auto add = [&](const char* what, double value) {
          event.name = keys[key].name + what;
          event.value = value;
          rows->add({&event, 1}, sequence++);
        };
        add(":count", static_cast<double>(sum.count));
        add(":mean", sum.sum / static_cast<double>(sum.count));
        add(":min", sum.min);
        add(":max", sum.max);
      }
      open_minutes.erase(open_minutes.begin());
      if (rows->rows.size() + 4 > options.block_rows) TRY(write_rows());
    }
    return {};
  };
  Completeness completeness;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (stopping) return fail(Code::Busy, "stopped before the end");
    ASSIGN(const auto block, load_block(sources[i], kTimeColumns | kValueColumns, samples, completeness));
    if (block == nullptr) continue;
    for (const Block::Run& run : block->runs) {
      if (block->keys[run.key].kind != Kind::Sample) continue;
      const std::uint32_t key = keys.intern(block->keys[run.key].entity, block->keys[run.key].name);
      // A run is one series in order of time: the sum of its minute is looked up once a minute, not for each row.
      std::int64_t minute = INT64_MIN;
      Sum* sum = nullptr;
      for (std::uint32_t row = run.begin; row < run.end; ++row) {
        const double value = block->values[row];
        if (std::isnan(value)) continue;
        const std::int64_t wall = wrapping_add(wrapping_add(block->times[row], sources[i].shift_ns), offset);
        const std::int64_t rest = wall % kMinuteNs;
        const std::int64_t of_row = wrapping_sub(wall - (rest < 0 ? rest + kMinuteNs : rest), offset);
        if (sum == nullptr || of_row != minute) sum = &open_minutes[minute = of_row][key];
        sum->min = sum->count == 0 ? value : std::min(sum->min, value);
        sum->max = sum->count == 0 ? value : std::max(sum->max, value);
        sum->sum += value;
        ++sum->count;
      }
    }
    if (i + 1 < sources.size()) TRY(close_before(sources[i + 1].min_ns - kMinuteNs - kLateNs));
  }
  TRY(close_before(INT64_MAX));
  return write_rows();
}

// Goes on with the days that retention removes: first the summary of one is made, then it goes.
void EmbeddedStore::State::go_on_leaving() {
  while (!leaving.empty()) {
    const std::shared_ptr<DayFile> raw = leaving.front();
    const std::string day = raw->path().filename().string().substr(kDayFilePrefix.size());
    const auto path = options.folder / fmt::format("{}{}", kMinuteFilePrefix, day);
    if (!summary.valid()) {
      std::vector<BlockRef> sources;
      for (const BlockRef& ref : refs) {
        if (ref.file == raw && (ref.kinds & kind_bit(Kind::Sample)) != 0) sources.push_back(ref);
      }
      // On the owner's thread only where tests want one order of all writes: a day takes seconds.
      if (options.minutes_ns > 0 && !sources.empty()) {
        summary = std::async(options.background ? std::launch::async : std::launch::deferred,
                             [this, path, sources = std::move(sources), by = origin()]() mutable { return make_summary(path, std::move(sources), std::move(by)); });
      }
    }
    if (summary.valid()) {
      if (options.background && summary.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
      auto made = summary.get();
      if (!made) {
        log::warn("stream: summaries of '{}': {}; the day goes without them", raw->path().string(), made.error().message);
      } else if (made->file != nullptr) {
        std::erase_if(minute_files, [&](const auto& file) { return file->path() == path; });  // an earlier one of this day
        minute_files.push_back(made->file);
        const std::unique_lock lock(mutex);
        std::erase_if(minutes, [&](const BlockRef& ref) { return ref.file->path() == path; });
        for (BlockRef& ref : made->blocks) {
          ref.serial = next_serial++;
          minutes.push_back(std::move(ref));
        }
      }
    }
    leaving.pop_front();
    // A clock that was set back may have made it the day that is written, through another connection.
    if (raw != current && std::ranges::find(files, raw) != files.end()) drop_day(raw);
  }
}

Result<void> EmbeddedStore::State::load_minutes(const std::filesystem::path& path) {
  ASSIGN(const std::shared_ptr<DayFile> file, options.read_only ? DayFile::open_reading(path, options.vfs) : DayFile::open(path, options.vfs));
  ASSIGN(StoredBlocks stored, file->blocks());
  counters.blocks_unreadable += stored.damaged;
  for (StoredBlock& block : stored.blocks) minutes.push_back(ref_of(file, std::move(block)));
  minute_files.push_back(file);
  return {};
}

void EmbeddedStore::State::remove_minutes(const std::shared_ptr<DayFile>& file) {
  // The caller's reference may be an element of the list that the file leaves below.
  const std::shared_ptr<DayFile> kept = file;  // NOLINT(performance-unnecessary-copy-initialization)
  {
    const std::unique_lock lock(mutex);
    std::erase_if(minutes, [&](const BlockRef& ref) { return ref.file == kept; });
  }
  kept->finish();
  remove_file(kept->path());
  std::erase(minute_files, kept);
}

// Summaries older than their own time go whole days at a time.
void EmbeddedStore::State::prune_minutes() {
  const std::int64_t oldest_ns = clock.now_ns() - options.minutes_ns;
  for (const auto& file : std::vector(minute_files)) {
    const bool old = std::all_of(minutes.begin(), minutes.end(), [&](const BlockRef& ref) { return ref.file != file || ref.max_ns < oldest_ns; });
    if (old) remove_minutes(file);
  }
}

}  // namespace culprit::stream
