#include "daemon/ingest/rollup.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace culprit::ingest {
namespace {

constexpr std::int64_t kSpansCountNs = 60 * kNsPerSecond;  // access log lines of a service with spans this recent do not count
constexpr std::int64_t kForgetNs = 3600 * kNsPerSecond;
constexpr std::size_t kSecondsMax = 16;

std::int64_t second_end(std::int64_t time_ns) { return (time_ns / kNsPerSecond + 1) * kNsPerSecond; }

std::uint64_t work_key(const stream::Event& event) { return event.trace_id[0] ^ (event.trace_id[1] * 0x9e3779b97f4a7c15ULL) ^ std::hash<std::string_view>()(event.entity); }

std::uint64_t hex(std::string_view text) {
  std::uint64_t value = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return value;
}

int status_of(const stream::Event& event) {
  std::string_view text = event.attribute("http.response.status_code");
  if (text.empty()) text = event.attribute("http.status_code");
  int status = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), status);
  return status;
}

std::string peer_of(const stream::Event& event) {
  for (const std::string_view key : {"peer.service", "upstream.cluster", "db.system.name", "db.system", "messaging.system", "server.address", "net.peer.name", "rpc.service"}) {
    if (const auto text = event.attribute(key); !text.empty()) return std::string(text.substr(0, 128));
  }
  return {};
}

double quantile(std::vector<float>& durations, double q) {
  if (durations.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(std::min(static_cast<double>(durations.size() - 1), std::ceil(q * static_cast<double>(durations.size())) - 1));
  std::ranges::nth_element(durations, durations.begin() + std::max<std::ptrdiff_t>(0, at));
  return static_cast<double>(durations[static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, at))]);
}

}  // namespace

void Rollup::Window::add(double seconds, bool error, bool has_time) {
  ++count;
  errors += error ? 1 : 0;
  if (!has_time) return;
  ++timed;
  sum_s += seconds;
  if (durations.size() < kDurationsMax) durations.push_back(static_cast<float>(seconds));
}

Rollup::Second* Rollup::second_of(std::int64_t time_ns) {
  const std::int64_t end = second_end(time_ns);
  if (end <= told_ns_) {
    ++stats_.late;
    return nullptr;
  }
  return &seconds_[end];
}

Rollup::Known* Rollup::known(std::string_view service, std::int64_t now_ns) {
  auto found = known_.find(service);
  if (found == known_.end()) {
    if (known_.size() >= kServicesMax) {
      ++stats_.refused;
      return nullptr;
    }
    found = known_.emplace(std::string(service), Known{}).first;
  }
  found->second.seen_ns = now_ns;
  return &found->second;
}

void Rollup::add_request(Second& second, std::string_view service, std::string_view operation, double seconds, bool error, bool has_time) {
  ++stats_.counted;
  second.services[std::string(service)].add(seconds, error, has_time);
  const std::string entity = fmt::format("endpoint:{} {}", service, operation.substr(0, 200));
  const auto found = second.endpoints.find(entity);
  if (found != second.endpoints.end()) {
    found->second.add(seconds, error, has_time);
  } else if (second.endpoints.size() < kOperationsMax * std::max<std::size_t>(1, second.services.size())) {
    second.endpoints[entity].add(seconds, error, has_time);
  } else {
    ++stats_.refused;
  }
}

void Rollup::add(const stream::Event& event, std::int64_t now_ns) {
  if (!event.entity.starts_with("service:")) return;
  // The first look at the clock: what is older than the delay belongs to no second that is still open.
  if (told_ns_ == 0) told_ns_ = second_end(now_ns - kDelayNs - kNsPerSecond);
  const std::string_view service = std::string_view(event.entity).substr(8);
  if (event.kind == stream::Kind::Span) {
    const std::string_view kind = event.attribute("span.kind");
    const bool request = kind == "server" || kind == "consumer", call = kind == "client" || kind == "producer";
    if (!request && !call) return;
    Known* of = known(service, now_ns);
    if (of == nullptr) return;
    of->span_ns = now_ns;
    const int status = status_of(event);
    const bool error = event.severity >= stream::kError || status >= 500;
    const std::string_view parent = event.attribute("parent.span_id");
    if (request && !parent.empty()) server_of_.at(hex(parent)) = service;
    if (call) called_s_.at(work_key(event)) += event.value;
    Second* second = second_of(event.time_ns);
    if (second == nullptr) return;
    if (request) {
      add_request(*second, service, event.name, event.value, error, true);
      if (second->requests.size() < kCallsMax) second->requests.push_back({std::string(service), work_key(event), event.value});
    } else if (second->calls.size() < kCallsMax) {
      ++stats_.counted;
      second->calls.push_back({std::string(service), peer_of(event), event.span_id, event.value, error, true});
    } else {
      ++stats_.refused;
    }
    return;
  }
  if (event.kind != stream::Kind::Log) return;
  const int status = status_of(event);
  if (status == 0 || event.attribute("log.format").empty()) return;
  Known* of = known(service, now_ns);
  if (of == nullptr || (of->span_ns != 0 && now_ns - of->span_ns < kSpansCountNs)) return;
  Second* second = second_of(event.time_ns);
  if (second == nullptr) return;
  double seconds = 0;
  const std::string_view took = event.attribute("duration_s");
  const bool has_time = !took.empty() && std::from_chars(took.data(), took.data() + took.size(), seconds).ec == std::errc();
  const bool error = status >= 500;
  add_request(*second, service, fmt::format("{} {}", event.attribute("http.request.method"), event.attribute("http.route")), seconds, error, has_time);
  if (std::string peer = peer_of(event); !peer.empty() && second->calls.size() < kCallsMax) {
    second->calls.push_back({std::string(service), std::move(peer), 0, seconds, error, has_time});
  }
}

void Rollup::tell(std::int64_t second_ns, Second& second, const std::function<bool(std::string_view)>& kernel_sees, std::vector<stream::Event>& out) {
  const auto put = [&](const std::string& entity, std::string_view name, double value) {
    stream::Event event;
    event.time_ns = second_ns;
    event.kind = stream::Kind::Sample;
    event.entity = entity;
    event.name = name;
    event.value = value;
    out.push_back(std::move(event));
    ++stats_.samples;
  };
  for (const Request& request : second.requests) {
    const double* called = called_s_.find(request.work);
    second.services[request.service].self_s += std::max(0.0, request.seconds - (called == nullptr ? 0 : *called));
  }
  const auto put_requests = [&](const std::string& entity, Window& window, bool self) {
    put(entity, "request.rate", static_cast<double>(window.count));
    if (window.errors > 0) put(entity, "request.errors", static_cast<double>(window.errors));
    if (window.timed == 0) return;
    put(entity, "request.duration.mean", window.sum_s / static_cast<double>(window.timed));
    put(entity, "request.duration.p50", quantile(window.durations, 0.5));
    put(entity, "request.duration.p99", quantile(window.durations, 0.99));
    if (self) put(entity, "request.self.mean", window.self_s / static_cast<double>(window.timed));
  };
  std::set<std::string> told;
  for (auto& [service, window] : second.services) {
    if (kernel_sees(service)) continue;
    put_requests("service:" + service, window, !second.requests.empty());
    told.insert(service);
  }
  for (auto& [entity, window] : second.endpoints) {
    const std::string_view rest = std::string_view(entity).substr(9);
    if (told.contains(std::string(rest.substr(0, rest.find(' '))))) put_requests(entity, window, false);
  }
  for (const std::string& service : last_told_) {
    if (!told.contains(service)) put("service:" + service, "request.rate", 0);
  }
  last_told_ = std::move(told);
  std::map<std::string, Window> edges;
  for (Call& call : second.calls) {
    const std::string* server = call.span_id == 0 ? nullptr : server_of_.find(call.span_id);
    const std::string& callee = server != nullptr && !server->empty() ? *server : call.peer;
    if (callee.empty() || callee == call.service || kernel_sees(call.service)) continue;
    if (edges.size() >= kEdgesMax) {
      ++stats_.refused;
      continue;
    }
    edges[fmt::format("edge:{}->{}", call.service, callee)].add(call.seconds, call.error, call.has_time);
  }
  for (auto& [edge, window] : edges) {
    put(edge, "client.rate", static_cast<double>(window.count));
    if (window.errors > 0) put(edge, "client.errors", static_cast<double>(window.errors));
    if (window.timed == 0) continue;
    put(edge, "client.duration.mean", window.sum_s / static_cast<double>(window.timed));
    put(edge, "client.duration.p99", quantile(window.durations, 0.99));
    // The share of the caller's request time spent waiting here.
    const std::string caller = edge.substr(5, edge.find("->") - 5);
    const auto of = second.services.find(caller);
    if (of != second.services.end() && of->second.sum_s > 0) put(edge, "client.wait.share", std::min(1.0, window.sum_s / of->second.sum_s));
  }
}

void Rollup::tick(std::int64_t now_ns, const std::function<bool(std::string_view service)>& kernel_sees, std::vector<stream::Event>& out) {
  const std::int64_t until = second_end(now_ns - kDelayNs) - kNsPerSecond;
  while (!seconds_.empty() && (seconds_.begin()->first <= until || seconds_.size() > kSecondsMax)) {
    tell(seconds_.begin()->first, seconds_.begin()->second, kernel_sees, out);
    told_ns_ = std::max(told_ns_, seconds_.begin()->first);
    seconds_.erase(seconds_.begin());
  }
  if (told_ns_ != 0 && told_ns_ < until) {  // a second without anything: those who were busy are told to be silent
    Second silent;
    tell(until, silent, kernel_sees, out);
    told_ns_ = until;
  }
  std::erase_if(known_, [&](const auto& entry) { return now_ns - entry.second.seen_ns > kForgetNs; });
}

std::vector<std::string> Rollup::services() const {
  std::vector<std::string> names;
  names.reserve(known_.size());
  for (const auto& [name, known] : known_) names.push_back(name);
  return names;
}

}  // namespace culprit::ingest
