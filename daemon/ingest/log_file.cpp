#include "daemon/ingest/log_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <sstream>
#include <vector>

namespace culprit::ingest {
namespace {

constexpr std::size_t kFolderEntriesMax = 10'000;

}  // namespace

std::uint64_t hash_of_bytes(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
  return hash;
}

Result<LogFile> LogFile::open(const std::filesystem::path& path) {
  LogFile file;
  file.fd_ = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat info {};
  if (!file.fd_ || ::fstat(file.fd_.get(), &info) != 0) return fail_errno(errno, fmt::format("open '{}'", path.string()));
  if (!S_ISREG(info.st_mode)) return fail(Code::Unsupported, fmt::format("'{}' is no regular file", path.string()));
  file.key_ = {info.st_dev, info.st_ino};
  if (path.extension() == ".gz") {
    file.packed_.reset(::gzdopen(file.fd_.get(), "r"));
    if (!file.packed_) return fail(Code::Io, fmt::format("open '{}': no memory to unpack", path.string()));
    (void)file.fd_.release();  // zlib closes it
  }
  return file;
}

std::uint64_t LogFile::size() const {
  if (packed_) return std::numeric_limits<std::uint64_t>::max();
  struct stat info {};
  return ::fstat(fd_.get(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : std::numeric_limits<std::uint64_t>::max();
}

std::optional<std::size_t> LogFile::read_at(std::uint64_t offset, std::span<char> to) {
  if (packed_) {
    if (offset > static_cast<std::uint64_t>(std::numeric_limits<z_off_t>::max())) return std::nullopt;
    const auto at = static_cast<z_off_t>(offset);
    if (::gztell(packed_.get()) != at && ::gzseek(packed_.get(), at, SEEK_SET) != at) return std::nullopt;
    const int got = ::gzread(packed_.get(), to.data(), static_cast<unsigned>(to.size()));
    return got < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(got));
  }
  const ssize_t got = ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset));
  return got < 0 ? std::nullopt : std::optional(static_cast<std::size_t>(got));
}

std::string LogFile::text_at(std::uint64_t offset, std::size_t bytes) {
  std::string text(bytes, '\0');
  text.resize(read_at(offset, text).value_or(0));
  return text;
}

std::optional<Position> Position::parse(const std::string& line) {
  std::istringstream words(line);
  Position position;
  if (!(words >> position.key.first >> position.key.second >> position.head_hash >> position.head_bytes >> position.offset)) return std::nullopt;
  // Older releases wrote no more than that.
  if (!(words >> position.tail_hash >> position.tail_bytes)) position.tail_hash = position.tail_bytes = 0;
  else if (words.get() == ' ') std::getline(words, position.path);
  if (position.head_bytes > kHeadBytes || position.tail_bytes > std::min<std::uint64_t>(kTailBytes, position.offset)) return std::nullopt;
  return position;
}

std::string Position::text() const {
  const bool fits = path.find('\n') == std::string::npos;
  return fmt::format("{} {} {} {} {} {} {} {}\n", key.first, key.second, head_hash, head_bytes, offset, tail_hash, tail_bytes, fits ? path : std::string());
}

bool Position::is_of(LogFile& file, bool by_bytes) const {
  if ((by_bytes && tail_bytes == 0) || file.size() < offset) return false;
  const std::string head = file.text_at(0, head_bytes);
  if (head.size() < head_bytes || hash_of_bytes(head) != head_hash) return false;
  const std::string tail = file.text_at(offset - tail_bytes, tail_bytes);
  return tail.size() == tail_bytes && hash_of_bytes(tail) == (tail_bytes == 0 ? hash_of_bytes({}) : tail_hash);
}

bool Position::is_where_it_was() const {
  auto file = path.empty() ? fail(Code::NotFound, "") : LogFile::open(path);
  return file && file->key() == key && is_of(*file, false);
}

bool is_named_like(const std::filesystem::path& path, const std::filesystem::path& original) {
  const std::string name = path.filename().string(), stem = original.stem().string();
  if (path.parent_path() != original.parent_path() || stem.empty() || !name.starts_with(stem)) return false;
  return name.size() == stem.size() || std::string_view(".-_~").find(name[stem.size()]) != std::string_view::npos;
}

std::optional<std::pair<std::string, LogFile>> find_moved(const Position& position, const std::function<bool(const LogFile::Key&)>& is_taken) {
  if (position.path.empty()) return std::nullopt;
  const auto folder = std::filesystem::path(position.path).parent_path();
  enum class Look { Renamed, Copied, Packed };
  // The folder is read for each anew: who packs a file removes the plain one only when the packed one is complete.
  for (const Look look : {Look::Renamed, Look::Copied, Look::Packed}) {
    std::error_code error;
    std::size_t seen = 0;
    for (auto each = std::filesystem::directory_iterator(folder, std::filesystem::directory_options::skip_permission_denied, error);
         !error && each != std::filesystem::directory_iterator() && seen < kFolderEntriesMax; each.increment(error), ++seen) {
      const std::filesystem::path& path = each->path();
      if (look != Look::Renamed && ((path.extension() == ".gz") != (look == Look::Packed) || !is_named_like(path, position.path))) continue;
      struct stat info {};
      if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
      const LogFile::Key key(info.st_dev, info.st_ino);
      if (is_taken(key) || (look == Look::Renamed && key != position.key)) continue;
      if (look == Look::Copied && static_cast<std::uint64_t>(info.st_size) < position.offset) continue;
      auto file = LogFile::open(path);
      if (file && file->key() == key && position.is_of(*file, look != Look::Renamed)) return std::pair(path.string(), std::move(*file));
    }
  }
  return std::nullopt;
}

}  // namespace culprit::ingest
