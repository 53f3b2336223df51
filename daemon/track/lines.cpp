#include "daemon/track/lines.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "daemon/base/text.h"
#include "daemon/stream/line_mark.h"

namespace culprit::track {

namespace {

constexpr std::int64_t kPartialNs = 1'000'000'000;  // a part that waits longer for its rest is a line
constexpr std::size_t kLevelWithin = 120;           // levels stand at the start of a line

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

struct Level {
  std::string_view word;  // lower case
  stream::Severity severity;
};
constexpr std::array<Level, 24> kLevels = {{{"fatal", stream::kFatal}, {"panic", stream::kFatal}, {"emerg", stream::kFatal},
    {"emergency", stream::kFatal}, {"alert", stream::kFatal}, {"crit", stream::kFatal}, {"critical", stream::kFatal},
    {"error", stream::kError}, {"err", stream::kError}, {"severe", stream::kError}, {"exception", stream::kError},
    {"warn", stream::kWarn}, {"warning", stream::kWarn}, {"notice", stream::kInfo}, {"info", stream::kInfo},
    {"information", stream::kInfo}, {"log", stream::kInfo}, {"statement", stream::kInfo}, {"detail", stream::kInfo},
    {"hint", stream::kInfo}, {"context", stream::kInfo}, {"debug", stream::kDebug}, {"trace", stream::kTrace},
    {"verbose", stream::kDebug}}};

stream::Severity level_of(std::string_view word) {
  if (word.size() < 3 || word.size() > 12) return stream::kUnset;
  std::array<char, 12> buffer{};
  std::ranges::transform(word, buffer.begin(), lower);
  const std::string_view low(buffer.data(), word.size());
  if (low.starts_with("debug") && low.size() == 6 && low[5] >= '1' && low[5] <= '5') return stream::kDebug;  // PostgreSQL DEBUG1
  for (const Level& level : kLevels) {
    if (level.word == low) return level.severity;
  }
  return stream::kUnset;
}

// pino and bunyan write numbers: 10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal.
stream::Severity level_of_number(std::string_view text) {
  if (text.size() != 2 || text[1] != '0' || text[0] < '1' || text[0] > '6') return stream::kUnset;
  static constexpr std::array<stream::Severity, 6> kByTen = {stream::kTrace, stream::kDebug, stream::kInfo,
                                                             stream::kWarn,  stream::kError, stream::kFatal};
  return kByTen[static_cast<std::size_t>(text[0] - '1')];
}

// The value after `"level":` or `level=`, bare.
std::string_view value_after(std::string_view line, std::string_view key) {
  for (std::size_t at = line.find(key); at != std::string_view::npos; at = line.find(key, at + 1)) {
    std::size_t i = at + key.size();
    while (i < line.size() && (line[i] == '"' || line[i] == ' ' || line[i] == ':' || line[i] == '=')) ++i;
    std::size_t end = i;
    while (end < line.size() && is_word(line[end])) ++end;
    if (end > i) return line.substr(i, end - i);
  }
  return {};
}

// Ends a number of an access log: `... HTTP/1.1" 502 157 ...`.
stream::Severity severity_of_access(std::string_view line) {
  const auto at = line.find(" HTTP/1.");
  if (at == std::string_view::npos) return stream::kUnset;
  const std::string_view rest = line.substr(at + 8);
  if (rest.size() < 6 || rest[1] != '"' || rest[2] != ' ') return stream::kUnset;
  return rest[3] == '5' ? stream::kError : stream::kInfo;
}

bool contains_word(std::string_view line, std::string_view word) {
  for (std::size_t i = 0; i + word.size() <= line.size(); ++i) {
    if (i > 0 && is_word(line[i - 1])) continue;
    std::size_t k = 0;
    while (k < word.size() && lower(line[i + k]) == word[k]) ++k;
    if (k == word.size() && (i + k == line.size() || !is_word(line[i + k]))) return true;
  }
  return false;
}

}  // namespace

stream::Severity severity_of_line(std::string_view line) {
  const std::string_view head = line.substr(0, std::min(line.size(), kLevelWithin));
  if (!line.empty() && line.front() == '{') {
    for (const std::string_view key : {"\"level\"", "\"severity\"", "\"lvl\"", "\"log.level\"", "\"levelname\""}) {
      const std::string_view value = value_after(line, key);
      if (const auto severity = level_of(value); severity != stream::kUnset) return severity;
      if (const auto severity = level_of_number(value); severity != stream::kUnset) return severity;
    }
  }
  for (const std::string_view key : {"level=", "lvl=", "severity="}) {
    if (const auto severity = level_of(value_after(head, key)); severity != stream::kUnset) return severity;
  }
  if (const auto severity = severity_of_access(line); severity != stream::kUnset) return severity;
  // A word in capitals, or a word in brackets, or the first word before a colon.
  for (std::size_t i = 0; i < head.size();) {
    if (!is_word(head[i])) {
      ++i;
      continue;
    }
    std::size_t end = i;
    bool capitals = true;
    while (end < head.size() && is_word(head[end])) {
      if (head[end] >= 'a' && head[end] <= 'z') capitals = false;
      ++end;
    }
    const std::string_view word = head.substr(i, end - i);
    const bool bracketed = i > 0 && end < head.size() && ((head[i - 1] == '[' && head[end] == ']') || (head[i - 1] == '<' && head[end] == '>'));
    const bool first_with_colon = i == 0 && end < head.size() && head[end] == ':';
    if (capitals || bracketed || first_with_colon) {
      if (const auto severity = level_of(word); severity != stream::kUnset) return severity;
    }
    i = end;
  }
  // Redis: "1:M 23 Nov 2026 14:02:08.123 # message"; # is a warning, * a notice, - and . are details.
  if (const auto colon = line.find(':'); colon < 8 && line.size() > colon + 3 && line[colon + 2] == ' ' &&
                                         std::string_view("MSCX").find(line[colon + 1]) != std::string_view::npos) {
    const auto dot = line.find('.', colon);
    if (dot != std::string_view::npos && dot + 6 < line.size() && line[dot + 4] == ' ' && line[dot + 6] == ' ') {
      const char sign = line[dot + 5];
      if (sign == '#') return stream::kWarn;
      if (sign == '*') return stream::kInfo;
      if (sign == '-' || sign == '.') return stream::kDebug;
    }
  }
  for (const std::string_view word : {"traceback", "exception", "fatal", "panic", "segfault"}) {
    if (contains_word(line, word)) return stream::kError;
  }
  if (line.find("Error: ") != std::string_view::npos || line.find("Exception: ") != std::string_view::npos) return stream::kError;
  for (const std::string_view word : {"error", "failed", "failure", "refused", "denied"}) {
    if (contains_word(line, word)) return stream::kError;
  }
  for (const std::string_view word : {"warning", "timeout", "retrying", "deprecated"}) {
    if (contains_word(line, word)) return stream::kWarn;
  }
  return stream::kUnset;
}

std::string without_query_values(std::string_view line) {
  std::string out;
  std::size_t at = 0;
  while (at < line.size()) {
    const auto mark = line.find('?', at);
    if (mark == std::string_view::npos) break;
    // A query follows a path: "/x?a=b". Up to the next blank, quote or bracket.
    std::size_t word = mark;
    while (word > at && line[word - 1] != ' ' && line[word - 1] != '"' && line[word - 1] != '\'') --word;
    const auto end = std::min(line.find_first_of(" \"'<>)]}\t", mark), line.size());
    const std::string_view query = line.substr(mark + 1, end - mark - 1);
    const bool is_path = line.substr(word, mark - word).find('/') != std::string_view::npos;
    if (is_path && query.find('=') != std::string_view::npos) {
      out += line.substr(at, mark + 1 - at);
      out += "…";
      at = end;
    } else {
      out += line.substr(at, mark + 1 - at);
      at = mark + 1;
    }
  }
  out += line.substr(at);
  return out;
}

Lines::Lines(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory, Requests& requests)
    : options_(options), stats_(stats), output_(output), directory_(directory), requests_(requests) {}

void Lines::on_log(const culprit_log_event& event) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  directory_.meet(event.task.tgid, event.task.cgroup_id, event.task.comm);
  TraceContext trace;
  (void)requests_.owner_of_line(event.task.tgid, event.task.tid, time_ns, trace);
  std::string_view rest(reinterpret_cast<const char*>(event.data), event.captured);
  const bool cut = event.bytes > event.captured;
  const std::uint64_t key = static_cast<std::uint64_t>(event.task.tgid) << 32 | static_cast<std::uint32_t>(event.fd);
  auto partial = partials_.find(key);
  const Partial here{{}, time_ns, event.task.tid, event.inode, event.device, event.fd, trace};
  while (!rest.empty()) {
    const auto newline = rest.find('\n');
    const std::string_view piece = rest.substr(0, newline);
    const bool whole = newline != std::string_view::npos;
    rest.remove_prefix(whole ? newline + 1 : rest.size());
    if (partial != partials_.end()) {
      const std::size_t room = options_.limits.line_bytes - std::min(partial->second.text.size(), options_.limits.line_bytes);
      if (piece.size() > room) ++stats_.lines_cut;
      partial->second.text.append(piece.substr(0, room));
      if (!whole && !cut) return;
      const Partial done = std::move(partial->second);
      partials_.erase(partial);
      partial = partials_.end();
      submit(event.task.tgid, done, done.text);
      continue;
    }
    if (!whole && !cut && partials_.size() < options_.limits.partial_lines) {
      (partials_[key] = here).text = piece;
      return;
    }
    // The rest of a write beyond the captured bytes is unseen: what there is of the line is all we get.
    if (!whole) ++stats_.lines_cut;
    submit(event.task.tgid, here, piece);
  }
}

void Lines::submit(std::uint32_t tgid, const Partial& from, std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\0')) line.remove_suffix(1);
  if (line.empty()) return;
  const Process* process = directory_.find(tgid);
  Service* service = directory_.find(process == nullptr ? ServiceId::None : process->service);
  stream::Severity severity = severity_of_line(line);
  if (service != nullptr) {
    ++service->lines;
    if (severity >= stream::kError) ++service->error_lines;
    // Errors have a share of their own, so that chatter does not push them out.
    const std::size_t limit = options_.limits.lines_per_second;
    if (!service->line_limit.allow(from.time_ns, severity >= stream::kError ? limit : limit * 3 / 4)) {
      ++stats_.lines_dropped;
      return;
    }
  }
  stream::Event event;
  event.time_ns = from.time_ns;
  event.kind = stream::Kind::Log;
  event.severity = severity;
  event.entity = service != nullptr ? service->entity : "process:" + std::to_string(tgid);
  event.value = 1;
  event.trace_id[0] = from.trace.trace_id[0];
  event.trace_id[1] = from.trace.trace_id[1];
  event.span_id = from.trace.span_id;
  if (service != nullptr) event.attributes.emplace_back("service", service->name);
  event.attributes.emplace_back("process.pid", std::to_string(tgid));
  event.attributes.emplace_back("thread.id", std::to_string(from.tid));
  if (process != nullptr) {
    for (const OpenFile& file : process->facts.files) {
      if (file.fd != from.fd || (from.inode != 0 && file.inode != 0 && file.inode != from.inode)) continue;
      event.attributes.emplace_back("log.file.path", sanitize_utf8(file.path));
      break;
    }
  }
  // journald takes "<3>" off the begin of what programs write to their output.
  const bool has_level = from.device == 0 && line.size() > 3 && line[0] == '<' && line[1] >= '0' && line[1] <= '7' && line[2] == '>';
  const std::uint64_t container = from.device == 0 && service != nullptr ? stream::LineMark::container_number(service->cgroup) : 0;
  stream::put_line_mark(event, {from.device, from.device == 0 ? 0 : from.inode, stream::LineMark::hash(line.substr(has_level ? 3 : 0)), false, container});
  event.body = without_query_values(sanitize_utf8(line));
  output_.add(std::move(event));
}

void Lines::tick(std::int64_t now_ns) {
  for (auto found = partials_.begin(); found != partials_.end();) {
    if (now_ns - found->second.time_ns < kPartialNs) {
      ++found;
      continue;
    }
    const Partial done = std::move(found->second);
    const auto tgid = static_cast<std::uint32_t>(found->first >> 32);
    found = partials_.erase(found);
    ++stats_.partial_lines_flushed;
    submit(tgid, done, done.text);
  }
}

}  // namespace culprit::track
