// Scene: everything that the events of [onset - 10 min, now] say, in a form that causes can be read from: series against
// their past, who calls whom and where the time goes, processes, kernel events, changes, new log lines.
// Built once per explanation; then only read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/explain/baseline.h"
#include "daemon/explain/explain.h"
#include "daemon/stream/store.h"

namespace culprit::explain {

struct Process {
  std::int64_t pid = 0;
  std::string service, command;
  std::int64_t first_ns = 0;  // start, if it was seen; else the first sample
  bool newcomer = false;      // it was seen to start shortly before the incident, or in it
};

// Calls from one service to another.
struct Edge {
  std::string entity, caller, callee;
  double wait_normal = 0, wait_now = 0;  // share of the caller's request time
  double share = 0;       // of the caller's trouble that comes from this callee, 0 to 1
  double failures = 0;    // failed connections and calls a second, more than before
  std::string connect_errno;
  bool suspicious = false;  // something about it deviates
  bool fresh = false;       // was not there before
};

// A log template of one service that is new, or much more frequent than before; or what its failed spans say, likewise.
struct LogNews {
  std::string service, template_id, text;  // text: one line, or the template's; template_id: "" for spans
  std::int64_t first_ns = 0;
  std::uint64_t count = 0;                 // since then
  std::uint8_t severity = 0;
  std::vector<std::pair<std::int64_t, std::string>> lines;  // some of them
};

class Scene {
 public:
  static Result<Scene> load(const stream::EventStore& store, const detect::Incident& incident,
                            const ExplainOptions& options);

  // The incident.
  const detect::Incident& incident() const { return *incident_; }
  const ExplainOptions& options() const { return *options_; }
  const std::string& root() const { return root_; }  // the service explained
  std::int64_t onset_ns() const { return std::max(incident_->onset_ns, incident_->wave_ns); }  // of the latest wave
  std::int64_t end_ns() const { return windows_.now_to_ns; }
  const Windows& windows() const { return windows_; }
  bool has_symptom(std::string_view series_prefix) const;  // of the root or, without any of it, of anyone
  std::string time(std::int64_t time_ns) const;            // "14:02:08"
  double base_seconds() const;                             // how much healthy past there is

  // Series. find() gives a quiet View for what is not there.
  const View& find(std::string_view entity, std::string_view name) const;
  const View& of_service(std::string_view service, std::string_view name) const;
  std::vector<const View*> with_base(std::string_view entity, std::string_view base_name) const;
  const std::vector<View>& views() const { return views_; }  // sorted by (entity, name)
  const std::vector<stream::Series>& service_series() const { return service_series_; }  // of services, sorted by (entity, name)
  bool any(std::string_view base_name) const;                // is such a series there at all?

  // Topology.
  const std::vector<Edge>& edges() const { return edges_; }
  std::vector<const Edge*> callees_of(std::string_view service) const;
  std::vector<const Edge*> callers_of(std::string_view service) const;
  // Share of the root's trouble that flows to this service (1 for the root), and that stops there.
  double flow(std::string_view service) const;
  double self(std::string_view service) const;
  // Its callers fail, not wait, and its answers are in a protocol that we do not read: the failure may be its own.
  bool errors_hidden(std::string_view service) const;
  bool has_endpoints(std::string_view service) const;  // it answers HTTP: its errors are seen
  // Could its trouble be the root's: the root, or reached by calls from it.
  bool in_reach(std::string_view service) const { return flow_.contains(std::string(service)); }
  const std::map<std::string, double>& reach() const { return flow_; }
  bool edges_known() const { return edges_known_; }  // of the root, with time shares
  std::string middleware(std::string_view service) const;

  // Processes and what happened.
  const std::map<std::int64_t, Process>& processes() const { return processes_; }
  const Process* process(std::int64_t pid) const;
  std::string service_of_entity(std::string_view entity) const;  // "" if unknown
  const std::vector<stream::Event>& kernel() const { return kernel_; }    // [onset - 60 s, end], in time order
  const std::vector<stream::Event>& changes() const { return changes_; }  // [onset - 10 min, end]
  const std::vector<LogNews>& log_news() const { return news_; }
  bool has_logs(std::string_view service) const { return logging_.contains(std::string(service)); }

 private:
  Result<void> load_series(const stream::EventStore& store);
  Result<void> load_processes(const stream::EventStore& store);
  Result<void> load_happenings(const stream::EventStore& store);
  Result<void> load_logs(const stream::EventStore& store);
  Result<void> load_span_errors(const stream::EventStore& store);
  void build_edges();
  void build_flow();
  void share_blame(const std::string& caller);

  const detect::Incident* incident_ = nullptr;
  const ExplainOptions* options_ = nullptr;
  std::string root_;
  Windows windows_;
  std::vector<View> views_;
  std::vector<stream::Series> service_series_;
  std::set<std::string> base_names_;
  std::vector<Edge> edges_;
  std::map<std::string, double> flow_, self_;
  bool edges_known_ = false;
  std::map<std::int64_t, Process> processes_;
  std::map<std::string, std::string> commands_;  // service -> commands of its processes
  std::vector<stream::Event> kernel_, changes_;
  std::vector<LogNews> news_;
  std::set<std::string> logging_;
};

// Parses "4211" or "process:4211"; 0 if it is none.
std::int64_t parse_pid(std::string_view text);

}  // namespace culprit::explain
