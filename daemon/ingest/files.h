// Files: follows log files by glob, through rotation and truncation, from where it was before a restart.
//
// Every file is known by device and inode and by some of its bytes (log_file.h). A file that was renamed is read to its end, also
// one that was renamed, or packed with gzip, while nobody looked. One that does not hold any more what was read of it was emptied: it is
// read from its start, and what was not read of it before from its copy (logrotate's copytruncate), if there is one. Positions are
// written to `positions_file` once a second, but only those whose lines the store has had for a second: after a crash some
// lines come twice rather than never. Lines that continue the one before (stack traces) become one event.
// Back-pressure: while the stream has no room nothing is read. Threads: one of its own.
// Limits: kFilesMax files, kLineBytesMax bytes of a line (the rest is cut, counted), kMultiLinesMax lines of one event.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "daemon/ingest/followed.h"
#include "daemon/ingest/formats.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

struct FilesOptions {
  std::string pattern;                  // a glob; * does not match '/'
  std::string format = "auto";
  std::string service;                  // whose lines they are; empty: the line or the file's name says
  bool from_beginning = false;          // of files that were not known before; else their end
  std::filesystem::path positions_file;  // empty: nothing is kept
  Followed* followed = nullptr;         // learns which files are read, if given; its lines are marked for ingest/line_twins.h then
  std::chrono::milliseconds poll_every{250};  // for new lines, and for names that change in the folders of files that are read
  std::chrono::milliseconds scan_every{2000};  // for all that the pattern matches
};

class FileFollower {
 public:
  static constexpr std::size_t kFilesMax = 256;
  static constexpr std::size_t kLineBytesMax = 1U << 20U;
  static constexpr std::size_t kMultiLinesMax = 200;

  // Errors: Invalid (format, pattern).
  static Result<std::unique_ptr<FileFollower>> start(FilesOptions options, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver);
  ~FileFollower();  // what was read is handed on, positions are written

  struct Probe {
    std::vector<std::string> files;
    std::uint64_t lines = 0, fits = 0;  // of the first lines of each
    std::vector<std::string> problems;
    std::vector<stream::Event> examples;
  };
  // What following would find: for `culprit sources test`. Errors: Invalid; NotFound if no file matches.
  static Result<Probe> probe(const FilesOptions& options, const Context& context);

 private:
  struct Impl;
  explicit FileFollower(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// "/var/log/nginx/access.log" -> "nginx"; "/var/log/shop.log" -> "shop".
std::string service_of_path(const std::filesystem::path& path);

}  // namespace culprit::ingest
