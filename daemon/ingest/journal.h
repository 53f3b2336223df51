// Journal: follows systemd's journal, of this host or in a folder of journal files (libsystemd), from where it was before a
// restart.
//
// The cursor is written once a second, but only that of entries which the store has had for a second: after a crash some lines
// come twice rather than never. A cursor whose entry is gone (vacuumed) goes on with what came after it.
// Back-pressure: while the stream has no room nothing is read; the journal keeps it. Threads: one of its own.
// Limits: kFieldBytesMax bytes of a field, kUnitsMax units.
#pragma once

#include <filesystem>
#include <memory>

#include "daemon/ingest/followed.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

struct JournalOptions {
  std::string path;                     // a folder of journal files, or one file; empty: this host's journal
  std::vector<std::string> units;       // only these, and what systemd says of them; empty: all
  bool from_beginning = false;          // when there is no cursor; else from the end
  std::filesystem::path position_file;  // empty: nothing is kept
  Followed* followed = nullptr;         // learns that a journal is read, if given; what programs of this host wrote is marked for ingest/line_twins.h then
};

// One entry as "FIELD" and its value, as the journal has them; `wall_ns` is when journald took it.
struct JournalEntry {
  std::vector<std::pair<std::string_view, std::string_view>> fields;
  std::int64_t wall_ns = 0;
  std::string_view find(std::string_view field) const;
};

// Whose line it is: what systemd says of a unit (UNIT=, COREDUMP_UNIT=), the process of this host, the container, the unit, the
// program; the kernel's lines are the host's.
// Source: systemd.journal-fields(7).
void decode_journal_entry(const JournalEntry& entry, const Context& context, Decoded& out);

class JournalFollower {
 public:
  static constexpr std::size_t kFieldBytesMax = 64U << 10U;
  static constexpr std::size_t kUnitsMax = 64;

  // Errors: Invalid (units, path).
  static Result<std::unique_ptr<JournalFollower>> start(JournalOptions options, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver);
  ~JournalFollower();  // what was read is handed on, the cursor is written

  struct Probe {
    std::string text;
    std::vector<stream::Event> examples;  // the last entries
    std::vector<std::string> problems;
  };
  // Errors: Invalid; NotFound, Denied: no journal that may be read; Io.
  static Result<Probe> probe(const JournalOptions& options, const Context& context);

 private:
  struct Impl;
  explicit JournalFollower(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::ingest
