// Directory, third part: kernel events about the life of processes.
#include <csignal>
#include <cstring>

#include "daemon/base/text.h"
#include "daemon/track/directory.h"

namespace culprit::track {

namespace {

// /proc gives the start of a process in clock ticks of 10 ms.
constexpr std::int64_t kStartToleranceNs = 25'000'000;

constexpr std::size_t kSmallFryPerSecond = 3;

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name == nullptr ? "SIG" + std::to_string(signal) : "SIG" + std::string(name);
}

std::string comm_of(const char* comm) { return sanitize_utf8(std::string_view(comm, strnlen(comm, CULPRIT_COMM_LEN))); }

bool asked_to_end(int signal) { return signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGPIPE || signal == SIGQUIT; }
bool stops(int signal) { return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU; }

}  // namespace

stream::Event* Directory::kernel_event(std::int64_t time_ns, std::string_view name, std::uint32_t pid, ServiceId id,
                                       std::string_view comm, std::size_t limit) {
  Service* service = find(id);
  auto& limits = service == nullptr ? other_limits_ : service->event_limits;
  auto found = limits.find(name);
  if (found == limits.end()) found = limits.emplace(std::string(name), RateLimit{}).first;  // names are few
  if (!found->second.allow(time_ns, limit != 0 ? limit : options_.limits.kernel_events_per_second)) {
    ++stats_.kernel_events_limited;
    return nullptr;
  }
  event_ = {};
  event_.time_ns = time_ns;
  event_.kind = stream::Kind::Kernel;
  event_.severity = stream::kInfo;
  event_.name = name;
  event_.value = 1;
  event_.entity = service != nullptr ? service->entity : pid != 0 ? "process:" + std::to_string(pid) : std::string("host");
  if (service != nullptr) event_.attributes.emplace_back("service", service->name);
  if (pid != 0) event_.attributes.emplace_back("process.pid", std::to_string(pid));
  if (!comm.empty()) event_.attributes.emplace_back("process.command", sanitize_utf8(comm));
  return &event_;
}

void Directory::submit(stream::Event* event) { output_.add(std::move(*event)); }

void Directory::on_exit(const culprit_exit_event& event) {
  const std::uint32_t pid = event.task.tgid;
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  const auto start_ns = start_of(event.start_time_ns);
  Process* process = find(pid);
  if (process != nullptr && process->start_ns != 0 && start_ns > process->start_ns + kStartToleranceNs) {
    remove(pid, now_ns_);  // an earlier owner of the pid
    process = nullptr;
  } else if (process != nullptr && start_ns != 0 && process->start_ns > start_ns + kStartToleranceNs) {
    return;  // a late record of an earlier owner; the present one lives
  }
  const ServiceId id = process != nullptr && process->service != ServiceId::None
                           ? process->service
                           : service_of(event.ppid, event.task.cgroup_id);
  const int signal = static_cast<int>(event.exit_code & 0x7f);
  const int status = static_cast<int>((event.exit_code >> 8) & 0xff);
  const std::int64_t life_ns = start_ns == 0 ? 0 : time_ns - start_ns;
  if (Service* service = find(id); service != nullptr) {
    ++service->exits;
    if (signal != 0 || status != 0) ++service->crashes;
    const bool main = service->main_pid == pid;
    const bool lasting = life_ns >= options_.long_lived_ns;
    const bool killed = signal != 0 && !asked_to_end(signal);
    const bool tell = service->significant ? (signal != 0 || status != 0 || main || lasting) : killed;
    if (tell) {
      // Commands of scripts fail all the time: a few are enough, and they must not use up the places of others.
      const std::size_t limit = main || lasting || killed ? 0 : kSmallFryPerSecond;
      if (stream::Event* out = kernel_event(time_ns, "process.exit", pid, id, comm_of(event.task.comm), limit)) {
        out->severity = killed                     ? stream::kError
                        : signal != 0              ? stream::kInfo
                        : status != 0 && (main || lasting) ? stream::kError
                        : status != 0              ? stream::kInfo
                                                   : stream::kDebug;
        out->attributes.emplace_back("exit.code", std::to_string(status));
        if (signal != 0) out->attributes.emplace_back("exit.signal", signal_name(signal));
        if ((event.exit_code & 0x80) != 0) out->attributes.emplace_back("exit.core_dumped", "true");
        if (main) out->attributes.emplace_back("process.main", "true");
        out->attributes.emplace_back("process.lifetime", std::to_string(static_cast<double>(life_ns) * 1e-9));
        submit(out);
      }
    }
  }
  if (process != nullptr) remove(pid, time_ns);
}

void Directory::on_oom(const culprit_oom_event& event) {
  const ServiceId id = service_of(event.victim_tgid, event.victim_cgroup_id);
  std::string victim = comm_of(event.victim_comm);
  // Kernels before 6.10 name a victim other than the allocating process by its pid alone.
  if (const Process* process = find(event.victim_tgid); victim.empty() && process != nullptr) victim = process->comm;
  stream::Event* out = kernel_event(static_cast<std::int64_t>(event.header.time_ns), "process.oom_kill", event.victim_tgid, id, victim);
  if (out == nullptr) return;
  out->severity = stream::kFatal;
  out->value = static_cast<double>(event.anon_rss_bytes + event.file_rss_bytes);
  out->attributes.emplace_back("victim.comm", victim);
  if (const Service* service = find(id); service != nullptr && service->memory_limit_bytes > 0) {
    out->attributes.emplace_back("memory.limit", std::to_string(service->memory_limit_bytes));
  }
  out->attributes.emplace_back("victim.rss", std::to_string(event.anon_rss_bytes + event.file_rss_bytes));
  out->attributes.emplace_back("allocator.pid", std::to_string(event.task.tgid));
  out->attributes.emplace_back("allocator.comm", comm_of(event.task.comm));
  submit(out);
}

void Directory::on_signal(const culprit_signal_event& event) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  const int signal = event.signal;
  Process* target = find(event.target_tgid);
  if (target != nullptr) {
    if (stops(signal)) {
      target->stopped = true;
      target->stopped_ns = time_ns;
      target->asked_ns = time_ns;  // /proc shows the same in a moment
    } else if (signal == SIGCONT) {
      target->stopped = false;
    }
  }
  const ServiceId id = service_of(event.target_tgid);
  const Service* service = find(id);
  const bool own = service != nullptr && event.task.tgid != 0 && service_of(event.task.tgid) == id;
  const bool tell = service != nullptr && service->significant;
  if (!tell) return;
  stream::Event* out = kernel_event(time_ns, "process.signal", event.target_tgid, id, comm_of(event.target_comm));
  if (out == nullptr) return;
  const bool harmless = own || signal == SIGCONT || signal == SIGHUP || signal == SIGPIPE || signal == SIGWINCH;
  out->severity = harmless ? (own ? stream::kDebug : stream::kInfo)
                  : signal == SIGTERM || signal == SIGINT ? stream::kWarn
                                                          : stream::kError;
  out->attributes.emplace_back("signal", signal_name(signal));
  out->attributes.emplace_back("sender.pid", std::to_string(event.task.tgid));
  out->attributes.emplace_back("sender.comm", event.task.tgid == 0 ? std::string("kernel") : comm_of(event.task.comm));
  out->attributes.emplace_back("target.pid", std::to_string(event.target_tgid));
  submit(out);
}

}  // namespace culprit::track
