#include "daemon/app/diagnosis.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <set>

#include "daemon/app/topology.h"
#include "daemon/base/log.h"
#include "daemon/base/text.h"
#include "daemon/detect/examine.h"
#include "daemon/explain/failure_modes.h"
#include "daemon/explain/json.h"
#include "daemon/explain/replay.h"
#include "daemon/recall/incidents.h"

namespace culprit::app {
namespace {

constexpr std::int64_t kYoungNs = 60 * kNsPerSecond;    // ranked every second until then, if that is cheap
constexpr std::int64_t kRankShare = 8;                  // ranking takes at most an eighth of the thread's time
constexpr std::int64_t kLaterEveryNs = 10 * kNsPerSecond;
constexpr std::int64_t kEdgesNs = 60 * kNsPerSecond;  // who called whom lately
constexpr std::size_t kClosedKeptMax = 64;              // explanations kept in memory after closing
constexpr std::int64_t kRuleWindowNs = 60 * kNsPerSecond;   // before the onset
constexpr std::int64_t kAskedForNs = 30 * kNsPerSecond;     // somebody who asked will ask again
constexpr std::int64_t kLearnEveryNs = 60 * kNsPerSecond;   // verdicts are looked through anew
constexpr std::size_t kLearnIncidentsMax = 200;             // the newest ones
constexpr std::int64_t kTopologyEveryNs = 60 * kNsPerSecond;
constexpr std::int64_t kPruneEveryNs = 86'400 * kNsPerSecond;
constexpr std::int64_t kIncidentsKeptNs = 90 * 86'400 * kNsPerSecond;  // after they closed
constexpr std::size_t kRuleEventsMax = 2'000'000;      // scanned for a window that the engine did not see

}  // namespace

std::vector<explain::ModeMatch> GraphKnowledge::match(std::string_view text, std::string_view program) const {
  std::vector<explain::ModeMatch> matches;
  const std::vector<graph::Match> recognised = modes_->recognise(text, program);
  const MutexLock lock(mutex_);
  for (const graph::Match& match : recognised) {
    const auto said = verdicts_.find(std::string(match.failure_mode()));
    const double weight = said == verdicts_.end() ? match.weight : recall::weight_after(match.weight, said->second);
    matches.push_back({std::string(match.failure_mode()), std::string(match.middleware()), std::string(match.name()), weight});
  }
  return matches;
}

void GraphKnowledge::take_verdicts(std::map<std::string, Verdicts> verdicts) {
  const MutexLock lock(mutex_);
  verdicts_ = std::move(verdicts);
}

std::map<std::string, Verdicts> GraphKnowledge::verdicts() const {
  const MutexLock lock(mutex_);
  return verdicts_;
}

std::vector<std::string> GraphKnowledge::mitigations(std::string_view mode_id) const {
  return modes_->remedies(mode_id);
}

struct Diagnosis::Impl {
  explicit Impl(Parts p, graph::Store writer)
      : parts(std::move(p)), graph_writer(std::move(writer)), knowledge(parts.knowledge), topology(parts.host_name), engine(parts.rules.current()), engine_from_ns(parts.clock.now_ns()) {}

  Parts parts;
  graph::Store graph_writer;  // detect thread
  GraphKnowledge knowledge;
  Topology topology;                // detect thread
  std::int64_t topology_ns = 0;     // written up to then; 0 = not yet
  bool begun_anew = false;

  struct Ranked {
    detect::Incident incident;
    explain::Explanation explanation;
    std::int64_t ranked_ns = 0;
    std::int64_t took_ns = 0;
  };
  mutable Mutex mutex;
  std::map<std::uint64_t, Ranked> ranked GUARDED_BY(mutex);  // open ones and the last that closed
  std::vector<detect::Incident> open GUARDED_BY(mutex);
  std::map<std::string, int> learned GUARDED_BY(mutex);
  DiagnosisStats seen GUARDED_BY(mutex);
  std::int64_t asked_ns GUARDED_BY(mutex) = 0;  // why() was called last
  std::vector<std::pair<std::int64_t, std::int64_t>> past GUARDED_BY(mutex);  // [onset, closed) of earlier incidents

  mutable Mutex rules_mutex;  // held for a second's events, or for joining what they left
  mutable rules::Engine engine GUARDED_BY(rules_mutex);
  std::map<std::string, Verdicts> verdicts GUARDED_BY(rules_mutex);  // by rule: on what it blamed
  const std::int64_t engine_from_ns;  // nothing before it reached the engine
  std::int64_t learned_at_ns = -kLearnEveryNs, pruned_at_ns = -kPruneEveryNs;  // detect thread

  detect::Detector detector;  // detect thread
  std::jthread thread;

  explain::ExplainOptions options_for(const detect::Incident& incident, std::int64_t now_ns) const;
  void ask_rules(const detect::Incident& incident, std::int64_t now_ns, explain::ExplainOptions& options) const;
  void feed_rules(const DetectInput& input);
  Result<void> learn_weights();
  Result<explain::Explanation> rank(const detect::Incident& incident, std::int64_t now_ns) const;
  Result<std::set<std::string>> callers_of(const std::string& service, std::int64_t now_ns) const;
  void loop();
  void on_second(const DetectInput& input);
  void rank_and_save(const detect::Incident& incident, std::int64_t now_ns);
  Result<void> restore();
};

explain::ExplainOptions Diagnosis::Impl::options_for(const detect::Incident& incident, std::int64_t now_ns) const {
  explain::ExplainOptions options;
  options.now_ns = now_ns;
  options.wall_offset_ns = parts.clock.wall_offset_ns();
  options.knowledge = &knowledge;
  options.weights = &parts.weights;
  // Of a healthy service the onset is the begin of the window that was asked about.
  options.completeness = parts.accounting.window(incident.onset_ns - (incident.healthy() ? 0 : kRuleWindowNs), now_ns);
  if (incident.healthy()) return options;
  options.verdicts = knowledge.verdicts();
  ask_rules(incident, now_ns, options);
  const MutexLock lock(mutex);
  for (const auto& span : past) {
    if (span.second <= incident.onset_ns) options.excluded.push_back(span);
  }
  return options;
}

void Diagnosis::Impl::ask_rules(const detect::Incident& incident, std::int64_t now_ns, explain::ExplainOptions& options) const {
  const std::int64_t from = incident.onset_ns - kRuleWindowNs;
  std::optional<rules::Evaluation> evaluation;
  rules::RuleSetPtr set;
  {
    const MutexLock lock(rules_mutex);
    set = engine.set();
    if (from >= engine_from_ns && engine.covers(from)) evaluation = engine.evaluate(from, now_ns);
  }
  if (!evaluation) {
    const std::int64_t until = std::min(now_ns, std::max(incident.onset_ns, incident.wave_ns) + explain::kIncidentNsMax) + 1;  // as replay has it
    if (auto done = rules::evaluate_stored(set, parts.store, from, until, now_ns, kRuleEventsMax)) {
      evaluation = std::move(*done);
    } else {
      log::warn("events for rules: {}; going on without", done.error().message);
      evaluation.emplace();
    }
  }
  {
    const MutexLock lock(rules_mutex);
    for (const rules::Finding& finding : evaluation->findings) {
      double weight = finding.weight;
      if (const auto said = verdicts.find(finding.rule->id); said != verdicts.end()) {
        weight = rules::learned_weight(*finding.rule, weight, said->second);
      }
      options.rule_hits.push_back({finding.time_ns, finding.rule->id, finding.entity, finding.cause, finding.explanation, weight});
    }
  }
  options.rules_hash = set->hash();
}

// A verdict on a candidate is one on every rule that fired in its incident and blamed its failure mode.
Result<void> Diagnosis::Impl::learn_weights() {
  graph::Store::ListOptions newest;
  newest.limit = kLearnIncidentsMax;
  newest.explanations = true;
  ASSIGN(const auto rows, graph_writer.incidents(newest));
  std::map<std::string, Verdicts> said;
  // A rule may call the mode by another of its names than the candidate.
  const auto same_mode = [](const std::string& a, const std::string& b) {
    const explain::FailureMode* mode = explain::find_mode(a);
    return a == b || (mode != nullptr && mode == explain::find_mode(b));
  };
  for (const graph::Incident& row : rows) {
    ASSIGN(const auto feedback, graph_writer.feedback(row.id));
    if (feedback.empty()) continue;
    const auto document = nlohmann::json::parse(row.explanation, nullptr, false);
    const auto rules_of = document.is_object() ? document.find("rules") : document.end();
    if (!document.is_object() || rules_of == document.end() || !rules_of->is_object() || !rules_of->contains("fired")) continue;
    for (const auto& fired : (*rules_of)["fired"]) {
      for (const graph::Feedback& one : feedback) {
        if (one.rank == 0 || one.failure_mode.empty() || !same_mode(one.failure_mode, fired.value("failure_mode", ""))) continue;
        Verdicts& of = said[fired.value("rule", "")];
        ++(one.verdict == "right" ? of.right : one.verdict == "wrong" ? of.wrong : of.partly);
      }
    }
  }
  const MutexLock lock(rules_mutex);
  verdicts = std::move(said);
  return {};
}

// Every event of a second, with the newest set: it is taken up between two seconds, so that no event meets half of one.
void Diagnosis::Impl::feed_rules(const DetectInput& input) {
  const MutexLock lock(rules_mutex);
  if (auto newest = parts.rules.current(); newest != engine.set()) engine.swap(std::move(newest), input.second_ns);
  for (const stream::Event& event : input.events) engine.add(event);
  for (const stream::Event& event : input.told) engine.add(event);
  engine.advance(input.second_ns);
}

Result<explain::Explanation> Diagnosis::Impl::rank(const detect::Incident& incident, std::int64_t now_ns) const {
  return explain::explain(parts.store, incident, options_for(incident, now_ns));
}

// Everybody who called the service lately, directly or through others.
Result<std::set<std::string>> Diagnosis::Impl::callers_of(const std::string& service, std::int64_t now_ns) const {
  stream::Query query;
  query.kinds = {stream::Kind::Sample};
  query.entities = {"edge:*"};
  query.names = {"client.rate", "client.inflight"};
  query.from_ns = now_ns - kEdgesNs;
  ASSIGN(const auto series, parts.store.series(query));
  std::multimap<std::string, std::string> callers;  // callee -> caller
  for (const stream::Series& edge : series) {
    const std::size_t arrow = edge.entity.find("->");
    if (arrow != std::string::npos) callers.emplace(edge.entity.substr(arrow + 2), edge.entity.substr(5, arrow - 5));
  }
  std::set<std::string> found;
  std::vector<std::string> next = {service};
  while (!next.empty()) {
    const std::string callee = std::move(next.back());
    next.pop_back();
    const auto [first, last] = callers.equal_range(callee);
    for (auto caller = first; caller != last; ++caller) {
      if (found.insert(caller->second).second) next.push_back(caller->second);
    }
  }
  return found;
}

void Diagnosis::Impl::loop() {
  DetectInput input;
  while (parts.input.recv(input) == concurrent::Outcome::Done) on_second(input);
}

void Diagnosis::Impl::on_second(const DetectInput& input) {
  feed_rules(input);
  topology.see(input.events);
  if (topology_ns == 0) topology_ns = input.second_ns;
  if (input.second_ns - kTopologyEveryNs >= topology_ns) {
    if (auto done = topology.write(graph_writer, parts.clock.wall_ns(topology_ns), parts.clock.wall_ns(input.second_ns)); !done) log::warn("topology: {}; trying again in a minute", done.error().message);
    topology_ns = input.second_ns;
  }
  if (input.second_ns - kPruneEveryNs >= pruned_at_ns) {
    pruned_at_ns = input.second_ns;
    if (auto done = graph_writer.prune(parts.clock.wall_ns(input.second_ns) - kIncidentsKeptNs); !done) log::warn("prune incidents and topology: {}", done.error().message);
  }
  if (input.second_ns - kLearnEveryNs >= learned_at_ns) {
    learned_at_ns = input.second_ns;
    if (auto done = learn_weights(); !done) log::warn("weights of rules: {}; keeping the last ones", done.error().message);
  }
  const auto updates = detector.on_samples(input.second_ns, input.events);
  const std::vector<detect::Incident> now_open = detector.open_incidents();
  std::set<std::string> services;
  for (const stream::Event& event : input.events) {
    if (event.entity.starts_with("service:")) services.insert(event.entity.substr(8));
  }
  {
    const MutexLock lock(mutex);
    open = now_open;
    seen.detector = detector.stats();
    for (const std::string& service : services) {
      if (const auto seconds = detector.learned_s(service)) learned[service] = *seconds;
    }
    if (input.second_ns % (60 * kNsPerSecond) < kNsPerSecond) std::erase_if(learned, [&](const auto& one) { return !detector.learned_s(one.first); });
  }
  for (const detect::IncidentUpdate& update : updates) {
    if (update.what == detect::IncidentUpdate::What::Opened) {
      log::info("incident {} opened service='{}' {}", update.incident.id, update.incident.service,
                update.incident.symptoms.empty() ? "" : update.incident.symptoms.front().text);
    } else if (update.what == detect::IncidentUpdate::What::Closed) {
      log::info("incident {} closed service='{}'", update.incident.id, update.incident.service);
      rank_and_save(update.incident, input.second_ns);
      const MutexLock lock(mutex);
      past.emplace_back(update.incident.onset_ns, update.incident.closed_ns);
      if (past.size() > kClosedKeptMax) past.erase(past.begin());
    }
  }
  for (const detect::Incident& incident : now_open) {
    std::int64_t ranked_ns = 0;
    std::int64_t took_ns = 0;
    {
      const MutexLock lock(mutex);
      if (const auto found = ranked.find(incident.id); found != ranked.end()) {
        ranked_ns = found->second.ranked_ns;
        took_ns = found->second.took_ns;
      }
    }
    const bool young = input.second_ns - incident.opened_ns < kYoungNs;
    const std::int64_t wait_ns = std::max(young ? kNsPerSecond : kLaterEveryNs, took_ns * kRankShare);
    if (input.second_ns - ranked_ns >= wait_ns) rank_and_save(incident, input.second_ns);
  }
}

void Diagnosis::Impl::rank_and_save(const detect::Incident& incident, std::int64_t now_ns) {
  const std::int64_t started = parts.clock.now_ns();
  auto explanation = rank(incident, now_ns);
  const std::int64_t took_ns = parts.clock.now_ns() - started;
  const double took_s = static_cast<double>(took_ns) / kNsPerSecond;
  if (!explanation) {
    log::warn("rank incident {}: {}; keeping the last ranking", incident.id, explanation.error().message);
    return;
  }
  const std::int64_t offset = parts.clock.wall_offset_ns();
  graph::Incident row;
  row.id = graph::IncidentId{static_cast<std::int64_t>(incident.id)};
  row.service = incident.service;
  row.opened_ns = incident.opened_ns + offset;
  row.updated_ns = now_ns + offset;
  row.closed_ns = incident.closed_ns == 0 ? 0 : incident.closed_ns + offset;
  row.state = incident.state == detect::IncidentState::Open ? "open" : "closed";
  row.headline = explanation->headline;
  nlohmann::json document = explain::to_json(*explanation);
  document["record"] = {{"boot_id", parts.boot_id}, {"incident", explain::incident_to_record(incident)}};
  row.explanation = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (auto saved = graph_writer.save(row); !saved) {
    log::warn("save incident {}: {}; it stays in memory", incident.id, saved.error().message);
  }
  const MutexLock lock(mutex);
  ++seen.explained;
  seen.explain_s_last = took_s;
  seen.explain_s_max = std::max(seen.explain_s_max, took_s);
  ranked[incident.id] = {incident, std::move(*explanation), now_ns, took_ns};
  while (ranked.size() > kClosedKeptMax) ranked.erase(ranked.begin());
}

Result<void> Diagnosis::Impl::restore() {
  graph::Store::ListOptions newest;
  newest.limit = 1;
  ASSIGN(const auto last, graph_writer.incidents(newest));
  detect::DetectorOptions options;
  if (!last.empty()) options.first_incident_id = static_cast<std::uint64_t>(last.front().id) + 1;
  detector = detect::Detector(options);

  graph::Store::ListOptions open_ones;
  open_ones.state = "open";
  open_ones.explanations = true;
  ASSIGN(auto rows, graph_writer.incidents(open_ones));
  std::vector<detect::Incident> incidents;
  for (graph::Incident& row : rows) {
    options.first_incident_id = std::max(options.first_incident_id, static_cast<std::uint64_t>(row.id) + 1);
    const auto document = nlohmann::json::parse(row.explanation, nullptr, false);
    if (document.is_object() && document.contains("record") && document["record"].value("boot_id", "") == parts.boot_id) {
      if (auto incident = explain::incident_from_record(document["record"]["incident"])) {
        incidents.push_back(std::move(*incident));
        continue;
      }
    }
    // Of another boot: whatever it was, it is over.
    row.state = "closed";
    row.closed_ns = row.updated_ns;
    TRY(graph_writer.save(row));
  }
  if (!incidents.empty()) log::info("going on with {} open incidents", incidents.size());
  detector.restore(incidents);
  const MutexLock lock(mutex);
  open = detector.open_incidents();
  return {};
}

Diagnosis::Diagnosis(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Diagnosis::~Diagnosis() = default;

Result<std::unique_ptr<Diagnosis>> Diagnosis::start(Parts parts) {
  std::string said;
  ASSIGN(auto writer, graph::Store::open_or_set_aside(parts.graph_file, said));
  if (!said.empty()) log::warn("{}; its documents are imported again from their files", said);
  if (auto written = writer.write_knowledge(parts.knowledge->known()); !written) {
    log::warn("write knowledge: {}; SQL readers see the old one", written.error().message);
  }
  ASSIGN(auto verdicts, writer.verdicts());
  auto impl = std::make_unique<Impl>(std::move(parts), std::move(writer));
  impl->begun_anew = !said.empty();
  impl->knowledge.take_verdicts(std::move(verdicts));
  TRY(impl->restore());
  Impl* self = impl.get();
  impl->thread = std::jthread([self] {
    ::pthread_setname_np(::pthread_self(), "detect");
    self->loop();
  });
  return std::unique_ptr<Diagnosis>(new Diagnosis(std::move(impl)));
}

Result<explain::Explanation> Diagnosis::why(const std::string& service, std::int64_t since_ns) const {
  const std::int64_t now = impl_->parts.clock.now_ns();
  {
    const MutexLock lock(impl_->mutex);
    impl_->asked_ns = now;
  }
  const auto open = open_incidents();
  const auto has_symptom = [&](const detect::Incident& incident) {
    return incident.service == service || std::ranges::find(incident.services, service) != incident.services.end();
  };
  if (const auto own = std::ranges::find_if(open, has_symptom); own != open.end()) {
    auto options = impl_->options_for(*own, now);
    options.focus = service;
    return explain::explain(impl_->parts.store, *own, options);
  }
  // Its callers may suffer while it shows no symptom of its own: then theirs is the incident that is asked about.
  if (!open.empty()) {
    ASSIGN(const auto callers, impl_->callers_of(service, now));
    const auto of_caller = [&](const detect::Incident& incident) {
      return std::ranges::any_of(incident.services, [&](const std::string& name) { return callers.contains(name); });
    };
    if (const auto theirs = std::ranges::find_if(open, of_caller); theirs != open.end()) return impl_->rank(*theirs, now);
  }
  ASSIGN(const detect::Incident incident, detect::examine(impl_->parts.store, service, now - since_ns, now));
  return impl_->rank(incident, now);
}

Result<nlohmann::json> Diagnosis::incident(std::uint64_t id) const {
  if (const auto explanation = last_explanation(id)) return explain::to_json(*explanation);
  ASSIGN(auto reader, graph::Store::open(impl_->parts.graph_file, graph::Store::Mode::Read));
  auto row = reader.get(graph::IncidentId{static_cast<std::int64_t>(id)});
  if (!row) return std::unexpected(row.error());
  auto document = nlohmann::json::parse(row->explanation, nullptr, false);
  if (!document.is_object()) return fail(Code::Corrupt, fmt::format("incident {} was stored without its explanation", id));
  document.erase("record");
  document["incident"] = id;
  document["state"] = row->state;
  return document;
}

namespace {

// What people said of an answer, with the service that it blamed: the newest of each rank, oldest first.
std::vector<explain::Said> said_of(std::vector<graph::Feedback> feedback, const nlohmann::json& document) {
  std::ranges::stable_sort(feedback, {}, &graph::Feedback::time_ns);  // the graph lists them by rank
  std::vector<explain::Said> out;
  const auto candidates = document.is_object() ? document.find("candidates") : document.end();
  for (const graph::Feedback& one : feedback) {
    explain::Said& said = out.emplace_back(explain::Said{one.verdict, {}, one.failure_mode});
    if (std::string_view(one.entity).starts_with("service:")) said.service = one.entity.substr(std::string_view("service:").size());
    if (!document.is_object() || candidates == document.end() || !candidates->is_array()) continue;
    for (const auto& candidate : *candidates) {
      if (!candidate.is_object()) continue;
      // An answer that was right as a whole was so in its first cause. Later rankings may have moved a cause to another rank.
      const bool meant = one.rank == 0 ? one.verdict != "wrong" && candidate.value("rank", 0) == 1
                                       : candidate.value("failure_mode", "") == one.failure_mode && candidate.value("entity", "") == one.entity;
      if (meant) said.service = candidate.value("service", ""), said.failure_mode = candidate.value("failure_mode", "");
    }
  }
  return out;
}

}  // namespace

Result<std::string> Diagnosis::export_incident(std::uint64_t id) const {
  ASSIGN(auto reader, graph::Store::open(impl_->parts.graph_file, graph::Store::Mode::Read));
  const auto row = reader.get(graph::IncidentId{static_cast<std::int64_t>(id)});
  const auto document = row ? nlohmann::json::parse(row->explanation, nullptr, false) : nlohmann::json();
  std::optional<detect::Incident> incident;
  {
    const MutexLock lock(impl_->mutex);
    if (const auto found = impl_->ranked.find(id); found != impl_->ranked.end()) incident = found->second.incident;
  }
  if (!incident) {
    if (!row) return std::unexpected(row.error());
    if (!document.is_object() || !document.contains("record") ||
        document["record"].value("boot_id", "") != impl_->parts.boot_id) {
      return fail(Code::NotFound, fmt::format("the events of incident {} are of an earlier boot", id));
    }
    ASSIGN(incident, explain::incident_from_record(document["record"]["incident"]));
  }
  const std::int64_t now = incident->closed_ns != 0 ? incident->closed_ns : impl_->parts.clock.now_ns();
  std::vector<explain::Said> said;
  if (row) {
    ASSIGN(auto feedback, reader.feedback(row->id));
    said = said_of(std::move(feedback), document);
  }
  return explain::export_incident(impl_->parts.store, *incident, impl_->options_for(*incident, now), said);
}

std::vector<detect::Incident> Diagnosis::open_incidents() const {
  const MutexLock lock(impl_->mutex);
  return impl_->open;
}

bool Diagnosis::something_wrong() const {
  const std::int64_t now = impl_->parts.clock.now_ns();
  const MutexLock lock(impl_->mutex);
  return !impl_->open.empty() || (impl_->asked_ns != 0 && now - impl_->asked_ns < kAskedForNs);
}

std::optional<explain::Explanation> Diagnosis::last_explanation(std::uint64_t id) const {
  const MutexLock lock(impl_->mutex);
  const auto found = impl_->ranked.find(id);
  if (found == impl_->ranked.end()) return std::nullopt;
  return found->second.explanation;
}

std::map<std::string, int> Diagnosis::learned() const {
  const MutexLock lock(impl_->mutex);
  return impl_->learned;
}

Diagnosis::RulesView Diagnosis::rules() const {
  const MutexLock lock(impl_->rules_mutex);
  const auto set = impl_->engine.set();
  RulesView view{.hash = set->hash(), .rules = {}, .engine = impl_->engine.stats()};
  for (std::size_t i = 0; i < set->rules().size(); ++i) view.rules.push_back({set->rules()[i], impl_->engine.stats_of(i), impl_->engine.off(i)});
  return view;
}

DiagnosisStats Diagnosis::stats() const {
  const MutexLock lock(impl_->mutex);
  return impl_->seen;
}

bool Diagnosis::begun_anew() const { return impl_->begun_anew; }

void Diagnosis::take_verdicts(std::map<std::string, Verdicts> verdicts) { impl_->knowledge.take_verdicts(std::move(verdicts)); }
const std::shared_ptr<const recall::Modes>& Diagnosis::modes() const { return impl_->parts.knowledge; }

}  // namespace culprit::app
