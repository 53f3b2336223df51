// Pipeline: from the sensor's descriptors to events in the store.
//
//   sensor thread   dispatches the sensor's messages (snapshots, answers)      ─┐
//   collect thread  empties the rings                                          ─┴► Channel<TrackInput> ─► track thread
//   track thread    owns the Tracker; ticks once a second                       ─► Channel "stream" ─► stream thread
//   stream thread   StreamStage: joins, names log templates, appends to the store   ─► Channel<DetectInput> ─► (diagnosis)
//
// Every channel waits when full: pressure goes back to the rings, whose probes count what finds no room. So nothing
// is lost between the rings and the store without a counter.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "daemon/app/accounting.h"
#include "daemon/app/host.h"
#include "daemon/app/stream_stage.h"
#include "daemon/base/clock.h"
#include "daemon/base/config.h"
#include "daemon/base/mutex.h"
#include "daemon/collect/collector.h"
#include "daemon/collect/sensor_client.h"
#include "daemon/concurrent/channel.h"
#include "daemon/sensor/facts.h"
#include "daemon/stream/store.h"
#include "daemon/track/tracker.h"

namespace culprit::app {

// What the track thread knew at its last tick.
struct TrackView {
  std::int64_t time_ns = 0;
  std::vector<track::ServiceView> services;
  std::vector<track::EdgeView> edges;
  track::TrackStats stats;
};

// What the sensor said, for status and doctor.
struct SensorView {
  bool connected = false;
  sensor::Hello hello;
  std::vector<sensor::TableSample> tables;
  std::vector<sensor::ProgramSample> programs;
  std::vector<sensor::FilesystemSpace> filesystems;
  std::uint64_t cpu_ns = 0, rss_bytes = 0;
  std::uint64_t snapshots = 0;
  double returns_share = 0, entries_share = 0;  // of the last second in which system calls were observed
  double rested_share = 0;                      // and in which those of the watched were not: payload_per_second was reached
  std::string lost_reason;
  collect::SensorClientCounts client;
};

class Pipeline {
 public:
  struct Parts {
    const Config& config;
    const Clock& clock;
    stream::EventStore& store;
    concurrent::Registry& registry;
    Accounting& accounting;
    DetectChannel& detect;
    Fd control;  // the worker's end towards its supervisor
    std::filesystem::path logs_folder;  // where templates and their sightings are kept over restarts; empty: nowhere
    std::function<bool()> something_wrong;  // asked now and then, from the sensor thread: then the probes look closely
  };
  static Result<std::unique_ptr<Pipeline>> start(Parts parts);
  ~Pipeline();  // stops the threads; what was received is still stored

  // Events from elsewhere in the daemon join the stream behind those that were handed over before. Any thread.
  void add(std::vector<stream::Event> events);

  std::shared_ptr<const TrackView> track_view() const;
  SensorView sensor_view() const;
  // Of the present sensor, plus all that earlier ones counted.
  collect::CollectorCounts collector_counts() const;
  const StreamStage& stream_stage() const;

  // Events of other tools, from any thread; waits while the stream is busy. False once it ends.
  bool ingest(ingest::Batch&& batch);
  ingest::Followed& followed();  // what sources read of that the kernel may show, too

  // Everything was lost that the daemon cannot go on without; main ends then. Empty while all is well.
  std::string failure() const;

 private:
  struct Impl;
  explicit Pipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::app
