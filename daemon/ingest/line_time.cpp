#include "daemon/ingest/line_time.h"

#include <ctime>

#include "daemon/base/clock.h"

namespace culprit::ingest {
namespace {

constexpr std::size_t kLookAt = 96;  // bytes from the start in which the time stands

bool digit(char c) { return c >= '0' && c <= '9'; }

// `count` digits at the front, taken off.
std::optional<int> digits(std::string_view& text, std::size_t least, std::size_t most) {
  int value = 0;
  std::size_t size = 0;
  while (size < most && size < text.size() && digit(text[size])) value = value * 10 + (text[size++] - '0');
  if (size < least) return std::nullopt;
  text.remove_prefix(size);
  return value;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<int> month(std::string_view& text) {
  static constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const std::size_t at = text.size() < 3 ? std::string_view::npos : kMonths.find(text.substr(0, 3));
  if (at == std::string_view::npos || at % 3 != 0) return std::nullopt;
  text.remove_prefix(3);
  return static_cast<int>(at / 3);
}

struct Parts {
  std::tm tm{};
  std::int64_t fraction_ns = 0;
  std::optional<int> offset_s;
};

// HH:MM:SS[.,fraction][ zone]
bool clock_time(std::string_view text, Parts& parts) {
  const auto hour = digits(text, 2, 2);
  if (!hour || !take(text, ':')) return false;
  const auto minute = digits(text, 2, 2);
  if (!minute || !take(text, ':')) return false;
  const auto second = digits(text, 2, 2);
  if (!second || *hour > 23 || *minute > 59 || *second > 60) return false;
  parts.tm.tm_hour = *hour;
  parts.tm.tm_min = *minute;
  parts.tm.tm_sec = *second;
  if (text.size() > 1 && (text[0] == '.' || text[0] == ',') && digit(text[1])) {
    text.remove_prefix(1);
    std::int64_t unit = 100'000'000;
    while (!text.empty() && digit(text[0])) {
      parts.fraction_ns += (text[0] - '0') * unit;
      unit /= 10;
      text.remove_prefix(1);
    }
  }
  if (text.starts_with(' ')) text.remove_prefix(1);
  if (text.starts_with('Z') || text.starts_with("UTC") || text.starts_with("GMT")) {
    parts.offset_s = 0;
  } else if (text.size() >= 3 && (text[0] == '+' || text[0] == '-') && digit(text[1])) {
    const int sign = text[0] == '-' ? -1 : 1;
    text.remove_prefix(1);
    const auto hours = digits(text, 2, 2);
    (void)take(text, ':');
    const auto minutes = digits(text, 2, 2);
    if (hours && *hours <= 14 && minutes && *minutes < 60) parts.offset_s = sign * (*hours * 3600 + *minutes * 60);
  }
  return true;
}

// When the hour of a local time began. mktime looks at /etc/localtime under a lock of the process each time, and lines of one file are mostly
// of one hour, so the last answer is kept; for a minute of now, so that another time zone of the host is seen.
std::int64_t hour_of(std::tm local, std::int64_t now_wall_ns) {
  struct Known {
    int year = 0, month = 0, day = 0, hour = -1;
    std::int64_t minute = 0, second = 0;
  };
  thread_local Known known;
  const std::int64_t minute = now_wall_ns / (60 * kNsPerSecond);
  if (known.hour != local.tm_hour || known.day != local.tm_mday || known.month != local.tm_mon || known.year != local.tm_year || known.minute != minute) {
    known = {local.tm_year, local.tm_mon, local.tm_mday, local.tm_hour, minute, 0};
    local.tm_min = local.tm_sec = 0;
    local.tm_isdst = -1;
    known.second = static_cast<std::int64_t>(::mktime(&local));
  }
  return known.second;
}

std::int64_t wall_of(Parts parts, std::int64_t now_wall_ns) {
  if (parts.offset_s) return (static_cast<std::int64_t>(::timegm(&parts.tm)) - *parts.offset_s) * kNsPerSecond + parts.fraction_ns;
  return (hour_of(parts.tm, now_wall_ns) + parts.tm.tm_min * std::int64_t{60} + parts.tm.tm_sec) * kNsPerSecond + parts.fraction_ns;
}

std::optional<std::int64_t> time_at(std::string_view text, std::int64_t now_wall_ns) {
  Parts parts;
  std::string_view rest = text;
  if (digit(rest[0])) {
    if (const auto year = digits(rest, 4, 4); year && *year >= 1970 && *year < 2200 && rest.size() > 10) {
      // 2026-11-23T14:02:08 or 2026/11/23 14:02:08
      const char mark = rest[0];
      if (mark != '-' && mark != '/') return std::nullopt;
      rest.remove_prefix(1);
      const auto number = digits(rest, 2, 2);
      if (!number || !take(rest, mark)) return std::nullopt;
      const auto day = digits(rest, 2, 2);
      if (!day || !(take(rest, 'T') || take(rest, ' ')) || *number < 1 || *number > 12 || *day < 1 || *day > 31) return std::nullopt;
      parts.tm.tm_year = *year - 1900;
      parts.tm.tm_mon = *number - 1;
      parts.tm.tm_mday = *day;
      if (!clock_time(rest, parts)) return std::nullopt;
      return wall_of(parts, now_wall_ns);
    }
    // 23/Nov/2026:14:02:08 or 23 Nov 2026 14:02:08
    rest = text;
    const auto day = digits(rest, 1, 2);
    if (!day || *day < 1 || *day > 31 || rest.empty()) return std::nullopt;
    const char mark = rest[0];
    if (mark != '/' && mark != ' ') return std::nullopt;
    rest.remove_prefix(1);
    const auto name = month(rest);
    if (!name || !take(rest, mark)) return std::nullopt;
    const auto year = digits(rest, 4, 4);
    if (!year || *year < 1970 || *year >= 2200 || !(take(rest, ':') || take(rest, ' '))) return std::nullopt;
    parts.tm.tm_year = *year - 1900;
    parts.tm.tm_mon = *name;
    parts.tm.tm_mday = *day;
    if (!clock_time(rest, parts)) return std::nullopt;
    return wall_of(parts, now_wall_ns);
  }
  // Nov 23 14:02:08, and with the year (Cisco): Nov 23 2026 14:02:08
  const auto name = month(rest);
  if (!name || !take(rest, ' ')) return std::nullopt;
  (void)take(rest, ' ');
  const auto day = digits(rest, 1, 2);
  if (!day || *day < 1 || *day > 31 || !take(rest, ' ')) return std::nullopt;
  std::string_view after = rest;
  const auto year = digits(after, 4, 4);
  const bool has_year = year && *year >= 1970 && *year < 2200 && take(after, ' ');
  if (!clock_time(has_year ? after : rest, parts)) return std::nullopt;
  const std::time_t now = now_wall_ns / kNsPerSecond;
  std::tm local{};
  ::localtime_r(&now, &local);
  parts.tm.tm_year = has_year ? *year - 1900 : local.tm_year;
  parts.tm.tm_mon = *name;
  parts.tm.tm_mday = *day;
  std::int64_t wall = wall_of(parts, now_wall_ns);
  if (!has_year && wall > now_wall_ns + 86'400 * kNsPerSecond) {  // December, read in January
    --parts.tm.tm_year;
    wall = wall_of(parts, now_wall_ns);
  }
  return wall;
}

}  // namespace

std::optional<std::int64_t> line_time(std::string_view line, std::int64_t now_wall_ns) {
  const std::size_t until = std::min(line.size(), kLookAt);
  for (std::size_t at = 0; at + 15 <= line.size() && at < until; ++at) {
    const char before = at == 0 ? ' ' : line[at - 1];
    const bool starts = before == ' ' || before == '[' || before == '"' || before == '<' || before == '>' || before == '=' || before == '|' || before == '(';
    if (!starts || !(digit(line[at]) || (line[at] >= 'A' && line[at] <= 'Z'))) continue;
    if (const auto time = time_at(line.substr(at), now_wall_ns)) return time;
  }
  return std::nullopt;
}

}  // namespace culprit::ingest
