// Retention: what leaves the store, because it is old or because the disk has a limit. Whole days go first, the oldest of
// them before the others; of the day that is being written only its oldest blocks.
#include <algorithm>

#include "daemon/stream/embedded_state.h"

namespace culprit::stream {

void EmbeddedStore::State::remove_refs(const std::function<bool(const BlockRef&)>& gone) {
  const std::unique_lock lock(mutex);
  std::erase_if(refs, [&](const BlockRef& ref) {
    if (!gone(ref)) return false;
    if (ref.memory != nullptr) block_bytes -= ref.bytes;
    counters.pruned += ref.rows;
    return true;
  });
}

void EmbeddedStore::State::remove_day(const std::shared_ptr<DayFile>& file) {
  if (std::ranges::find(leaving, file) == leaving.end()) leaving.push_back(file);
  go_on_leaving();
}

void EmbeddedStore::State::drop_day(const std::shared_ptr<DayFile>& file) {
  // The caller's reference may be an element of the list that the file leaves below.
  const std::shared_ptr<DayFile> kept = file;  // NOLINT(performance-unnecessary-copy-initialization)
  remove_refs([&](const BlockRef& ref) { return ref.file == kept; });
  kept->finish();
  remove_file(kept->path());
  std::erase(files, kept);
}

Result<void> EmbeddedStore::State::prune(std::int64_t older_than_ns) {
  if (options.read_only) return fail(Code::Denied, "the store was opened only to read");
  if (options.folder.empty()) {
    remove_refs([&](const BlockRef& ref) { return ref.max_ns < older_than_ns; });
    return {};
  }
  for (const auto& file : std::vector(files)) {
    if (file == current) continue;
    bool all_old = true;
    for (const BlockRef& ref : refs) {
      if (ref.file == file || ref.group_file == file) all_old = all_old && ref.saved() && ref.max_ns < older_than_ns;
    }
    if (all_old) remove_day(file);
  }
  prune_minutes();
  return prune_to_limit();
}

// Whole days first, then the oldest blocks of the day being written. A log that goes beyond the limit is emptied
// afterwards, since deleting makes it longer; no event goes for it.
Result<void> EmbeddedStore::State::prune_to_limit() {
  if (options.disk_bytes == 0) return {};
  ASSIGN(const std::uint64_t total, remove_beyond_limit());
  if (current != nullptr && total + log_bytes(current->path()) > options.disk_bytes) start_checkpoint(DayFile::Log::Empty);
  return {};
}

// Returns the bytes that are left, but for the log of the day being written and days that only wait to be removed.
Result<std::uint64_t> EmbeddedStore::State::remove_beyond_limit() {
  std::uint64_t total = 0, live = 0;
  for (const auto& file : files) {
    if (file != current) total += file_bytes(file->path());
  }
  for (const auto& file : minute_files) total += file_bytes(file->path());
  if (current != nullptr) {
    ASSIGN(live, current->live_bytes());
    total += live;
  }
  for (const auto& file : std::vector(files)) {
    if (total <= options.disk_bytes) return total;
    if (file == current) continue;
    total -= file_bytes(file->path());
    if (!awaits_block(file)) remove_day(file);  // else a later look does; nothing that is newer goes in its place
  }
  for (const auto& file : std::vector(minute_files)) {  // raw data goes first, but if nothing else is left these go too
    if (total <= options.disk_bytes) return total;
    total -= file_bytes(file->path());
    remove_minutes(file);
  }
  while (total > options.disk_bytes && current != nullptr) {
    const auto oldest = std::find_if(refs.begin(), refs.end(), [&](const BlockRef& ref) { return ref.file == current; });
    if (oldest == refs.end()) return total;
    TRY(current->delete_block(oldest->id));
    const std::uint64_t serial = oldest->serial;
    remove_refs([&](const BlockRef& ref) { return ref.serial == serial; });
    total -= live;
    ASSIGN(live, current->live_bytes());
    total += live;
  }
  return total;
}

}  // namespace culprit::stream
