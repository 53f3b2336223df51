#include "daemon/ingest/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>

#include "daemon/base/fd.h"
#include "daemon/base/log.h"
#include "daemon/base/text.h"
#include "daemon/ingest/position.h"
#include "daemon/ingest/source_thread.h"
#include "daemon/stream/line_mark.h"

namespace culprit::ingest {
namespace {

using namespace std::chrono_literals;

constexpr auto kPollEvery = 250ms;
constexpr auto kScanEvery = 2s;        // for new files of the pattern
constexpr std::size_t kReadBytes = 256U << 10U;
constexpr std::size_t kHeadBytes = 256;  // that tell a file from another that got its inode
constexpr std::int64_t kPartialNs = kNsPerSecond;  // a last line without newline, or an event that may go on, waits this long
constexpr std::int64_t kLingerNs = 10 * kNsPerSecond;  // writers go on with a renamed file until they are told to open the new one

std::uint64_t hash_of(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
  return hash;
}

Result<std::vector<std::string>> matches(const std::string& pattern) {
  if (pattern.empty() || pattern[0] != '/') return fail(Code::Invalid, fmt::format("pattern '{}': an absolute path, with * and ? if needed", pattern));
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> files;
  for (std::size_t i = 0; status == 0 && i < found.gl_pathc; ++i) {
    const std::string_view path = found.gl_pathv[i];
    if (path.ends_with(".gz") || path.ends_with(".xz") || path.ends_with(".zst") || path.ends_with(".bz2")) continue;  // rotated and packed: read before
    files.emplace_back(path);
  }
  ::globfree(&found);
  std::ranges::sort(files);
  return files;
}

// A file as the kernel numbers it: stat(2) has the device in another form.
Followed::File kernel_file(const std::pair<std::uint64_t, std::uint64_t>& file) { return {std::uint64_t{major(file.first)} << 20U | minor(file.first), file.second}; }

struct Position {
  std::uint64_t device = 0, inode = 0, head_hash = 0, head_bytes = 0, offset = 0;
};

struct Open {
  std::string path;
  Fd fd;
  Position position;       // offset = of the first byte that is not in an event yet
  std::uint64_t read = 0;  // offset of the next byte to read
  std::string rest;        // a line whose end was not read
  std::uint64_t line_start = 0, pending_start = 0;  // offsets of rest and of pending
  bool skipping = false;   // the rest of a line beyond the limit
  std::string pending;     // an event that may go on
  std::size_t pending_lines = 0;
  std::int64_t pending_ns = 0;
  bool replaced = false;   // another file has its name; ends when nothing was written for kLingerNs
  std::int64_t grew_ns = 0;
};

}  // namespace

std::string service_of_path(const std::filesystem::path& path) {
  std::string stem = path.stem().string();
  static const std::set<std::string> kKinds = {"access", "error", "log", "logs", "current", "stdout", "stderr", "output", "messages", "server", "slow", "slow-query", "query", "other_vhosts_access"};
  stem = stem.substr(0, stem.find('.'));
  if (!kKinds.contains(stem)) return stem;
  std::string parent = path.parent_path().filename().string();
  return parent.empty() || parent == "log" || parent == "logs" ? stem : parent;
}

struct FileFollower::Impl {
  Impl(FilesOptions chosen, LineFormat line_format, SourcePtr state, Intake& to, const Clock& time, const Resolver& who)
      : options(std::move(chosen)), format(std::move(line_format)), source(std::move(state)), intake(to), clock(time), resolver(who) {}

  ~Impl() {
    thread = {};  // ends it
    for (const auto& [key, file] : files) {
      if (options.followed != nullptr) options.followed->end(kernel_file(key));
    }
  }

  FilesOptions options;
  LineFormat format;
  SourcePtr source;
  Intake& intake;
  const Clock& clock;
  const Resolver& resolver;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Open> files;  // by device and inode
  std::map<std::pair<std::uint64_t, std::uint64_t>, Position> known;  // from before the restart
  std::string written;           // what the positions file holds
  std::string ready_to_write;    // a second old
  bool first_scan = true;
  std::jthread thread;  // last: ends before what it uses

  Context context() const { return {clock.now_ns(), clock.wall_offset_ns(), &resolver, nullptr}; }

  void load_positions();
  std::string positions_text() const;
  void write_positions(const std::string& text);
  void scan();
  bool read(Open& file, const std::stop_token& stop);
  void take_line(Open& file, std::string_view line, Decoded& out);
  void finish_pending(Open& file, Decoded& out);
  bool deliver(Decoded& out, const std::stop_token& stop);
  void loop(const std::stop_token& stop);
};

void FileFollower::Impl::load_positions() {
  if (options.positions_file.empty()) return;
  std::ifstream in(options.positions_file);
  for (std::string line; std::getline(in, line) && known.size() < 4 * kFilesMax;) {
    std::istringstream words(line);
    Position position;
    if (words >> position.device >> position.inode >> position.head_hash >> position.head_bytes >> position.offset) known[{position.device, position.inode}] = position;
  }
}

std::string FileFollower::Impl::positions_text() const {
  std::string text;
  for (const auto& [key, file] : files) {
    const Position& at = file.position;
    text += fmt::format("{} {} {} {} {}\n", at.device, at.inode, at.head_hash, at.head_bytes, at.offset);
  }
  return text;
}

void FileFollower::Impl::write_positions(const std::string& text) {
  if (options.positions_file.empty() || text == written) return;
  if (auto done = replace_file(options.positions_file, text); !done) {
    log::warn("{}; after a restart some lines may come twice", done.error().message);
    return;
  }
  written = text;
}

void FileFollower::Impl::scan() {
  const auto found = matches(options.pattern);
  if (!found) return;
  std::set<std::pair<std::uint64_t, std::uint64_t>> named;
  std::string trouble;
  for (const std::string& path : *found) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const std::pair<std::uint64_t, std::uint64_t> key(info.st_dev, info.st_ino);
    named.insert(key);
    if (const auto have = files.find(key); have != files.end()) {
      have->second.path = path;
      continue;
    }
    if (files.size() >= kFilesMax) {
      trouble = fmt::format("more than {} files match; the rest is not read", kFilesMax);
      continue;
    }
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!fd) {
      trouble = fmt::format("open '{}': {}", path, std::generic_category().message(errno));
      continue;
    }
    Open file;
    file.path = path;
    file.position.device = key.first;
    file.position.inode = key.second;
    std::string head(kHeadBytes, '\0');
    const ssize_t got = ::pread(fd.get(), head.data(), head.size(), 0);
    head.resize(static_cast<std::size_t>(std::max<ssize_t>(0, got)));
    const auto before = known.find(key);
    const bool same = before != known.end() && before->second.head_bytes <= head.size() && hash_of(std::string_view(head).substr(0, before->second.head_bytes)) == before->second.head_hash;
    file.position.head_bytes = head.size();
    file.position.head_hash = hash_of(head);
    const auto size = static_cast<std::uint64_t>(info.st_size);
    std::int64_t since_ns = 0;
    if (same && before->second.offset <= size) file.position.offset = before->second.offset;
    else if (first_scan && !options.from_beginning && known.empty()) file.position.offset = size, since_ns = clock.now_ns();
    // A file that appeared while we look, or that was truncated while we did not, is new from its start.
    file.read = file.line_start = file.position.offset;
    file.fd = std::move(fd);
    file.grew_ns = clock.now_ns();
    if (options.followed != nullptr) options.followed->begin(kernel_file(key), since_ns);
    files.emplace(key, std::move(file));
  }
  for (auto& [key, file] : files) file.replaced = !named.contains(key);
  first_scan = false;
  if (!trouble.empty()) source->set_state(files.empty() ? "failed" : "running", trouble);
  else if (files.empty()) source->set_state("waiting", "no file matches yet");
  else source->set_state("running", fmt::format("{} files", files.size()));
}

void FileFollower::Impl::finish_pending(Open& file, Decoded& out) {
  if (file.pending_lines == 0) return;
  stream::Event event;
  const std::string_view text = file.pending;
  const std::size_t first_end = text.find('\n');
  ++out.records;
  if (!format.read(text.substr(0, first_end), context(), event, out) && format.name() != "auto") ++source->malformed;
  if (first_end != std::string_view::npos) event.body = bounded_text(text, kBodyBytesMax, out);
  const bool guessed = event.entity.empty() && options.service.empty();
  if (event.entity.empty()) event.entity = "service:" + (options.service.empty() ? service_of_path(file.path) : options.service);
  add_attribute(event.attributes, "log.file.path", file.path, out);
  if (options.followed != nullptr) {
    const Followed::File known_as = kernel_file({file.position.device, file.position.inode});
    stream::put_line_mark(event, {known_as.first, known_as.second, stream::LineMark::hash(text.substr(0, first_end)), guessed});
  }
  out.events.push_back(std::move(event));
  file.pending.clear();
  file.pending_lines = 0;
}

void FileFollower::Impl::take_line(Open& file, std::string_view line, Decoded& out) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (file.pending_lines > 0 && file.pending_lines < kMultiLinesMax && file.pending.size() < kBodyBytesMax && format.continues(line)) {
    file.pending += '\n';
    file.pending += line;
    ++file.pending_lines;
    return;
  }
  finish_pending(file, out);
  if (line.find_first_not_of(" \t") == std::string_view::npos) return;
  file.pending = line;
  file.pending_lines = 1;
  file.pending_start = file.line_start;
  file.pending_ns = clock.now_ns();
}

// False: the daemon ends; positions stay behind, so that it is read again.
bool FileFollower::Impl::deliver(Decoded& out, const std::stop_token& stop) {
  source->note(out);
  return intake.deliver(source, std::exchange(out, {}).events, stop).has_value();
}

// One turn of one file. False when the daemon ends.
bool FileFollower::Impl::read(Open& file, const std::stop_token& stop) {
  struct stat info {};
  if (::fstat(file.fd.get(), &info) == 0 && static_cast<std::uint64_t>(info.st_size) < file.read) {
    // Truncated: whatever it held is gone, it begins again.
    file.read = file.line_start = file.position.offset = 0;
    file.rest.clear();
    file.skipping = false;
    file.position.head_bytes = 0;
  }
  Decoded out;
  std::string buffer(kReadBytes, '\0');
  const ssize_t got = ::pread(file.fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(file.read));
  if (got > 0) {
    file.grew_ns = clock.now_ns();
    ++source->requests;
    source->bytes += static_cast<std::uint64_t>(got);
    file.read += static_cast<std::uint64_t>(got);
    if (file.position.head_bytes < kHeadBytes) {
      std::string head(kHeadBytes, '\0');
      const ssize_t size = ::pread(file.fd.get(), head.data(), head.size(), 0);
      head.resize(static_cast<std::size_t>(std::max<ssize_t>(0, size)));
      file.position.head_bytes = head.size();
      file.position.head_hash = hash_of(head);
    }
    std::string_view text(buffer.data(), static_cast<std::size_t>(got));
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      const std::string_view piece = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      if (!file.skipping) {
        const std::size_t room = kLineBytesMax - std::min(kLineBytesMax, file.rest.size());
        file.rest += piece.substr(0, room);
        if (piece.size() > room) {
          file.skipping = true;
          ++out.cut;
        }
      }
      if (end == std::string_view::npos) break;
      take_line(file, file.rest, out);
      file.line_start = file.read - text.size();
      file.rest.clear();
      file.skipping = false;
    }
  }
  const bool over = got <= 0 && file.replaced && clock.now_ns() - file.grew_ns > kLingerNs;
  if (over && !file.rest.empty()) {  // nobody will end its last line any more
    take_line(file, std::exchange(file.rest, {}), out);
    file.line_start = file.read;
    finish_pending(file, out);
  }
  if (file.pending_lines > 0 && (clock.now_ns() - file.pending_ns > kPartialNs || stop.stop_requested())) finish_pending(file, out);
  if (!deliver(out, stop)) return false;
  file.position.offset = file.pending_lines > 0 ? file.pending_start : file.line_start;
  if (over && file.pending_lines == 0) file.fd.reset();
  return true;
}

void FileFollower::Impl::loop(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  auto scanned = std::chrono::steady_clock::time_point{};
  auto saved = std::chrono::steady_clock::now();
  bool more = false;
  while (!stop.stop_requested()) {
    const auto now = std::chrono::steady_clock::now();
    if (now - scanned >= kScanEvery) {
      scan();
      scanned = now;
    }
    more = false;
    for (auto& [key, file] : files) {
      const std::uint64_t before = file.read;
      if (!read(file, stop)) return write_positions(ready_to_write.empty() ? written : ready_to_write);
      more = more || file.read - before >= kReadBytes;
    }
    std::erase_if(files, [&](const auto& entry) {
      if (entry.second.fd) return false;
      if (options.followed != nullptr) options.followed->end(kernel_file(entry.first));
      return true;
    });
    if (now - saved >= 1s) {
      write_positions(ready_to_write);
      ready_to_write = positions_text();
      saved = now;
    }
    if (more) continue;
    std::unique_lock lock(mutex);
    (void)wake.wait_for(lock, stop, kPollEvery, [] { return false; });
  }
  for (auto& [key, file] : files) {
    Decoded out;
    finish_pending(file, out);
    // An orderly end: what is handed on now is still stored.
    if (!deliver(out, {})) return write_positions(ready_to_write);
    file.position.offset = file.line_start;
  }
  write_positions(positions_text());
}

FileFollower::FileFollower(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileFollower::~FileFollower() = default;

Result<std::unique_ptr<FileFollower>> FileFollower::start(FilesOptions options, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver) {
  ASSIGN(LineFormat format, LineFormat::create(options.format));
  TRY(matches(options.pattern));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(format), std::move(source), intake, clock, resolver);
  impl->load_positions();
  Impl* self = impl.get();
  impl->thread = start_source_thread("files", fmt::format("files '{}'", impl->options.pattern), {impl->source}, [self](const std::stop_token& stop) { self->loop(stop); });
  return std::unique_ptr<FileFollower>(new FileFollower(std::move(impl)));
}

Result<FileFollower::Probe> FileFollower::probe(const FilesOptions& options, const Context& context) {
  ASSIGN(const LineFormat format, LineFormat::create(options.format));
  ASSIGN(const std::vector<std::string> found, matches(options.pattern));
  if (found.empty()) return fail(Code::NotFound, fmt::format("no file matches '{}', or its folder may not be read", options.pattern));
  Probe probe;
  for (const std::string& path : found) {
    if (probe.files.size() >= kFilesMax) break;
    probe.files.push_back(path);
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!fd) {
      probe.problems.push_back(fmt::format("open '{}': {}", path, std::generic_category().message(errno)));
      continue;
    }
    std::string bytes(kReadBytes, '\0');
    const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
    bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(0, got)));
    std::string_view text = bytes;
    for (int i = 0; i < 200 && !text.empty(); ++i) {
      const std::size_t end = text.find('\n');
      if (end == std::string_view::npos) break;
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(end + 1);
      if (line.empty() || format.continues(line)) continue;
      stream::Event event;
      Decoded out;
      ++probe.lines;
      const bool fits = format.read(line, context, event, out);
      probe.fits += fits ? 1 : 0;
      if (!fits && probe.problems.size() < 5) probe.problems.push_back(fmt::format("'{}': not of format {}: {}", path, format.name(), sanitize_utf8(line.substr(0, 160))));
      if (event.entity.empty()) event.entity = "service:" + (options.service.empty() ? service_of_path(path) : options.service);
      if (probe.examples.size() < 3) probe.examples.push_back(std::move(event));
    }
  }
  return probe;
}

}  // namespace culprit::ingest
