// Clock: time as an argument, so that tests and replay own it. Every stored time is CLOCK_BOOTTIME in
// nanoseconds, the clock of the probes; wall time exists only for display and for data from outside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace culprit {

inline constexpr std::int64_t kNsPerSecond = 1'000'000'000;
inline constexpr std::int64_t kNsPerMs = 1'000'000;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::int64_t now_ns() const = 0;             // CLOCK_BOOTTIME
  virtual std::int64_t wall_offset_ns() const = 0;     // CLOCK_REALTIME - CLOCK_BOOTTIME
  std::int64_t wall_ns(std::int64_t boot_ns) const { return boot_ns + wall_offset_ns(); }
};

class SystemClock final : public Clock {
 public:
  std::int64_t now_ns() const override;
  std::int64_t wall_offset_ns() const override;
};

// A clock that a test sets. Not synchronised: for one thread.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(std::int64_t start_ns = 0, std::int64_t offset_ns = 0)
      : now_ns_(start_ns), offset_ns_(offset_ns) {}
  std::int64_t now_ns() const override { return now_ns_; }
  std::int64_t wall_offset_ns() const override { return offset_ns_; }
  void advance(std::int64_t ns) { now_ns_ += ns; }
  void set(std::int64_t ns) { now_ns_ = ns; }

 private:
  std::int64_t now_ns_;
  std::int64_t offset_ns_;
};

// "2026-11-23T14:02:08.123Z" for a wall time in nanoseconds since the epoch (UTC, millisecond precision).
std::string format_wall(std::int64_t wall_ns);
// The reverse, for any RFC 3339 time ("Z" or an offset, up to nine decimals) from 1970 to 2261; nothing if it is none.
std::optional<std::int64_t> parse_wall(std::string_view text);
// "14:02:08" in the local time zone.
std::string format_wall_time(std::int64_t wall_ns);

}  // namespace culprit
