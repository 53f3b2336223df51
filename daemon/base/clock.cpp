#include "daemon/base/clock.h"

#include <fmt/format.h>

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

std::string format_wall_time(std::int64_t wall_ns) {
  const std::time_t seconds = wall_ns / kNsPerSecond;
  std::tm tm{};
  ::localtime_r(&seconds, &tm);
  return fmt::format("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec);
}

}  // namespace culprit
