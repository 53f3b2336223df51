#include "daemon/stream/maintenance.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "daemon/base/fd.h"
#include "daemon/stream/codec.h"
#include "daemon/stream/day_file.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kImportBatch = 4096;
constexpr std::size_t kImportBatchBytes = 1u << 20;  // of lines
constexpr std::uint32_t kColumnsWithoutGrams = kAllColumns & ~column_bit(Column::Grams);

Result<Block> read_block(const DayFile& file, const StoredBlock& stored) {
  ASSIGN(const Columns columns, file.read(stored.id, kAllColumns));
  TRY(may_hold(columns[static_cast<std::size_t>(Column::Grams)], stored.sequence, {}));
  return decode(columns, kColumnsWithoutGrams, stored.rows, stored.sequence);
}

struct Seen {
  FileReport report;
  std::shared_ptr<DayFile> file;
  std::vector<StoredBlock> blocks;   // the sound ones
  std::vector<PendingGroup> groups;  // with what could be read of them
};

Seen look_at(const std::filesystem::path& path) {
  Seen seen;
  seen.report.file = path;
  auto opened = DayFile::open_reading(path, {});
  if (!opened) {
    // An empty one was begun when the power went, and holds nothing: the next writer goes on with it.
    if (opened.error().code != Code::NotFound) seen.report.refused = opened.error().message;
    return seen;
  }
  seen.file = *opened;
  auto blocks = seen.file->blocks();
  if (!blocks) {
    seen.report.damaged.push_back(fmt::format("the list of blocks: {}", blocks.error().message));
  } else {
    if (blocks->damaged > 0) seen.report.damaged.push_back(fmt::format("{} blocks whose description is damaged", blocks->damaged));
    for (StoredBlock& stored : blocks->blocks) {
      if (const auto block = read_block(*seen.file, stored); !block) {
        seen.report.damaged.push_back(fmt::format("block {} ({} events): {}", stored.id, stored.rows, block.error().message));
        seen.report.rows_lost += stored.rows;
        continue;
      }
      ++seen.report.blocks;
      seen.report.rows += stored.rows;
      seen.blocks.push_back(std::move(stored));
    }
  }
  auto groups = seen.file->pending();
  if (!groups) {
    seen.report.damaged.push_back(fmt::format("the commit groups: {}", groups.error().message));
    return seen;
  }
  for (PendingGroup& group : *groups) {
    if (group.damaged) seen.report.damaged.push_back(fmt::format("group {}: {} events of it can be read", group.id, group.events.size()));
    ++seen.report.groups;
    seen.report.pending += group.events.size();
    seen.groups.push_back(std::move(group));
  }
  return seen;
}

Result<void> write_anew(const Seen& seen, const std::filesystem::path& to) {
  ASSIGN(const std::shared_ptr<DayFile> file, DayFile::open(to, {}));
  for (const StoredBlock& stored : seen.blocks) {
    ASSIGN(const Block block, read_block(*seen.file, stored));
    ASSIGN(const Columns columns, seen.file->read(stored.id, kAllColumns));
    TRY(file->commit_block({stored.boot_id, stored.wall_offset_ns}, block, columns, 0, -1));
  }
  for (const PendingGroup& group : seen.groups) {
    std::string bytes;
    for (const Event& event : group.events) encode_bytes(event, bytes);
    if (!group.events.empty()) TRY(file->commit_group({group.boot_id, group.wall_offset_ns}, group.events.size(), compress(bytes)));
  }
  file->finish();
  return {};
}

Result<void> copy_file(const std::filesystem::path& path, const std::string& copy) {
  const auto vacuum_into = [&]() -> Result<void> {
    ASSIGN(Database database, Database::open(path, Database::Mode::Read, {}));
    ASSIGN(Statement vacuum, database.prepare("VACUUM INTO ?"));
    return vacuum.bind_text(1, copy).run();
  };
  if (auto done = vacuum_into(); !done) return std::unexpected(done.error().context(fmt::format("copy '{}'", path.string())));
  const Fd written(::open(copy.c_str(), O_RDONLY | O_CLOEXEC));
  return written && ::fsync(written.get()) == 0 ? Result<void>() : fail_errno(errno, fmt::format("sync '{}'", copy));
}

constexpr const char* kImportsFile = "imports.jsonl";

// Days of events, then days of summaries.
std::vector<std::filesystem::path> all_files(const std::filesystem::path& folder) {
  auto files = day_files(folder, kDayFilePrefix);
  const auto minutes = day_files(folder, kMinuteFilePrefix);
  files.insert(files.end(), minutes.begin(), minutes.end());
  return files;
}

Error at_line(std::uint64_t number, const Error& why, const std::istream& in) {
  return {why.code, fmt::format("line {}: {}{}", number, why.message, in.eof() ? "; the file ends within this line: it was not written whole" : "")};
}

// False: there is none.
Result<bool> next_line(std::istream& in, std::uint64_t number, std::string& line) {
  line.clear();
  for (int c = in.get(); c != std::istream::traits_type::eof(); c = in.get()) {
    if (c == '\n') return true;
    if (line.size() >= kLineBytesMax) return fail(Code::Invalid, fmt::format("line {} has more than {} bytes", number, kLineBytesMax));
    line.push_back(static_cast<char>(c));
  }
  return !line.empty();
}

}  // namespace

Result<void> need_store(const std::filesystem::path& folder) {
  TRY(need_folder(folder));
  return !all_files(folder).empty() ? Result<void>() : fail(Code::NotFound, fmt::format("no event files in '{}'", folder.string()));
}

Result<std::vector<FileReport>> verify_store(const std::filesystem::path& folder) {
  TRY(need_folder(folder));
  std::vector<FileReport> reports;
  for (const auto& path : all_files(folder)) reports.push_back(look_at(path).report);
  return reports;
}

Result<std::vector<FileReport>> repair_store(const std::filesystem::path& folder) {
  TRY(need_folder(folder));
  ASSIGN(const Fd lock, lock_folder(folder));
  std::vector<FileReport> reports;
  for (const auto& path : all_files(folder)) {
    Seen seen = look_at(path);
    if (!seen.report.damaged.empty()) {
      const std::filesystem::path anew = path.string() + ".repair";
      remove_file(anew);  // of a repair that was interrupted
      TRY(write_anew(seen, anew));
      // Root repairs what belongs to the daemon's user, who must still be able to write it.
      struct stat owner {};
      if (::stat(path.c_str(), &owner) != 0 || ::chown(anew.c_str(), owner.st_uid, owner.st_gid) != 0) return fail_errno(errno, fmt::format("give '{}' to its owner", anew.string()));
      seen.file.reset();
      set_aside(path, {Code::Corrupt, fmt::format("{} parts", seen.report.damaged.size())});
      std::error_code error;
      std::filesystem::rename(anew, path, error);
      if (error) return fail_errno(error.value(), fmt::format("rename '{}'", anew.string()));
      remove_file(anew);
    }
    reports.push_back(std::move(seen.report));
  }
  return reports;
}

Result<std::uint64_t> backup_store(const std::filesystem::path& folder, const std::filesystem::path& to) {
  TRY(need_folder(folder));
  std::error_code error;
  std::filesystem::create_directories(to, error);
  if (error) return fail_errno(error.value(), fmt::format("create folder '{}'", to.string()));
  if (!std::filesystem::is_empty(to, error)) return fail(Code::Invalid, fmt::format("'{}' is not empty", to.string()));
  std::uint64_t files = 0;
  std::optional<Error> first;  // of the files that could not be copied: one that is damaged does not keep the others from it
  for (const auto& path : all_files(folder)) {
    const std::string copy = to / path.filename();
    if (auto done = copy_file(path, copy); !done) {
      remove_file(copy);
      if (done.error().code == Code::Exhausted) return std::unexpected(done.error());
      if (!first) first = done.error();
      continue;
    }
    ++files;
  }
  if (first) return std::unexpected(first->context(fmt::format("{} of the files copied, not all", files)));
  if (std::filesystem::exists(folder / kImportsFile, error)) std::filesystem::copy_file(folder / kImportsFile, to / kImportsFile, error);
  if (error) return fail_errno(error.value(), fmt::format("copy '{}'", (folder / kImportsFile).string()));
  return files;
}

Result<std::uint64_t> export_events(const EventStore& store, const Query& query, const Clock& clock, std::ostream& out) {
  errno = 0;  // what a stream has instead of an error of its own
  out << fmt::format("{{\"culprit\":\"events\",\"version\":1,\"wall_offset_ns\":{}}}\n", clock.wall_offset_ns());
  std::uint64_t count = 0;
  ASSIGN(const Completeness completeness, store.scan(query, [&](const Event& event) {
           out << encode_json(event) << '\n';
           ++count;
           return out.good();
         }));
  out.flush();
  if (!out) return errno != 0 ? fail_errno(errno, "write the export") : fail(Code::Io, "the export could not be written");
  if (completeness.rows_lost > 0) {
    return fail(Code::Corrupt, fmt::format("{} events were written, {} more are in damaged blocks", count, completeness.rows_lost));
  }
  if (store.stats().blocks_unreadable > 0) return fail(Code::Corrupt, fmt::format("{} events were written, others are in files that are damaged: `culprit store verify` names them", count));
  return count;
}

Result<std::int64_t> read_export_header(std::istream& in) {
  std::string line;
  ASSIGN(const bool any, next_line(in, 1, line));
  if (line.starts_with("\x1f\x8b")) return fail(Code::Invalid, "compressed by gzip: `gunzip -c` writes it as it was, and `culprit store import -` takes that");
  const nlohmann::json header = any ? nlohmann::json::parse(line, nullptr, false) : nlohmann::json();
  if (!header.is_object() || header.value("culprit", nlohmann::json()) != "events" || !header.value("wall_offset_ns", nlohmann::json()).is_number_integer()) {
    return fail(Code::Invalid, "line 1 is no header of an export: {\"culprit\":\"events\",\"version\":1,\"wall_offset_ns\":...}");
  }
  if (header.value("version", nlohmann::json()) != 1) return fail(Code::Unsupported, "written by a newer release: use that one");
  return header["wall_offset_ns"].get<std::int64_t>();
}

Result<CheckedExport> check_export(std::istream& in) {
  CheckedExport checked;
  ASSIGN(const std::int64_t offset_ns, read_export_header(in));
  std::string line;
  std::uint32_t sum = 0;
  std::uint64_t bytes = 0;
  for (std::uint64_t number = 2;; ++number) {
    ASSIGN(const bool more, next_line(in, number, line));
    if (!more) break;
    line.push_back('\n');  // so that a last line without one is no other file
    sum = checksum(line, sum);
    bytes += line.size();
    line.pop_back();
    if (line.empty()) continue;
    if (auto event = decode_json(line); !event) return std::unexpected(at_line(number, event.error(), in));
    ++checked.events;
  }
  checked.mark = fmt::format("crc32:{:08x}:{}:{}", sum, bytes, offset_ns);
  return checked;
}

Result<void> note_import(const std::filesystem::path& folder, const ImportNote& note) {
  const nlohmann::json json = {{"mark", note.mark}, {"file", note.file}, {"wall_ns", note.wall_ns}, {"events", note.events}, {"whole", note.whole}};
  // The end of line before it is for one that a full disk cut off.
  const std::string path = folder / kImportsFile, line = "\n" + json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return fail_errno(errno, fmt::format("open '{}'", path));
  if (::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) return fail_errno(errno, fmt::format("write '{}'", path));
  return ::fsync(file.get()) == 0 ? Result<void>() : fail_errno(errno, fmt::format("sync '{}'", path));
}

std::optional<ImportNote> noted_import(const std::filesystem::path& folder, std::string_view mark) {
  std::ifstream file(folder / kImportsFile, std::ios::binary);
  std::optional<ImportNote> last;
  std::string line;
  for (std::uint64_t number = 1;; ++number) {
    const auto more = next_line(file, number, line);
    if (!more || !*more) return last;
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);  // one that a full disk cut off says nothing
    if (!json.is_object() || json.value("mark", nlohmann::json()) != mark) continue;
    const auto number_of = [&](const char* name) { return json.value(name, nlohmann::json()).is_number_integer() ? json[name].get<std::int64_t>() : 0; };
    const nlohmann::json name = json.value("file", nlohmann::json());
    last = ImportNote{.mark = std::string(mark), .file = name.is_string() ? name.get<std::string>() : "", .wall_ns = number_of("wall_ns"),
                      .events = static_cast<std::uint64_t>(std::max<std::int64_t>(0, number_of("events"))), .whole = json.value("whole", nlohmann::json()) == true};
  }
}

Result<std::uint64_t> import_events(std::istream& in, std::int64_t exported_offset_ns, EventStore& store, const Clock& clock) {
  const auto shift = static_cast<std::int64_t>(static_cast<std::uint64_t>(exported_offset_ns) - static_cast<std::uint64_t>(clock.wall_offset_ns()));
  std::string line;
  std::uint64_t count = 0;
  std::size_t bytes = 0;
  std::vector<Event> batch;
  for (std::uint64_t number = 2;; ++number) {
    ASSIGN(const bool more, next_line(in, number, line));
    if (!more || batch.size() >= kImportBatch || bytes >= kImportBatchBytes) {
      count += batch.size();
      bytes = 0;
      if (!batch.empty()) TRY(store.append(std::exchange(batch, {})));
    }
    if (!more) break;
    if (line.empty()) continue;
    auto event = decode_json(line);
    if (!event) {
      count += batch.size();
      if (!batch.empty()) TRY(store.append(std::move(batch)));
      Error why = at_line(number, event.error(), in);
      why.message += fmt::format("; {} events before it were taken", count);
      return std::unexpected(std::move(why));
    }
    event->time_ns = static_cast<std::int64_t>(static_cast<std::uint64_t>(event->time_ns) + static_cast<std::uint64_t>(shift));
    bytes += line.size();
    batch.push_back(std::move(*event));
  }
  TRY(store.flush());
  for (const auto& [reason, events] : store.stats().dropped) {  // by a store that could not write for a while
    if (events > 0) return fail(Code::Exhausted, fmt::format("{} of {} events found no room ({})", events, count, reason));
  }
  return count;
}

}  // namespace culprit::stream
