#include "daemon/app/accounting.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::app {

void Accounting::add(std::int64_t time_ns, std::uint64_t produced, std::map<std::string, std::uint64_t> dropped) {
  const MutexLock lock(mutex_);
  seconds_.push_back({time_ns, produced, std::move(dropped)});
  if (seconds_.size() > kSecondsMax) seconds_.pop_front();
}

void Accounting::add_rest(std::int64_t from_ns, std::int64_t to_ns, std::int64_t rested_ns) {
  if (rested_ns <= 0) return;
  const MutexLock lock(mutex_);
  rests_.push_back({from_ns, to_ns, rested_ns});
  if (rests_.size() > kSecondsMax) rests_.pop_front();
}

void Accounting::open_gap(std::int64_t from_ns) {
  const MutexLock lock(mutex_);
  open_gap_ns_ = from_ns;
}

void Accounting::add_gap(std::int64_t from_ns, std::int64_t to_ns) {
  const MutexLock lock(mutex_);
  open_gap_ns_.reset();
  gaps_.push_back({from_ns, to_ns});
  if (gaps_.size() > 64) gaps_.pop_front();
}

void Accounting::set_blind(std::vector<std::string> blind) {
  const MutexLock lock(mutex_);
  blind_ = std::move(blind);
}

explain::Completeness Accounting::window(std::int64_t from_ns, std::int64_t to_ns) const {
  const MutexLock lock(mutex_);
  explain::Completeness result;
  result.blind = blind_;
  // Totals are cumulative: the window is the last total in it less the last one before it. They start again
  // from zero with a new sensor; then only what the new one counted is known.
  const Second* before = nullptr;
  const Second* last = nullptr;
  for (const Second& second : seconds_) {
    if (second.time_ns < from_ns) before = &second;
    if (second.time_ns <= to_ns) last = &second;
  }
  std::uint64_t produced = 0;
  std::uint64_t lost = 0;
  if (last != nullptr) {
    const bool continued = before != nullptr && before->produced <= last->produced;
    produced = last->produced - (continued ? before->produced : 0);
    for (const auto& [reason, count] : last->dropped) {
      std::uint64_t earlier = 0;
      if (continued) {
        const auto found = before->dropped.find(reason);
        if (found != before->dropped.end()) earlier = std::min(found->second, count);
      }
      if (count > earlier) result.dropped[reason] = count - earlier;
      lost += count - earlier;
    }
  }
  if (produced > 0) result.share = 1.0 - static_cast<double>(lost) / static_cast<double>(produced);
  std::int64_t rested_ns = 0;
  for (const Rest& rest : rests_) {
    if (rest.from_ns < to_ns && rest.to_ns > from_ns) rested_ns += rest.rested_ns;
  }
  const auto span_ns = static_cast<double>(std::max<std::int64_t>(1, to_ns - from_ns));
  if (rested_ns > 0) {
    result.share *= std::max(0.0, 1.0 - static_cast<double>(rested_ns) / span_ns);
    result.blind.push_back(fmt::format("calls of the watched for {}: more than payload_per_second", format_seconds(static_cast<double>(rested_ns) / kNsPerSecond)));
  }
  const auto blind = [&](const Gap& gap, const char* why) {
    const std::int64_t blind_ns = std::min(gap.to_ns, to_ns) - std::max(gap.from_ns, from_ns);
    if (blind_ns <= 0) return;
    result.share *= std::max(0.0, 1.0 - static_cast<double>(blind_ns) / span_ns);
    result.blind.push_back(fmt::format("everything for {}: {}", format_seconds(static_cast<double>(blind_ns) / kNsPerSecond), why));
  };
  for (const Gap& gap : gaps_) blind(gap, "the sensor was restarted");
  if (open_gap_ns_) blind({*open_gap_ns_, INT64_MAX}, "the sensor is gone");
  return result;
}

}  // namespace culprit::app
