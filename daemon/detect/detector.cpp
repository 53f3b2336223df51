#include "daemon/detect/detector.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "daemon/base/clock.h"
#include "daemon/detect/service_watch.h"
#include "daemon/detect/topology.h"

namespace culprit::detect {

namespace {

using stream::Event;
using stream::Kind;

constexpr std::int64_t kForgetServiceNs = 3600 * kNsPerSecond;
constexpr std::int64_t kHousekeepingNs = 60 * kNsPerSecond;
constexpr std::int64_t kJoinNs = 60 * kNsPerSecond;  // a symptom this long after an incident's last is another story
constexpr std::int64_t kWaveQuietNs = 12 * kNsPerSecond;  // without a strong deviation: the next one is a new wave
constexpr std::int64_t kAlertNs = 4 * 3600 * kNsPerSecond;  // without a word from its sender, an alert is over (Alertmanager repeats every 4 h)
constexpr std::size_t kAlertsMax = 1'000;            // that fire at once
constexpr std::size_t kSymptomsMax = 32;             // an incident names

std::string_view strip(std::string_view text, std::string_view prefix) {
  return text.starts_with(prefix) ? text.substr(prefix.size()) : std::string_view();
}

// `errno` of connect.failures{errno="ECONNREFUSED"}.
std::string_view label(std::string_view series, std::string_view key) {
  const std::string wanted = fmt::format("{}=\"", key);
  const auto at = series.find(wanted);
  if (at == std::string_view::npos) return {};
  const auto from = at + wanted.size();
  return series.substr(from, series.find('"', from) - from);
}

// Signals with which people and supervisors end programs in good order.
bool orderly(std::string_view signal) {
  static const std::set<std::string_view> kOrderly = {
      "1", "2", "10", "12", "13", "14", "15", "SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM"};
  return kOrderly.contains(signal);
}

bool worse(const Symptom& a, const Symptom& b) {
  if (a.score != b.score) return a.score > b.score;
  return std::tie(a.entity, a.series) < std::tie(b.entity, b.series);
}

}  // namespace

struct Detector::State {
  DetectorOptions options;
  DetectorStats stats;
  Topology topology;
  std::map<std::string, ServiceWatch, std::less<>> services;
  std::map<std::string, Second, std::less<>> seconds;  // of this call, by service
  std::vector<Incident> open;
  std::map<std::uint64_t, std::int64_t> strong_ns;  // of an open incident: last second with a strong deviation
  std::map<std::string, std::int64_t, std::less<>> edge_used_ns;  // last time calls on the edge went through
  struct Firing {
    std::string service, text;
    std::int64_t until_ns;
  };
  std::map<std::string, Firing, std::less<>> firing;  // alerts from outside, by their id
  std::uint64_t next_id = 1;
  std::int64_t housekeeping_ns = 0;

  Second* second_of(std::string_view service) {
    if (service.empty()) return nullptr;
    if (!services.contains(service)) {
      if (services.size() >= kServicesMax) {
        ++stats.services_refused;
        return nullptr;
      }
      services.emplace(std::string(service),
                       ServiceWatch(std::string(service), options.warm_up_s, options.relearn_after_s));
    }
    const auto found = seconds.find(service);
    return found != seconds.end() ? &found->second : &seconds[std::string(service)];
  }

  void on_service_sample(std::string_view service, const Event& event) {
    const std::string_view name = event.name;
    if (!name.starts_with("request.") && name != "process.count") return;
    Second* second = second_of(service);
    if (second == nullptr) return;
    if (name == "request.rate") second->rate = event.value;
    if (name == "request.errors") second->errors = event.value;
    if (name == "request.inflight") second->inflight = event.value;
    if (name == "request.inflight.age.max") second->age_max = event.value;
    if (name == "request.duration.p99" && event.value > 0) second->p99 = event.value;
    if (name == "request.duration.mean" && event.value > 0) second->mean = event.value;
    if (name == "process.count") second->process_count = event.value;
  }

  void on_edge_sample(std::int64_t second_ns, std::string_view edge, const Event& event) {
    const auto arrow = edge.find("->");
    if (arrow == std::string_view::npos) return;
    const std::string_view caller = edge.substr(0, arrow), callee = edge.substr(arrow + 2);
    topology.seen(caller, callee, second_ns);
    if (event.name == "client.rate" && event.value > 0) {
      const auto used = edge_used_ns.find(edge);
      if (used != edge_used_ns.end()) {
        used->second = second_ns;
      } else if (edge_used_ns.size() < Topology::kEdgesMax) {
        edge_used_ns.emplace(edge, second_ns);
      }
      if (Second* second = second_of(callee)) second->called += event.value;
    }
    // Failures count where calls went through before: a program that waits for another to start is no incident.
    if (event.name.starts_with("connect.failures") && event.value > 0 && edge_used_ns.contains(edge)) {
      if (Second* second = second_of(callee)) {
        second->connect_failures += event.value;
        second->connect_errno = label(event.name, "errno");
      }
    }
  }

  void on_kernel(const Event& event) {
    std::string_view service = event.attribute("service");
    if (service.empty()) service = strip(event.entity, "service:");
    if (service.empty() || !services.contains(service)) return;
    if (event.name == "process.oom_kill") {
      Second* second = second_of(service);
      ++second->crashes, ++second->failed_exits;
      second->crash_text = "a process was killed for want of memory";
    } else if (event.name == "process.exit") {
      const std::string_view signal = event.attribute("exit.signal"), code = event.attribute("exit.code");
      Second* second = second_of(service);
      if (!signal.empty() && signal != "0") {
        ++second->failed_exits;
        if (orderly(signal)) return;
        ++second->crashes;
        if (second->crash_text.empty()) {
          second->crash_text = fmt::format("process {} ended by {}{}", event.attribute("process.pid"), signal.starts_with("SIG") ? "" : "signal ", signal);
        }
      } else if (!code.empty() && code != "0") {
        ++second->failed_exits;
        if (!event.attribute("process.main").empty()) ++second->main_failed;
        if (second->crash_text.empty()) {
          second->crash_text = fmt::format("process {} exited with status {}", event.attribute("process.pid"), code);
        }
      }
    }
  }

  // Told once when it begins and once when it is over: in between it fires.
  void on_alert(std::int64_t second_ns, const Event& event) {
    std::string id(event.attribute("alert.id"));
    if (id.empty()) id = event.entity + "/" + event.name;
    if (event.value <= 0) {
      firing.erase(id);
    } else if (firing.contains(id) || firing.size() < kAlertsMax) {
      const auto service = strip(event.entity, "service:");
      firing[id] = {std::string(service.empty() ? "host" : service), fmt::format("alert {}: {}", event.name, event.body), second_ns + kAlertNs};
    } else {
      ++stats.alerts_refused;
    }
  }

  void count_alerts(std::int64_t second_ns) {
    std::erase_if(firing, [&](const auto& entry) { return entry.second.until_ns < second_ns; });
    for (const auto& [id, alert] : firing) {
      if (Second* second = second_of(alert.service); second != nullptr && second->alert_text.empty()) second->alert_text = alert.text;
    }
  }

  void read(std::int64_t second_ns, std::span<const Event> events) {
    for (const Event& event : events) {
      if (event.kind == Kind::Sample) {
        ++stats.samples;
        if (const auto service = strip(event.entity, "service:"); !service.empty()) {
          on_service_sample(service, event);
        } else if (const auto edge = strip(event.entity, "edge:"); !edge.empty()) {
          on_edge_sample(second_ns, edge, event);
        }
      } else if (event.kind == Kind::Kernel) {
        on_kernel(event);
      } else if (event.kind == Kind::Alert) {
        on_alert(second_ns, event);
      } else if (event.kind == Kind::Change && event.name == "service.restart") {
        const auto service = strip(event.entity, "service:");
        if (services.contains(service)) ++second_of(service)->restarts;
      }
    }
  }

  void housekeeping(std::int64_t second_ns) {
    if (second_ns - housekeeping_ns < kHousekeepingNs) return;
    housekeeping_ns = second_ns;
    topology.expire(second_ns);
    std::erase_if(edge_used_ns, [&](const auto& entry) { return second_ns - entry.second > kForgetServiceNs; });
    std::erase_if(services, [&](const auto& entry) {
      return !entry.second.symptomatic() && second_ns - entry.second.last_seen_ns() > kForgetServiceNs;
    });
  }

  // The service people ask about: the most upstream one of those that answer requests, else of all.
  std::string attribute(const std::vector<std::string>& names) const {
    const auto answers = [&](const std::string& name) {
      const auto found = services.find(name);
      return found != services.end() && found->second.has_requests();
    };
    const bool any_answers = std::ranges::any_of(names, answers);
    std::string best;
    for (const std::string& name : names) {
      if (any_answers && !answers(name)) continue;
      if (best.empty() || (topology.reaches(name, best) && !topology.reaches(best, name))) best = name;
    }
    return best;
  }

  // Trouble that lingers weakly and then is strong again is most likely a new trouble: a new wave, with symptoms of
  // its own. True if one begins.
  bool new_wave(Incident& incident, std::int64_t second_ns) {
    const bool strong = std::ranges::any_of(incident.services, [&](const std::string& name) {
      const auto found = services.find(name);
      return found != services.end() && found->second.strongly(second_ns);
    });
    if (!strong) return false;
    std::int64_t& last = strong_ns[incident.id];
    const std::int64_t quiet_since = last != 0 ? last : incident.onset_ns;
    last = second_ns;
    if (quiet_since >= second_ns - kWaveQuietNs) return false;
    std::int64_t since = second_ns - kNsPerSecond;
    for (const std::string& name : incident.services) {
      const auto found = services.find(name);
      if (found == services.end()) continue;
      for (const Symptom& symptom : found->second.symptoms()) {
        if (symptom.since_ns > quiet_since) since = std::min(since, symptom.since_ns);
      }
    }
    incident.wave_ns = since;
    incident.symptoms.clear();  // refresh() puts in what is felt now
    return true;
  }

  // True if what it says (not only its numbers) is different now.
  bool refresh(Incident& incident, std::int64_t second_ns) {
    std::vector<Symptom> symptoms;
    for (const std::string& name : incident.services) {
      const auto found = services.find(name);
      if (found == services.end()) continue;
      std::ranges::move(found->second.symptoms(), std::back_inserter(symptoms));
    }
    if (!symptoms.empty()) {
      for (const Symptom& symptom : symptoms) {
        incident.last_symptom_ns = std::max(incident.last_symptom_ns, symptom.last_ns);
      }
    }
    // A symptom that is over stays part of what happened.
    bool changed = new_wave(incident, second_ns);
    for (Symptom& symptom : symptoms) {
      const auto known = std::ranges::find_if(incident.symptoms, [&](const Symptom& other) {
        return other.entity == symptom.entity && other.series == symptom.series;
      });
      if (known == incident.symptoms.end()) {
        if (incident.symptoms.size() >= kSymptomsMax) continue;
        incident.symptoms.push_back(std::move(symptom));
        changed = true;
      } else {
        symptom.since_ns = std::min(symptom.since_ns, known->since_ns);
        symptom.score = std::max(symptom.score, known->score);
        *known = std::move(symptom);
      }
    }
    std::ranges::sort(incident.symptoms, worse);
    const bool first_wave = incident.wave_ns == incident.onset_ns;
    for (const Symptom& symptom : incident.symptoms) incident.onset_ns = std::min(incident.onset_ns, symptom.since_ns);
    if (first_wave) incident.wave_ns = incident.onset_ns;
    const std::string service = attribute(incident.services);
    if (!service.empty() && service != incident.service) {
      incident.service = service;
      changed = true;
    }
    if (second_ns - incident.last_symptom_ns >= options.close_after_s * kNsPerSecond) {
      incident.state = IncidentState::Closed;
      incident.closed_ns = second_ns;
    }
    return changed;
  }

  Incident* home_of(const std::string& service, std::int64_t second_ns) {
    for (Incident& incident : open) {
      if (std::ranges::binary_search(incident.services, service)) return &incident;
    }
    for (Incident& incident : open) {
      if (second_ns - incident.last_symptom_ns > kJoinNs) continue;
      for (const std::string& member : incident.services) {
        if (topology.related(member, service)) return &incident;
      }
    }
    return nullptr;
  }

  std::vector<IncidentUpdate> group(std::int64_t second_ns) {
    std::set<std::uint64_t> opened;
    for (const auto& [name, watch] : services) {
      if (!watch.symptomatic()) continue;
      Incident* home = home_of(name, second_ns);
      if (home == nullptr) {
        if (open.size() >= kIncidentsMax) {
          ++stats.incidents_refused;
          continue;
        }
        home = &open.emplace_back();
        home->id = next_id++;
        home->onset_ns = home->wave_ns = home->opened_ns = home->last_symptom_ns = second_ns;
        opened.insert(home->id);
        ++stats.incidents_opened;
      }
      if (!std::ranges::binary_search(home->services, name)) {
        home->services.insert(std::ranges::lower_bound(home->services, name), name);
      }
    }
    std::vector<IncidentUpdate> updates;
    for (Incident& incident : open) {
      const bool changed = refresh(incident, second_ns);
      if (opened.contains(incident.id)) {
        updates.push_back({IncidentUpdate::What::Opened, incident});
      } else if (incident.state == IncidentState::Closed) {
        updates.push_back({IncidentUpdate::What::Closed, incident});
      } else if (changed) {
        updates.push_back({IncidentUpdate::What::Changed, incident});
      }
    }
    for (const Incident& incident : open) {
      if (incident.state == IncidentState::Closed) strong_ns.erase(incident.id);
    }
    std::erase_if(open, [](const Incident& incident) { return incident.state == IncidentState::Closed; });
    return updates;
  }
};

Detector::Detector(DetectorOptions options) : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->next_id = std::max<std::uint64_t>(1, options.first_incident_id);
}
Detector::~Detector() = default;
Detector::Detector(Detector&&) noexcept = default;
Detector& Detector::operator=(Detector&&) noexcept = default;

std::vector<IncidentUpdate> Detector::on_samples(std::int64_t second_ns, std::span<const Event> events) {
  State& state = *state_;
  ++state.stats.seconds;
  state.seconds.clear();
  state.read(second_ns, events);
  state.count_alerts(second_ns);
  static const Second kSilence;
  for (auto& [name, watch] : state.services) {
    const auto now = state.seconds.find(name);
    watch.step(second_ns, now != state.seconds.end() ? now->second : kSilence);
  }
  state.housekeeping(second_ns);
  return state.group(second_ns);
}

std::vector<Incident> Detector::open_incidents() const { return state_->open; }

void Detector::restore(std::span<const Incident> incidents) {
  for (const Incident& incident : incidents) {
    if (incident.state != IncidentState::Open || state_->open.size() >= kIncidentsMax) continue;
    state_->open.push_back(incident);
    std::ranges::sort(state_->open.back().services);
    state_->strong_ns[incident.id] = INT64_MAX;  // what goes on after a restart is no new wave
    state_->next_id = std::max(state_->next_id, incident.id + 1);
  }
}

DetectorStats Detector::stats() const {
  DetectorStats stats = state_->stats;
  stats.services = state_->services.size();
  return stats;
}

std::optional<int> Detector::learned_s(std::string_view service) const {
  const auto found = state_->services.find(service);
  if (found == state_->services.end()) return std::nullopt;
  return found->second.load_s();
}

}  // namespace culprit::detect
