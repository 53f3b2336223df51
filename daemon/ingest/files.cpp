#include "daemon/ingest/files.h"

#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "daemon/base/log.h"
#include "daemon/base/text.h"
#include "daemon/ingest/container_lines.h"
#include "daemon/ingest/log_file.h"
#include "daemon/ingest/position.h"
#include "daemon/ingest/source_thread.h"
#include "daemon/stream/line_mark.h"

namespace culprit::ingest {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kReadBytes = 256U << 10U;
constexpr int kPartialPolls = 4;       // an event that may go on waits so many turns for its next line
constexpr std::int64_t kLingerNs = 10 * kNsPerSecond;  // writers go on with a renamed file until they are told to open the new one

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

// Of the line that the byte at `offset` belongs to; the offset itself if that line is longer than one read.
std::uint64_t start_of_line(LogFile& file, std::uint64_t offset) {
  const std::uint64_t from = offset - std::min<std::uint64_t>(offset, kReadBytes);
  const std::string before = file.text_at(from, offset - from);
  const std::size_t newline = before.rfind('\n');
  return newline != std::string::npos ? from + newline + 1 : from == 0 ? 0 : offset;
}

// A file as the kernel numbers it: stat(2) has the device in another form.
Followed::File kernel_file(const std::pair<std::uint64_t, std::uint64_t>& file) { return {std::uint64_t{major(file.first)} << 20U | minor(file.first), file.second}; }

struct Open {
  std::string path;
  LogFile file;
  LogFile::Key written_as;   // the file that it was written to, if this is a copy
  std::uint64_t offset = 0;  // of the first byte that is not in an event yet
  std::uint64_t read = 0;    // of the next byte to read
  std::string head, tail;    // the first bytes, and those before `read`
  std::string rest;          // a line whose end was not read
  std::uint64_t line_start = 0, pending_start = 0;  // offsets of rest and of pending
  bool skipping = false;     // the rest of a line beyond the limit
  std::string joined[2];     // what container engines cut out of one line, of the two streams
  std::uint64_t joined_start = 0;
  std::string container;     // its id in the path, if this is the log of one
  std::string pending;       // an event that may go on
  std::int64_t pending_wall_ns = 0;  // when a container engine got it
  bool pending_stderr = false, pending_wrapped = false;
  std::size_t pending_lines = 0;
  std::int64_t pending_ns = 0;
  bool replaced = false;     // another file has its name; ends when nothing was written for kLingerNs
  std::int64_t grew_ns = 0;
  Position position;         // as it was written last

  void set_offset(std::uint64_t at) {
    offset = read = line_start = at;
    head = file.text_at(0, std::min<std::uint64_t>(kHeadBytes, at));
    tail = file.text_at(at - std::min<std::uint64_t>(kTailBytes, at), std::min<std::uint64_t>(kTailBytes, at));
  }
  void note(std::string_view bytes) {  // that follow those read
    head += bytes.substr(0, kHeadBytes - std::min(kHeadBytes, head.size()));
    tail += bytes.substr(bytes.size() - std::min(kTailBytes, bytes.size()));
    if (tail.size() > kTailBytes) tail.erase(0, tail.size() - kTailBytes);
    read += bytes.size();
  }
  // Where the first line begins that is in no event yet.
  std::uint64_t unread_from() const {
    const std::uint64_t begun = joined[0].empty() && joined[1].empty() ? line_start : joined_start;
    return pending_lines > 0 ? std::min(pending_start, begun) : begun;
  }
  // How the part that was read is known again.
  Position read_so_far() const { return {file.key(), read, hash_of_bytes(head), head.size(), hash_of_bytes(tail), tail.size(), path}; }
};

}  // namespace

std::string service_of_path(const std::filesystem::path& path) {
  if (std::string of_container = service_of_container_path(path.native()); !of_container.empty()) return of_container;
  std::string stem = path.stem().string();
  static const std::set<std::string> kKinds = {"access", "error", "log", "logs", "current", "stdout", "stderr", "output", "messages", "server", "slow", "slow-query", "query", "other_vhosts_access"};
  stem = stem.substr(0, stem.find('.'));
  if (!kKinds.contains(stem)) return stem;
  std::string parent = path.parent_path().filename().string();
  return parent.empty() || parent == "log" || parent == "logs" ? stem : parent;
}

struct FileFollower::Impl {
  Impl(FilesOptions chosen, LineFormat line_format, LineFormat other_format, SourcePtr state, Intake& to, const Clock& time, const Resolver& who)
      : options(std::move(chosen)), format(std::move(line_format)), automatic(std::move(other_format)), source(std::move(state)), intake(to), clock(time), resolver(who) {}

  ~Impl() {
    thread = {};  // ends it
    for (const auto& [key, file] : files) end(key, file);
  }

  FilesOptions options;
  LineFormat format, automatic;
  SourcePtr source;
  Intake& intake;
  const Clock& clock;
  const Resolver& resolver;
  std::map<LogFile::Key, Open> files;
  std::map<LogFile::Key, Position> known;  // from before the restart
  bool ran_before = false;
  std::map<std::string, std::int64_t> folders;  // of the files that are read, and when their names changed last
  std::map<LogFile::Key, std::int64_t> copies;  // of files that are read; when that was first seen
  std::vector<Open> emptied;     // whose lines may go on in a copy
  std::optional<std::string> written;  // what the positions file holds
  std::optional<std::string> ready_to_write;  // a second old
  std::string buffer;
  bool first_scan = true;
  std::jthread thread;  // last: ends before what it uses

  Context context() const { return {clock.now_ns(), clock.wall_offset_ns(), &resolver, nullptr}; }

  void load_positions();
  std::string positions_text();
  void write_positions(const std::optional<std::string>& text);
  void scan();
  bool names_changed();
  bool find_position(Open& file);
  void begin(Open&& file, std::int64_t since_ns);
  void end(const LogFile::Key& key, const Open& file) const {
    if (options.followed == nullptr) return;
    options.followed->end(kernel_file(key));
    if (!file.container.empty()) options.followed->end_container(stream::LineMark::container_number(file.container));
  }
  void find_renamed();
  bool follow_copies(const std::stop_token& stop);
  bool read(Open& file, const std::stop_token& stop);
  void take_line(Open& file, std::string_view line, Decoded& out);
  void finish_pending(Open& file, Decoded& out);
  const LineFormat& format_of(const Open& file) const;
  bool deliver(Decoded& out, const std::stop_token& stop);
  void loop(const std::stop_token& stop);
};

void FileFollower::Impl::load_positions() {
  if (options.positions_file.empty()) return;
  std::ifstream in(options.positions_file);
  ran_before = in.is_open();
  for (std::string line; std::getline(in, line) && known.size() < 4 * kFilesMax;) {
    if (auto position = Position::parse(line)) known[position->key] = std::move(*position);
  }
}

std::string FileFollower::Impl::positions_text() {
  std::string text;
  for (auto& [key, file] : files) {
    Position& at = file.position;
    if (at.offset != file.offset || at.head_bytes != file.head.size() || at.path != file.path) {
      at = {key, file.offset, hash_of_bytes(file.head), file.head.size(), 0, 0, file.path};
      if (file.path.ends_with(".gz")) at.tail_hash = 0;
      else if (file.offset == file.read) at.tail_hash = hash_of_bytes(file.tail), at.tail_bytes = file.tail.size();
      else if (const std::uint64_t bytes = std::min<std::uint64_t>(kTailBytes, file.offset); bytes > 0) at.tail_hash = hash_of_bytes(file.file.text_at(file.offset - bytes, bytes)), at.tail_bytes = bytes;
    }
    text += at.text();
  }
  return text;
}

void FileFollower::Impl::write_positions(const std::optional<std::string>& text) {
  if (options.positions_file.empty() || !text || text == written) return;
  if (auto done = replace_file(options.positions_file, *text); !done) {
    log::warn("{}; after a restart some lines may come twice", done.error().message);
    return;
  }
  written = text;
}

// A name appeared, went or became another file's in a folder that is read: cheaper to see than by the pattern.
bool FileFollower::Impl::names_changed() {
  bool changed = false;
  for (auto& [folder, changed_ns] : folders) {
    struct stat info {};
    if (::stat(folder.c_str(), &info) != 0) continue;
    const std::int64_t at_ns = info.st_mtim.tv_sec * kNsPerSecond + info.st_mtim.tv_nsec;
    if (std::exchange(changed_ns, at_ns) != at_ns) changed = true;
  }
  return changed;
}

// Where a file that was just opened is to be read from, if that is known. False: not yet, as it is the copy of a file that is read and
// may be about to be emptied (copytruncate): what the copy has more will be read once, from one of both.
bool FileFollower::Impl::find_position(Open& file) {
  auto before = known.find(file.file.key());
  if (before != known.end() && !before->second.is_of(file.file, false)) before = known.end();
  if (before == known.end()) {  // the device got another number with the machine's start
    before = std::ranges::find_if(known, [&](const auto& each) { return each.second.path == file.path && each.second.is_of(file.file, true); });
  }
  if (before == known.end()) {  // a copy made while nobody looked
    before = std::ranges::find_if(known, [&](const auto& each) {
      return is_named_like(file.path, each.second.path) && each.second.is_of(file.file, true) && !each.second.is_where_it_was();
    });
  }
  if (before != known.end()) {
    file.set_offset(before->second.offset);
    known.erase(before);
    return true;
  }
  const std::uint64_t size = file.file.size();
  const std::size_t head = std::min<std::uint64_t>(kHeadBytes, size), tail = std::min<std::uint64_t>(kTailBytes, size);
  for (auto& [key, other] : files) {
    if (other.read == 0 || tail == 0 || other.replaced || other.path == file.path || !is_named_like(file.path, other.path)) continue;
    if (size > other.read) {
      if (!other.read_so_far().is_of(file.file, true)) continue;
      const auto since = copies.emplace(file.file.key(), clock.now_ns()).first->second;
      return clock.now_ns() - since > kLingerNs;  // else it only began like the other one
    }
    if (file.file.text_at(0, head) != std::string_view(other.head).substr(0, head) || file.file.text_at(size - tail, tail) != (size == other.read ? other.tail : other.file.text_at(size - tail, tail))) continue;
    file.set_offset(size);
    return true;
  }
  return true;
}

void FileFollower::Impl::begin(Open&& file, std::int64_t since_ns) {
  file.grew_ns = clock.now_ns();
  if (file.container.empty()) file.container = container_of_path(file.path);
  if (options.followed != nullptr) {
    options.followed->begin(kernel_file(file.file.key()), since_ns);
    if (!file.container.empty()) options.followed->begin_container(stream::LineMark::container_number(file.container));
  }
  const LogFile::Key key = file.file.key();
  files.emplace(key, std::move(file));
}

// What was read before the restart and has no name of the pattern any more.
void FileFollower::Impl::find_renamed() {
  for (auto each = known.begin(); each != known.end();) {
    const Position position = each->second;
    ++each;
    if (position.path.empty() || files.size() >= kFilesMax) continue;
    auto found = find_moved(position, [&](const LogFile::Key& key) { return files.contains(key); });
    if (!found) {
      log::warn("source '{}': what '{}' held when it was read last was not found again; lines after byte {} of it are lost, if there were any", source->name(), position.path, position.offset);
      continue;
    }
    Open file;
    file.path = std::move(found->first);
    file.file = std::move(found->second);
    file.written_as = position.key;
    file.set_offset(position.offset);
    file.replaced = true;
    known.erase(position.key);
    begin(std::move(file), 0);
  }
}

void FileFollower::Impl::scan() {
  const auto found = matches(options.pattern);
  if (!found) return;
  std::set<LogFile::Key> named;
  std::string trouble;
  for (const std::string& path : *found) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (const auto have = files.find({info.st_dev, info.st_ino}); have != files.end()) {
      named.insert(have->first);
      have->second.path = path;
      continue;
    }
    if (files.size() >= kFilesMax) {
      trouble = fmt::format("more than {} files match; the rest is not read", kFilesMax);
      continue;
    }
    auto opened = LogFile::open(path);
    if (!opened) {
      trouble = opened.error().message;
      continue;
    }
    Open file;
    file.path = path;
    file.file = std::move(*opened);
    file.written_as = file.file.key();
    named.insert(file.written_as);
    std::int64_t since_ns = 0;
    if (first_scan && !options.from_beginning && !ran_before) {
      file.set_offset(start_of_line(file.file, file.file.size()));
      since_ns = clock.now_ns();
    } else if (!find_position(file)) {
      continue;
    }
    copies.erase(file.written_as);
    // A file that appeared while we look, or that was truncated while we did not, is new from its start.
    begin(std::move(file), since_ns);
  }
  for (auto& [key, file] : files) file.replaced = !named.contains(key);
  std::erase_if(copies, [&](const auto& each) { return !named.contains(each.first); });
  if (first_scan) find_renamed();
  first_scan = false;
  std::map<std::string, std::int64_t> of_files;
  const auto watch = [&](const std::filesystem::path& file) {
    const std::string folder = file.parent_path().string();
    const auto before = folders.find(folder);
    of_files.emplace(folder, before == folders.end() ? 0 : before->second);
  };
  if (options.pattern.find_first_of("*?[") >= options.pattern.rfind('/')) watch(options.pattern);
  for (const auto& [key, file] : files) watch(file.path);
  folders = std::move(of_files);
  if (!trouble.empty()) source->set_state(files.empty() ? "failed" : "running", trouble);
  else if (files.empty()) source->set_state("waiting", "no file matches yet");
  else source->set_state("running", fmt::format("{} files", files.size()));
}

void FileFollower::Impl::finish_pending(Open& file, Decoded& out) {
  if (file.pending_lines == 0) return;
  stream::Event event;
  const std::string_view text = file.pending;
  const std::size_t first_end = text.find('\n');
  const Context now = context();
  ++out.records;
  if (!format_of(file).read(text.substr(0, first_end), now, event, out) && format.name() != "auto") ++source->malformed;
  if (first_end != std::string_view::npos) event.body = bounded_text(text, kBodyBytesMax, out);
  if (file.pending_wall_ns > 0) event.time_ns = stream_time(file.pending_wall_ns, now, out);  // the program's clock may be of another zone
  if (event.entity.empty() && !options.service.empty()) event.entity = "service:" + options.service;
  if (event.entity.empty() && !file.container.empty()) {
    if (const std::string name = resolver.service_of_container(file.container); !name.empty()) event.entity = "service:" + name;
  }
  const bool guessed = event.entity.empty();
  if (guessed) event.entity = "service:" + service_of_path(file.path);
  add_attribute(event.attributes, "log.file.path", file.path, out);
  if (!file.container.empty()) add_attribute(event.attributes, "container.id", file.container, out);
  if (file.pending_wrapped) add_attribute(event.attributes, "log.iostream", file.pending_stderr ? "stderr" : "stdout", out);
  if (options.followed != nullptr) {
    const Followed::File known_as = kernel_file(file.written_as);
    const std::uint64_t container = file.pending_wrapped ? stream::LineMark::container_number(file.container) : 0;
    const bool of_file = container == 0;  // the engine wrote the file, and the program what is in it
    stream::put_line_mark(event, {of_file ? known_as.first : 0, of_file ? known_as.second : 0, stream::LineMark::hash(text.substr(0, first_end)), guessed, container});
  }
  out.events.push_back(std::move(event));
  file.pending.clear();
  file.pending_lines = 0;
}

void FileFollower::Impl::take_line(Open& file, std::string_view line, Decoded& out) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  auto wrapped = unwrap_container_line(line);
  if (wrapped) {
    std::string& joined = file.joined[wrapped->is_stderr ? 1 : 0];
    if (file.joined[0].empty() && file.joined[1].empty()) file.joined_start = file.line_start;
    joined += std::string_view(wrapped->text).substr(0, kLineBytesMax - std::min(kLineBytesMax, joined.size()));
    if (!wrapped->whole) return;
    wrapped->text = std::exchange(joined, {});
    line = wrapped->text;
  }
  const bool same_kind = wrapped.has_value() == file.pending_wrapped && (!wrapped || wrapped->is_stderr == file.pending_stderr);
  if (file.pending_lines > 0 && file.pending_lines < kMultiLinesMax && file.pending.size() < kBodyBytesMax && same_kind && format_of(file).continues(line)) {
    file.pending += '\n';
    file.pending += line;
    ++file.pending_lines;
    file.pending_ns = clock.now_ns();
    return;
  }
  finish_pending(file, out);
  if (line.find_first_not_of(" \t") == std::string_view::npos) return;
  file.pending = line;
  file.pending_lines = 1;
  file.pending_start = file.line_start;
  file.pending_ns = clock.now_ns();
  file.pending_wrapped = wrapped.has_value();
  file.pending_stderr = wrapped && wrapped->is_stderr;
  file.pending_wall_ns = wrapped ? wrapped->wall_ns : 0;
}

// What a container engine wrapped in JSON need not be JSON itself.
const LineFormat& FileFollower::Impl::format_of(const Open& file) const { return file.pending_wrapped && format.name() == "json" ? automatic : format; }

// False: the daemon ends; positions stay behind, so that it is read again.
bool FileFollower::Impl::deliver(Decoded& out, const std::stop_token& stop) {
  source->note(out);
  return intake.deliver(source, std::exchange(out, {}).events, stop).has_value();
}

// One turn of one file. False when the daemon ends.
bool FileFollower::Impl::read(Open& file, const std::stop_token& stop) {
  Decoded out;
  const std::uint64_t size = file.file.size();
  std::size_t got = 0;
  if (size != file.read) {
    // What is before the new bytes is read again: where it differs the file was emptied and has grown since.
    buffer.resize(kTailBytes + kReadBytes);
    const std::size_t again = file.path.ends_with(".gz") ? 0 : file.tail.size();
    const std::optional<std::size_t> read = file.file.read_at(file.read - again, std::span(buffer).first(again + kReadBytes));
    const std::size_t all = read.value_or(0);
    if (read && (size < file.read || all < again || std::string_view(buffer).substr(0, again) != std::string_view(file.tail).substr(0, again))) {
      Open emptied_of = std::move(file);
      file = {};
      file.path = emptied_of.path;
      file.file = std::move(emptied_of.file);
      file.written_as = file.file.key();
      file.container = emptied_of.container;
      file.replaced = emptied_of.replaced;
      file.grew_ns = clock.now_ns();
      emptied_of.position.key = file.file.key();
      emptied.push_back(std::move(emptied_of));
      return true;  // its new lines are read in the next turn
    }
    got = all - std::min(all, again);
    std::string_view text(buffer.data() + again, got);
    file.note(text);
    if (got > 0) {
      file.grew_ns = clock.now_ns();
      ++source->requests;
      source->bytes += got;
    }
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      std::string_view piece = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      // Who goes on writing where it was in a file that was emptied leaves a hole of zeroes.
      if (file.rest.empty()) piece.remove_prefix(std::min(piece.find_first_not_of('\0'), piece.size()));
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
  const bool over = got == 0 && file.replaced && clock.now_ns() - file.grew_ns > kLingerNs;
  if (over && !file.rest.empty()) {  // nobody will end its last line any more
    take_line(file, std::exchange(file.rest, {}), out);
    file.line_start = file.read;
    finish_pending(file, out);
  }
  if (file.pending_lines > 0 && (clock.now_ns() - file.pending_ns > kPartialPolls * options.poll_every.count() * kNsPerMs || stop.stop_requested())) finish_pending(file, out);
  if (!deliver(out, stop)) return false;
  file.offset = file.unread_from();
  if (over && file.pending_lines == 0) file.file.close();
  return true;
}

// Of files that were emptied: who copied them before (logrotate's copytruncate) has what was not read of them. False when the daemon ends.
bool FileFollower::Impl::follow_copies(const std::stop_token& stop) {
  for (Open& file : std::exchange(emptied, {})) {
    Position read = file.read_so_far();
    read.key = file.position.key;
    auto copy = files.size() < kFilesMax ? find_moved(read, [&](const LogFile::Key& key) { return files.contains(key); }) : std::nullopt;
    if (!copy) {
      Decoded out;
      if (!file.rest.empty()) take_line(file, std::exchange(file.rest, {}), out);
      finish_pending(file, out);
      if (!deliver(out, stop)) return false;
      continue;
    }
    file.path = std::move(copy->first);
    file.file = std::move(copy->second);
    file.replaced = true;  // until a scan finds that it has a name of the pattern
    begin(std::move(file), 0);
  }
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
    more = false;
    for (auto& [key, file] : files) {
      const std::uint64_t before = file.read;
      if (!read(file, stop)) return write_positions(ready_to_write);
      more = more || (file.read > before && file.read - before >= kReadBytes);
    }
    if (!follow_copies(stop)) return write_positions(ready_to_write);
    std::erase_if(files, [&](const auto& entry) {
      if (entry.second.file) return false;
      end(entry.first, entry.second);
      return true;
    });
    if (names_changed() || now - scanned >= options.scan_every) {  // after it was seen which files were emptied: their copies are among them
      scan();
      scanned = now;
      more = true;
    }
    if (now - saved >= 1s) {
      write_positions(ready_to_write);
      ready_to_write = positions_text();
      saved = now;
    }
    if (more) continue;
    std::unique_lock lock(mutex);
    (void)wake.wait_for(lock, stop, options.poll_every, [] { return false; });
  }
  for (auto& [key, file] : files) {
    Decoded out;
    finish_pending(file, out);
    // An orderly end: what is handed on now is still stored.
    if (!deliver(out, {})) return write_positions(ready_to_write);
    file.offset = file.unread_from();
  }
  if (!first_scan) write_positions(positions_text());
}

FileFollower::FileFollower(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileFollower::~FileFollower() = default;

Result<std::unique_ptr<FileFollower>> FileFollower::start(FilesOptions options, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver) {
  ASSIGN(LineFormat format, LineFormat::create(options.format));
  ASSIGN(LineFormat automatic, LineFormat::create("auto"));
  TRY(matches(options.pattern));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(format), std::move(automatic), std::move(source), intake, clock, resolver);
  impl->load_positions();
  Impl* self = impl.get();
  impl->thread = start_source_thread("files", fmt::format("files '{}'", impl->options.pattern), {impl->source}, [self](const std::stop_token& stop) { self->loop(stop); });
  return std::unique_ptr<FileFollower>(new FileFollower(std::move(impl)));
}

Result<FileFollower::Probe> FileFollower::probe(const FilesOptions& options, const Context& context) {
  ASSIGN(const LineFormat format, LineFormat::create(options.format));
  ASSIGN(const LineFormat automatic, LineFormat::create("auto"));
  ASSIGN(const std::vector<std::string> found, matches(options.pattern));
  if (found.empty()) return fail(Code::NotFound, fmt::format("no file matches '{}', or its folder may not be read", options.pattern));
  Probe probe;
  for (const std::string& path : found) {
    if (probe.files.size() >= kFilesMax) break;
    probe.files.push_back(path);
    auto file = LogFile::open(path);
    if (!file) {
      probe.problems.push_back(file.error().message);
      continue;
    }
    const std::string bytes = file->text_at(0, kReadBytes);
    std::string_view text = bytes;
    for (int i = 0; i < 200 && !text.empty(); ++i) {
      const std::size_t end = text.find('\n');
      if (end == std::string_view::npos) break;
      std::string_view line = text.substr(0, end);
      text.remove_prefix(end + 1);
      const auto wrapped = unwrap_container_line(line);
      if (wrapped) line = wrapped->text;
      const LineFormat& of_line = wrapped && format.name() == "json" ? automatic : format;
      if (line.empty() || of_line.continues(line)) continue;
      stream::Event event;
      Decoded out;
      ++probe.lines;
      const bool fits = of_line.read(line, context, event, out);
      probe.fits += fits ? 1 : 0;
      if (!fits && probe.problems.size() < 5) probe.problems.push_back(fmt::format("'{}': not of format {}: {}", path, format.name(), sanitize_utf8(line.substr(0, 160))));
      if (event.entity.empty()) event.entity = "service:" + (options.service.empty() ? service_of_path(path) : options.service);
      if (probe.examples.size() < 3) probe.examples.push_back(std::move(event));
    }
  }
  return probe;
}

}  // namespace culprit::ingest
