// StreamStage: the last stage of the pipeline. It brings together what other tools and the kernel say of the same request or
// line, names log templates, makes series, appends to the store, and hands each second on to detection.
//
// Batches of other tools wait here for the requests that the kernel tells a moment later, so that they are stored in order.
// Threads: `run` has one of its own; everything else any.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/app/log_names.h"
#include "daemon/app/series_map.h"
#include "daemon/base/clock.h"
#include "daemon/base/config.h"
#include "daemon/base/mutex.h"
#include "daemon/concurrent/channel.h"
#include "daemon/ingest/join.h"
#include "daemon/ingest/line_twins.h"
#include "daemon/ingest/rollup.h"
#include "daemon/ingest/source.h"
#include "daemon/stream/store.h"

namespace culprit::app {

// What detection gets: all events of a second, after they are in the store. What other tools sent goes to the rules
// alone; series are made of it by the rollup, whose samples are among the events.
struct DetectInput {
  std::int64_t second_ns = 0;
  std::vector<stream::Event> events = {};
  std::vector<stream::Event> told = {};  // at most kToldBytesMax a second
};
inline constexpr std::uint64_t kToldBytesMax = 4u << 20;
using DetectChannel = concurrent::Channel<DetectInput>;

class StreamStage {
 public:
  struct Parts {
    const Config& config;
    const Clock& clock;
    stream::EventStore& store;
    concurrent::Registry& registry;
    DetectChannel& detect;
    std::filesystem::path logs_folder;  // where templates and their sightings are kept over restarts; empty: nowhere
    std::string host_name;
    std::function<bool(std::string_view service)> kernel_sees;  // requests of it; asked by `run`
  };
  struct Input {
    std::vector<stream::Event> events;
    ingest::Batch batch = {};    // of other tools, instead of events
    std::int64_t second_ns = 0;  // not 0: these are the last events of that second
  };
  explicit StreamStage(Parts parts);
  StreamStage(const StreamStage&) = delete;
  StreamStage& operator=(const StreamStage&) = delete;

  // Waits while the stage is busy. False once it is closed.
  bool give(Input input) { return channel_.send(std::move(input)) == concurrent::Outcome::Done; }
  void close() { (void)channel_.close(); }
  // Until closed, and all that was given is stored.
  void run();

  // As of the last whole second:
  ingest::RollupStats rollup_stats() const;
  ingest::JoinStats join_stats() const;
  ingest::LineTwinStats line_twin_stats() const;
  std::string kernel_name(const std::string& service) const;  // of a service that calls itself so; itself if it is the same
  std::vector<std::string> told_services() const;             // that other tools told of
  // As of now:
  std::uint64_t told_left_out() const { return told_left_out_; }  // events that are stored, but beyond what rules look at in a second
  const LogNames& log_names() const { return log_names_; }
  const SeriesMap& series() const { return series_; }
  ingest::Followed& followed() { return followed_; }  // what sources read of that the kernel may show, too

 private:
  struct Waiting {
    std::int64_t ready_ns = 0;
    ingest::Batch batch;
  };

  struct Seen {
    ingest::RollupStats rollup;
    ingest::JoinStats join;
    ingest::LineTwinStats twins;
    std::map<std::string, std::string> names;
    std::vector<std::string> told;
  };

  void take(Input& input);
  void take_batch(ingest::Batch batch);
  void take_waiting(std::int64_t now_ns);
  void append(std::vector<stream::Event> events);
  void prune(std::int64_t now_ns);
  void end_second(std::int64_t second_ns);

  const Config& config_;
  const Clock& clock_;
  stream::EventStore& store_;
  DetectChannel& detect_;
  const std::function<bool(std::string_view)> kernel_sees_;
  concurrent::Channel<Input> channel_;
  LogNames log_names_;
  SeriesMap series_;
  ingest::Followed followed_;
  std::atomic<std::uint64_t> told_left_out_ = 0;

  // The stage's thread:
  ingest::Join join_;
  ingest::LineTwins twins_{followed_};
  ingest::Rollup rollup_;
  std::deque<Waiting> waiting_;
  std::uint64_t waiting_events_ = 0;
  DetectInput second_;            // everything since the last marker
  std::uint64_t told_bytes_ = 0;  // of this second
  std::int64_t pruned_at_ns_ = 0;
  std::uint64_t pruned_bytes_ = 0;  // on disk then

  mutable Mutex mutex_;
  Seen seen_ GUARDED_BY(mutex_);
};

}  // namespace culprit::app
