#include "daemon/logs/header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace culprit::logs {
namespace {

using std::string_view;
constexpr std::size_t kJsonBytesMax = 64 << 10;  // longer lines are not parsed as JSON

bool digit(char c) { return c >= '0' && c <= '9'; }
bool upper(char c) { return c >= 'A' && c <= 'Z'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || upper(c); }
char lower(char c) { return upper(c) ? static_cast<char>(c - 'A' + 'a') : c; }

bool same(string_view a, string_view small) {
  return a.size() == small.size() && std::equal(a.begin(), a.end(), small.begin(), [](char x, char y) { return lower(x) == y; });
}

void skip_spaces(string_view& text) {
  const std::size_t at = text.find_first_not_of(" \t");
  text.remove_prefix(at == string_view::npos ? text.size() : at);
}

string_view word_of(string_view text) { return text.substr(0, text.find_first_of(" \t")); }

bool month(string_view word) {
  static constexpr string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (word.size() != 3) return false;
  for (std::size_t i = 0; i < kMonths.size(); i += 3) {
    if (kMonths.substr(i, 3) == word) return true;
  }
  return false;
}

// Matches a shape at the front: '9' a digit, 'd' one or two, anything else itself. The length, or 0.
std::size_t shape(string_view text, string_view pattern) {
  std::size_t at = 0;
  for (const char c : pattern) {
    if (at >= text.size() || (c == '9' || c == 'd' ? !digit(text[at]) : text[at] != c)) return 0;
    ++at;
    if (c == 'd' && at < text.size() && digit(text[at])) ++at;
  }
  return at;
}

// Fractions, zones and closing marks after a time: ".123456Z", ",123", "+0200", " UTC".
std::size_t time_tail(string_view text) {
  std::size_t at = 0;
  if (at + 1 < text.size() && (text[at] == '.' || text[at] == ',' || text[at] == ':') && digit(text[at + 1])) {
    ++at;
    while (at < text.size() && digit(text[at])) ++at;
  }
  if (at < text.size() && text[at] == 'Z') return at + 1;
  for (const string_view zone : {"+99:99", "-99:99", "+9999", "-9999", " +9999", " -9999"}) {
    if (const std::size_t size = shape(text.substr(at), zone)) return at + size;
  }
  // A zone's name: capitals, followed by a space or a closing bracket; not a level ("INFO").
  if (at < text.size() && text[at] == ' ') {
    std::size_t end = at + 1;
    while (end < text.size() && upper(text[end])) ++end;
    const std::size_t size = end - at - 1;
    if ((size == 3 || size == 4) && (end == text.size() || text[end] == ' ' || text[end] == ']') &&
        severity_of_level(text.substr(at + 1, size)) == stream::kUnset && text.substr(at + 1, size) != "LOG" &&
        end + 1 < text.size() && (text[end] == ']' || text[end + 1] == '[' || text[end + 1] == '(')) {
      return end;
    }
  }
  return at;
}

// The length of a time (date, time of day, both, seconds since 1970) at the front; 0 if there is none.
std::size_t time_front(string_view text) {
  static constexpr string_view kShapes[] = {
      "9999-d-dTd:d:d", "9999-d-d d:d:d", "9999/d/d d:d:d", "9999.d.d d:d:d",  "d/d/9999 d:d:d",
      "d/d/99 d:d:d",   "d.d.9999 d:d:d", "d-d-9999 d:d:d", "99-99 99:99:99", "99999999-d:d:d",
      "99999999 d:d:d", "99:99:99",            "9999-99-99",          "9999/99/99",          "9999.99.99",
      "999999 999999",       "9999999999.999",      "9999999999"};
  for (const string_view each : kShapes) {
    const std::size_t size = shape(text, each);
    if (size == 0) continue;
    // "9999-99-99-99.99.99.999999" and other tails of digits belong to it.
    std::size_t end = size + time_tail(text.substr(size));
    while (end < text.size() && (digit(text[end]) || ((text[end] == '.' || text[end] == '-' || text[end] == ':') && end + 1 < text.size() && digit(text[end + 1])))) ++end;
    if (end < text.size() && (letter(text[end]) || text[end] == '_' || text[end] == '/')) continue;
    // "1365301360 bytes were read": a number of ten digits that begins a sentence counts something. As a time it would be a variable, too.
    if (size == 10 && end == size && each[4] == '9' && end + 1 < text.size() && text[end] == ' ' && text[end + 1] >= 'a' && text[end + 1] <= 'z') continue;
    return end;
  }
  // "Sat Jun 18 02:23:10 2005", "Jun 18 02:23:10", "18 Jun 2005 02:23:10.123", "18/Jun/2005:02:23:10 +0200"
  string_view rest = text;
  if (rest.size() > 4 && rest[3] == ' ' && month(rest.substr(4, 3))) rest.remove_prefix(4);
  if (month(rest.substr(0, 3)) && rest.size() > 15 && rest[3] == ' ') {
    string_view day = rest.substr(3);
    skip_spaces(day);
    std::size_t digits = 0;
    while (digits < day.size() && digit(day[digits])) ++digits;
    if (digits == 1 || digits == 2) {
      day.remove_prefix(digits);
      skip_spaces(day);
      if (const std::size_t size = shape(day, "99:99:99")) {
        std::size_t end = static_cast<std::size_t>(day.data() - text.data()) + size;
        end += time_tail(text.substr(end));
        if (const std::size_t year = shape(text.substr(end), " 9999")) {
          if (end + year == text.size() || !(digit(text[end + year]) || letter(text[end + year]))) end += year;
        }
        return end;
      }
    }
  }
  for (const string_view sep : {" ", "/"}) {
    if (shape(text, "99") != 0 && text.substr(2, 1) == sep && month(text.substr(3, 3))) {
      for (const string_view tail : {" 9999 99:99:99", "/9999:99:99:99"}) {
        if (const std::size_t size = shape(text.substr(6), tail)) return 6 + size + time_tail(text.substr(6 + size));
      }
    }
  }
  return 0;
}

// Takes a level word off the front, with the brackets and marks around it: "[error] ", "INFO: ", "<warn> - ".
bool take_level(string_view& text, std::uint8_t& severity, bool must_shout) {
  string_view rest = text;
  const char open = rest.empty() ? '\0' : rest[0];
  const char close = open == '[' ? ']' : open == '<' ? '>' : open == '(' ? ')' : '\0';
  if (close != '\0') rest.remove_prefix(1);
  skip_spaces(rest);
  std::size_t size = 0;
  while (size < rest.size() && (letter(rest[size]) || (size > 0 && digit(rest[size])))) ++size;
  std::uint8_t level = severity_of_level(rest.substr(0, size));
  if (close != '\0' && size < rest.size() && rest[size] == ':') {  // Apache 2.4: [core:error]
    std::size_t end = size + 1;
    while (end < rest.size() && (letter(rest[end]) || digit(rest[end]))) ++end;
    if (const std::uint8_t second = severity_of_level(rest.substr(size + 1, end - size - 1))) {
      level = second;
      size = end;
    }
  }
  if (level == stream::kUnset) return false;
  const string_view word = rest.substr(0, size);
  if (must_shout && close == '\0' && !std::all_of(word.begin(), word.end(), [](char c) { return upper(c) || digit(c); })) return false;
  rest.remove_prefix(size);
  if (close != '\0') {
    skip_spaces(rest);
    if (!rest.starts_with(close)) return false;
    rest.remove_prefix(1);
  } else if (!rest.empty() && rest[0] != ' ' && rest[0] != ':' && rest[0] != '\t' && rest[0] != '|') {
    return false;
  }
  if (rest.starts_with(':') || rest.starts_with('|')) rest.remove_prefix(1);
  skip_spaces(rest);
  if (rest.starts_with("- ")) rest.remove_prefix(2);
  skip_spaces(rest);
  severity = level;
  text = rest;
  return true;
}

// Takes "[...]" off the front, with brackets inside it; only if something follows.
bool take_bracket(string_view& text) {
  if (!text.starts_with('[')) return false;
  int depth = 0;
  for (std::size_t i = 0; i < text.size() && i < 512; ++i) {
    depth += text[i] == '[' ? 1 : text[i] == ']' ? -1 : 0;
    if (depth == 0) {
      if (i + 1 == text.size()) return false;
      text.remove_prefix(i + 1);
      if (text.starts_with(':')) text.remove_prefix(1);
      skip_spaces(text);
      return true;
    }
  }
  return false;
}

// A logger's or class's name: "dfs.DataNode$PacketResponder:", "c.e.shop.Cart -", "nova.compute.manager [".
bool take_logger(string_view& text, string_view& program) {
  const string_view word = word_of(text);
  if (word.empty() || word.size() > 128 || word.size() == text.size()) return false;
  string_view name = word;
  const bool colon = name.ends_with(':');
  if (colon) name.remove_suffix(1);
  const bool plain = !name.empty() && letter(name[0]) && std::all_of(name.begin(), name.end(), [](char c) {
    return letter(c) || digit(c) || c == '.' || c == '$' || c == '_' || c == '-' || c == '/' || c == '@' || c == '#';
  });
  if (!plain) return false;
  string_view rest = text.substr(word.size());
  skip_spaces(rest);
  const bool dotted = name.find('.') != string_view::npos || name.find('$') != string_view::npos;
  const bool dash = rest.starts_with("- ") || rest.starts_with(": ");
  if (!(colon && dotted) && !dash && !(dotted && rest.starts_with('['))) return false;
  if (dash) rest.remove_prefix(2);
  skip_spaces(rest);
  program = name;
  text = rest;
  return true;
}

// What may follow a level: threads and contexts in brackets, a logger, a dash, in any order.
void take_context(string_view& text, string_view& program) {
  for (int i = 0; i < 4; ++i) {
    if (text.starts_with('[')) {
      // Only a context, if it is not the message's own: an identifier with a space inside is one of ours.
      string_view rest = text;
      if (!take_bracket(rest)) return;
      const bool dash = rest.starts_with("- ") || rest.starts_with(": ");
      string_view name;
      string_view after = rest;
      if (dash) {
        text = rest.substr(2);
        skip_spaces(text);
        return;
      }
      if (take_logger(after, name)) {
        program = name;
        text = after;
        continue;
      }
      if (!program.empty()) text = rest;  // logger [context] message
      return;
    }
    if (!take_logger(text, program)) return;
  }
}

// RFC 3164 after its time: "host tag[pid]: message"; the host is left out by some.
bool take_syslog_tag(string_view& text, string_view& program) {
  string_view rest = text;
  for (int i = 0; i < 2; ++i) {
    const string_view word = word_of(rest);
    if (word.size() > 128) return false;
    if (word.ends_with(':') && word.size() > 1) {
      const std::size_t end = std::min(word.find('['), word.size() - 1);
      const string_view tag = word.substr(0, end);
      if (!letter(tag.empty() ? '\0' : tag[0]) && !tag.starts_with('-') && !tag.starts_with('/')) return false;
      program = tag;
      rest.remove_prefix(word.size());
      skip_spaces(rest);
      text = rest;
      return true;
    }
    if (i == 0) {
      rest.remove_prefix(word.size());
      skip_spaces(rest);
      // "tag(module)[pid]:" and "gpm[1]:" are words; a tag of two words ends in a colon too: "syslogd 1.4.1: restart."
    }
  }
  const string_view first = word_of(rest);
  string_view second = rest.substr(first.size());
  skip_spaces(second);
  const string_view version = word_of(second);
  if (version.ends_with(':') && version.size() > 1 && digit(version[0])) {
    program = first;
    second.remove_prefix(version.size());
    skip_spaces(second);
    text = second;
    return true;
  }
  return false;
}

bool split_json(string_view line, std::string& buffer, Message& message) {
  if (!line.starts_with('{') || line.size() > kJsonBytesMax) return false;
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) return false;
  for (const char* field : {"message", "msg", "log", "body", "MESSAGE", "event", "text"}) {
    const auto found = json.find(field);
    if (found == json.end() || !found->is_string()) continue;
    for (const char* level : {"level", "severity", "lvl", "log.level", "levelname", "severity_text"}) {
      const auto given = json.find(level);
      if (given != json.end() && given->is_string()) message.severity = severity_of_level(given->get_ref<const std::string&>());
    }
    buffer = found->get<std::string>();
    message.text = buffer;
    return true;
  }
  return false;
}

// logfmt: `time=... level=info msg="..." key=value`: the message, without what follows it.
bool split_logfmt(string_view line, Message& message) {
  const std::size_t at = line.find("msg=");
  if (at > 256 || (at > 0 && line[at - 1] != ' ')) return false;
  const std::size_t level = line.find("level=");
  if (level == string_view::npos || line.substr(0, at).find('=') == string_view::npos) return false;
  string_view word = word_of(line.substr(level + 6));
  while (word.starts_with('"')) word.remove_prefix(1);
  while (word.ends_with('"')) word.remove_suffix(1);
  message.severity = severity_of_level(word);
  string_view text = line.substr(at + 4);
  if (text.starts_with('"')) {
    std::size_t end = 1;
    while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
    text = text.substr(1, std::min(end, text.size()) - 1);
  } else {
    text = word_of(text);
  }
  message.text = text;
  return true;
}

// klog and glog: "I0102 15:04:05.123456   1234 file.go:12] message"
bool split_klog(string_view line, Message& message) {
  if (line.size() < 22 || string_view("IWEF").find(line[0]) == string_view::npos || !shape(line.substr(1), "9999 99:99:99.999")) {
    return false;
  }
  const std::size_t end = line.find("] ");
  if (end > 200) return false;
  message.severity = severity_of_level(line.substr(0, 1));
  message.text = line.substr(end + 2);
  return true;
}

// "1234:M 18 Jun 2005 02:23:10.123 * message"
bool split_redis(string_view line, Message& message) {
  std::size_t at = 0;
  while (at < line.size() && digit(line[at])) ++at;
  if (at == 0 || at + 3 > line.size() || line[at] != ':' || !upper(line[at + 1]) || line[at + 2] != ' ') return false;
  string_view rest = line.substr(at + 3);
  const std::size_t time = time_front(rest);
  if (time == 0) return false;
  rest.remove_prefix(time);
  skip_spaces(rest);
  if (rest.size() < 2 || rest[1] != ' ') return false;
  const std::size_t level = string_view(".-*#").find(rest[0]);
  if (level == string_view::npos) return false;
  constexpr std::uint8_t levels[] = {stream::kDebug, stream::kInfo, stream::kInfo, stream::kWarn};
  message = {.text = rest.substr(2), .severity = levels[level], .program = "redis"};
  return true;
}

// The level may stand some words behind the time, with only ids, numbers and capitals between:
// "<id> 2005.06.03 R02-M1 RAS KERNEL INFO message", "file.log 2017-05-16 00:00:00.008 25746 INFO logger message".
bool take_far_level(string_view& text, std::uint8_t& severity) {
  string_view rest = text;
  for (int i = 0; i < 8 && !rest.empty(); ++i) {
    if (take_level(rest, severity, true)) {
      text = rest;
      return true;
    }
    const string_view word = word_of(rest);
    const bool number = std::any_of(word.begin(), word.end(), digit);
    const bool capitals = std::none_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    if (!number && !capitals) return false;
    rest.remove_prefix(word.size());
    skip_spaces(rest);
  }
  return false;
}

// The fields of "time|component|pid|message".
void take_pipes(string_view& text) {
  for (int i = 0; i < 3 && text.starts_with('|'); ++i) {
    const std::size_t end = text.find('|', 1);
    if (end > 64 || text.substr(1, end - 1).find(' ') != string_view::npos) break;
    text.remove_prefix(end);
  }
  if (text.starts_with('|')) text.remove_prefix(1);
  skip_spaces(text);
}

}  // namespace

std::uint8_t severity_of_level(string_view word) {
  struct Level {
    string_view name;
    std::uint8_t severity;
  };
  static constexpr Level kLevels[] = {
      {"info", stream::kInfo},       {"error", stream::kError},       {"warn", stream::kWarn},     {"warning", stream::kWarn},
      {"debug", stream::kDebug},     {"notice", stream::kInfo},       {"err", stream::kError},     {"fatal", stream::kFatal},
      {"critical", stream::kFatal},  {"crit", stream::kFatal},        {"alert", stream::kFatal},   {"emerg", stream::kFatal},
      {"panic", stream::kFatal},     {"emergency", stream::kFatal},   {"trace", stream::kTrace},   {"severe", stream::kError},
      {"log", stream::kInfo},        {"statement", stream::kInfo},    {"detail", stream::kInfo},   {"hint", stream::kInfo},
      {"failure", stream::kError},   {"information", stream::kInfo},  {"verbose", stream::kDebug}, {"fine", stream::kDebug},
      {"finer", stream::kTrace},     {"finest", stream::kTrace},      {"dbg", stream::kDebug},     {"inf", stream::kInfo},
      {"wrn", stream::kWarn},        {"ftl", stream::kFatal},         {"debug1", stream::kDebug},  {"debug2", stream::kDebug},
      {"context", stream::kInfo},
  };
  if (word.size() == 1) {
    switch (word[0]) {
      case 'I': return stream::kInfo;
      case 'W': return stream::kWarn;
      case 'E': return stream::kError;
      case 'F':
      case 'C': return stream::kFatal;
      case 'D': return stream::kDebug;
      case 'V':
      case 'T': return stream::kTrace;
      default: return stream::kUnset;
    }
  }
  for (const Level& level : kLevels) {
    if (same(word, level.name)) return level.severity;
  }
  return stream::kUnset;
}

std::uint8_t severity_of_words(string_view message) {
  struct Word {
    string_view begin;
    std::uint8_t severity;
  };
  static constexpr Word kWords[] = {
      {"panic", stream::kFatal},    {"fatal", stream::kFatal},      {"oops", stream::kFatal},      {"segfault", stream::kFatal},
      {"critical", stream::kFatal}, {"emerg", stream::kFatal},      {"error", stream::kError},     {"err:", stream::kError},
      {"fail", stream::kError},     {"exception", stream::kError},  {"traceback", stream::kError}, {"abort", stream::kError},
      {"denied", stream::kError},   {"refused", stream::kError},    {"unable", stream::kError},    {"cannot", stream::kError},
      {"could", stream::kUnset},    {"crash", stream::kError},      {"unreachable", stream::kError}, {"corrupt", stream::kError},
      {"warn", stream::kWarn},      {"timeout", stream::kWarn},     {"timed", stream::kWarn},      {"deprecated", stream::kWarn},
      {"retry", stream::kWarn},     {"invalid", stream::kWarn},
  };
  std::uint8_t severity = stream::kUnset;
  bool no = false;  // "no error", "0 failed", "without errors"
  message = message.substr(0, 1024);
  for (std::size_t i = 0; i < message.size();) {
    if (!letter(message[i]) && !digit(message[i])) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < message.size() && (letter(message[end]) || digit(message[end]) || message[end] == '_')) ++end;
    const string_view word = message.substr(i, end - i);
    if (!no) {
      for (const Word& each : kWords) {
        if (word.size() >= each.begin.size() && same(word.substr(0, each.begin.size()), each.begin)) {
          severity = std::max(severity, each.severity);
        }
        // "NullPointerException", "ConnectionError"
        if (each.severity == stream::kError && word.size() > each.begin.size() && upper(word[word.size() - each.begin.size()]) &&
            same(word.substr(word.size() - each.begin.size()), each.begin)) {
          severity = std::max(severity, each.severity);
        }
      }
    }
    no = same(word, "no") || same(word, "without") || word == "0";
    i = end;
  }
  return severity;
}

Message split_header(string_view line, std::string& buffer) {
  Message message{.text = line};
  string_view text = line;
  skip_spaces(text);
  if (text.empty()) return message;
  if (split_json(text, buffer, message) || split_klog(text, message) || split_redis(text, message) ||
      split_logfmt(text, message)) {
    return message;
  }
  if (text.starts_with('<') && text.size() > 4) {  // syslog's priority
    const std::size_t end = text.find('>');
    if (end >= 2 && end <= 4 && std::all_of(text.begin() + 1, text.begin() + static_cast<std::ptrdiff_t>(end), digit)) {
      int priority = 0;
      for (std::size_t i = 1; i < end; ++i) priority = priority * 10 + (text[i] - '0');
      constexpr std::array<std::uint8_t, 8> levels = {stream::kFatal, stream::kFatal, stream::kFatal, stream::kError,
                                                      stream::kWarn,  stream::kInfo,  stream::kInfo,  stream::kDebug};
      message.severity = levels[static_cast<std::size_t>(priority % 8)];
      text.remove_prefix(end + 1);
      if (text.starts_with("1 ")) {  // RFC 5424: time host app pid id [data] message
        text.remove_prefix(2);
        for (int field = 0; field < 5; ++field) {
          const string_view word = word_of(text);
          if (field == 2) message.program = word;
          text.remove_prefix(word.size());
          skip_spaces(text);
        }
        if (text.starts_with("- ")) text.remove_prefix(2);
        while (take_bracket(text)) {
        }
        message.text = text;
        return message;
      }
    }
  }
  // Up to three times (bracketed or not), each perhaps behind a short id or a mark.
  bool timed = false, syslog = false;
  const string_view start = text;
  for (int i = 0; i < 3; ++i) {
    string_view rest = text;
    if (rest.starts_with("- ")) rest.remove_prefix(2);
    const bool bracket = rest.starts_with('[');
    if (bracket) rest.remove_prefix(1);
    const std::size_t size = time_front(rest);
    if (size == 0) {
      if (i > 0 || timed) break;
      // A first word with digits in it (a file, a host, a counter), and then a time.
      string_view after = text;
      const string_view word = word_of(after);
      after.remove_prefix(word.size());
      skip_spaces(after);
      const std::size_t second = time_front(after);
      if (second == 0 || !std::any_of(word.begin(), word.end(), digit)) break;
      text = after;
      continue;
    }
    syslog = syslog || month(rest.substr(0, 3)) || rest.substr(0, size).find('T') != string_view::npos;
    rest.remove_prefix(size);
    if (bracket && rest.starts_with(']')) rest.remove_prefix(1);
    const bool pipe = rest.starts_with('|');
    if (rest.starts_with(',')) rest.remove_prefix(1);
    skip_spaces(rest);
    timed = true;
    text = rest;
    if (pipe) {
      take_pipes(text);
      message.text = text.empty() ? line : text;
      return message;
    }
  }
  if (!timed) text = start;
  if (text.starts_with("- ")) text.remove_prefix(2);
  skip_spaces(text);
  std::uint8_t severity = stream::kUnset;
  bool level = false;
  if (timed) {
    string_view rest = text;
    if (take_level(rest, severity, false) || take_far_level(rest, severity)) {
      level = true;
      text = rest;
    } else {
      // "[1234] ERROR:  message" (PostgreSQL), "(thread) [pid] LEVEL", "name - LEVEL - message" (Python)
      rest = text;
      string_view name;
      for (int i = 0; i < 3 && !level; ++i) {
        if (!take_bracket(rest) && !take_logger(rest, name)) {
          const string_view word = word_of(rest);  // user@database of PostgreSQL, a process's name
          if (word.find('@') == string_view::npos) break;
          rest.remove_prefix(word.size());
          skip_spaces(rest);
        }
        level = take_level(rest, severity, false);
      }
      if (level) {
        text = rest;
        message.program = name;
      } else if (syslog) {
        take_syslog_tag(text, message.program);
      }
    }
  } else {
    level = word_of(text).size() > 1 && take_level(text, severity, true);  // "I" alone may be a person
  }
  if (level) {
    message.severity = severity;
    // nginx: "[error] 123#123: *45 message"; Apache 2.4: "[core:error] [pid 1:tid 2] message"
    const string_view word = word_of(text);
    if (word.size() > 3 && word.ends_with(':') && word.find('#') != string_view::npos && digit(word[0])) {
      text.remove_prefix(word.size());
      skip_spaces(text);
      if (text.starts_with('*')) {
        text.remove_prefix(word_of(text).size());
        skip_spaces(text);
      }
    }
    while (text.starts_with("[pid ") && take_bracket(text)) {
    }
    take_context(text, message.program);
  }
  if (!text.empty()) message.text = text;
  return message;
}

std::uint8_t severity_of(string_view line) {
  std::string buffer;
  const Message message = split_header(line, buffer);
  return message.severity != stream::kUnset ? message.severity : severity_of_words(message.text);
}

}  // namespace culprit::logs
