// Files: follows log files by glob, through rotation and truncation, from where it was before a restart.
//
// Every file is known by device, inode and a hash of its first bytes. A file that was renamed is read to its end before
// the new one of that name is; one that is shorter than what was read was truncated and is read from its start. Positions are
// written to `positions_file` once a second, but only those whose lines the store has had for a second: after a crash some
// lines come twice rather than never. Lines that continue the one before (stack traces) become one event.
// Back-pressure: while the stream has no room nothing is read. Threads: one of its own.
// Limits: kFilesMax files, kLineBytesMax bytes of a line (the rest is cut, counted), kMultiLinesMax lines of one event.
#pragma once

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
