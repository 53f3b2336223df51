#include "daemon/sensor/call_schedule.h"

#include <algorithm>

namespace culprit::sensor {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): a well mixed number for every period.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

CallSchedule::Window CallSchedule::window_of(std::int64_t period) const {
  const std::int64_t length = kPeriodNs * percent_ / 100;
  const auto room = static_cast<std::uint64_t>(kPeriodNs - length);
  const auto offset = static_cast<std::int64_t>(mix(seed_ ^ static_cast<std::uint64_t>(period)) % (room + 1));
  const std::int64_t from = period * kPeriodNs + offset;
  const std::int64_t to = from + length;
  return {from, enough_ns_ >= from && enough_ns_ < to ? enough_ns_ : to};
}

CallSchedule::Wanted CallSchedule::wanted(std::int64_t now_ns) const {
  const Window window = window_of(now_ns / kPeriodNs);
  if (now_ns < closely_until_ns_ || (now_ns >= window.from_ns && now_ns < window.to_ns)) return {true, true};
  return {watching_ && now_ns >= rest_until_ns_, false};
}

std::int64_t CallSchedule::next_change_ns(std::int64_t now_ns) const {
  const std::int64_t period = now_ns / kPeriodNs;
  std::int64_t next = window_of(period + 1).from_ns;
  const Window window = window_of(period);
  for (const std::int64_t at : {window.from_ns, window.to_ns, closely_until_ns_, rest_until_ns_}) {
    if (at > now_ns) next = std::min(next, at);
  }
  return next;
}

std::int64_t CallSchedule::next_look_ns(std::int64_t now_ns) const {
  const std::int64_t change = next_change_ns(now_ns);
  return looking_closely(now_ns) || !wanted(now_ns).entries ? change : std::min(change, now_ns + kLookNs);
}

}  // namespace culprit::sensor
