#include "daemon/app/stream_stage.h"

#include <algorithm>
#include <utility>

#include "daemon/base/at_end.h"
#include "daemon/base/log.h"

namespace culprit::app {
namespace {

constexpr std::int64_t kPruneEveryNs = 60 * kNsPerSecond;
constexpr std::uint64_t kPruneShare = 16;  // of retention_bytes: once the files grew by so much, sooner than that
constexpr std::uint64_t kWaitingEventsMax = 20'000;
constexpr std::size_t kChannelBytesMax = 1024 * sizeof(StreamStage::Input);  // 1,024 hand-overs of up to 256 events

}  // namespace

StreamStage::StreamStage(Parts parts)
    : config_(parts.config), clock_(parts.clock), store_(parts.store), detect_(parts.detect), kernel_sees_(std::move(parts.kernel_sees)),
      channel_({.name = "stream", .bytes_max = kChannelBytesMax, .when_full = concurrent::WhenFull::Wait, .registry = &parts.registry}),
      log_names_(std::move(parts.logs_folder)), series_(&parts.registry), join_(std::move(parts.host_name)) {}

void StreamStage::run() {
  const AtEnd no_more([this] {  // if this thread fails, nobody waits for it, nor for room that its batches hold
    close();
    waiting_.clear();
    for (Input rest; channel_.recv(rest) == concurrent::Outcome::Done;) rest = {};
  });
  log_names_.load();
  pruned_at_ns_ = clock_.now_ns();
  pruned_bytes_ = store_.stats().on_disk_bytes;
  Input input;
  while (true) {
    const std::int64_t wait_ns = waiting_.empty() ? -1 : std::max(kNsPerMs, waiting_.front().ready_ns - clock_.now_ns());
    if (channel_.recv(input, {.timeout_ns = wait_ns}) == concurrent::Outcome::Closed) break;
    take(input);
    input = {};
  }
  take_waiting(INT64_MAX);
  log_names_.save(clock_.now_ns(), true);
  std::vector<stream::Event> rest;
  join_.release(clock_.now_ns(), true, rest);
  twins_.release(clock_.now_ns(), true, rest);
  append(std::move(rest));
}

// Also when nothing came, but a batch has waited long enough.
void StreamStage::take(Input& input) {
  if (input.batch) {
    const std::int64_t now = clock_.now_ns();
    // Behind one that waits, too: what came first is stored first. Beyond the bound nothing waits.
    std::int64_t ready = std::max(join_.ready_ns(input.batch.events, now), twins_.ready_ns(input.batch.events, now));
    if (!waiting_.empty()) ready = std::max(ready, waiting_.back().ready_ns);
    waiting_events_ += input.batch.events.size();
    waiting_.push_back({ready, std::move(input.batch)});
    take_waiting(waiting_events_ > kWaitingEventsMax ? ready : now);
  } else {
    take_waiting(clock_.now_ns());
  }
  join_.kernel(input.events, clock_.now_ns());
  twins_.kernel(input.events, clock_.now_ns());
  if (input.second_ns != 0) {
    join_.release(clock_.now_ns(), false, input.events);
    twins_.release(clock_.now_ns(), false, input.events);
  }
  log_names_.name(input.events, clock_.wall_offset_ns());
  if (input.second_ns != 0) rollup_.tick(clock_.now_ns(), kernel_sees_, input.events);
  series_.add(input.events);
  second_.events.insert(second_.events.end(), input.events.begin(), input.events.end());
  append(std::move(input.events));
  if (input.second_ns != 0) end_second(input.second_ns);
}

// Events of other tools; what the detector reads of them comes from the rollup, second by second.
void StreamStage::take_batch(ingest::Batch batch) {
  const std::int64_t now = clock_.now_ns();
  twins_.told(batch.events, now);
  join_.told(batch.events, now, clock_.wall_offset_ns());
  log_names_.name(batch.events, clock_.wall_offset_ns());
  for (const stream::Event& event : batch.events) {
    if (event.kind == stream::Kind::Span || event.kind == stream::Kind::Log) rollup_.add(event, now);
    if (event.kind == stream::Kind::Alert || event.kind == stream::Kind::Change) {
      second_.events.push_back(event);
    } else if (told_bytes_ < kToldBytesMax) {
      told_bytes_ += ingest::bytes_of(event);
      second_.told.push_back(event);
    } else {
      ++told_left_out_;
    }
  }
  series_.add(batch.events);
  auto stored = store_.append(std::move(batch.events));
  if (!stored) log::warn("store events: {}; counted as dropped", stored.error().message);
  batch.settle(stored.has_value());
}

void StreamStage::take_waiting(std::int64_t now_ns) {
  while (!waiting_.empty() && waiting_.front().ready_ns <= now_ns) {
    ingest::Batch batch = std::move(waiting_.front().batch);
    waiting_.pop_front();
    waiting_events_ -= batch.events.size();
    take_batch(std::move(batch));
  }
}

void StreamStage::append(std::vector<stream::Event> events) {
  if (auto stored = store_.append(std::move(events)); !stored) log::warn("store events: {}; counted as dropped", stored.error().message);
}

// A busy host may write gigabytes in a minute.
void StreamStage::prune(std::int64_t now_ns) {
  if (now_ns - pruned_at_ns_ <= kPruneEveryNs && store_.stats().on_disk_bytes <= pruned_bytes_ + config_.retention_bytes / kPruneShare) return;
  const std::int64_t keep_ns = static_cast<std::int64_t>(config_.retention_days) * 86'400 * kNsPerSecond;
  if (auto pruned = store_.prune(now_ns - keep_ns); !pruned) log::warn("prune events: {}", pruned.error().message);
  pruned_at_ns_ = now_ns;
  pruned_bytes_ = store_.stats().on_disk_bytes;
}

void StreamStage::end_second(std::int64_t second_ns) {
  const std::int64_t now = clock_.now_ns();
  series_.sweep(now);
  if (auto flushed = store_.flush(); !flushed) log::warn("write events: {}; kept in memory", flushed.error().message);
  prune(now);
  log_names_.save(now, false);
  Seen seen{rollup_.stats(), join_.stats(), twins_.stats(), join_.names(), rollup_.services()};
  {
    const MutexLock lock(mutex_);
    std::swap(seen_, seen);
  }
  second_.second_ns = second_ns;
  told_bytes_ = 0;
  (void)detect_.send(std::exchange(second_, {}));
}

ingest::RollupStats StreamStage::rollup_stats() const {
  const MutexLock lock(mutex_);
  return seen_.rollup;
}

ingest::JoinStats StreamStage::join_stats() const {
  const MutexLock lock(mutex_);
  return seen_.join;
}

ingest::LineTwinStats StreamStage::line_twin_stats() const {
  const MutexLock lock(mutex_);
  return seen_.twins;
}

std::string StreamStage::kernel_name(const std::string& service) const {
  const MutexLock lock(mutex_);
  const auto found = seen_.names.find(service);
  return found == seen_.names.end() ? service : found->second;
}

std::vector<std::string> StreamStage::told_services() const {
  const MutexLock lock(mutex_);
  return seen_.told;
}

}  // namespace culprit::app
