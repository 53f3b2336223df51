// Source: one place that events come from, with its counters, and the one way into the stream (Intake).
//
// For each source produced = stored + in flight + the sum of dropped, exactly. Produced are events that a decoder made;
// what could not be decoded at all is counted as malformed (requests, lines), because how many events it would have
// been nobody knows. Threads: all counters any; Intake any.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "daemon/base/mutex.h"
#include "daemon/ingest/record.h"

namespace culprit::ingest {

enum class Drop : std::uint8_t {
  Full,     // no room in time, and the sender cannot wait (UDP)
  Limit,    // beyond a limit of the source
  Rejected, // a record that was understood in part only
  Store,    // the store refused it: disk and memory full
  Stopped,  // came while the daemon ended
};
inline constexpr std::size_t kDrops = 5;
std::string_view drop_name(Drop reason);

struct SourceStats {
  std::string name, type, target;  // "otlp-http", "otlp", "127.0.0.1:4318"
  std::string state;               // "running", "waiting", "off", "failed"
  std::string text;                // why, or what it does now
  std::uint64_t produced = 0, stored = 0;
  std::array<std::uint64_t, kDrops> dropped{};
  std::uint64_t requests = 0;      // or reads, scrapes, connections
  std::uint64_t refused = 0;       // requests that were told to come again
  std::uint64_t malformed = 0;     // requests or lines that could not be decoded
  std::uint64_t bytes = 0;
  std::uint64_t times_corrected = 0, cut = 0, baselines = 0;
  std::string last_error;
  std::int64_t last_event_ns = 0;
};

class SourceState {
 public:
  SourceState(std::string name, std::string type, std::string target) : name_(std::move(name)), type_(std::move(type)), target_(std::move(target)) {}

  const std::string& name() const { return name_; }
  const std::string& type() const { return type_; }
  const std::string& target() const { return target_; }
  void set_state(std::string state, std::string text = {});
  void set_error(std::string text);  // counts as malformed when `malformed` is added by the caller
  SourceStats stats() const;

  void drop(Drop reason, std::uint64_t count) { dropped_[static_cast<std::size_t>(reason)] += count; }
  void note(const Decoded& decoded);  // corrections, cuts, rejections

  std::atomic<std::uint64_t> produced = 0, stored = 0, requests = 0, refused = 0, malformed = 0, bytes = 0;
  std::atomic<std::int64_t> last_event_ns = 0;

 private:
  const std::string name_, type_, target_;
  std::array<std::atomic<std::uint64_t>, kDrops> dropped_{};
  std::atomic<std::uint64_t> times_corrected_ = 0, cut_ = 0, baselines_ = 0;
  mutable Mutex mutex_;
  std::string state_ GUARDED_BY(mutex_) = "running";
  std::string text_ GUARDED_BY(mutex_);
  std::string last_error_ GUARDED_BY(mutex_);
};
using SourcePtr = std::shared_ptr<SourceState>;  // shared with batches on their way, which may outlive the source

// Events of one source on their way to the store. Whoever stores them says so by settle(); dropped unsettled, they
// count as Drop::Stopped.
class Intake;
class Batch {
 public:
  Batch() = default;
  Batch(Batch&& other) noexcept { *this = std::move(other); }
  Batch& operator=(Batch&& other) noexcept;
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch() { settle(false, Drop::Stopped); }

  std::vector<stream::Event> events;
  void settle(bool was_stored, Drop reason = Drop::Store);
  explicit operator bool() const { return intake_ != nullptr; }

 private:
  friend class Intake;
  Intake* intake_ = nullptr;
  SourcePtr source_;
  std::uint64_t count_ = 0, bytes_ = 0;
};

// The bounded door to the stream: at most events_max events and bytes_max bytes are between the sources and the store.
class Intake {
 public:
  struct Options {
    std::uint64_t events_max = 200'000;
    std::uint64_t bytes_max = 48U << 20U;
  };
  // `deliver` hands a batch to the stream; false if that is closed. Called on the source's thread, may wait.
  Intake(const Options& options, std::function<bool(Batch&&)> deliver) : options_(options), deliver_(std::move(deliver)) {}

  // Takes all events, or none. Waits until there is room, `stop` says so, or wait_ms have passed. Errors: Busy (nothing
  // was taken; try again), Exhausted (more than could ever fit), Io (the daemon ends).
  Result<void> submit(const SourcePtr& source, std::vector<stream::Event>&& events, int wait_ms, const std::stop_token& stop = {});
  // The same for sources that read again what was not taken: in slices, until all is in or `stop` says so. What could
  // never fit counts as dropped (limit). Error: Io: the daemon ends.
  Result<void> deliver(const SourcePtr& source, std::vector<stream::Event>&& events, const std::stop_token& stop);
  // The same for senders that cannot come again: what finds no room is counted as dropped.
  void offer(const SourcePtr& source, std::vector<stream::Event>&& events);
  std::uint64_t in_flight() const;

 private:
  friend class Batch;
  void release(std::uint64_t events, std::uint64_t bytes);

  const Options options_;
  const std::function<bool(Batch&&)> deliver_;
  mutable std::mutex mutex_;  // guards the two sums
  std::condition_variable_any room_;
  std::uint64_t events_ = 0, bytes_ = 0;
};

std::uint64_t bytes_of(const stream::Event& event);  // about what it takes in memory

}  // namespace culprit::ingest
