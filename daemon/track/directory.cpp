#include "daemon/track/directory.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace culprit::track {

namespace {

// /proc gives the start of a process in clock ticks of 10 ms.
constexpr std::int64_t kStartToleranceNs = 25'000'000;
constexpr std::size_t kExecsPerSecond = 3;  // events, per service

std::string comm_of(const char* comm) { return std::string(comm, strnlen(comm, CULPRIT_COMM_LEN)); }

bool same_start(std::int64_t a, std::int64_t b) { return a == 0 || b == 0 || std::abs(a - b) <= kStartToleranceNs; }

}  // namespace

void Usage::add(const Usage& other) {
  cpu += other.cpu;
  run_queue += other.run_queue;
  blocked += other.blocked;
  run_queue_ns += other.run_queue_ns;
  run_queue_count += other.run_queue_count;
  read_bytes += other.read_bytes;
  write_bytes += other.write_bytes;
  disk_wait += other.disk_wait;
  fsyncs += other.fsyncs;
  fsync_sum_s += other.fsync_sum_s;
  fsync_count += other.fsync_count;
  fsync_max_s = std::max(fsync_max_s, other.fsync_max_s);
  open_sum_s += other.open_sum_s;
  open_count += other.open_count;
}

Directory::Directory(const TrackerOptions& options, TrackStats& stats, Output& output)
    : options_(options), stats_(stats), output_(output) {}

void Directory::set_now(std::int64_t now_ns) {
  if (begin_ns_ == 0) begin_ns_ = now_ns;
  now_ns_ = std::max(now_ns_, now_ns);
}

Process* Directory::find(std::uint32_t pid) {
  const auto found = processes_.find(pid);
  return found == processes_.end() ? nullptr : found->second.get();
}

Service* Directory::find(ServiceId id) {
  const auto found = services_.find(id);
  return found == services_.end() ? nullptr : found->second.get();
}

ServiceId Directory::service_of(std::uint32_t pid) {
  const Process* process = find(pid);
  return process == nullptr ? ServiceId::None : process->service;
}

ServiceId Directory::service_of(std::uint32_t pid, std::uint64_t cgroup_id) {
  if (const ServiceId id = service_of(pid); id != ServiceId::None) return id;
  const auto found = by_cgroup_.find(cgroup_id);
  return found == by_cgroup_.end() ? ServiceId::None : found->second;
}

Endpoint* Directory::endpoint(Service& service, std::string_view method, const std::string& path) {
  std::string operation(method);
  operation += ' ';
  operation += path;
  auto found = service.endpoints.find(operation);
  if (found == service.endpoints.end()) {
    if (service.endpoints.size() >= options_.limits.templates_per_service) {
      ++stats_.templates_refused;
      operation = std::string(method) + " /*";
      found = service.endpoints.find(operation);
      // The overflow entries themselves: one a method, and methods are few.
      if (found == service.endpoints.end() && service.endpoints.size() >= options_.limits.templates_per_service + 16) {
        return nullptr;
      }
    }
    if (found == service.endpoints.end()) {
      auto added = std::make_unique<Endpoint>();
      added->operation = operation;
      added->entity = "endpoint:" + service.name + " " + operation;
      found = service.endpoints.emplace(operation, std::move(added)).first;
    }
  }
  found->second->used_ns = now_ns_;
  return found->second.get();
}

Process* Directory::add(std::uint32_t pid, std::int64_t start_ns) {
  if (Process* old = find(pid); old != nullptr) {
    if (same_start(old->start_ns, start_ns)) {
      if (old->start_ns == 0) old->start_ns = start_ns;
      return old;
    }
    remove(pid, now_ns_);  // the pid was used again and we did not see the exit
  }
  if (processes_.size() >= options_.limits.processes) {
    ++stats_.processes_refused;
    return nullptr;
  }
  ended_.erase(pid);
  auto process = std::make_unique<Process>();
  process->pid = pid;
  process->start_ns = start_ns;
  process->exec_ns = start_ns;
  process->newcomer = start_ns > begin_ns_;
  return processes_.emplace(pid, std::move(process)).first->second.get();
}

void Directory::remove(std::uint32_t pid, std::int64_t time_ns) {
  const auto found = processes_.find(pid);
  if (found == processes_.end()) return;
  Process& process = *found->second;
  if (process.watched != 0) output_.sink().want_watch(pid, 0);
  if (ended_.size() < options_.limits.processes) ended_[pid] = {process.start_ns, now_ns_, process.service};
  if (Service* service = find(process.service); service != nullptr) {
    service->usage.add(process.usage);
    if (service->listener_pid == pid) service->listener_exit_ns = time_ns;
    service->pids.erase(pid);
    ++epoch_;
    if (service->pids.empty()) {
      ended(*service, time_ns);
    } else if (service->main_pid == pid) {
      choose_main(*service);
    }
  }
  processes_.erase(found);
}

Process* Directory::meet(std::uint32_t pid, std::uint64_t cgroup_id, const char* comm) {
  if (pid == 0) return nullptr;
  if (Process* known = find(pid); known != nullptr) return known;
  if (ended_.contains(pid)) return nullptr;
  Process* process = add(pid, 0);
  if (process == nullptr) return nullptr;
  process->comm = comm_of(comm);
  process->facts.cgroup_id = cgroup_id;
  if (const auto found = by_cgroup_.find(cgroup_id); found != by_cgroup_.end()) assign(*process, find(found->second));
  ask(*process);
  return process;
}

void Directory::late_usage(std::uint32_t pid, const Usage& usage) {
  const auto over = ended_.find(pid);
  if (over == ended_.end()) return;
  if (Service* service = find(over->second.service); service != nullptr) service->usage.add(usage);
}

void Directory::on_fork(const culprit_fork_event& event) {
  Process* child = add(event.child_tgid, start_of(event.start_time_ns));
  if (child == nullptr) return;
  if (child->service != ServiceId::None) return;  // its facts were faster than this record
  child->ppid = event.task.tgid;
  child->comm = comm_of(event.task.comm);
  child->forked = true;
  child->newcomer = true;
  const Process* parent = find(event.task.tgid);
  if (parent == nullptr) {
    meet(event.task.tgid, event.task.cgroup_id, event.task.comm);
    ask(*child);
    return;
  }
  child->facts = parent->facts;
  child->facts.ppid = parent->pid;
  child->facts.start_time_ns = event.start_time_ns;
  child->facts.sockets.clear();
  child->facts.rss_bytes = child->facts.fds = -1;
  child->has_facts = parent->has_facts;
  child->filename = parent->filename;
  child->watched_self = parent->watched_self;
  if (Service* service = find(parent->service); service != nullptr) {
    assign(*child, service);
    ++service->starts;
  } else if (!child->has_facts) {
    ask(*child);
  }
  update_watch(*child);
}

void Directory::on_exec(const culprit_exec_event& event) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  Process* process = add(event.task.tgid, start_of(event.start_time_ns));
  if (process == nullptr) return;
  process->ppid = event.ppid;
  process->comm = comm_of(event.task.comm);
  process->filename.assign(event.filename, strnlen(event.filename, CULPRIT_PATH_LEN));
  process->exec_ns = time_ns;
  process->forked = false;
  // Facts that were asked for by an earlier sight may be of this program already; only newer ones are trusted.
  process->has_facts = false;
  process->exec_pending = true;
  process->asked = 0;
  if (process->service == ServiceId::None) {
    ServiceId id = service_of(event.ppid);
    if (const auto found = by_cgroup_.find(event.task.cgroup_id); found != by_cgroup_.end()) id = found->second;
    if (Service* service = find(id); service != nullptr) {
      assign(*process, service);
      ++service->starts;
    }
  }
  ask(*process);
}

void Directory::on_facts(std::uint32_t pid, const ProcessFacts& facts) {
  if (facts.gone) {
    // An exit record comes by itself; a process whose exit we missed goes here.
    if (Process* process = find(pid); process != nullptr && now_ns_ - process->exec_ns > 2'000'000'000) remove(pid, now_ns_);
    return;
  }
  if (const auto over = ended_.find(pid); over != ended_.end() && same_start(over->second.start_ns, start_of(facts.start_time_ns))) return;
  Process* process = add(pid, start_of(facts.start_time_ns));
  if (process == nullptr) return;
  const bool first = !process->has_facts;
  process->facts = facts;
  if (process->facts.script.empty()) process->facts.script = script_of(facts.exe, facts.cmdline);
  process->has_facts = true;
  process->facts_ns = now_ns_;
  process->asked = 0;
  if (facts.ppid != 0) process->ppid = facts.ppid;
  if (!facts.comm.empty()) process->comm = facts.comm;
  if (facts.state != 0 && facts.state != process->facts.state) process->facts.state = facts.state;
  if (facts.state != 0) process->stopped = facts.state == 'T' || facts.state == 't';
  const ServiceName name = name_of(*process);
  Service* service = name.by == NamedBy::Nothing ? nullptr : open_service(name, *process);
  const bool moved = service != nullptr && service->id != process->service;
  if (service != nullptr) {
    const bool counted = process->service != ServiceId::None;
    assign(*process, service);
    if (moved && !counted && process->newcomer) ++service->starts;
    if (service->cgroup.empty()) {
      service->cgroup = facts.cgroup;
      service->cgroup_memory_v1 = facts.cgroup_memory_v1;
    }
    // A cgroup of its own names the service of children that live too shortly for facts.
    const bool own_v2 = named(service->by) && facts.cgroup.size() > 1 && facts.cgroup_id != 0;
    if (own_v2 && by_cgroup_.size() < 4 * options_.limits.services) by_cgroup_[facts.cgroup_id] = service->id;
  }
  if (process->exec_pending && first) {
    process->exec_pending = false;
    if (service != nullptr && service->significant) {
      if (stream::Event* event = kernel_event(process->exec_ns, "process.exec", pid, service->id, process->comm, kExecsPerSecond)) {
        event->severity = stream::kDebug;
        event->attributes.emplace_back("process.executable.path", facts.exe);
        if (!facts.script.empty()) event->attributes.emplace_back("process.script", process->facts.script);
        submit(event);
      }
    }
  }
  update_watch(*process);
}

void Directory::assign(Process& process, Service* service) {
  const ServiceId id = service == nullptr ? ServiceId::None : service->id;
  if (process.service == id) return;
  ++epoch_;
  if (Service* old = find(process.service); old != nullptr) {
    old->pids.erase(process.pid);
    if (old->listener_pid == process.pid) old->listener_pid = 0;
    if (old->pids.empty()) {
      ended(*old, now_ns_);
    } else if (old->main_pid == process.pid) {
      choose_main(*old);
    }
  }
  process.service = id;
  if (service == nullptr) return;
  service->pids.insert(process.pid);
  service->seen_ns = now_ns_;
  if (!service->alive) began(*service, process);
  if (service->main_pid == 0) choose_main(*service);
  if (service->watch_whole) update_watch(process);
}

// Two cgroups may end in the same name ("/a/shop", "/b/shop"): they are two services. The watched one has the plain
// name, else the one that was there first.
Service* Directory::open_service(const ServiceName& name, const Process& process) {
  if (name.by != NamedBy::Cgroup || name.path.empty()) return open_service(name);
  if (const auto known = by_path_.find(name.path); known != by_path_.end()) {
    if (Service* service = find(known->second); service != nullptr) return service;
  }
  Service* holder = nullptr;
  if (const auto found = by_name_.find(name.name); found != by_name_.end()) holder = find(found->second);
  ServiceName wanted = name;
  if (holder != nullptr && holder->by == NamedBy::Cgroup && holder->path != name.path) {
    if (!holder->alive) {
      by_path_.erase(holder->path);  // it moved: deployed anew into another cgroup
      holder->cgroup.clear();
      holder->cgroup_memory_v1.clear();
    } else if (!holder->watched && watch_of(process, nullptr, name.name) != nullptr) {
      rename(*holder, qualified_name(holder->name, holder->path));
    } else {
      wanted.name = qualified_name(name.name, name.path);
    }
  }
  Service* service = open_service(wanted);
  if (service != nullptr && service->by == NamedBy::Cgroup) {
    service->path = name.path;
    by_path_[name.path] = service->id;
  }
  return service;
}

void Directory::rename(Service& service, std::string name) {
  if (by_name_.contains(name)) return;
  renamed_.emplace_back(service.id, service.name);
  by_name_.erase(service.name);
  by_name_[name] = service.id;
  service.entity = "service:" + name;
  service.name = std::move(name);
  service.mask = {};
  service.endpoints.clear();
  ++epoch_;
}

Service* Directory::open_service(const ServiceName& name) {
  if (const auto found = by_name_.find(name.name); found != by_name_.end()) {
    Service* service = find(found->second);
    if (service != nullptr) {
      if (named(name.by) && !named(service->by)) {
        service->by = name.by;
        become_significant(*service);
      }
      return service;
    }
  }
  if (services_.size() >= options_.limits.services) {
    ++stats_.services_refused;
    return nullptr;
  }
  auto service = std::make_unique<Service>();
  service->id = ServiceId{next_id_++};
  service->name = name.name;
  service->entity = "service:" + name.name;
  service->by = name.by;
  service->started_ns = service->seen_ns = now_ns_;
  by_name_[name.name] = service->id;
  Service* added = service.get();
  services_.emplace(added->id, std::move(service));
  return added;
}

ServiceName Directory::name_of(const Process& process) {
  const Service* now = find(process.service);
  std::vector<std::uint16_t> ports;
  if (now != nullptr) ports.assign(now->ports.begin(), now->ports.end());
  const Candidate candidate{process.pid, &process.facts, now == nullptr ? std::string_view() : now->name, ports};
  for (const ServiceRule& rule : options_.service_rules) {
    if (matches(rule.match, candidate)) return {rule.name, NamedBy::Rule};
  }
  return name_of_process(process.facts, options_.ignored_cgroups);
}

void Directory::ask(Process& process) {
  process.asked_ns = now_ns_;
  ++process.asked;
  output_.sink().want_facts(process.pid);
}

const Match* Directory::watch_of(const Process& process, const Service* service, std::string_view name) const {
  if (!process.has_facts || process.facts.exe.empty()) return nullptr;
  std::vector<std::uint16_t> ports;
  if (service != nullptr) ports.assign(service->ports.begin(), service->ports.end());
  const Candidate candidate{process.pid, &process.facts, name, ports};
  for (const Match& match : options_.watch) {
    if (matches(match, candidate)) return &match;
  }
  return nullptr;
}

void Directory::update_watch(Process& process) {
  if (process.pid == options_.own_pid || process.pid == options_.sensor_pid) return;
  Service* service = find(process.service);
  bool watch = process.watched_self || (service != nullptr && service->watch_whole);
  if (options_.watch_all && process.has_facts && !process.facts.exe.empty()) watch = true;
  if (!options_.watch.empty()) {
    if (const Match* match = watch_of(process, service, service == nullptr ? std::string_view() : service->name); match != nullptr) {
      watch = true;
      if (match->pid != 0) {
        process.watched_self = true;
      } else if (service != nullptr && !service->watch_whole && (!match->service.empty() || !match->unit.empty() || match->port != 0)) {
        service->watch_whole = true;
        update_watch(*service);
      }
    }
  }
  if (watch && service != nullptr) service->watched = true;
  const unsigned flags = watch ? kWatchPayload | kWatchLogs : 0;
  if (flags == process.watched) return;
  process.watched = flags;
  output_.sink().want_watch(process.pid, flags);
}

void Directory::update_watch(Service& service) {
  for (const std::uint32_t pid : service.pids) {
    if (Process* process = find(pid); process != nullptr) update_watch(*process);
  }
}

void Directory::listens(std::uint32_t pid, std::uint16_t port) {
  Process* process = find(pid);
  if (process == nullptr) return;
  Service* service = find(process->service);
  if (service == nullptr) return;
  const bool new_port = service->ports.size() < 256 && service->ports.insert(port).second;
  if (service->listener_pid != pid) {
    const Process* old = find(service->listener_pid);
    if (old == nullptr || old->service != service->id) {
      const bool again = service->listener_exit_ns != 0 && service->announced && process->start_ns >= service->listener_exit_ns &&
                         service->started_ns < service->listener_exit_ns;
      if (again) {
        change(process->start_ns, *service, "service.restart", process, {});
        service->started_ns = process->start_ns;
      }
      service->listener_pid = pid;
      service->listener_exit_ns = 0;
    }
  }
  choose_main(*service);
  become_significant(*service);
  if (new_port) {
    for (const ServiceRule& rule : options_.service_rules) {
      if (rule.match.port != port) continue;
      if (Service* better = open_service(name_of(*process), *process); better != nullptr && better != service) {
        assign(*process, better);
        better->ports.insert(port);
        become_significant(*better);
      }
      break;
    }
    update_watch(*process);
  }
}

void Directory::listens_no_more(ServiceId id, std::uint16_t port) {
  if (Service* service = find(id); service != nullptr) service->ports.erase(port);
}

}  // namespace culprit::track
