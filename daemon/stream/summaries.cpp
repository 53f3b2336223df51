// One-minute summaries: what retention keeps of samples when their raw days go. For each day that is removed, each
// series' minutes become four samples in `minutes-YYYY-MM-DD.db`, a day file like the others:
//   <series>:count, :mean, :min and :max, at the minute's begin (minutes of the wall clock).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

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

// Reads the file's blocks in order of time and writes minutes as soon as no later block can add to them, so
// that memory holds some minutes of each series, not a day.
Result<void> EmbeddedStore::State::summarise(const std::shared_ptr<DayFile>& raw) {
  const std::string day = raw->path().filename().string().substr(kDayFilePrefix.size());
  const auto path = options.folder / fmt::format("{}{}", kMinuteFilePrefix, day);
  std::erase_if(minute_files, [&](const auto& file) { return file->path() == path; });
  {
    const std::unique_lock lock(mutex);
    std::erase_if(minutes, [&](const BlockRef& ref) { return ref.file->path() == path; });
  }
  remove_file(path);  // of a run that ended before it removed the raw day
  ASSIGN(const std::shared_ptr<DayFile> target, DayFile::open(path, options.vfs));

  std::vector<BlockRef> sources;
  for (const BlockRef& ref : refs) {
    if (ref.file == raw && (ref.kinds & kind_bit(Kind::Sample)) != 0) sources.push_back(ref);
  }
  std::sort(sources.begin(), sources.end(), [](const BlockRef& a, const BlockRef& b) { return a.min_ns < b.min_ns; });
  const Matcher samples(Query{.kinds = {Kind::Sample}});
  const std::int64_t offset = clock.wall_offset_ns();
  KeyTable keys;
  std::map<std::int64_t, std::map<std::uint32_t, Sum>> open_minutes;
  auto rows = std::make_shared<Active>();
  std::vector<BlockRef> written;
  const auto write_rows = [&]() -> Result<void> {
    if (rows->rows.empty()) return {};
    const Block block = seal(rows->rows, rows->keys, rows->details);
    ASSIGN(const std::int64_t id, target->commit_block(origin(), block, encode(block), 0, -1));
    BlockRef ref;
    const auto [min, max] = std::minmax_element(block.times.begin(), block.times.end());
    ref.serial = next_serial++;
    ref.file = target;
    ref.id = id;
    ref.min_ns = *min;
    ref.max_ns = *max;
    ref.kinds = block.kinds();
    ref.rows = block.rows();
    ref.sequence = block.sequence_base;
    ref.keys = std::make_shared<const std::string>(key_filter(block));
    written.push_back(std::move(ref));
    rows = std::make_shared<Active>();
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
          rows->add({&event, 1}, next_sequence++);
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
    ASSIGN(const auto block, load_block(sources[i], kSampleColumns | kEventColumns, samples, completeness));
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
  TRY(write_rows());
  target->finish();
  if (written.empty()) {
    remove_file(path);
    return {};
  }
  minute_files.push_back(target);
  const std::unique_lock lock(mutex);
  minutes.insert(minutes.end(), written.begin(), written.end());
  return {};
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
