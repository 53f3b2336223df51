#include "daemon/base/clock.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>

namespace culprit {
namespace {

std::int64_t read_clock(clockid_t id) {
  timespec ts{};
  ::clock_gettime(id, &ts);
  return static_cast<std::int64_t>(ts.tv_sec) * kNsPerSecond + ts.tv_nsec;
}

}  // namespace

std::int64_t SystemClock::now_ns() const { return read_clock(CLOCK_BOOTTIME); }

std::int64_t SystemClock::wall_offset_ns() const {
  return read_clock(CLOCK_REALTIME) - read_clock(CLOCK_BOOTTIME);
}

std::string format_wall(std::int64_t wall_ns) {
  const std::time_t seconds = wall_ns / kNsPerSecond;
  std::tm tm{};
  ::gmtime_r(&seconds, &tm);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                     (wall_ns % kNsPerSecond) / kNsPerMs);
}

std::optional<std::int64_t> parse_wall(std::string_view text) {
  // YYYY-MM-DDThh:mm:ss[.fraction](Z|+hh:mm|-hh:mm)
  std::size_t at = 0;
  const auto number = [&](std::size_t digits) -> std::optional<int> {
    if (text.size() < at + digits) return std::nullopt;
    int value = 0;
    for (const char c : text.substr(at, digits)) {
      if (c < '0' || c > '9') return std::nullopt;
      value = value * 10 + (c - '0');
    }
    at += digits;
    return value;
  };
  const auto skip = [&](std::string_view any_of) {
    if (at >= text.size() || any_of.find(text[at]) == std::string_view::npos) return '\0';
    return text[at++];
  };
  int parts[6];
  static constexpr std::string_view kAfter[] = {"-", "-", "Tt ", ":", ":"};
  for (std::size_t i = 0; i < 6; ++i) {
    const auto part = number(i == 0 ? 4 : 2);
    if (!part || (i < 5 && skip(kAfter[i]) == '\0')) return std::nullopt;
    parts[i] = *part;
  }
  const auto [year, month, day, hour, minute, second] = parts;
  const std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok() || year < 1970 || year > 2261 || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  std::int64_t fraction_ns = 0;
  if (skip(".") != '\0') {
    std::int64_t unit = kNsPerSecond / 10;
    if (at >= text.size() || text[at] < '0' || text[at] > '9') return std::nullopt;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10) fraction_ns += unit * (text[at] - '0');
  }
  std::int64_t offset_s = 0;
  const char zone = skip("Zz+-");
  if (zone == '\0') return std::nullopt;
  if (zone == '+' || zone == '-') {
    const auto hours = number(2);
    if (!hours || skip(":") == '\0') return std::nullopt;
    const auto minutes = number(2);
    if (!minutes || *hours > 23 || *minutes > 59) return std::nullopt;
    offset_s = (std::int64_t{*hours} * 60 + *minutes) * 60 * (zone == '-' ? -1 : 1);
  }
  if (at != text.size()) return std::nullopt;
  const std::int64_t days = std::chrono::sys_days{date}.time_since_epoch().count();
  return (days * 86400 + (std::int64_t{hour} * 60 + minute) * 60 + second - offset_s) * kNsPerSecond + fraction_ns;
}

std::string format_wall_time(std::int64_t wall_ns) {
  const std::time_t seconds = wall_ns / kNsPerSecond;
  std::tm tm{};
  ::localtime_r(&seconds, &tm);
  return fmt::format("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec);
}

}  // namespace culprit
