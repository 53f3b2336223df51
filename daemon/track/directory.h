// Directory: who runs on this host. Processes from exec, fork, exit and facts; services as names for sets of
// processes; and what people did to them: start, stop, restart, another version.
//
// A child belongs to its parent's service until facts tell better, so that short-lived children are counted where
// they come from. A service is `significant` when somebody gave it a name (unit, container, cgroup, rule), when it
// listens, or when a process of it is busy or long-lived; the others (each command of a shell script) keep silent.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/track/histogram.h"
#include "daemon/track/naming.h"
#include "daemon/track/output.h"
#include "daemon/track/tracker.h"

namespace culprit::track {

// Times beyond 36 years of uptime are nonsense: unknown.
inline constexpr std::uint64_t kTimeMaxNs = std::uint64_t{1} << 60;
inline std::int64_t start_of(std::uint64_t time_ns) { return time_ns > kTimeMaxNs ? 0 : static_cast<std::int64_t>(time_ns); }

enum class ServiceId : std::uint32_t { None = 0 };

// Requests that ended in the running second, and those that did not end yet (set at its end).
struct RequestWindow {
  Histogram durations;
  std::uint64_t errors = 0;
  double self_sum_s = 0;
  std::uint64_t inflight = 0;
  std::int64_t age_max_ns = 0;
};
// Rates of the last finished second, for the read side.
struct RequestRates {
  double rate = 0, errors = 0, p50_s = 0, p99_s = 0, mean_s = 0, inflight = 0, age_s = 0;
};

struct Endpoint {
  std::string operation, entity;
  RequestWindow window;
  RequestRates last;
  SampleMask mask;
  std::int64_t used_ns = 0;
};

// Use of resources in the running second; from differences of cumulative counts.
struct Usage {
  double cpu = 0, run_queue = 0, blocked = 0;  // s/s
  double run_queue_ns = 0, run_queue_count = 0;
  double read_bytes = 0, write_bytes = 0, disk_wait = 0;  // per second
  double fsyncs = 0, fsync_sum_s = 0, fsync_count = 0, fsync_max_s = 0, open_sum_s = 0, open_count = 0;
  void add(const Usage& other);
};

// What runs: the program of a service's main process.
struct Program {
  std::string exe, script, release;
  FileIdentity exe_identity, script_identity;
};

struct Process {
  std::uint32_t pid = 0, ppid = 0;
  std::int64_t start_ns = 0, exec_ns = 0;  // exec_ns: when it began to run its present program
  ServiceId service = ServiceId::None;
  std::string comm, filename;  // filename: of the last exec
  ProcessFacts facts;
  bool has_facts = false;      // of its present program
  bool forked = false;         // runs its parent's program: no exec yet
  bool newcomer = false;       // began after we did
  bool announced = false;      // process.start was sent
  bool exec_pending = false;   // process.exec waits for facts
  bool connects = false;       // opened a connection to another service
  bool watched_self = false;   // named by pid, and its children
  unsigned watched = 0;        // flags told to the sensor
  bool stopped = false;
  std::int64_t stopped_ns = 0;
  std::int64_t facts_ns = 0, asked_ns = 0;
  std::uint32_t asked = 0;     // times without an answer
  Usage usage;
  SampleMask mask;
};

struct Service {
  ServiceId id = ServiceId::None;
  std::string name, entity;
  NamedBy by = NamedBy::Nothing;
  bool significant = false;
  bool watched = false;     // some process of it is
  bool watch_whole = false; // all of its processes are, by its name, unit or port
  bool alive = false;       // has processes
  bool announced = false;   // its start is known to readers: by a change, or because it ran before us
  std::set<std::uint32_t> pids;
  std::set<std::uint16_t> ports;
  std::uint32_t main_pid = 0, listener_pid = 0;
  std::int64_t listener_exit_ns = 0;
  std::optional<Program> program;
  bool program_listens = false;
  std::int64_t started_ns = 0, stopped_ns = 0, seen_ns = 0;
  std::string cgroup, cgroup_memory_v1, path;  // path: of the cgroup that named it
  double memory_limit_ratio = 0, accept_queue_ratio = 0, throttled = 0;
  std::int64_t memory_limit_bytes = -1, throttled_ns = -1, throttled_at_ns = 0;

  // Of the running second.
  RequestWindow window;
  std::int64_t open_ns = 0;  // time of requests that were open, summed
  std::uint64_t starts = 0, exits = 0, crashes = 0, lines = 0, error_lines = 0, retransmits = 0, resets = 0;
  Usage usage;               // of processes that ended within the second
  std::map<std::pair<std::uint16_t, std::uint16_t>, LabelledCount> syscall_errors;  // syscall, errno
  RequestRates last;
  double last_cpu = 0, last_rss = 0;
  std::unordered_map<std::string, std::unique_ptr<Endpoint>> endpoints;  // key: operation
  SampleMask mask;
  RateLimit span_limit, line_limit;
  std::map<std::string, RateLimit, std::less<>> event_limits;
};

class Directory {
 public:
  Directory(const TrackerOptions& options, TrackStats& stats, Output& output);

  void on_fork(const culprit_fork_event& event);
  void on_exec(const culprit_exec_event& event);
  void on_exit(const culprit_exit_event& event);
  void on_oom(const culprit_oom_event& event);
  void on_signal(const culprit_signal_event& event);
  void on_facts(std::uint32_t pid, const ProcessFacts& facts);
  // Makes a stub for a process that others met, and asks for its facts. nullptr if the table is full, or if the process
  // ended a moment ago: counts and answers about it come late, and must not bring it back to life.
  Process* meet(std::uint32_t pid, std::uint64_t cgroup_id, const char* comm);
  void listens(std::uint32_t pid, std::uint16_t port);
  void listens_no_more(ServiceId id, std::uint16_t port);

  // What a process used before it ended, told afterwards.
  void late_usage(std::uint32_t pid, const Usage& usage);

  Process* find(std::uint32_t pid);
  Service* find(ServiceId id);
  ServiceId service_of(std::uint32_t pid);
  // Of a process that may be gone: by its control group.
  ServiceId service_of(std::uint32_t pid, std::uint64_t cgroup_id);
  // The endpoint of an operation, or the service's "/*" when there are too many.
  Endpoint* endpoint(Service& service, std::string_view method, const std::string& path);

  // Kernel event with the attributes common to all. nullptr if limited (counted). limit: per second, 0: as configured.
  stream::Event* kernel_event(std::int64_t time_ns, std::string_view name, std::uint32_t pid, ServiceId id,
                              std::string_view comm, std::size_t limit = 0);
  void submit(stream::Event* event);  // of kernel_event, when its attributes are complete

  void set_now(std::int64_t now_ns);
  std::int64_t now_ns() const { return now_ns_; }
  // Once a second, after usage is known: significance, versions, newcomers, questions, and what may be forgotten.
  void tick();
  std::uint64_t epoch() const { return epoch_; }  // changes whenever a process changes its service

  // A service that had to give its name to a watched one: its id, and the name it had. Once each.
  std::vector<std::pair<ServiceId, std::string>> take_renamed() { return std::exchange(renamed_, {}); }

  auto& processes() { return processes_; }
  auto& services() { return services_; }
  const auto& processes() const { return processes_; }
  const auto& services() const { return services_; }
  bool busy(const Usage& usage) const;

 private:
  Process* add(std::uint32_t pid, std::int64_t start_ns);
  void remove(std::uint32_t pid, std::int64_t time_ns);
  void assign(Process& process, Service* service);
  Service* open_service(const ServiceName& name, const Process& process);
  Service* open_service(const ServiceName& name);
  const Match* watch_of(const Process& process, const Service* service, std::string_view name) const;
  void rename(Service& service, std::string name);
  ServiceName name_of(const Process& process);
  void ask(Process& process);
  void update_watch(Process& process);
  void update_watch(Service& service);
  void become_significant(Service& service);
  void choose_main(Service& service);
  void began(Service& service, const Process& process);
  void ended(Service& service, std::int64_t time_ns);
  void check_program(Service& service);
  void newcomers();
  void questions();
  void change(std::int64_t time_ns, Service& service, std::string_view name, const Process* process,
              const stream::Attributes& attributes);

  const TrackerOptions& options_;
  TrackStats& stats_;
  Output& output_;
  std::int64_t now_ns_ = 0, begin_ns_ = 0;
  std::uint64_t epoch_ = 1;
  std::uint32_t next_id_ = 1;
  struct Ended {
    std::int64_t start_ns = 0;
    std::int64_t ended_ns = 0;
    ServiceId service = ServiceId::None;
  };
  std::unordered_map<std::uint32_t, std::unique_ptr<Process>> processes_;
  std::unordered_map<std::uint32_t, Ended> ended_;  // those of the last seconds
  std::map<ServiceId, std::unique_ptr<Service>> services_;
  std::unordered_map<std::string, ServiceId> by_name_;
  std::unordered_map<std::string, ServiceId> by_path_;      // of the cgroup that named it
  std::vector<std::pair<ServiceId, std::string>> renamed_;
  std::unordered_map<std::uint64_t, ServiceId> by_cgroup_;  // v2 id, of services that have a cgroup of their own
  RateLimit newcomer_limit_;
  std::map<std::string, RateLimit, std::less<>> other_limits_;  // events of processes without a service
  stream::Event event_;                                         // under construction
};

}  // namespace culprit::track
