#include "ui/cli/when.h"

#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::cli {
namespace {

constexpr std::int64_t kDaySeconds = 86400;

std::int64_t to_wall_ns(std::tm tm) {
  tm.tm_isdst = -1;
  return static_cast<std::int64_t>(std::mktime(&tm)) * kNsPerSecond;
}

// "hh:mm", "hh:mm:ss" or "hh:mm:ss.fraction", nothing else.
bool read_clock(const std::string& text, std::tm& tm, std::int64_t& fraction_ns) {
  int used = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
  fraction_ns = 0;
  if (std::sscanf(text.c_str(), "%2d:%2d:%2d%n", &hour, &minute, &second, &used) == 3) {
    std::string_view rest = std::string_view(text).substr(static_cast<std::size_t>(used));
    if (!rest.empty()) {
      constexpr std::size_t kDigitsMax = 9;
      if (rest.front() != '.' || rest.size() < 2 || rest.size() > 1 + kDigitsMax) return false;
      rest.remove_prefix(1);
      std::int64_t unit = kNsPerSecond;
      for (const char digit : rest) {
        if (digit < '0' || digit > '9') return false;
        unit /= 10;
        fraction_ns += (digit - '0') * unit;
      }
    }
  } else {
    second = 0;
    if (std::sscanf(text.c_str(), "%2d:%2d%n", &hour, &minute, &used) != 2 || used != std::ssize(text))
      return false;
  }
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return false;
  tm.tm_hour = hour;
  tm.tm_min = minute;
  tm.tm_sec = second;
  return true;
}

}  // namespace

Result<std::int64_t> parse_when(std::string_view text, std::int64_t now_wall_ns) {
  if (text == "now") return now_wall_ns;
  if (const auto wall = parse_wall(text)) return *wall;
  if (const auto ago = parse_duration_ns(text); ago && *ago <= now_wall_ns) return now_wall_ns - *ago;
  const std::time_t now = now_wall_ns / kNsPerSecond;
  std::tm tm{};
  ::localtime_r(&now, &tm);
  const std::string copy(text);
  std::int64_t fraction_ns = 0;
  if (read_clock(copy, tm, fraction_ns)) {
    const std::int64_t today = to_wall_ns(tm) + fraction_ns;
    return today <= now_wall_ns ? today : today - kDaySeconds * kNsPerSecond;
  }
  int year = 0;
  int month = 0;
  int day = 0;
  if (copy.size() > 11 && (copy[10] == ' ' || copy[10] == 'T') &&
      std::sscanf(copy.c_str(), "%4d-%2d-%2d", &year, &month, &day) == 3 && copy[4] == '-' &&
      copy[7] == '-' && month >= 1 && month <= 12 && day >= 1 && day <= 31 && year >= 1970 && year <= 2261 &&
      read_clock(copy.substr(11), tm, fraction_ns)) {
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    tm.tm_mday = day;
    return to_wall_ns(tm) + fraction_ns;
  }
  return fail(Code::Invalid, fmt::format("'{}' is no time: use 14:02:08, \"2026-11-23 14:02:08\", "
                                         "2026-11-23T14:02:08Z, or how long ago (5m, 1h30m)",
                                         text));
}

Result<std::int64_t> parse_window(std::string_view text) {
  if (const auto ns = parse_duration_ns(text); ns && *ns > 0) return *ns;
  return fail(Code::Invalid, fmt::format("'{}' is no length of time: use 30s, 5m, 1h30m, 2d", text));
}

std::string check_when(const std::string& text) {
  const auto when = parse_when(text, INT64_MAX / 2);
  return when ? "" : when.error().message;
}

std::string check_window(const std::string& text) {
  const auto window = parse_window(text);
  return window ? "" : window.error().message;
}

Result<void> check_order(const std::string& since, const std::string& until, std::int64_t now_wall_ns) {
  if (since.empty() || until.empty()) return {};
  ASSIGN(const std::int64_t from, parse_when(since, now_wall_ns));
  ASSIGN(const std::int64_t to, parse_when(until, now_wall_ns));
  return from < to ? Result<void>() : fail(Code::Invalid, fmt::format("--since {} is not before --until {}", since, until));
}

}  // namespace culprit::cli
