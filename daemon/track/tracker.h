// Tracker: kernel records and sampled facts in, knowledge about services out.
//
// It keeps the tables of processes, services, sockets, requests and threads, and turns them once a second into
// samples and at once into spans, log lines, kernel events and changes, named as docs/events.md says.
//
// The idea: a socket's bytes flow in turns. What a server reads until it answers is a request; what a client
// writes until it is answered is a call. A request belongs to the thread that read it; calls and log lines of
// that thread belong to the request until the answer is written. Names of peers come from who listens on a port
// and from the other end of the same connection.
//
// Pure and deterministic: no clock, no I/O, no randomness; the same inputs give the same outputs, bit for bit.
// Records of different CPUs arrive a little out of order: they wait in a buffer and are processed in time order by
// advance(). Threads: one owner. The Sink is called from within advance(), tick() and on_...(), and must not
// call back. Every table has a limit in TrackerLimits and a counter in TrackStats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bpf/include/culprit_events.h"
#include "daemon/stream/event.h"
#include "daemon/track/facts.h"

namespace culprit::track {

// Which processes: each field that is set must match. Globs as in base/text.h.
struct Match {
  std::string cgroup{};    // glob over either cgroup path
  std::string exe{};       // glob over the executable's path, or its base name if it has no '/'
  std::string unit{};      // "nginx.service" or "nginx"
  std::string service{};   // glob over the service's name (of no use in ServiceRule)
  std::uint16_t port = 0;  // listens on it
  std::uint32_t pid = 0;
};

// Processes that match belong to the service `name`; the first rule that matches wins.
struct ServiceRule {
  Match match;
  std::string name;
};

struct TrackerLimits {
  std::size_t pending_bytes = 64u << 20;         // records that wait to be put in order
  std::size_t processes = 65'536;
  std::size_t services = 2'048;
  std::size_t sockets = 65'536;
  std::size_t edges = 4'096;
  std::size_t listeners = 4'096;
  std::size_t threads = 65'536;                  // that handle requests
  std::size_t requests_open = 65'536;
  std::size_t calls_per_request = 128;           // kept one by one; more are summed
  std::size_t templates_per_service = 200;       // path templates; more become "/*"
  std::size_t partial_lines = 1'024;             // lines whose end was not yet written
  std::size_t line_bytes = 8'192;                // of one log line
  std::size_t spans_per_second = 500;            // per service; the slowest and the failed have their own share
  std::size_t lines_per_second = 2'000;          // per service
  std::size_t kernel_events_per_second = 20;     // per service and name
  std::size_t process_samples_per_second = 40;   // processes that get samples of their own
  std::size_t facts_per_second = 50;             // questions about processes that are already known
};

struct TrackerOptions {
  std::vector<ServiceRule> service_rules;
  std::vector<Match> watch;                      // whose payload and log lines to capture
  bool watch_all = false;
  std::vector<std::string> ignored_cgroups;      // globs: paths that name no service (the daemon's own, a login)
  std::uint32_t own_pid = 0;                     // never watched
  std::uint32_t sensor_pid = 0;                  // never watched
  std::int64_t long_lived_ns = 10'000'000'000;   // an executable that runs this long is worth a service
  std::int64_t restart_memory_ns = 600'000'000'000;  // a service that is back within this time was restarted
  std::uint64_t seed = 0;                        // of trace ids that we have to make
  TrackerLimits limits;
};

// want_watch flags
inline constexpr unsigned kWatchPayload = 1;
inline constexpr unsigned kWatchLogs = 2;

// Where everything goes. Events are in order of discovery; their times may lie a little apart.
class Sink {
 public:
  virtual ~Sink() = default;
  // Log events have an empty name: whoever mines templates gives it.
  virtual void events(std::vector<stream::Event> batch) = 0;
  // Please call on_facts(pid). Asked again later if no answer comes.
  virtual void want_facts(std::uint32_t pid) = 0;
  // Please capture (flags != 0) or stop to capture (0) this process.
  virtual void want_watch(std::uint32_t pid, unsigned flags) = 0;
};

// What came in is what was processed, what waits, and what was dropped, exactly:
// records_in = processed + pending + dropped_bad_size + dropped_unknown_kind.
struct TrackStats {
  std::uint64_t records_in = 0, processed = 0, pending = 0;
  std::uint64_t dropped_bad_size = 0, dropped_unknown_kind = 0;
  std::uint64_t late = 0;    // came after later ones were processed; processed all the same
  std::uint64_t forced = 0;  // processed early because pending_bytes was reached
  std::uint64_t events_out = 0;
  // One each for the limits: what did not find a place.
  std::uint64_t processes_refused = 0, services_refused = 0, sockets_evicted = 0, edges_refused = 0, listeners_refused = 0;
  std::uint64_t threads_evicted = 0, requests_refused = 0, calls_summed = 0, templates_refused = 0;
  std::uint64_t lines_dropped = 0, lines_cut = 0, partial_lines_flushed = 0;
  std::uint64_t spans_sampled_out = 0, kernel_events_limited = 0, pipeline_refused = 0;
  // What was uncertain.
  std::uint64_t stream_gaps = 0;          // bytes of a connection were moved without a record
  std::uint64_t http_resyncs = 0;         // a message began where the one before had not ended for us
  std::uint64_t http_truncated = 0;       // headers went on beyond the captured bytes
  std::uint64_t answers_unmatched = 0;    // a response without a request (the connection is older than we)
  std::uint64_t answers_unseen = 0;       // an answer that must have been, but whose record did not come
  std::uint64_t calls_ambiguous = 0;      // several requests were open on the thread
  std::uint64_t calls_without_request = 0;
  std::uint64_t lines_ambiguous = 0;
  // Now.
  std::uint64_t processes = 0, services = 0, sockets = 0, edges = 0, requests_open = 0, threads = 0;
};

// ---- read side: copies, as of the last tick ----
struct EndpointView {
  std::string operation;  // "GET /items/{id}"
  double rate = 0, errors = 0, p50_s = 0, p99_s = 0;
};
struct ServiceView {
  std::string name;
  bool significant = false;  // has a name of its own, listens, is busy or long-lived: others send no samples
  bool watched = false;
  std::string exe, script;
  std::string cgroup, cgroup_memory_v1;
  std::vector<std::uint32_t> pids;    // at most 64, oldest first
  std::uint32_t main_pid = 0;         // who listens, else the oldest
  std::vector<std::uint16_t> ports;   // listened on
  std::int64_t started_ns = 0, seen_ns = 0;
  double rate = 0, errors = 0, p50_s = 0, p99_s = 0, inflight = 0, inflight_age_s = 0, cpu = 0, rss_bytes = 0;
  std::vector<EndpointView> endpoints;
};
struct EdgeView {
  std::string caller, callee;  // service names; callee may be ip:port
  double rate = 0, errors = 0, mean_s = 0, p99_s = 0, inflight = 0, inflight_age_s = 0, wait_share = 0;
  double retransmits = 0, rtt_s = 0;
  std::int64_t seen_ns = 0;
};
struct ProcessView {
  std::uint32_t pid = 0, ppid = 0, uid = 0;
  std::string service, comm, exe;
  std::vector<std::string> cmdline;
  std::int64_t started_ns = 0;
  char state = 0;
  bool watched = false;
};

class Tracker {
 public:
  Tracker(TrackerOptions options, Sink& sink);
  ~Tracker();

  // One ring record, culprit_header first. Sizes are checked again, for recordings. Kept until advance().
  void on_record(std::span<const std::byte> record);
  // Processes all records up to this time, in time order. Call every ~20 ms with now - 50 ms.
  void advance(std::int64_t until_ns);

  void on_facts(std::uint32_t pid, const ProcessFacts& facts);
  void on_socket_owner(std::uint32_t pid, std::uint64_t inode);  // as ProcessFacts::sockets, one by one

  // Cumulative counts, about once a second, before tick(): all rows, or at least those that changed.
  template <typename Key, typename Counts>
  using Snapshot = std::span<const std::pair<Key, Counts>>;
  void on_sched(std::int64_t now_ns, Snapshot<std::uint32_t, culprit_sched_counts> counts);  // key: tgid
  // How long system calls were observed so far (sensor::Snapshot), before the two below: their counts are scaled by it.
  void on_calls_observed(std::int64_t now_ns, std::uint64_t returns_ns, std::uint64_t entries_ns);
  // Share of what the watched moved and wrote since the snapshot before that arrived here, in (0, 1]: rates of requests
  // and lines are scaled by it. It must be about the same second as the records.
  void on_watched_share(double share);
  void on_syscall_errors(std::int64_t now_ns, Snapshot<culprit_syscall_error_key, culprit_syscall_error_counts> counts);
  void on_timed_calls(std::int64_t now_ns, Snapshot<culprit_timed_call_key, culprit_latency> counts);
  void on_block(std::int64_t now_ns, Snapshot<culprit_block_key, culprit_block_counts> counts);
  void on_tcp_info(std::int64_t now_ns, std::span<const culprit_tcp_info> sockets);  // all sockets of the host, every few seconds

  // Sampled facts, every second to every minute.
  void on_cgroup_limits(std::int64_t now_ns, std::span<const CgroupFacts> cgroups);
  void on_filesystems(std::int64_t now_ns, std::span<const FilesystemFacts> filesystems);
  void on_devices(std::span<const DeviceName> devices);
  void on_host(std::int64_t now_ns, const HostFacts& host);

  // The probes saw nothing in [from_ns, to_ns] (the sensor was restarted): open requests and calls are forgotten.
  void on_gap(std::int64_t from_ns, std::int64_t to_ns);

  // Once a second: emits the samples of the second that ended.
  void tick(std::int64_t now_ns);

  TrackStats stats() const;
  std::vector<ServiceView> services() const;
  std::vector<EdgeView> edges() const;
  std::vector<ProcessView> processes() const;
  // Service of a process, empty if unknown.
  std::string service_of(std::uint32_t pid) const;
  // Cgroup paths whose CgroupFacts are of use: those of significant services.
  std::vector<std::string> cgroups() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::track
