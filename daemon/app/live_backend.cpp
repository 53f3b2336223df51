#include "daemon/app/live_backend.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "daemon/app/stream_backend.h"
#include "daemon/base/text.h"
#include "daemon/explain/json.h"
#include "daemon/recall/incidents.h"
#include "daemon/stream/codec.h"

namespace culprit::app {
namespace {

using api::Json;

constexpr std::int64_t kCompletenessNs = 300 * kNsPerSecond;
constexpr std::int64_t kChangesNs = 3600 * kNsPerSecond;
constexpr std::size_t kChangesMax = 8;
constexpr std::size_t kChangesScannedMax = 1000;  // kinds times services
constexpr std::size_t kIncidentsMax = 100;

std::string verdict_name(api::Verdict verdict) {
  switch (verdict) {
    case api::Verdict::Right: return "right";
    case api::Verdict::Wrong: return "wrong";
    case api::Verdict::Partly: return "partly";
    case api::Verdict::Undo: return "undo";
  }
  return "?";
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0.0; }

}  // namespace

std::string LiveBackend::wall(std::int64_t boot_ns) const { return format_wall(parts_.clock.wall_ns(boot_ns)); }

Json LiveBackend::completeness() const {
  const std::int64_t now = parts_.clock.now_ns();
  const explain::Completeness window = parts_.accounting.window(now - kCompletenessNs, now);
  std::uint64_t lost = 0;
  for (const auto& [reason, count] : window.dropped) lost += count;
  return {{"share", window.share},
          {"text", lost == 0 ? "nothing dropped in the last 5 minutes" : fmt::format("{} events dropped in the last 5 minutes", group_digits(lost))},
          {"dropped", window.dropped},
          {"blind", window.blind}};
}

std::vector<std::string> LiveBackend::problems() const {
  std::vector<std::string> problems;
  const SensorView sensor = parts_.pipeline.sensor_view();
  if (!sensor.connected) {
    problems.push_back(fmt::format("sensor: not running{}", sensor.lost_reason.empty() ? "" : ": " + sensor.lost_reason));
  }
  std::size_t skipped = 0;
  for (const sensor::Program& program : sensor.hello.programs) skipped += program.state == sensor::ProgramState::Skipped ? 1 : 0;
  if (skipped > 0) {
    problems.push_back(fmt::format("sensor: {} of {} programs could not attach (see culprit doctor)", skipped, sensor.hello.programs.size()));
  }
  for (const auto& [reason, count] : parts_.store.stats().dropped) {
    if (count > 0) problems.push_back(fmt::format("stream: {} events lost ({})", group_digits(count), reason));
  }
  if (parts_.config.watch.empty()) {
    problems.emplace_back("nothing is watched: requests and log lines are not read (start with --watch, see culprit config)");
  }
  return problems;
}

Result<Json> LiveBackend::summary() {
  const auto view = parts_.pipeline.track_view();
  const auto open = parts_.diagnosis.open_incidents();
  std::set<std::string> with_symptom;
  for (const auto& incident : open) with_symptom.insert(incident.services.begin(), incident.services.end());
  std::size_t seen = 0;
  std::size_t watched = 0;
  for (const auto& service : view->services) {
    seen += service.significant ? 1 : 0;
    watched += service.watched ? 1 : 0;
  }
  Json rows = Json::array();
  ASSIGN(auto graph, graph::Store::open(parts_.graph_file, graph::Store::Mode::Read));
  graph::Store::ListOptions list;
  list.state = "open";
  list.explanations = true;
  ASSIGN(const auto stored, graph.incidents(list));
  for (const graph::Incident& row : stored) rows.push_back(incident_row(graph, row));

  const std::int64_t now = parts_.clock.now_ns();
  ASSIGN(const Json changes, recent_changes());
  const auto trouble = problems();
  const bool degraded = !parts_.pipeline.sensor_view().connected || !parts_.store.stats().dropped.empty();
  std::string text = "no open incident";
  if (!open.empty()) {
    text = fmt::format("{} open incident{}: {}", open.size(), open.size() == 1 ? "" : "s", explain::incident_headline(open.front(), parts_.clock.wall_offset_ns()));
  }
  return Json{{"api", 1}, {"time", wall(now)}, {"host", host_.name()}, {"version", parts_.version},
              {"uptime_s", static_cast<double>(now - parts_.started_ns) / kNsPerSecond},
              {"health", !open.empty() ? "incident" : degraded ? "degraded" : "ok"}, {"text", text},
              {"services", {{"seen", seen}, {"watched", watched}, {"with_symptom", with_symptom.size()}}},
              {"incidents", rows}, {"changes", changes}, {"problems", trouble}, {"completeness", completeness()}};
}

// The newest change of each kind and service, with how often it happened: a person looks for the one that matters.
Result<Json> LiveBackend::recent_changes() const {
  struct Change {
    stream::Event last;
    std::string service;
    std::uint64_t count = 0;
  };
  std::map<std::pair<std::string, std::string>, Change> changes;
  stream::Query query;
  query.kinds = {stream::Kind::Change};
  query.from_ns = parts_.clock.now_ns() - kChangesNs;
  query.newest_first = true;
  TRY(parts_.store.scan(query, [&](const stream::Event& event) {
    std::string service(event.attribute("service"));
    if (service.empty() && event.entity.starts_with("service:")) service = event.entity.substr(8);
    Change& change = changes[{event.name, service}];
    if (change.count++ == 0) change.last = event;
    change.service = std::move(service);
    return changes.size() < kChangesScannedMax;
  }));
  std::vector<const Change*> order;
  for (const auto& [key, change] : changes) order.push_back(&change);
  // What happened to a service says more than that some process started.
  const auto rank = [](const Change* change) {
    return std::pair(change->last.name == "process.start" ? 1 : 0, -change->last.time_ns);
  };
  std::ranges::sort(order, [&](const Change* a, const Change* b) { return rank(a) < rank(b); });
  if (order.size() > kChangesMax) order.resize(kChangesMax);
  Json rows = Json::array();
  for (const Change* change : order) {
    const stream::Event& event = change->last;
    std::string text = event.body.empty() ? fmt::format("{} {}", event.name, change->service) : event.body;
    if (change->count > 1) text += fmt::format(" ({} times)", change->count);
    rows.push_back({{"time", wall(event.time_ns)}, {"entity", event.entity}, {"service", change->service}, {"name", event.name},
                    {"count", change->count}, {"text", text}});
  }
  return rows;
}

Result<Json> LiveBackend::services() {
  const auto view = parts_.pipeline.track_view();
  std::set<std::string> with_symptom;
  for (const auto& incident : parts_.diagnosis.open_incidents()) with_symptom.insert(incident.services.begin(), incident.services.end());
  const auto learned = parts_.diagnosis.learned();
  Json services = Json::array();
  for (const track::ServiceView& service : view->services) {
    if (!service.significant) continue;
    Json endpoints = Json::array();
    for (const track::EndpointView& endpoint : service.endpoints) {
      endpoints.push_back({{"endpoint", endpoint.operation}, {"rate", endpoint.rate}, {"error_share", share(endpoint.errors, endpoint.rate)},
                           {"p50_s", endpoint.p50_s}, {"p99_s", endpoint.p99_s}});
    }
    Json listens = Json::array();
    for (const std::uint16_t port : service.ports) listens.push_back(fmt::format(":{}", port));
    const auto known = learned.find(service.name);
    const bool gone = service.pids.empty();
    services.push_back({{"service", service.name}, {"state", with_symptom.contains(service.name) ? "symptom" : gone ? "gone" : "ok"},
                        {"watched", service.watched}, {"pids", service.pids}, {"listens", listens}, {"exe", service.exe},
                        {"cgroup", service.cgroup}, {"started", wall(service.started_ns)}, {"rate", service.rate},
                        {"error_share", share(service.errors, service.rate)}, {"p50_s", service.p50_s}, {"p99_s", service.p99_s},
                        {"inflight", service.inflight}, {"inflight_age_s", service.inflight_age_s}, {"cpu_cores", service.cpu}, {"rss_bytes", gone ? Json(nullptr) : Json(static_cast<std::uint64_t>(service.rss_bytes))},
                        {"learned_s", known == learned.end() ? Json(nullptr) : Json(known->second)}, {"endpoints", endpoints}});
  }
  Json edges = Json::array();
  for (const track::EdgeView& edge : view->edges) {
    edges.push_back({{"from", edge.caller}, {"to", edge.callee}, {"rate", edge.rate}, {"error_share", share(edge.errors, edge.rate)},
                     {"mean_s", edge.mean_s}, {"p99_s", edge.p99_s}, {"inflight", edge.inflight}, {"wait_share", edge.wait_share},
                     {"retransmits", edge.retransmits}, {"rtt_s", edge.rtt_s}});
  }
  return Json{{"api", 1}, {"time", wall(parts_.clock.now_ns())}, {"services", services}, {"edges", edges}};
}

Result<Json> LiveBackend::why(const api::WhyRequest& request) {
  const auto names = service_names();
  const std::string service = parts_.pipeline.stream_stage().kernel_name(request.service);
  if (std::ranges::find(names, service) == names.end()) {
    return fail(Code::NotFound, fmt::format("no service '{}' was seen", request.service));
  }
  ASSIGN(const auto explanation, parts_.diagnosis.why(service, static_cast<std::int64_t>(request.since_s * kNsPerSecond)));
  Json document = explain::to_json(explanation);
  experience_.add(document);
  return document;
}

Json LiveBackend::incident_row(graph::Store& graph, const graph::Incident& row) const {
  Json result = {{"incident", static_cast<std::int64_t>(row.id)}, {"service", row.service}, {"state", row.state},
                 {"opened", format_wall(row.opened_ns)}, {"closed", row.closed_ns == 0 ? Json(nullptr) : Json(format_wall(row.closed_ns))},
                 {"headline", row.headline}, {"verdict", nullptr}, {"top", nullptr}, {"feedback", Json::array()}};
  const Json document = Json::parse(row.explanation, nullptr, false);
  if (document.is_object()) {
    result["verdict"] = document.value("verdict", "");
    if (const auto found = document.find("candidates"); found != document.end() && found->is_array() && !found->empty()) {
      const Json& top = found->front();
      result["top"] = {{"entity", top.value("entity", "")}, {"service", top.value("service", "")}, {"failure_mode", top.value("failure_mode", "")},
                       {"title", top.value("title", "")}, {"confidence", top.value("confidence", 0.0)}};
    }
  }
  if (const auto said = graph.feedback(row.id)) {
    for (const graph::Feedback& feedback : *said) {
      result["feedback"].push_back({{"rank", feedback.rank}, {"verdict", feedback.verdict}, {"note", feedback.note}, {"who", feedback.who}, {"time", format_wall(feedback.time_ns)}});
    }
  }
  return result;
}

Result<Json> LiveBackend::incidents() {
  ASSIGN(auto graph, graph::Store::open(parts_.graph_file, graph::Store::Mode::Read));
  graph::Store::ListOptions list;
  list.limit = kIncidentsMax;
  list.explanations = true;
  ASSIGN(const auto rows, graph.incidents(list));
  Json result = Json::array();
  for (const graph::Incident& row : rows) result.push_back(incident_row(graph, row));
  return Json{{"api", 1}, {"incidents", result}};
}

Result<Json> LiveBackend::incident(api::IncidentId id) {
  ASSIGN(Json document, parts_.diagnosis.incident(static_cast<std::uint64_t>(id)));
  experience_.add(document);
  return document;
}

Result<std::string> LiveBackend::export_incident(api::IncidentId id) {
  return parts_.diagnosis.export_incident(static_cast<std::uint64_t>(id));
}

Result<Json> LiveBackend::feedback(api::IncidentId id, const api::Feedback& feedback) {
  ASSIGN(auto graph, graph::Store::open(parts_.graph_file, graph::Store::Mode::Write));
  const auto graph_id = graph::IncidentId{static_cast<std::int64_t>(id)};
  ASSIGN(const graph::Incident row, graph.get(graph_id));
  graph::Feedback said;
  said.incident = graph_id;
  said.rank = static_cast<int>(feedback.rank);
  said.verdict = verdict_name(feedback.verdict);
  said.note = feedback.note;
  said.who = feedback.who;
  said.time_ns = parts_.clock.wall_ns(parts_.clock.now_ns());
  if (feedback.rank > 0) {
    const Json document = Json::parse(row.explanation, nullptr, false);
    const Json* candidate = nullptr;
    if (document.is_object() && document.contains("candidates")) {
      for (const Json& each : document["candidates"]) {
        if (each.value("rank", 0) == feedback.rank) candidate = &each;
      }
    }
    if (candidate == nullptr) return fail(Code::NotFound, fmt::format("incident {} has no candidate of rank {}", static_cast<std::int64_t>(id), feedback.rank));
    said.failure_mode = candidate->value("failure_mode", "");
    said.entity = candidate->value("entity", "");
  }
  if (feedback.verdict == api::Verdict::Undo) {
    TRY(graph.undo_feedback(graph_id, said.rank));
  } else {
    TRY(graph.add_feedback(said));
  }
  TRY(remember(graph, row));
  Json result = incident_row(graph, row);
  result["api"] = 1;
  return result;
}

// What people said moves the weights of the failure modes, and a confirmed incident becomes a document.
Result<void> LiveBackend::remember(graph::Store& graph, const graph::Incident& row) {
  ASSIGN(const auto verdicts, graph.verdicts());
  parts_.diagnosis.take_verdicts(verdicts);
  ASSIGN(const auto said, graph.feedback(row.id));
  return recall::remember_incident(parts_.diagnosis.modes(), parts_.graph_file, row, said, parts_.clock.wall_ns(parts_.clock.now_ns()));
}

Result<Json> LiveBackend::similar(const api::SimilarQuery& query) { return experience_.similar(query.about, query.limit); }

Result<Json> LiveBackend::events(const api::EventQuery& request) {
  const std::int64_t offset = parts_.clock.wall_offset_ns();
  stream::Query query;
  query.kinds = request.kinds;
  query.names = request.names;
  query.text = request.text;
  query.severity_min = request.severity_min;
  if (request.from_wall_ns) query.from_ns = *request.from_wall_ns - offset;
  if (request.to_wall_ns) query.to_ns = *request.to_wall_ns - offset;
  ASSIGN(query.filter, resolve(request.filter));
  query.newest_first = true;
  query.budget_ns = kQueryBudgetNs;
  // "pid:N" means the process as an entity and everything that names it: two scans, merged by time.
  std::vector<stream::Event> found;
  const auto collect = [&](const stream::Event& event) {
    found.push_back(event);
    return true;
  };
  std::vector<std::string> entities;
  std::vector<std::string> pids;
  for (const std::string& entity : request.entities) {
    if (entity.starts_with("pid:")) {
      pids.push_back(entity.substr(4));
      entities.push_back("process:" + entity.substr(4));
    } else {
      entities.push_back(entity);
    }
  }
  query.limit = request.limit + 1;
  query.entities = entities;
  ASSIGN(stream::Completeness complete, parts_.store.scan(query, collect));
  for (const std::string& pid : pids) {
    stream::Query by_attribute = query;
    by_attribute.entities.clear();
    by_attribute.attributes = {{"process.pid", pid}};
    TRY(parts_.store.scan(by_attribute, [&](const stream::Event& event) {
      if (event.entity != "process:" + pid) found.push_back(event);
      return true;
    }));
  }
  std::ranges::stable_sort(found, [](const auto& a, const auto& b) { return a.time_ns > b.time_ns; });
  const bool truncated = found.size() > request.limit;
  if (truncated) found.resize(request.limit);
  Json rows = Json::array();
  for (const stream::Event& event : found) {
    Json attributes = Json::object();
    for (const auto& [name, text] : event.attributes) attributes[name] = text;
    const std::string_view severity = stream::severity_name(event.severity);
    rows.push_back({{"time", wall(event.time_ns)}, {"kind", stream::kind_name(event.kind)}, {"entity", event.entity}, {"name", event.name},
                    {"value", event.value}, {"severity", severity.empty() ? Json(nullptr) : Json(severity)},
                    {"trace_id", event.trace_id[0] == 0 && event.trace_id[1] == 0 ? Json(nullptr) : Json(fmt::format("{:016x}{:016x}", event.trace_id[0], event.trace_id[1]))},
                    {"span_id", event.span_id == 0 ? Json(nullptr) : Json(fmt::format("{:016x}", event.span_id))},
                    {"attributes", attributes}, {"body", event.body}});
  }
  return Json{{"api", 1}, {"truncated", truncated}, {"events", rows}, {"complete", completeness_json(complete)}};
}

Result<Json> LiveBackend::config() {
  Json values = Json::array();
  for (const Config::Row& row : parts_.config.rows()) {
    values.push_back({{"key", row.key}, {"value", row.value}, {"origin", row.origin}, {"text", row.help}});
  }
  return Json{{"api", 1}, {"values", values}};
}

Result<Json> LiveBackend::sources() { return parts_.sources.document(); }

Result<Json> LiveBackend::source(const api::SourceRequest& request) {
  SourceRule rule{request.type, request.name, request.options};
  return request.add ? parts_.sources.add(std::move(rule)) : parts_.sources.test(rule);
}

Result<Json> LiveBackend::import(const api::ImportRequest& request) { return parts_.sources.import(request.name, request.format, request.bytes); }

std::vector<std::string> LiveBackend::service_names() {
  std::set<std::string> names;
  for (const track::ServiceView& service : parts_.pipeline.track_view()->services) {
    if (service.significant) names.insert(service.name);
  }
  for (const auto& incident : parts_.diagnosis.open_incidents()) names.insert(incident.services.begin(), incident.services.end());
  for (std::string& name : parts_.pipeline.stream_stage().told_services()) names.insert(std::move(name));
  return {names.begin(), names.end()};
}

}  // namespace culprit::app
