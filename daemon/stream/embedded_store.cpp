#include "daemon/stream/embedded_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <memory>

#include "daemon/base/log.h"
#include "daemon/stream/bytes.h"
#include "daemon/stream/codec.h"
#include "daemon/stream/embedded_state.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kEncodingsMax = 3;         // blocks being encoded at a time; the owner waits for the oldest then
constexpr std::size_t kCheckpointCommits = 400;  // groups; a block counts as kBlockCommits
constexpr std::size_t kBlockCommits = 80;
constexpr std::size_t kTakenTogether = 256;      // events that are counted and then taken, while a core's second cache has them
constexpr std::size_t kGroupRowsShare = 4;       // a group holds at most this part of a block's rows: more become a block, which takes a quarter of a group's time a row
constexpr std::int64_t kBackoffMaxNs = 30 * kNsPerSecond;

std::size_t event_bytes(const Event& event) {
  return sizeof(Event) + event.entity.size() + event.name.size() + event.body.size() + event.attributes.size() * 64;
}

BlockRef describe(Block block) {
  BlockRef ref;
  const auto [min, max] = std::minmax_element(block.times.begin(), block.times.end());
  ref.min_ns = *min;
  ref.max_ns = *max;
  ref.kinds = block.kinds();
  ref.rows = block.rows();
  ref.bytes = block.bytes();
  ref.sequence = block.sequence_base;
  ref.keys = std::make_shared<const std::string>(key_filter(block));
  ref.memory = std::make_shared<const Block>(std::move(block));
  return ref;
}

}  // namespace

Columns IdleEncoders::encode(const Block& block) {
  std::unique_ptr<Encoder> encoder;
  {
    const MutexLock lock(mutex_);
    if (!idle_.empty()) {
      encoder = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (encoder == nullptr) encoder = std::make_unique<Encoder>();
  Columns columns = encoder->encode(block);
  const MutexLock lock(mutex_);
  if (idle_.size() < kIdleMax) idle_.push_back(std::move(encoder));
  return columns;
}

// What an event to come points at: made a batch ago, it is in no near cache any more.
[[gnu::always_inline]] inline void fetch_texts(const Event& event) {
  constexpr std::size_t kLine = 64;
  __builtin_prefetch(event.name.data());
  const std::string_view coded = event.attributes.coded(), body = event.body;
  for (std::size_t at = 0; at < coded.size(); at += kLine) __builtin_prefetch(coded.data() + at);
  for (std::size_t at = 0; at < body.size(); at += kLine) __builtin_prefetch(body.data() + at);
}

// Some events at a time: the tables are larger than a core's cache, and one event's look-ups alone would wait for each other.
void Active::add(std::span<const Event> events, std::uint64_t sequence) {
  if (rows.empty()) sequence_base = sequence;
  assert(sequence == sequence_base + rows.size());
  constexpr std::size_t kStep = DetailStore::kTogether;
  for (; !events.empty(); events = events.subspan(std::min(kStep, events.size()))) {
    const auto some = events.first(std::min(kStep, events.size()));
    for (const Event& event : events.subspan(some.size(), std::min(kStep, events.size() - some.size()))) fetch_texts(event);
    std::array<std::uint64_t, kStep> hashes;
    for (std::size_t i = 0; i < some.size(); ++i) {
      hashes[i] = KeyTable::hash(some[i].entity, some[i].name, some[i].kind);
      keys.prefetch(hashes[i]);
    }
    details->prepare(some);
    for (std::size_t i = 0; i < some.size(); ++i) keys.prefetch_key(hashes[i]);
    for (std::size_t i = 0; i < some.size(); ++i) {
      const Event& event = some[i];
      const std::size_t keys_before = keys.size();
      const std::uint32_t key = keys.intern(hashes[i], event.entity, event.name, event.kind);
      if (keys.size() > keys_before) key_bytes += sizeof(Key) + 64 + event.entity.size() + event.name.size();
      rows.push_back({event.time_ns, event.value, DetailStore::needed(event) ? details->take(event, i) : nullptr, key, event.kind, event.severity});
    }
  }
}

Result<std::unique_ptr<EmbeddedStore>> EmbeddedStore::open(StoreOptions options, const Clock& clock) {
  if (options.boot_id.empty()) options.boot_id = read_boot_id();
  options.block_rows = std::clamp<std::size_t>(options.block_rows, 1, 1u << 24);
  options.memory_bytes = std::min<std::size_t>(options.memory_bytes, kBodyBytesMax);  // no body is larger
  auto state = std::make_unique<State>(std::move(options), clock);
  if (!state->options.folder.empty()) TRY(state->open());
  return std::unique_ptr<EmbeddedStore>(new EmbeddedStore(std::move(state)));
}

EmbeddedStore::EmbeddedStore(std::unique_ptr<State> state) : state_(std::move(state)) {}

EmbeddedStore::~EmbeddedStore() {
  if (state_->options.folder.empty() || state_->options.read_only) return;
  state_->stopping = true;
  if (state_->summary.valid()) state_->summary.wait();  // its day stays, and is summed up by the next run
  state_->leaving.clear();
  if (auto done = state_->commit(true, State::Encodings::Wait); !done) {
    log::warn("stream: {} events are lost at the end: {}", stats().pending, done.error().message);
  }
}

Result<void> EmbeddedStore::append(std::vector<Event> events) { return state_->append(std::move(events)); }
Result<void> EmbeddedStore::flush() { return state_->flush(); }
Result<void> EmbeddedStore::prune(std::int64_t older_than_ns) { return state_->prune(older_than_ns); }

StoreStats EmbeddedStore::stats() const {
  const State& state = *state_;
  StoreStats stats;
  bool first = true;
  const auto extend = [&](std::int64_t min, std::int64_t max) {
    stats.oldest_ns = first ? min : std::min(stats.oldest_ns, min);
    stats.newest_ns = first ? max : std::max(stats.newest_ns, max);
    first = false;
  };
  {
    const std::shared_lock lock(state.mutex);
    stats = state.counters;
    stats.in_memory = state.active->rows.size();
    stats.in_memory_bytes = state.active->bytes() + state.block_bytes;
    const bool disk = !state.options.folder.empty();
    if (disk) stats.pending = state.active->rows.size() - state.active->committed;
    for (const Row& row : state.active->rows) extend(row.time_ns, row.time_ns);
    for (const BlockRef& ref : state.refs) {
      extend(ref.min_ns, ref.max_ns);
      if (ref.memory != nullptr) stats.in_memory += ref.rows;
      if (disk && !ref.saved() && !ref.recovered) stats.pending += ref.rows;
    }
  }
  if (!state.options.folder.empty()) {
    for (const auto prefix : {kDayFilePrefix, kMinuteFilePrefix}) {
      for (const auto& file : day_files(state.options.folder, prefix)) stats.on_disk_bytes += file_bytes(file);
    }
  }
  return stats;
}

Result<void> EmbeddedStore::State::open() {
  std::error_code error;
  if (options.read_only) TRY(need_folder(options.folder));
  if (!options.read_only) std::filesystem::create_directory(options.folder, error);
  if (error) return fail_errno(error.value(), fmt::format("create folder '{}'", options.folder.string()));
  if (!options.read_only) {
    ASSIGN(lock_file, lock_folder(options.folder));
  }
  for (const auto& path : day_files(options.folder, kDayFilePrefix)) {
    auto loaded = load(path);
    if (loaded) continue;
    if (loaded.error().code == Code::Corrupt && !options.read_only) {
      set_aside(path, loaded.error());
      ++counters.files_set_aside;
    } else if (loaded.error().code == Code::Unsupported) {
      return loaded;
    } else if (loaded.error().code != Code::NotFound || !options.read_only) {  // one that is empty was begun when the power went
      ++counters.blocks_unreadable;
      log::warn("stream: {}; going on without this day", loaded.error().message);
    }
  }
  for (const auto& path : day_files(options.folder, kMinuteFilePrefix)) {
    auto loaded = load_minutes(path);
    if (!loaded) log::warn("stream: {}; going on without these summaries", loaded.error().message);
  }
  return {};
}

BlockRef EmbeddedStore::State::ref_of(const std::shared_ptr<DayFile>& file, StoredBlock block) {
  BlockRef ref;
  ref.serial = next_serial++;
  ref.file = file;
  ref.id = block.id;
  if (block.boot_id != options.boot_id) ref.shift_ns = wrapping_sub(block.wall_offset_ns, clock.wall_offset_ns());
  ref.min_ns = wrapping_add(block.min_ns, ref.shift_ns);
  ref.max_ns = wrapping_add(block.max_ns, ref.shift_ns);
  ref.kinds = block.kinds;
  ref.rows = block.rows;
  ref.sequence = block.sequence;
  ref.keys = std::make_shared<const std::string>(std::move(block.keys));
  return ref;
}

// Reads what a day file holds; on an error (the list of blocks itself cannot be read) nothing of it is kept.
Result<void> EmbeddedStore::State::load(const std::filesystem::path& path) {
  ASSIGN(const std::shared_ptr<DayFile> file, options.read_only ? DayFile::open_reading(path, options.vfs) : DayFile::open(path, options.vfs, options.background));
  ASSIGN(StoredBlocks stored, file->blocks());
  if (stored.damaged > 0) {
    counters.blocks_unreadable += stored.damaged;
    log::warn("stream: {} blocks of '{}' are damaged and left out; the others are read", stored.damaged, path.string());
  }
  for (StoredBlock& block : stored.blocks) {
    next_sequence = std::max(next_sequence, block.sequence + block.rows);
    refs.push_back(ref_of(file, std::move(block)));
  }
  files.push_back(file);
  if (auto done = recover(file); !done) {
    // The blocks are sound whatever became of the groups behind them.
    if (done.error().code == Code::Corrupt) ++counters.blocks_unreadable;
    log::warn("stream: seal the last groups of '{}': {}; they stay as they are", path.string(), done.error().message);
  }
  return {};
}

// Groups that an earlier run did not come to seal become one block of this boot's times.
Result<void> EmbeddedStore::State::recover(const std::shared_ptr<DayFile>& file) {
  ASSIGN(std::vector<PendingGroup> groups, file->pending());
  if (groups.empty()) return {};
  Active rows;
  for (PendingGroup& group : groups) {
    if (group.damaged) {
      ++counters.blocks_unreadable;
      log::warn("stream: a group of '{}' is damaged, {} of its events could be read", file->path().string(),
                group.events.size());
    }
    const std::int64_t shift =
        group.boot_id == options.boot_id ? 0 : wrapping_sub(group.wall_offset_ns, clock.wall_offset_ns());
    for (Event& event : group.events) {
      event.time_ns = wrapping_add(event.time_ns, shift);
      rows.add({&event, 1}, next_sequence++);
    }
  }
  if (rows.rows.empty()) return {};
  Block block = rows.sealed();
  auto id = options.read_only ? Result<std::int64_t>(fail(Code::Denied, "opened to read"))
                              : file->commit_block(origin(), block, encode(block), groups.front().id, groups.back().id);
  BlockRef ref = describe(std::move(block));
  ref.serial = next_serial++;
  if (id) {
    ref.file = file;
    ref.id = *id;
    ref.memory = nullptr;  // the last ten minutes in memory begin with this run
  } else {
    ref.recovered = true;
    block_bytes += ref.bytes;
  }
  refs.push_back(std::move(ref));
  return id || options.read_only ? Result<void>() : std::unexpected(id.error());
}

Result<void> EmbeddedStore::State::append(std::vector<Event> events) {
  if (options.read_only) return fail(Code::Denied, "the store was opened only to read");
  if (events.empty()) return {};
  const std::int64_t now_ns = clock.now_ns();
  Result<void> done;
  for (std::span<const Event> left = events; !left.empty();) {
    const std::span some = left.first(std::min(left.size(), kTakenTogether));
    left = left.subspan(some.size());
    std::size_t bytes = 0;
    for (const Event& event : some) bytes += event_bytes(event);
    const bool fits = bytes <= options.memory_bytes;
    {
      const std::unique_lock lock(mutex);
      counters.appended += some.size();
      if (fits) {
        counters.stored += some.size();
      } else {
        counters.dropped["memory_limit"] += some.size();
      }
    }
    if (!fits) {
      done = fail(Code::Exhausted, fmt::format("{} events of {} bytes, the memory limit is {}", some.size(), bytes, options.memory_bytes));
      continue;
    }
    take(some, now_ns);
  }
  if (!encodings.empty() && now_ns >= retry_ns && current != nullptr) {
    if (auto saved = save_blocks(Encodings::Ready); !saved) disk_failed(saved.error());
  }
  if (last_commit_ns == INT64_MIN) last_commit_ns = now_ns;
  if (now_ns - last_commit_ns >= options.commit_ns) (void)commit(false, Encodings::Ready);  // counted and said by disk_failed
  return done;
}

// Events that fit into memory become rows.
void EmbeddedStore::State::take(std::span<const Event> events, std::int64_t now_ns) {
  while (!events.empty()) {
    {
      const std::unique_lock lock(mutex);
      if (active->rows.empty()) active->born_ns = now_ns;
      const auto some = events.first(std::min(events.size(), options.block_rows - active->rows.size()));
      active->add(some, next_sequence);
      next_sequence += some.size();
      events = events.subspan(some.size());
    }
    if (active->rows.size() >= options.block_rows || active->bytes() > options.memory_bytes / 4) seal_active();
    if (active->bytes() + block_bytes > options.memory_bytes) evict();
  }
}

Result<void> EmbeddedStore::State::flush() {
  if (options.folder.empty() || options.read_only) return {};
  const std::int64_t now_ns = clock.now_ns();
  if (now_ns < retry_ns) {
    return fail(last_reason == "disk_full" ? Code::Exhausted : Code::Io,
                fmt::format("{}; the next try is in {:.1f} s", last_reason,
                            static_cast<double>(retry_ns - now_ns) / kNsPerSecond));
  }
  return commit(false, Encodings::Wait);
}

Result<void> EmbeddedStore::State::commit(bool even_if_waiting, Encodings encodings_wanted) {
  const std::int64_t now_ns = clock.now_ns();
  last_commit_ns = now_ns;
  go_on_leaving();
  if (!options.folder.empty() && (even_if_waiting || now_ns >= retry_ns)) {
    if (auto done = commit_active(now_ns, encodings_wanted); !done) {
      disk_failed(done.error());
      evict();
      return done;
    }
    retry_ns = INT64_MIN;
    backoff_ns = 0;
  }
  if (!active->rows.empty() && now_ns - active->born_ns >= options.seal_ns) {
    seal_active();
  } else {
    evict();
  }
  return {};
}

// Writes everything that is not durable yet: blocks that could not be saved, then the new active rows.
Result<void> EmbeddedStore::State::commit_active(std::int64_t now_ns, Encodings encodings_wanted) {
  if (current == nullptr || current_day != day_of(clock.wall_ns(now_ns))) {
    if (current != nullptr) {  // blocks that are still being coded belong to the day that ends
      const std::unique_lock lock(mutex);
      for (BlockRef& ref : refs) {
        if (!ref.saved() && !ref.recovered && ref.group_file == nullptr) ref.group_file = current;
      }
    }
    if (active->file != nullptr) seal_active();  // its groups are in the old file, and so its block will be
    TRY(open_current(now_ns));
  }
  // Many new rows: as a block at once, not as a group first. That is coded meanwhile and saved by an append soon after.
  if (active->rows.size() - active->committed > options.block_rows / kGroupRowsShare) seal_rows();
  TRY(save_blocks(encodings_wanted));
  for (const auto& file : files) {
    if (file != current && !awaits_block(file)) file->finish();
  }
  // Durable in order of append: what is newer than a block that is still being coded waits for it, and an append soon after tries again.
  if (std::ranges::any_of(refs, [](const BlockRef& ref) { return !ref.saved() && !ref.recovered; })) {
    last_commit_ns = now_ns - options.commit_ns;
    return {};
  }
  const std::size_t rows = active->rows.size();
  if (active->committed == rows) return {};
  std::string& bytes = group_bytes;
  bytes.clear();
  for (std::size_t i = active->committed; i < rows; ++i) active->hit(i).encode_bytes(bytes);
  ASSIGN(const std::int64_t id, current->commit_group(origin(), rows - active->committed, compress(bytes)));
  const std::unique_lock lock(mutex);
  if (active->file == nullptr) active->first_group = id;
  active->file = current;
  active->last_group = id;
  active->committed = rows;
  ++counters.commits;
  maybe_checkpoint(1);
  return {};
}

// The block of its last groups is still being encoded, or could not be saved: the file has to be written once more.
bool EmbeddedStore::State::awaits_block(const std::shared_ptr<DayFile>& file) const {
  return std::ranges::any_of(refs, [&](const BlockRef& ref) { return ref.group_file == file; });
}

// Oldest first: after a failure the next commit goes on where this one stopped. The owner alone changes `file`, so
// it may look without the lock.
Result<void> EmbeddedStore::State::save_blocks(Encodings encodings_wanted) {
  for (BlockRef& ref : refs) {
    if (ref.saved() || ref.recovered) continue;
    const auto encoding = encodings.find(ref.serial);
    const bool running = encoding != encodings.end() && encoding->second.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
    if (running && encodings_wanted == Encodings::Ready && encodings.size() <= kEncodingsMax) break;
    TRY(save(ref));
  }
  return {};
}

// SQLite would do it within a commit, with two fsync, in the owner's way.
void EmbeddedStore::State::maybe_checkpoint(std::size_t weight) {
  commits_since_checkpoint += weight;
  if (options.background && commits_since_checkpoint >= kCheckpointCommits) start_checkpoint(DayFile::Log::Keep);
}

void EmbeddedStore::State::start_checkpoint(DayFile::Log log) {
  if (!options.background) return current->checkpoint(log);
  if (checkpoint.valid() && checkpoint.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
  commits_since_checkpoint = 0;
  checkpoint = std::async(std::launch::async, [file = current, log] { file->checkpoint(log); });
}

Result<void> EmbeddedStore::State::open_current(std::int64_t now_ns) {
  const std::string day = day_of(clock.wall_ns(now_ns));
  const auto path = options.folder / fmt::format("{}{}.db", kDayFilePrefix, day);
  const auto known = std::find_if(files.begin(), files.end(), [&](const auto& file) { return file->path() == path; });
  // A day that was finished has no writing connection any more, so that it is opened anew.
  auto file = DayFile::open(path, options.vfs, options.background);
  if (!file && file.error().code == Code::Corrupt) {
    set_aside(path, file.error());
    {
      const std::unique_lock lock(mutex);
      ++counters.files_set_aside;
    }
    file = DayFile::open(path, options.vfs, options.background);
  }
  if (!file) return std::unexpected(file.error());
  if (known != files.end()) {
    const std::unique_lock lock(mutex);
    for (BlockRef& ref : refs) {
      if (ref.file == *known) ref.file = *file;
      if (ref.group_file == *known) ref.group_file = *file;
    }
    *known = *file;
  } else {
    files.push_back(*file);
  }
  current = std::move(*file);
  current_day = day;
  return {};
}

Result<void> EmbeddedStore::State::save(BlockRef& ref) {
  const std::shared_ptr<DayFile> target = ref.group_file != nullptr ? ref.group_file : current;
  if (target == nullptr) return fail(Code::Io, "no day file could be opened");
  Columns columns;
  if (auto encoding = encodings.extract(ref.serial)) {
    columns = encoding.mapped().get();
  } else {
    columns = encoders->encode(*ref.memory);
  }
  ASSIGN(const std::int64_t id, target->commit_block(origin(), *ref.memory, columns, ref.first_group, ref.last_group));
  maybe_checkpoint(kBlockCommits);
  const std::unique_lock lock(mutex);
  ref.file = target;
  ref.id = id;
  ref.group_file = nullptr;
  ++counters.commits;
  return {};
}

// The active rows become a block, at once in memory.
void EmbeddedStore::State::seal_rows() {
  BlockRef ref = describe(active->sealed());
  ref.serial = next_serial++;
  ref.group_file = active->file;
  ref.first_group = active->first_group;
  ref.last_group = active->last_group;
  auto fresh = std::make_shared<Active>(memory);
  fresh->rows.reserve(active->rows.size());  // probably as many again: growing would copy them all once more
  fresh->keys.expect_as(active->keys);
  fresh->details->expect_as(*active->details);
  if (options.background && !options.folder.empty()) {
    encodings.emplace(ref.serial, encoding_worker.give([block = ref.memory, kept = encoders] { return kept->encode(*block); }));
  }
  {
    const std::unique_lock lock(mutex);
    block_bytes += ref.bytes;
    refs.push_back(std::move(ref));
    active.swap(fresh);
  }
}

// And on disk, if that works now, else at a later commit.
void EmbeddedStore::State::seal_active() {
  if (active->rows.empty()) return;
  seal_rows();
  const std::int64_t now_ns = clock.now_ns();
  if (!options.folder.empty() && now_ns >= retry_ns) {
    auto done = current == nullptr ? open_current(now_ns) : Result<void>();
    if (done) done = save_blocks(active->bytes() + block_bytes > options.memory_bytes ? Encodings::Wait : Encodings::Ready);
    if (!done) disk_failed(done.error());
  }
  evict();
}

void EmbeddedStore::State::disk_failed(const Error& error) {
  backoff_ns = std::clamp(backoff_ns * 2, options.commit_ns, kBackoffMaxNs);
  retry_ns = clock.now_ns() + backoff_ns;
  last_reason = error.code == Code::Exhausted ? "disk_full" : "io";
  {
    const std::unique_lock lock(mutex);
    ++counters.commit_failures;
  }
  log::warn("stream: {}; events stay in memory, trying again in {:.1f} s", error.message,
            static_cast<double>(backoff_ns) / kNsPerSecond);
  if (error.code == Code::Corrupt && current != nullptr) abandon(current, error);
}

// The file we write turned out damaged: what memory still has of it is written again elsewhere.
void EmbeddedStore::State::abandon(const std::shared_ptr<DayFile>& file, const Error& why) {
  // The caller's reference may be an element of the list that the file leaves below.
  const std::shared_ptr<DayFile> kept = file;  // NOLINT(performance-unnecessary-copy-initialization)
  kept->finish();
  set_aside(kept->path(), why);
  const std::unique_lock lock(mutex);
  ++counters.files_set_aside;
  std::erase_if(refs, [&](const BlockRef& ref) {
    const bool lost = ref.file == kept && ref.memory == nullptr;
    counters.blocks_unreadable += lost ? 1 : 0;
    return lost;
  });
  for (BlockRef& ref : refs) {
    if (ref.file == kept) ref.file = nullptr;
    if (ref.group_file == kept) ref.group_file = nullptr;
  }
  if (active->file == kept) {
    active->file = nullptr;
    active->committed = 0;
    active->first_group = 0;
    active->last_group = -1;
  }
  std::erase(files, kept);
  if (current == kept) current = nullptr;
}

// Keeps memory within its limits: blocks that are on disk leave first; else the oldest is lost, and counted.
void EmbeddedStore::State::evict() {
  const std::int64_t old_ns = clock.now_ns() - options.memory_ns;
  const std::unique_lock lock(mutex);
  const auto over = [&] { return active->bytes() + block_bytes > options.memory_bytes; };
  for (BlockRef& ref : refs) {
    if (ref.memory == nullptr || !ref.saved() || (ref.max_ns >= old_ns && !over())) continue;
    block_bytes -= ref.bytes;
    ref.memory = nullptr;
  }
  std::erase_if(refs, [&](const BlockRef& ref) {
    if (ref.memory == nullptr || !over()) return false;
    block_bytes -= ref.bytes;
    encodings.erase(ref.serial);  // waits for it
    if (!ref.recovered) {
      counters.stored -= ref.rows;
      counters.dropped[options.folder.empty() ? "memory_limit" : last_reason] += ref.rows;
    }
    return true;
  });
}

}  // namespace culprit::stream
