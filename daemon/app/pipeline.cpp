#include "daemon/app/pipeline.h"

#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <set>
#include <variant>

#include "daemon/app/convert.h"
#include "daemon/base/at_end.h"
#include "daemon/base/log.h"
#include "daemon/base/text.h"

namespace culprit::app {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kTickNs = kNsPerSecond;
constexpr std::int64_t kFilesystemsEveryNs = 5 * kNsPerSecond;
constexpr std::int64_t kCgroupsEveryNs = 2 * kNsPerSecond;
constexpr std::int64_t kLookEveryNs = 5 * kNsPerSecond;
constexpr std::uint32_t kLookS = 15;  // outlasts a few lost requests
constexpr std::int64_t kSocketsEveryNs = 30 * kNsPerSecond;
constexpr std::size_t kCgroupsMax = 256;       // asked for limits in one round
// How often the rings are looked at (they wake us when a quarter full). Each time we wake takes a core from somebody; not longer than
// records are held back, or those of a second come after it was closed.
constexpr std::chrono::milliseconds kPoll{80};
constexpr std::int64_t kReorderNs = 100 * kNsPerMs;  // records of two CPUs may be this far out of order

struct SnapshotInput {
  sensor::Snapshot snapshot;
  double watched_share;  // Tracker::on_watched_share
};
struct FactsInput {
  std::uint32_t pid;
  track::ProcessFacts facts;
};
struct SocketOwnersInput {
  std::vector<sensor::SocketOwner> owners;
};
struct FilesystemsInput {
  std::vector<sensor::FilesystemSpace> spaces;
};
struct CgroupInput {
  sensor::CgroupLimits limits;
};
struct ProcessesInput {
  std::vector<sensor::ProcessRow> rows;
};
struct GapInput {
  std::int64_t from_ns, to_ns;
};
using TrackInput = std::variant<collect::RecordBatch, SnapshotInput, FactsInput, SocketOwnersInput, FilesystemsInput,
                                CgroupInput, ProcessesInput, GapInput>;

}  // namespace

struct Pipeline::Impl : track::Sink {
  explicit Impl(Parts p)
      : clock(p.clock), accounting(p.accounting), something_wrong(std::move(p.something_wrong)),
        track_in({.name = "track", .capacity = 256, .when_full = concurrent::WhenFull::Wait, .registry = &p.registry}),
        stream_stage({.config = p.config, .clock = p.clock, .store = p.store, .registry = p.registry, .detect = p.detect, .logs_folder = std::move(p.logs_folder),
                      .host_name = host.name(), .kernel_sees = [this](std::string_view service) { return serves_requests(service); }}) {}

  const Clock& clock;
  Accounting& accounting;
  std::function<bool()> something_wrong;
  Host host;

  concurrent::Channel<TrackInput> track_in;
  StreamStage stream_stage;  // takes from the track thread, each receiver, and whoever adds
  std::unique_ptr<collect::SensorClient> client;
  std::unique_ptr<track::Tracker> tracker;  // track thread

  mutable Mutex mutex;
  std::shared_ptr<collect::Collector> collector GUARDED_BY(mutex);  // shared with the collect thread while it polls
  collect::CollectorCounts earlier GUARDED_BY(mutex);               // of sensors that are gone
  SensorView sensor_seen GUARDED_BY(mutex);
  std::shared_ptr<const TrackView> track_seen GUARDED_BY(mutex) = std::make_shared<TrackView>();
  std::string failed GUARDED_BY(mutex);
  std::int64_t lost_at_ns GUARDED_BY(mutex) = 0;

  std::vector<stream::Event> emitted;  // track thread: since the last hand-over
  std::int64_t filesystems_at_ns = 0, cgroups_at_ns = 0, sockets_at_ns = 0, looked_at_ns = 0;  // sensor thread
  std::int64_t snapshot_at_ns = 0;
  std::uint64_t returns_ns = 0, entries_ns = 0, rested_ns = 0;  // observed and not, as the last snapshot said
  std::uint64_t watched_made = 0, watched_lost = 0;             // records of the watched, then

  // Threads last: they end before what they use.
  std::jthread stream_thread, track_thread, collect_thread, sensor_thread;

  void fail_with(std::string text) {
    const MutexLock lock(mutex);
    if (failed.empty()) failed = std::move(text);
  }

  // Runs a thread's loop; an exception that gets here is a bug, and the daemon ends rather than going on half.
  template <typename Loop>
  std::jthread spawn(const char* name, Loop loop) {
    return std::jthread([this, name, loop](const std::stop_token& stop) {
      ::pthread_setname_np(::pthread_self(), name);
      try {
        loop(stop);
      } catch (const std::exception& e) {
        log::error("thread '{}' failed: {}; stopping", name, e.what());
        fail_with(fmt::format("thread '{}': {}", name, e.what()));
      }
    });
  }

  Result<void> open_client(Fd control);
  void sensor_loop(const std::stop_token& stop);
  void ask_periodically();
  void on_hello(sensor::Hello hello, collect::RingFds fds);
  void on_lost(const std::string& reason);
  double watched_share(const collect::CollectorCounts& counts, double rested_share);
  void on_snapshot(sensor::Snapshot snapshot);
  void collect_loop(const std::stop_token& stop);
  void track_loop();
  void take(TrackInput& input);
  void hand_over(std::int64_t second_ns);
  std::shared_ptr<const TrackView> track_view_locked() const {
    const MutexLock lock(mutex);
    return track_seen;
  }
  bool serves_requests(std::string_view service) const {
    const auto view = track_view_locked();
    return std::ranges::any_of(view->services, [&](const track::ServiceView& each) { return each.name == service && each.rate > 0; });
  }
  void push(TrackInput input) { (void)track_in.send(std::move(input)); }  // Closed only at the end

  // ---- track::Sink: called on the track thread ----
  void events(std::vector<stream::Event> batch) override {
    emitted.insert(emitted.end(), std::make_move_iterator(batch.begin()), std::make_move_iterator(batch.end()));
  }
  void want_facts(std::uint32_t pid) override {
    client->who_is(pid, [this, pid](Result<sensor::ProcessInfo> info) {
      if (info) {
        push(FactsInput{pid, to_facts(*info)});
      } else if (info.error().code == Code::NotFound) {
        track::ProcessFacts gone;
        gone.gone = true;
        push(FactsInput{pid, gone});
      }
    });
  }
  void want_watch(std::uint32_t pid, unsigned flags) override {
    client->watch_tgid(pid, flags, [pid](Result<void> done) {
      if (!done && done.error().code != Code::NotFound) log::warn("watch pid {}: {}", pid, done.error().message);
    });
  }
};

Result<void> Pipeline::Impl::open_client(Fd control) {
  collect::SensorHandlers handlers;
  handlers.on_hello = [this](sensor::Hello hello, collect::RingFds fds) { on_hello(std::move(hello), std::move(fds)); };
  handlers.on_snapshot = [this](sensor::Snapshot snapshot) { on_snapshot(std::move(snapshot)); };
  handlers.on_lost = [this](const std::string& reason) { on_lost(reason); };
  ASSIGN(client, collect::SensorClient::open_supervised(std::move(control), std::move(handlers)));
  return {};
}

void Pipeline::Impl::sensor_loop(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (auto done = client->dispatch(500ms); !done) {
      fail_with("the supervisor is gone: " + done.error().message);
      return;
    }
    ask_periodically();
  }
}

void Pipeline::Impl::ask_periodically() {
  if (!client->connected()) return;
  const std::int64_t now = clock.now_ns();
  if (now - filesystems_at_ns >= kFilesystemsEveryNs) {
    filesystems_at_ns = now;
    client->filesystem_spaces([this](Result<std::vector<sensor::FilesystemSpace>> spaces) {
      if (!spaces) return;
      {
        const MutexLock lock(mutex);
        sensor_seen.filesystems = *spaces;
      }
      push(FilesystemsInput{std::move(*spaces)});
    });
  }
  if (now - cgroups_at_ns >= kCgroupsEveryNs) {
    cgroups_at_ns = now;
    std::set<std::string> paths;
    for (const auto& service : track_view_locked()->services) {
      for (const std::string& path : {service.cgroup, service.cgroup_memory_v1}) {
        if (path.size() > 1 && paths.size() < kCgroupsMax) paths.insert(path);
      }
    }
    for (const std::string& path : paths) {
      client->read_cgroup(path, [this](Result<sensor::CgroupLimits> limits) {
        if (limits) push(CgroupInput{std::move(*limits)});
      });
    }
  }
  if (now - looked_at_ns >= kLookEveryNs && something_wrong()) {
    looked_at_ns = now;
    client->look_closely(kLookS, [](Result<void> done) {
      if (!done) log::warn("look closely at system calls: {}", done.error().message);
    });
  }
  if (now - sockets_at_ns >= kSocketsEveryNs) {
    sockets_at_ns = now;
    client->list_sockets(0, [this](Result<std::vector<sensor::SocketOwner>> owners) {
      if (owners) push(SocketOwnersInput{std::move(*owners)});
    });
  }
}

void Pipeline::Impl::on_hello(sensor::Hello hello, collect::RingFds fds) {
  auto opened = collect::Collector::open(hello.geometry, std::move(fds), clock);
  if (!opened) {
    log::error("rings of the sensor: {}; going on without events", opened.error().message);
    return;
  }
  std::vector<std::string> blind;
  for (const sensor::Program& program : hello.programs) {
    if (program.state == sensor::ProgramState::Skipped) blind.push_back(fmt::format("{} ({})", program.name, program.reason));
  }
  log::info("sensor attached programs={} skipped={} kernel={}", hello.programs.size() - blind.size(), blind.size(), hello.kernel_release);
  accounting.set_blind(std::move(blind));
  std::int64_t lost_at = 0;
  {
    const MutexLock lock(mutex);
    collector = std::move(*opened);
    sensor_seen.connected = true;
    sensor_seen.hello = std::move(hello);
    lost_at = std::exchange(lost_at_ns, 0);
  }
  if (lost_at != 0) {
    const std::int64_t now = clock.now_ns();
    accounting.add_gap(lost_at, now);
    push(GapInput{lost_at, now});
  }
  filesystems_at_ns = cgroups_at_ns = sockets_at_ns = looked_at_ns = 0;
  snapshot_at_ns = 0;
  client->list_processes([this](Result<std::vector<sensor::ProcessRow>> rows) {
    if (rows) push(ProcessesInput{std::move(*rows)});
  });
}

void Pipeline::Impl::on_lost(const std::string& reason) {
  log::warn("sensor lost: {}; waiting for the next one", reason);
  const MutexLock lock(mutex);
  sensor_seen.connected = false;
  sensor_seen.lost_reason = reason;
  if (lost_at_ns != 0) return;  // one that never said hello: blind since the one before it
  lost_at_ns = clock.now_ns();
  accounting.open_gap(lost_at_ns);
}

// Of what the watched move and write, a part is not observed while the programs rest, and a part of the rest is dropped.
double Pipeline::Impl::watched_share(const collect::CollectorCounts& counts, double rested_share) {
  std::uint64_t made = 0, lost = 0;
  for (const std::uint32_t kind : {CULPRIT_EVENT_PAYLOAD, CULPRIT_EVENT_LOG}) {
    made += counts.kinds[kind].produced;
    for (const std::uint64_t dropped : counts.kinds[kind].dropped) lost += dropped;
  }
  const bool anew = made < watched_made || lost < watched_lost;  // another sensor
  const std::uint64_t made_now = made - (anew ? 0 : watched_made), lost_now = lost - (anew ? 0 : watched_lost);
  watched_made = made;
  watched_lost = lost;
  const double arrived = made_now > lost_now ? static_cast<double>(made_now - lost_now) / static_cast<double>(made_now) : 1;
  return (1 - rested_share) * arrived;
}

void Pipeline::Impl::on_snapshot(sensor::Snapshot snapshot) {
  collect::CollectorCounts counts;
  double rested_share = 0;
  {
    const MutexLock lock(mutex);
    sensor_seen.tables = snapshot.tables;
    sensor_seen.programs = snapshot.programs;
    sensor_seen.cpu_ns = snapshot.sensor_cpu_ns;
    sensor_seen.rss_bytes = snapshot.sensor_rss_bytes;
    ++sensor_seen.snapshots;
    if (snapshot_at_ns != 0 && snapshot.time_ns > snapshot_at_ns) {
      const auto passed = static_cast<double>(snapshot.time_ns - snapshot_at_ns);
      sensor_seen.returns_share = std::min(1.0, static_cast<double>(snapshot.returns_observed_ns - returns_ns) / passed);
      sensor_seen.rested_share = std::min(1.0, static_cast<double>(snapshot.rested_ns - rested_ns) / passed);
      accounting.add_rest(snapshot_at_ns, snapshot.time_ns, static_cast<std::int64_t>(snapshot.rested_ns - rested_ns));
      sensor_seen.entries_share = std::min(1.0, static_cast<double>(snapshot.entries_observed_ns - entries_ns) / passed);
    }
    snapshot_at_ns = snapshot.time_ns;
    returns_ns = snapshot.returns_observed_ns;
    entries_ns = snapshot.entries_observed_ns;
    rested_ns = snapshot.rested_ns;
    if (collector) counts = collector->counts();
    rested_share = sensor_seen.rested_share;
  }
  std::uint64_t produced = 0;
  std::map<std::string, std::uint64_t> dropped;
  for (const collect::KindCounts& kind : counts.kinds) {
    produced += kind.produced;
    for (std::uint32_t reason = 0; reason < CULPRIT_DROPS; ++reason) {
      if (kind.dropped[reason] > 0) dropped[std::string(collect::drop_name(reason))] += kind.dropped[reason];
    }
  }
  accounting.add(snapshot.time_ns, produced, std::move(dropped));
  const double share = watched_share(counts, rested_share);
  push(SnapshotInput{std::move(snapshot), share});
}

void Pipeline::Impl::collect_loop(const std::stop_token& stop) {
  std::shared_ptr<collect::Collector> current;
  while (!stop.stop_requested()) {
    std::shared_ptr<collect::Collector> newest;
    {
      const MutexLock lock(mutex);
      newest = collector;
    }
    if (newest != current) {
      if (current) {  // the sensor before this one is gone; its rings still hold what was not read
        collect::RecordBatch rest;
        if (current->drain(rest) && !rest.empty()) push(std::move(rest));
        const MutexLock lock(mutex);
        add_counts(earlier, current->counts());
      }
      current = std::move(newest);
    }
    if (!current) {
      std::this_thread::sleep_for(20ms);  // only until the first sensor is there
      continue;
    }
    collect::RecordBatch batch;
    if (auto count = current->poll(kPoll, batch); !count) {
      log::warn("read rings: {}; trying again", count.error().message);
      std::this_thread::sleep_for(100ms);
    } else if (!batch.empty()) {
      push(std::move(batch));
    }
  }
}

void Pipeline::Impl::track_loop() {
  const AtEnd no_more([this] { (void)track_in.close(); });  // if this thread fails, nobody waits for it
  std::int64_t tick_at = clock.now_ns() / kTickNs * kTickNs + kTickNs;
  std::int64_t advanced_at = 0;
  std::int64_t taken_at = 0;
  while (true) {
    TrackInput input;
    // Records that are held back go on when the next ones come, or if none do, soon; else the next tick is the next thing to do.
    const std::int64_t before = clock.now_ns();
    const std::int64_t to_tick = std::clamp<std::int64_t>(tick_at + kReorderNs - before, kNsPerMs, kNsPerSecond);
    const auto outcome = track_in.recv(input, {.timeout_ns = before - taken_at > 2 * kReorderNs ? to_tick : std::min(to_tick, kReorderNs)});
    if (outcome == concurrent::Outcome::Closed) break;
    const std::int64_t now = clock.now_ns();
    if (outcome == concurrent::Outcome::Done) {
      take(input);
      taken_at = now;
    }
    if (now - advanced_at >= 10 * kNsPerMs) {
      tracker->advance(now - kReorderNs);
      advanced_at = now;
    }
    if (now >= tick_at + kReorderNs) {
      // A stalled daemon does not make up for the seconds it slept through: one tick covers them.
      const std::int64_t second = std::max(tick_at, (now - kReorderNs) / kTickNs * kTickNs);
      tracker->on_host(second, host.facts());
      tracker->tick(second);
      tick_at = second + kTickNs;
      auto view = std::make_shared<TrackView>();
      view->time_ns = second;
      view->services = tracker->services();
      view->edges = tracker->edges();
      view->stats = tracker->stats();
      {
        const MutexLock lock(mutex);
        track_seen = std::move(view);
      }
      hand_over(second);
    } else if (emitted.size() >= 256) {
      hand_over(0);
    }
  }
  tracker->advance(clock.now_ns());
  hand_over(clock.now_ns());
}

void Pipeline::Impl::hand_over(std::int64_t second_ns) {
  if (emitted.empty() && second_ns == 0) return;
  (void)stream_stage.give({std::exchange(emitted, {}), {}, second_ns});
}

void Pipeline::Impl::take(TrackInput& input) {
  const std::int64_t now = clock.now_ns();
  std::visit(
      [&](auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, collect::RecordBatch>) {
          for (std::size_t i = 0; i < value.size(); ++i) tracker->on_record(value[i]);
        } else if constexpr (std::is_same_v<T, SnapshotInput>) {
          tracker->advance(std::min(value.snapshot.time_ns, now - kReorderNs));
          tracker->on_watched_share(value.watched_share);
          give_snapshot(*tracker, value.snapshot);
        } else if constexpr (std::is_same_v<T, FactsInput>) {
          tracker->on_facts(value.pid, value.facts);
        } else if constexpr (std::is_same_v<T, SocketOwnersInput>) {
          for (const sensor::SocketOwner& owner : value.owners) tracker->on_socket_owner(owner.tgid, owner.inode);
        } else if constexpr (std::is_same_v<T, FilesystemsInput>) {
          const auto facts = to_facts(value.spaces);
          tracker->on_filesystems(now, facts);
          tracker->on_devices(host.devices());
        } else if constexpr (std::is_same_v<T, CgroupInput>) {
          const track::CgroupFacts facts[] = {to_facts(value.limits)};
          tracker->on_cgroup_limits(now, facts);
        } else if constexpr (std::is_same_v<T, ProcessesInput>) {
          for (const sensor::ProcessRow& row : value.rows) want_facts(row.tgid);
        } else if constexpr (std::is_same_v<T, GapInput>) {
          tracker->on_gap(value.from_ns, value.to_ns);
        }
      },
      input);
}

Pipeline::Pipeline(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Pipeline>> Pipeline::start(Parts parts) {
  Fd control = std::move(parts.control);
  const Config& config = parts.config;
  auto impl = std::make_unique<Impl>(std::move(parts));
  track::TrackerOptions options = tracker_options(config);
  options.own_pid = static_cast<std::uint32_t>(::getpid());
  impl->tracker = std::make_unique<track::Tracker>(std::move(options), *impl);
  TRY(impl->open_client(std::move(control)));
  Impl* self = impl.get();
  impl->stream_thread = self->spawn("stream", [self](const std::stop_token&) { self->stream_stage.run(); });
  impl->track_thread = self->spawn("track", [self](const std::stop_token&) { self->track_loop(); });
  impl->collect_thread = self->spawn("collect", [self](const std::stop_token& stop) { self->collect_loop(stop); });
  impl->sensor_thread = self->spawn("sensor", [self](const std::stop_token& stop) { self->sensor_loop(stop); });
  return std::unique_ptr<Pipeline>(new Pipeline(std::move(impl)));
}

Pipeline::~Pipeline() {
  // From the source on: each stage ends when the one before it has handed over its last.
  impl_->sensor_thread.request_stop();
  impl_->collect_thread.request_stop();
  impl_->client->wake();
  impl_->sensor_thread.join();
  impl_->collect_thread.join();
  (void)impl_->track_in.close();
  impl_->track_thread.join();
  impl_->stream_stage.close();
  impl_->stream_thread.join();
}

void Pipeline::add(std::vector<stream::Event> events) { (void)impl_->stream_stage.give({std::move(events)}); }  // closed only at the end

std::shared_ptr<const TrackView> Pipeline::track_view() const { return impl_->track_view_locked(); }

SensorView Pipeline::sensor_view() const {
  SensorView view;
  {
    const MutexLock lock(impl_->mutex);
    view = impl_->sensor_seen;
  }
  view.client = impl_->client->counts();
  return view;
}

collect::CollectorCounts Pipeline::collector_counts() const {
  const MutexLock lock(impl_->mutex);
  collect::CollectorCounts counts = impl_->earlier;
  if (impl_->collector) add_counts(counts, impl_->collector->counts());
  return counts;
}

const StreamStage& Pipeline::stream_stage() const { return impl_->stream_stage; }

bool Pipeline::ingest(ingest::Batch&& batch) { return impl_->stream_stage.give({{}, std::move(batch)}); }

ingest::Followed& Pipeline::followed() { return impl_->stream_stage.followed(); }

std::string Pipeline::failure() const {
  const MutexLock lock(impl_->mutex);
  return impl_->failed;
}

}  // namespace culprit::app
