// Maintenance: what a person does with the store's files: verify, repair, back up, export, import.
//
// Verify, export and backup only read, also while a daemon writes. Repair and import need the folder for themselves:
// they take the store's lock, and are Busy while a daemon has it.
#pragma once

#include <filesystem>
#include <istream>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/stream/store.h"

namespace culprit::stream {

struct FileReport {
  std::filesystem::path file;
  std::uint64_t blocks = 0, rows = 0;    // that can be read whole
  std::uint64_t groups = 0, pending = 0;  // commit groups that are not sealed yet, and their rows
  std::vector<std::string> damaged;      // a line each: which block or group, what is wrong with it, what it held
  std::uint64_t rows_lost = 0;           // as far as it is known
  std::string refused;                   // why the file could not be looked at: not ours, newer, damaged as a whole
  bool sound() const { return damaged.empty() && refused.empty(); }
};

Result<void> need_store(const std::filesystem::path& folder);  // NotFound if there are no event files; Denied

// Reads and decodes everything of every day file. NotFound if there is no such folder.
Result<std::vector<FileReport>> verify_store(const std::filesystem::path& folder);

// Writes each file that holds damage anew from what can be read, and sets the old one aside as *.corrupt-N. Files
// that are not ours, or newer, stay as they are. Answers verify_store() as it was before. Errors: Busy, Io, Exhausted.
Result<std::vector<FileReport>> repair_store(const std::filesystem::path& folder);

// A copy of every day file into a folder that is new or empty; each is one moment's state. Files that cannot be read are left
// out: an error names the first, but the others are copied.
Result<std::uint64_t> backup_store(const std::filesystem::path& folder, const std::filesystem::path& to);

// One file that replays: a header line {"culprit":"events","version":1,"wall_offset_ns":...}, then the events as
// JSON lines, oldest first, in the times of the boot that the header's offset belongs to. Answers how many.
Result<std::uint64_t> export_events(const EventStore& store, const Query& query, const Clock& clock, std::ostream& out);

// The first line of such a file: its wall_offset_ns. Errors: Invalid (it is none), Unsupported (a newer one).
Result<std::int64_t> read_export_header(std::istream& in);

// Reads such a file to its end, so that one which is wrong anywhere is refused before anything of it is taken. Errors: as
// read_export_header(), and Invalid: "line 7: ...".
struct CheckedExport {
  std::uint64_t events = 0;
  std::string mark;  // of what it says: another file hardly has the same
};
Result<CheckedExport> check_export(std::istream& in);

// What a folder's store took, in imports.jsonl beside its files, so that nothing is taken twice unawares: a line when an
// import begins, and one when all of it is durable.
struct ImportNote {
  std::string mark, file;
  std::int64_t wall_ns = 0;
  std::uint64_t events = 0;
  bool whole = false;  // else it was cut off, and some of its events may be there
};
Result<void> note_import(const std::filesystem::path& folder, const ImportNote& note);
std::optional<ImportNote> noted_import(const std::filesystem::path& folder, std::string_view mark);  // the last one of this mark

// Appends the events of such a file, read up to behind its header, moved into this boot's times by both wall clocks, and makes
// them durable. Errors: Invalid ("line 7: ..."); Exhausted, Io if the disk did not take all of them. Some are there then.
Result<std::uint64_t> import_events(std::istream& in, std::int64_t exported_offset_ns, EventStore& store, const Clock& clock);

}  // namespace culprit::stream
