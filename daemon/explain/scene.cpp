#include "daemon/explain/scene.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>

#include "daemon/base/clock.h"
#include "daemon/explain/failure_modes.h"
#include "daemon/explain/live_case.h"

namespace culprit::explain {

namespace {

using stream::Event;
using stream::Kind;

constexpr std::int64_t kBaseNs = 180 * kNsPerSecond;   // of the past that counts as normal
constexpr std::int64_t kLeadInNs = 20 * kNsPerSecond;  // before that, to know what was there already
constexpr std::int64_t kGuardNs = 4 * kNsPerSecond;    // before the onset, when it may have begun unseen
constexpr std::int64_t kTailNs = 2 * kNsPerSecond;     // after the last symptom
constexpr std::int64_t kShortestNs = 5 * kNsPerSecond;
constexpr std::int64_t kKernelLeadNs = 60 * kNsPerSecond;
constexpr std::int64_t kLogLeadNs = 15 * kNsPerSecond;  // log lines this long before the onset may tell of it
constexpr std::size_t kKernelMax = 20'000;
constexpr std::size_t kChangesMax = 5'000;
constexpr std::size_t kProcessEventsMax = 100'000;
constexpr std::size_t kLogLinesMax = 50'000;
constexpr std::size_t kSpanErrorsMax = 20'000;
constexpr std::size_t kNewsMax = 400;
constexpr std::size_t kLinesPerTemplate = 40;
constexpr double kLogRateUp = 5;  // a known template this many times as frequent is news

// The same order whatever the store's: events of one nanosecond may come in any.
bool before(const Event& a, const Event& b) {
  return std::tie(a.time_ns, a.kind, a.entity, a.name, a.value, a.body) <
         std::tie(b.time_ns, b.kind, b.entity, b.name, b.value, b.body);
}

std::string_view strip(std::string_view text, std::string_view prefix) {
  return text.starts_with(prefix) ? text.substr(prefix.size()) : std::string_view();
}

}  // namespace

std::int64_t parse_pid(std::string_view text) {
  if (const auto rest = strip(text, "process:"); !rest.empty()) text = rest;
  std::int64_t pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  return error == std::errc() && end == text.data() + text.size() && pid > 0 ? pid : 0;
}

Result<Scene> Scene::load(const stream::EventStore& store, const detect::Incident& incident,
                          const ExplainOptions& options) {
  Scene scene;
  scene.incident_ = &incident;
  scene.options_ = &options;
  scene.root_ = options.focus.empty() ? incident.service : options.focus;
  Windows& windows = scene.windows_;
  // The latest wave is explained, and compared with the time before the first.
  const std::int64_t onset = scene.onset_ns();
  windows.base_from_ns = incident.onset_ns - kBaseNs;
  windows.base_to_ns = incident.onset_ns - kGuardNs;
  windows.now_from_ns = onset;
  const std::int64_t latest = std::max(onset + kNsPerSecond, std::min(options.now_ns, onset + kIncidentNsMax));
  windows.now_to_ns = std::min(latest, std::max(incident.last_symptom_ns + kTailNs, onset + kShortestNs));
  windows.excluded = options.excluded;
  TRY(scene.load_series(store));
  TRY(scene.load_processes(store));
  TRY(scene.load_happenings(store));
  TRY(scene.load_logs(store));
  TRY(scene.load_span_errors(store));
  scene.build_edges();
  scene.build_flow();
  return scene;
}

Result<void> Scene::load_series(const stream::EventStore& store) {
  stream::Query query;
  query.from_ns = windows_.base_from_ns - kLeadInNs;
  query.to_ns = windows_.now_to_ns + 1;
  query.kinds = {Kind::Sample};
  ASSIGN(std::vector<stream::Series> series, store.series(query));
  std::ranges::sort(series, {}, [](const stream::Series& s) { return std::tie(s.entity, s.name); });
  std::map<std::string_view, std::int64_t> entity_from;
  std::int64_t seen_from = windows_.now_to_ns;
  for (const stream::Series& one : series) {
    if (one.points.empty()) continue;
    const std::int64_t first = one.points.front().time_ns - kNsPerSecond;
    const auto [at, fresh] = entity_from.try_emplace(one.entity, first);
    if (!fresh) at->second = std::min(at->second, first);
    seen_from = std::min(seen_from, first);
  }
  windows_.seen_from_ns = seen_from;
  // A service that has just come under load was idle before; idle seconds are not its normal.
  const std::string root = "service:" + root_;
  for (const stream::Series& one : series) {
    if (one.entity != root || one.name != "request.rate") continue;
    std::int64_t load_from = 0;
    std::size_t loaded = 0;
    for (const stream::Point& point : one.points) {
      if (point.value <= 0 || !windows_.is_base(point.time_ns)) continue;
      if (load_from == 0) load_from = point.time_ns - kNsPerSecond;
      ++loaded;
    }
    if (loaded >= 15) windows_.base_from_ns = std::max(windows_.base_from_ns, load_from);
  }
  views_.reserve(series.size());
  for (stream::Series& one : series) {
    if (one.points.empty()) continue;
    View view = view_of(one, windows_, entity_from[one.entity]);
    base_names_.insert(view.base_name);
    if (view.base_points == 0 && view.now_points == 0) continue;
    views_.push_back(std::move(view));
    if (one.entity.starts_with("service:")) service_series_.push_back(std::move(one));
  }
  return {};
}

Result<void> Scene::load_processes(const stream::EventStore& store) {
  stream::Query query;
  query.from_ns = std::max(windows_.base_to_ns - 30 * kNsPerSecond, windows_.seen_from_ns);
  query.to_ns = windows_.now_to_ns + 1;
  query.kinds = {Kind::Sample};
  query.entities = {"process:*"};
  query.limit = kProcessEventsMax;
  TRY(store.scan(query, [&](const Event& event) {
    const std::int64_t pid = parse_pid(event.entity);
    if (pid == 0) return true;
    auto [at, fresh] = processes_.try_emplace(pid);
    Process& process = at->second;
    if (fresh) {
      process.pid = pid;
      process.first_ns = event.time_ns - kNsPerSecond;  // of its samples: quiet processes have none
    }
    if (process.service.empty()) process.service = event.attribute("service");
    if (process.command.empty()) process.command = event.attribute("process.command");
    return true;
  }));
  return {};
}

Result<void> Scene::load_happenings(const stream::EventStore& store) {
  stream::Query query;
  query.from_ns = onset_ns() - kKernelLeadNs;
  query.to_ns = windows_.now_to_ns + 1;
  query.kinds = {Kind::Kernel};
  query.limit = kKernelMax;
  TRY(store.scan(query, [&](const Event& event) {
    kernel_.push_back(event);
    return true;
  }));
  std::ranges::stable_sort(kernel_, before);
  query.from_ns = onset_ns() - kHistoryNs;
  query.kinds = {Kind::Change};
  query.limit = kChangesMax;
  query.newest_first = true;
  TRY(store.scan(query, [&](const Event& event) {
    changes_.push_back(event);
    return true;
  }));
  std::ranges::stable_sort(changes_, before);
  for (const auto* list : {&kernel_, &changes_}) {
    for (const Event& event : *list) {
      std::int64_t pid = parse_pid(event.attribute("process.pid"));
      if (pid == 0) pid = parse_pid(event.entity);
      if (pid == 0) continue;
      auto [at, fresh] = processes_.try_emplace(pid);
      Process& process = at->second;
      if (fresh) {
        process.pid = pid;
        process.first_ns = event.time_ns;
      }
      if (process.service.empty()) process.service = event.attribute("service");
      if (process.service.empty()) process.service = strip(event.entity, "service:");
      if (process.command.empty()) process.command = event.attribute("process.command");
      if (event.name == "process.start" || event.name == "process.exec" || event.name == "service.start") {
        process.first_ns = std::min(process.first_ns, event.time_ns);
        process.newcomer = event.time_ns > windows_.base_to_ns - 60 * kNsPerSecond;
      }
    }
  }
  for (const auto& [pid, process] : processes_) {
    std::string& commands = commands_[process.service];
    if (commands.size() < 256 && commands.find(process.command) == std::string::npos) commands += process.command + " ";
  }
  return {};
}

Result<void> Scene::load_logs(const stream::EventStore& store) {
  stream::Query query;
  query.from_ns = std::max(onset_ns() - kHistoryNs, windows_.seen_from_ns - kNsPerSecond);
  query.to_ns = windows_.now_to_ns + 1;
  query.kinds = {Kind::Log};
  const std::int64_t from = onset_ns() - kLogLeadNs;
  // How often each template was written before and since.
  struct Count {
    std::uint64_t before = 0, since = 0;
  };
  std::map<std::pair<std::string, std::string>, Count> counts;
  stream::Query past = query;
  past.to_ns = from;
  ASSIGN(const std::vector<stream::Group> groups, store.group(past));
  for (const stream::Group& group : groups) counts[{group.entity, group.name}].before = group.count;
  stream::Query recent = query;
  recent.from_ns = from;
  ASSIGN(const std::vector<stream::Group> recents, store.group(recent));
  for (const stream::Group& group : recents) counts[{group.entity, group.name}].since = group.count;

  const double past_s = std::max(1.0, static_cast<double>(from - query.from_ns) / 1e9);
  const double recent_s = std::max(1.0, static_cast<double>(query.to_ns - from) / 1e9);
  std::map<std::pair<std::string, std::string>, LogNews> news;
  for (const auto& [key, count] : counts) {
    const auto service = strip(key.first, "service:");
    if (!service.empty()) logging_.emplace(service);
    if (count.since == 0) continue;
    const double rate_before = static_cast<double>(count.before) / past_s;
    if (count.before > 0 && static_cast<double>(count.since) / recent_s < kLogRateUp * rate_before + 0.2) continue;
    if (news.size() >= kNewsMax) break;
    LogNews& item = news[key];
    item.service = service;
    item.template_id = key.second;
    item.count = count.since;
  }
  if (news.empty()) return {};
  recent.limit = kLogLinesMax;
  std::vector<Event> lines;
  std::map<std::pair<std::string, std::string>, std::size_t> taken;
  TRY(store.scan(recent, [&](const Event& event) {
    std::pair<std::string, std::string> key(event.entity, event.name);
    if (!news.contains(key) || taken[key] >= kLinesPerTemplate) return true;
    ++taken[key];
    lines.push_back(event);
    return true;
  }));
  std::ranges::stable_sort(lines, before);
  for (const Event& event : lines) {
    LogNews& item = news[{event.entity, event.name}];
    if (item.lines.empty()) {
      item.first_ns = event.time_ns;
      item.text = event.body.empty() ? std::string(event.attribute("template")) : event.body;
    }
    item.severity = std::max(item.severity, event.severity);
    item.lines.emplace_back(event.time_ns, event.body.empty() ? std::string(event.attribute("template")) : event.body);
  }
  for (auto& [key, item] : news) {
    if (!item.lines.empty()) news_.push_back(std::move(item));
  }
  return {};
}

// Programs that send traces say there what failed, often nowhere else.
Result<void> Scene::load_span_errors(const stream::EventStore& store) {
  stream::Query query;
  query.from_ns = std::max(windows_.base_from_ns, windows_.seen_from_ns);
  query.to_ns = windows_.now_to_ns + 1;
  query.kinds = {Kind::Span};
  query.severity_min = stream::kError;
  query.limit = kSpanErrorsMax;
  query.newest_first = true;
  const std::int64_t from = onset_ns() - kLogLeadNs;
  struct Count {
    std::uint64_t before = 0, since = 0;
    std::int64_t first_ns = 0;
  };
  std::map<std::pair<std::string, std::string>, Count> counts;  // (service, message)
  TRY(store.scan(query, [&](const Event& event) {
    const auto service = strip(event.entity, "service:");
    const std::string message(span_message(event));
    if (service.empty() || message.empty() || (counts.size() >= kNewsMax && !counts.contains({std::string(service), message}))) return true;
    Count& count = counts[{std::string(service), message}];
    if (event.time_ns < from) {
      ++count.before;
    } else {
      ++count.since;
      count.first_ns = count.first_ns == 0 ? event.time_ns : std::min(count.first_ns, event.time_ns);
    }
    return true;
  }));
  const double past_s = std::max(1.0, static_cast<double>(from - query.from_ns) / 1e9);
  const double recent_s = std::max(1.0, static_cast<double>(query.to_ns - from) / 1e9);
  for (const auto& [key, count] : counts) {
    if (count.since == 0) continue;
    const double rate_before = static_cast<double>(count.before) / past_s;
    if (count.before > 0 && static_cast<double>(count.since) / recent_s < kLogRateUp * rate_before + 0.2) continue;
    news_.push_back({key.first, "", key.second, count.first_ns, count.since, stream::kError, {{count.first_ns, key.second}}});
  }
  return {};
}

bool Scene::has_symptom(std::string_view series_prefix) const {
  const std::string root = "service:" + root_;
  const auto& symptoms = incident_->symptoms;
  const bool own = std::ranges::any_of(symptoms, [&](const auto& s) { return s.entity == root; });
  return std::ranges::any_of(symptoms, [&](const auto& s) {
    return (!own || s.entity == root) && s.series.starts_with(series_prefix);
  });
}

std::string Scene::time(std::int64_t time_ns) const { return format_wall_time(time_ns + options_->wall_offset_ns); }

double Scene::base_seconds() const {
  const std::int64_t from = std::max(windows_.base_from_ns, windows_.seen_from_ns);
  return std::max(0.0, static_cast<double>(windows_.base_to_ns - from) / 1e9);
}

const View& Scene::find(std::string_view entity, std::string_view name) const {
  static const View kQuiet;
  const auto at = std::ranges::lower_bound(views_, std::tie(entity, name), {}, [](const View& view) {
    return std::tuple<std::string_view, std::string_view>(view.entity, view.name);
  });
  return at != views_.end() && at->entity == entity && at->name == name ? *at : kQuiet;
}

const View& Scene::of_service(std::string_view service, std::string_view name) const {
  return find(fmt::format("service:{}", service), name);
}

std::vector<const View*> Scene::with_base(std::string_view entity, std::string_view base_name) const {
  std::vector<const View*> out;
  auto at = std::ranges::lower_bound(views_, entity, {}, [](const View& view) { return std::string_view(view.entity); });
  for (; at != views_.end() && at->entity == entity; ++at) {
    if (at->base_name == base_name) out.push_back(&*at);
  }
  return out;
}

bool Scene::any(std::string_view base_name) const { return base_names_.contains(std::string(base_name)); }

std::string Scene::middleware(std::string_view service) const {
  std::string_view known = middleware_of(service);
  if (known.empty()) {
    const auto commands = commands_.find(std::string(service));
    if (commands != commands_.end()) known = middleware_of(commands->second);
  }
  return std::string(known);
}

const Process* Scene::process(std::int64_t pid) const {
  const auto found = processes_.find(pid);
  return found != processes_.end() ? &found->second : nullptr;
}

std::string Scene::service_of_entity(std::string_view entity) const {
  if (const auto service = strip(entity, "service:"); !service.empty()) return std::string(service);
  const Process* found = process(parse_pid(entity));
  return found != nullptr ? found->service : std::string();
}

}  // namespace culprit::explain
