#include "tests/explain/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "daemon/base/clock.h"

namespace culprit::test {

using stream::Event;
using stream::Kind;

double World::jitter(double value, double more) {
  std::normal_distribution<double> normal(0, noise * more);
  return value * std::exp(normal(random_));
}

Event World::kernel(const std::string& service, std::int64_t pid, const std::string& name, stream::Attributes more) {
  Event event;
  event.kind = Kind::Kernel;
  event.entity = fmt::format("process:{}", pid);
  event.name = name;
  event.attributes = {{"service", service}, {"process.pid", std::to_string(pid)}};
  for (auto& pair : more) event.attributes.push_back(std::move(pair));
  return event;
}

Event World::change(const std::string& service, const std::string& name, stream::Attributes more) {
  Event event;
  event.kind = Kind::Change;
  event.entity = "service:" + service;
  event.name = name;
  event.attributes = std::move(more);
  return event;
}

Event World::log(const std::string& service, const std::string& text, stream::Severity severity, std::int64_t pid) {
  std::string shape;  // a poor man's template: without digits
  for (const char c : text) shape += std::isdigit(static_cast<unsigned char>(c)) != 0 ? '#' : c;
  Event event;
  event.kind = Kind::Log;
  event.entity = "service:" + service;
  event.name = fmt::format("t:{:x}", std::hash<std::string>()(shape));
  event.severity = severity;
  event.body = text;
  event.attributes = {{"process.pid", std::to_string(pid)}, {"template", shape}};
  return event;
}

std::map<std::pair<std::string, std::string>, double> World::derive(const Second& now) {
  std::map<std::pair<std::string, std::string>, double> out;
  const auto put = [&](const std::string& entity, const std::string& name, double value) { out[{entity, name}] = value; };
  const auto& [front, app, db, cache, fc, ac, dc, cc] = names;
  const bool hung = now.app_hung > 0 || now.db_hung > 0 || now.cache_hung > 0;
  const double age = std::max({now.app_hung, now.db_hung, now.cache_hung});
  const double rate = hung ? 0 : jitter(now.rate, 0.3);
  const double self = jitter(now.app_self), db_time = jitter(now.db_time) * now.db_calls, cache_time = jitter(now.cache_time);
  const double mean = self + db_time + cache_time, front_mean = mean + jitter(now.front_self);
  const double tail = now.tail * jitter(3.5, 1.5);
  const double in_flight = hung ? std::min(64.0, now.rate * age) : rate * mean;

  const auto requests = [&](const std::string& service, double duration, double own, double errors) {
    put(s(service), "request.rate", rate);
    put(s(service), "request.errors", rate * errors);
    put(s(service), "request.inflight", in_flight);
    put(s(service), "request.inflight.age.max", hung ? age : duration * tail);
    if (rate <= 0) return;
    put(s(service), "request.duration.mean", duration);
    put(s(service), "request.duration.p50", 0.8 * duration);
    put(s(service), "request.duration.p99", duration * tail);
    put(s(service), "request.self.mean", own);
  };
  requests(front, front_mean, front_mean - mean, now.app_errors + now.front_errors);
  requests(app, mean, self, now.app_errors);
  const auto calls = [&](const std::string& a, const std::string& b, double a_rate, double duration, double share, bool hangs) {
    put(e(a, b), "client.rate", a_rate);
    if (a_rate > 0) put(e(a, b), "client.duration.mean", duration);
    if (a_rate > 0) put(e(a, b), "client.duration.p99", duration * tail);
    put(e(a, b), "client.wait.share", share);
    put(e(a, b), "client.inflight", hangs ? in_flight : a_rate * duration);
    put(e(a, b), "client.inflight.age.max", hangs ? age : duration * tail);
  };
  const double hung_share = hung ? std::max(0.5, 1 - 0.05 / (age + 0.05)) : 0;
  calls(front, app, rate, mean, hung ? hung_share : mean / front_mean, hung);
  calls(app, db, rate * now.db_calls, db_time / std::max(1.0, now.db_calls), now.db_hung > 0 ? hung_share : now.app_hung > 0 || now.cache_hung > 0 ? 0 : db_time / mean, now.db_hung > 0);
  calls(app, cache, rate, cache_time, now.cache_hung > 0 ? hung_share : now.app_hung > 0 || now.db_hung > 0 ? 0 : cache_time / mean, now.cache_hung > 0);

  const double work = rate / 200;
  const auto resources = [&](const std::string& service, double cpu, double processes_of) {
    put(s(service), "cpu.time", jitter(cpu * work + 0.002));
    put(s(service), "cpu.run_queue.wait", jitter(0.01 * work + 0.0005, 3));
    put(s(service), "cpu.run_queue.mean", jitter(0.0002, 3));
    put(s(service), "memory.rss", jitter(60e6, 0.1));
    put(s(service), "process.count", processes_of);
    put(s(service), "log.rate", work * 20);
  };
  resources(front, 0.05, 3);
  resources(app, 0.25, 1);
  resources(db, 0.12, 12);
  resources(cache, 0.03, 1);
  put(s(db), "fsync.rate", jitter(20 * work));
  if (work > 0) put(s(db), "fsync.mean", jitter(0.0015, 2));
  if (work > 0) put(s(db), "fsync.max", jitter(0.004, 3));
  put(s(db), "disk.write.bytes", jitter(300e3 * work + 1, 3));
  put(s(db), "disk.wait", jitter(0.02 * work));
  put("device:vda", "disk.latency.mean", jitter(0.0008, 2));
  put("device:vda", "disk.latency.p99", jitter(0.003, 3));
  put("device:vda", "disk.busy", jitter(0.04));
  put("mount:/var", "filesystem.used.ratio", 0.41);
  put("host", "cpu.count", 2);
  put("host", "cpu.run_queue.wait", jitter(0.05, 3));
  put("host", "memory.available.ratio", 0.6);
  for (const auto& [pid, who] : processes) {
    const std::string entity = fmt::format("process:{}", pid);
    put(entity, "memory.rss", 30e6);
    put(entity, "process.fds", 20);
    put(entity, "process.fds.ratio", 20.0 / 1024);
    double of = 0;
    for (const auto& [other, whose] : processes) of += whose.first == who.first ? 1 : 0;
    put(entity, "cpu.time", out[{s(who.first), "cpu.time"}] / of);
  }
  for (const auto& [key, value] : now.set) out[key] = value;
  double cpu = 0.05;
  for (const auto& [key, value] : out) {
    if (key.second == "cpu.time" && key.first.starts_with("service:")) cpu += value;
  }
  if (!now.set.contains({"host", "cpu.time"})) put("host", "cpu.time", std::min(2.0, cpu));
  return out;
}

void World::second(const Fault& fault, int since) {
  if (processes.empty()) {
    for (int i = 0; i < 3; ++i) processes[100 + i] = {names.front, names.front_command};
    processes[200] = {names.app, names.app_command};
    for (int i = 0; i < 12; ++i) processes[300 + i] = {names.db, names.db_command};
    processes[400] = {names.cache, names.cache_command};
  }
  Second now;
  if (fault) fault(*this, now, since);
  auto values = derive(now);
  std::vector<Event> events;
  const auto hidden = [&](const std::string& name) {
    return std::ranges::any_of(blind, [&](const std::string& prefix) { return name.starts_with(prefix); });
  };
  now_ns_ += kNsPerSecond;
  for (auto& [key, there] : was_there_) {
    if (there && !values.contains(key)) values[key] = 0;  // written once as it changes to zero
  }
  for (const auto& [key, value] : values) {
    bool& there = was_there_[key];
    if (value == 0 && !there) continue;
    there = value != 0;
    if (hidden(key.second)) continue;
    Event event;
    event.time_ns = now_ns_;
    event.entity = key.first;
    event.name = key.second;
    event.value = value;
    if (key.first.starts_with("process:")) {
      const auto found = processes.find(std::stoll(key.first.substr(8)));
      if (found == processes.end()) continue;
      event.attributes = {{"service", found->second.first}, {"process.command", found->second.second}};
    }
    events.push_back(std::move(event));
  }
  for (int i = 0; i < 3 && !no_logs; ++i) {
    Event line = log(names.app, fmt::format("GET /items/{} 200", random_() % 1000), stream::kInfo, 200);
    line.time_ns = now_ns_ - kNsPerSecond + (i + 1) * 100'000'000;
    events.push_back(std::move(line));
  }
  for (Event& event : now.events) {
    if (event.kind == Kind::Log && no_logs) continue;
    if (event.kind == Kind::Kernel && no_kernel) continue;
    if (event.kind == Kind::Change && no_kernel) continue;
    event.time_ns += now_ns_ - kNsPerSecond;
    if (event.kind == Kind::Kernel) {
      const auto found = processes.find(std::stoll(event.entity.substr(8)));
      if (found != processes.end()) event.attributes.emplace_back("process.command", found->second.second);
    }
    events.push_back(std::move(event));
  }
  std::ranges::stable_sort(events, {}, &Event::time_ns);
  for (auto& update : detector.on_samples(now_ns_, events)) updates.push_back(std::move(update));
  if (keep) (void)store.append(std::move(events));
}

void World::run(int seconds, const Fault& fault) {
  for (int i = 0; i < seconds; ++i) second(fault, i);
}

bool World::break_with(const Fault& fault, int more, int limit) {
  const int before = opened();
  for (int i = 0; i < limit; ++i) {
    second(fault, i);
    if (opened() == before) continue;
    seconds_to_open_ = i + 1;
    for (int k = 1; k <= more; ++k) second(fault, i + k);
    return true;
  }
  return false;
}

int World::opened() const {
  return static_cast<int>(std::ranges::count_if(updates, [](const auto& u) { return u.what == detect::IncidentUpdate::What::Opened; }));
}

detect::Incident World::incident() const {
  const auto open = detector.open_incidents();
  if (!open.empty()) return open.back();
  for (auto at = updates.rbegin(); at != updates.rend(); ++at) {
    if (at->what == detect::IncidentUpdate::What::Closed) return at->incident;
  }
  return {};
}

explain::ExplainOptions World::options() const {
  explain::ExplainOptions options;
  options.now_ns = now_ns_;
  return options;
}

explain::Explanation World::explain() const {
  auto answer = explain::explain(store, incident(), options());
  return answer ? std::move(*answer) : explain::Explanation{};
}

}  // namespace culprit::test
