// LogFile: one log file, plain or packed with gzip, and how it is known again after it was renamed, copied or packed.
//
// What was read of a file is known by device and inode, by its first bytes and by the last bytes before the offset up to which it
// was read. Inodes are used again and devices get other numbers with the next start of the machine, so the bytes must agree, too; a copy
// (logrotate's copytruncate, a packed file) agrees in its bytes alone, and is believed only if its name begins like the original's.
// Limits: kFolderEntriesMax names of a folder are looked at. Threads: one owner each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <zlib.h>

#include "daemon/base/fd.h"
#include "daemon/base/handle.h"
#include "daemon/base/result.h"

namespace culprit::ingest {

inline constexpr std::size_t kHeadBytes = 256, kTailBytes = 64;

std::uint64_t hash_of_bytes(std::string_view bytes);

class LogFile {
 public:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // device and inode, as stat(2) has them

  LogFile() = default;
  // ".gz" is read as what it unpacks to. Errors: Io, with the path; Unsupported: no regular file.
  static Result<LogFile> open(const std::filesystem::path& path);
  explicit operator bool() const { return static_cast<bool>(fd_) || packed_ != nullptr; }
  void close() { *this = {}; }

  Key key() const { return key_; }
  std::uint64_t size() const;  // what can be read; of a packed file nobody knows it: the largest number
  // How many bytes from `offset` on it has written to `to`, fewer at the end; nothing if it cannot be read. Of a packed
  // file reading on is cheap and going back is not.
  std::optional<std::size_t> read_at(std::uint64_t offset, std::span<char> to);
  std::string text_at(std::uint64_t offset, std::size_t bytes);  // at most so many

 private:
  static void end_packed(gzFile file) { (void)::gzclose(file); }

  Key key_;
  Fd fd_;
  Handle<gzFile_s, end_packed> packed_;
};

// What is kept of a file over a restart: a line of the file of positions.
struct Position {
  LogFile::Key key;
  std::uint64_t offset = 0;  // of the first byte that is not in an event yet
  std::uint64_t head_hash = 0, head_bytes = 0;
  std::uint64_t tail_hash = 0, tail_bytes = 0;  // before offset; none of a packed file
  std::string path;          // where it was

  bool operator==(const Position&) const = default;
  static std::optional<Position> parse(const std::string& line);
  std::string text() const;  // one line, with its end
  // Whether that file holds what was read. `by_bytes`: it is another file, so bytes before the offset must be known.
  bool is_of(LogFile& file, bool by_bytes) const;
  bool is_where_it_was() const;
};

// The file that holds what was read of `position`, in the folder where that was: renamed, else copied, else packed. `is_taken` says
// which files are not asked for.
std::optional<std::pair<std::string, LogFile>> find_moved(const Position& position, const std::function<bool(const LogFile::Key&)>& is_taken);

// Whether names are of one log: "shop.log" and "shop.log.1", "shop-20270101.log", "shop.log.1.gz" are.
bool is_named_like(const std::filesystem::path& path, const std::filesystem::path& original);

}  // namespace culprit::ingest
