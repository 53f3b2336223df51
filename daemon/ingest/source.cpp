#include "daemon/ingest/source.h"

#include <fmt/format.h>

namespace culprit::ingest {

std::string_view drop_name(Drop reason) {
  static constexpr std::string_view kNames[] = {"full", "limit", "rejected", "store", "stopped"};
  return kNames[static_cast<std::size_t>(reason)];
}

void SourceState::set_state(std::string state, std::string text) {
  const MutexLock lock(mutex_);
  state_ = std::move(state);
  text_ = std::move(text);
}

void SourceState::set_error(std::string text) {
  const MutexLock lock(mutex_);
  last_error_ = std::move(text);
}

void SourceState::note(const Decoded& decoded) {
  times_corrected_ += decoded.times_corrected;
  cut_ += decoded.cut;
  baselines_ += decoded.baselines;
  if (decoded.rejected > 0) {
    produced += decoded.rejected;
    drop(Drop::Rejected, decoded.rejected);
    set_error(decoded.rejected_why);
  }
}

SourceStats SourceState::stats() const {
  SourceStats stats;
  stats.name = name_;
  stats.type = type_;
  stats.target = target_;
  // What settles is read before what was produced: the difference is what is in flight, never less than nothing.
  for (std::size_t i = 0; i < kDrops; ++i) stats.dropped[i] = dropped_[i];
  stats.stored = stored;
  stats.produced = produced;
  stats.requests = requests;
  stats.refused = refused;
  stats.malformed = malformed;
  stats.bytes = bytes;
  stats.times_corrected = times_corrected_;
  stats.cut = cut_;
  stats.baselines = baselines_;
  stats.last_event_ns = last_event_ns;
  const MutexLock lock(mutex_);
  stats.state = state_;
  stats.text = text_;
  stats.last_error = last_error_;
  return stats;
}

Batch& Batch::operator=(Batch&& other) noexcept {
  if (this == &other) return *this;
  settle(false, Drop::Stopped);
  events = std::move(other.events);
  intake_ = std::exchange(other.intake_, nullptr);
  source_ = std::move(other.source_);
  count_ = other.count_;
  bytes_ = other.bytes_;
  return *this;
}

void Batch::settle(bool was_stored, Drop reason) {
  if (intake_ == nullptr) return;
  if (was_stored) {
    source_->stored += count_;
  } else {
    source_->drop(reason, count_);
  }
  std::exchange(intake_, nullptr)->release(count_, bytes_);
}

std::uint64_t bytes_of(const stream::Event& event) {
  return sizeof(stream::Event) + event.body.size() + event.entity.size() + event.name.size() + event.attributes.coded().size();
}

Result<void> Intake::submit(const SourcePtr& source, std::vector<stream::Event>&& events, int wait_ms, const std::stop_token& stop) {
  if (events.empty()) return {};
  std::uint64_t bytes = 0;
  std::int64_t newest = 0;
  for (const stream::Event& event : events) {
    bytes += bytes_of(event);
    newest = std::max(newest, event.time_ns);
  }
  const std::uint64_t count = events.size();
  if (count > options_.events_max || bytes > options_.bytes_max) {
    return fail(Code::Exhausted, fmt::format("{} events of {} bytes at once; at most {} and {}", count, bytes, options_.events_max, options_.bytes_max));
  }
  {
    std::unique_lock lock(mutex_);
    const auto fits = [&] { return events_ + count <= options_.events_max && bytes_ + bytes <= options_.bytes_max; };
    if (!fits() && (wait_ms <= 0 || !room_.wait_for(lock, stop, std::chrono::milliseconds(wait_ms), fits))) {
      return fail(Code::Busy, fmt::format("{} events wait to be stored; come again", events_));
    }
    events_ += count;
    bytes_ += bytes;
  }
  source->produced += count;
  source->last_event_ns = newest;
  Batch batch;
  batch.events = std::move(events);
  batch.intake_ = this;
  batch.source_ = source;
  batch.count_ = count;
  batch.bytes_ = bytes;
  if (!deliver_(std::move(batch))) return fail(Code::Io, "the daemon is stopping");  // the batch counted itself as stopped
  return {};
}

Result<void> Intake::deliver(const SourcePtr& source, std::vector<stream::Event>&& events, const std::stop_token& stop) {
  constexpr std::size_t kSliceEvents = 2'000;
  constexpr std::uint64_t kSliceBytes = 4U << 20U;
  constexpr int kWaitMs = 1'000;
  const auto at = [&](std::size_t index) { return std::make_move_iterator(events.begin() + static_cast<std::ptrdiff_t>(index)); };
  for (std::size_t begin = 0, end = 0; begin < events.size(); begin = end) {
    end = begin;
    for (std::uint64_t bytes = 0; end < events.size() && end - begin < kSliceEvents && bytes < kSliceBytes; ++end) bytes += bytes_of(events[end]);
    std::vector<stream::Event> slice(at(begin), at(end));
    while (true) {
      // NOLINTNEXTLINE(bugprone-use-after-move): what is not taken is left there
      const auto taken = submit(source, std::move(slice), kWaitMs, stop);
      if (taken) break;
      if (taken.error().code == Code::Exhausted) {
        source->produced += end - begin;
        source->drop(Drop::Limit, end - begin);
        break;
      }
      if (taken.error().code != Code::Busy || stop.stop_requested()) return fail(Code::Io, "the daemon ends");
      ++source->refused;
    }
  }
  return {};
}

void Intake::offer(const SourcePtr& source, std::vector<stream::Event>&& events) {
  const std::uint64_t count = events.size();
  const auto taken = submit(source, std::move(events), 0);
  if (taken || taken.error().code == Code::Io) return;
  source->produced += count;
  source->drop(Drop::Full, count);
}

std::uint64_t Intake::in_flight() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

void Intake::release(std::uint64_t events, std::uint64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    events_ -= events;
    bytes_ -= bytes;
  }
  room_.notify_all();
}

}  // namespace culprit::ingest
