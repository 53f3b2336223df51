// Directory, second part: the life of services, and what of it a person should hear.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/track/directory.h"

namespace culprit::track {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kSettledNs = kSecond;             // a program that ran this long is no mere launcher
constexpr std::int64_t kEndedForNs = 10 * kSecond;       // nothing about a process comes later than this after its end
constexpr std::int64_t kNewcomerNs = 2 * kSecond;        // a busy or connected newcomer is told after
constexpr std::int64_t kNewcomerIdleNs = 30 * kSecond;   // an idle one
constexpr std::int64_t kNewcomerForgetNs = 120 * kSecond;
constexpr std::size_t kNewcomersPerSecond = 20;
constexpr double kBusyCores = 0.2;
constexpr double kBusyDiskBytes = 4e6;  // per second

bool same_file(const FileIdentity& a, const FileIdentity& b) {
  if (a.inode == 0 || b.inode == 0) return true;  // not known is not changed
  // Inode and device differ between layers of a container image that hold the same file.
  return a.size == b.size && a.mtime_ns == b.mtime_ns;
}

std::string describe(const std::string& path, const FileIdentity& identity) {
  std::string text = sanitize_utf8(path);
  if (identity.inode == 0) return text;
  return fmt::format("{} ({} bytes, modified {})", text, identity.size, format_wall(identity.mtime_ns));
}

// Values of arguments that look like secrets are not for storage.
std::string without_secrets(const std::string& release) {
  std::string out;
  std::size_t at = 0;
  bool hide_next = false;
  while (at < release.size()) {
    const std::size_t end = std::min(release.find(' ', at), release.size());
    std::string word = release.substr(at, end - at);
    std::string lower = word;
    std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const bool secret = lower.find("passw") != std::string::npos || lower.find("secret") != std::string::npos ||
                        lower.find("token") != std::string::npos || lower.find("apikey") != std::string::npos ||
                        lower.find("api-key") != std::string::npos || lower.find("://") != std::string::npos;
    const auto equals = word.find('=');
    if (hide_next && !word.starts_with('-')) {
      word = "***";
    } else if (secret) {
      word = equals == std::string::npos ? (lower.find("://") != std::string::npos ? "***" : word) : word.substr(0, equals + 1) + "***";
    }
    hide_next = secret && equals == std::string::npos;
    if (!out.empty()) out += ' ';
    out += word;
    at = end + 1;
  }
  return sanitize_utf8(std::string_view(out).substr(0, 300));
}

}  // namespace

bool Directory::busy(const Usage& usage) const {
  return usage.cpu >= kBusyCores || usage.read_bytes + usage.write_bytes >= kBusyDiskBytes;
}

void Directory::change(std::int64_t time_ns, Service& service, std::string_view name, const Process* process,
                       const stream::Attributes& attributes) {
  stream::Event event;
  event.time_ns = time_ns > 0 ? time_ns : now_ns_;  // 0: the start of a process that nobody told us
  event.kind = stream::Kind::Change;
  event.severity = stream::kInfo;
  event.entity = service.entity;
  event.name = name;
  event.attributes.emplace_back("service", service.name);
  if (process != nullptr) {
    event.attributes.emplace_back("process.pid", std::to_string(process->pid));
    event.attributes.emplace_back("process.command", sanitize_utf8(process->comm));
    if (process->has_facts) {
      event.attributes.emplace_back("process.executable.path", sanitize_utf8(process->facts.exe));
      if (!process->facts.script.empty()) event.attributes.emplace_back("process.script", sanitize_utf8(process->facts.script));
    }
  }
  event.attributes.append(attributes);
  output_.add(std::move(event));
}

void Directory::began(Service& service, const Process& process) {
  service.alive = true;
  const std::int64_t start_ns = process.start_ns == 0 ? now_ns_ : process.start_ns;
  const bool again = service.announced && service.stopped_ns != 0;
  service.started_ns = start_ns;
  if (again && now_ns_ - service.stopped_ns <= options_.restart_memory_ns) {
    const double away_s = static_cast<double>(std::max<std::int64_t>(start_ns - service.stopped_ns, 0)) * 1e-9;
    change(start_ns, service, "service.restart", &process, {{"away", fmt::format("{:.3f}", away_s)}});
  } else if (!process.newcomer) {
    service.announced = true;  // it ran before we did: no news
  } else {
    service.announced = false;
  }
  if (named(service.by)) become_significant(service);
}

void Directory::become_significant(Service& service) {
  service.significant = true;
  if (service.announced || !service.alive) return;
  service.announced = true;
  const Process* main = find(service.main_pid != 0 ? service.main_pid : (service.pids.empty() ? 0 : *service.pids.begin()));
  change(service.started_ns, service, "service.start", main, {});
}

void Directory::ended(Service& service, std::int64_t time_ns) {
  service.alive = false;
  service.main_pid = 0;
  if (service.listener_pid != 0) service.listener_exit_ns = 0;  // the restart of the whole service says it
  service.listener_pid = 0;
  service.stopped_ns = time_ns;
  if (service.significant && service.announced) change(time_ns, service, "service.stop", nullptr, {});
}

void Directory::choose_main(Service& service) {
  const Process* best = nullptr;
  if (const Process* listener = find(service.listener_pid); listener != nullptr && listener->service == service.id) {
    best = listener;
  } else {
    for (const std::uint32_t pid : service.pids) {
      const Process* process = find(pid);
      if (process == nullptr) continue;
      if (best == nullptr || process->start_ns < best->start_ns) best = process;
    }
  }
  service.main_pid = best == nullptr ? 0 : best->pid;
}

// A service whose main process runs another program than the one before has got a new version. Launchers
// (a shell that execs the program) do not count: the program must have run for a moment.
void Directory::check_program(Service& service) {
  const Process* main = find(service.main_pid);
  if (main == nullptr || !main->has_facts || main->facts.exe.empty()) return;
  const bool listens = service.listener_pid == main->pid;
  if (!listens && now_ns_ - main->exec_ns < kSettledNs) return;
  if (service.program_listens && !listens) return;  // a supervisor is no other version of what it supervises
  Program program{main->facts.exe, main->facts.script, release_of_cmdline(main->facts), main->facts.exe_identity,
                  main->facts.script_identity};
  if (service.program && (!listens || service.program_listens)) {
    const Program& old = *service.program;
    const char* what = nullptr;
    std::string from, to;
    if (base_name(old.exe) != base_name(program.exe) || !same_file(old.exe_identity, program.exe_identity)) {
      what = "executable";
      from = describe(old.exe, old.exe_identity);
      to = describe(program.exe, program.exe_identity);
    } else if (old.script != program.script || !same_file(old.script_identity, program.script_identity)) {
      what = "script";
      from = describe(old.script, old.script_identity);
      to = describe(program.script, program.script_identity);
    } else if (old.release != program.release) {
      what = "arguments";
      from = without_secrets(old.release);
      to = without_secrets(program.release);
    }
    if (what != nullptr && service.significant) {
      change(std::max(main->exec_ns, main->start_ns), service, "service.version", main,
             {{"what", what}, {"old", std::move(from)}, {"new", std::move(to)}});
    }
  }
  service.program = std::move(program);
  service.program_listens = listens;
}

void Directory::tick() {
  for (auto& [pid, process] : processes_) {
    Service* service = find(process->service);
    if (service == nullptr) continue;
    service->seen_ns = now_ns_;
    if (service->significant) continue;
    const bool lasting = process->start_ns != 0 && now_ns_ - process->start_ns >= options_.long_lived_ns;
    if (lasting || busy(process->usage)) become_significant(*service);
  }
  for (auto found = services_.begin(); found != services_.end();) {
    Service& service = *found->second;
    if (service.alive) {
      check_program(service);
    } else {
      const std::int64_t keep_ns = service.significant ? options_.restart_memory_ns : kSecond;
      if (now_ns_ - std::max(service.stopped_ns, service.seen_ns) > keep_ns) {
        std::erase_if(by_cgroup_, [&](const auto& entry) { return entry.second == service.id; });
        std::erase_if(by_path_, [&](const auto& entry) { return entry.second == service.id; });
        by_name_.erase(service.name);
        found = services_.erase(found);
        continue;
      }
    }
    ++found;
  }
  std::erase_if(ended_, [&](const auto& entry) { return now_ns_ - entry.second.ended_ns > kEndedForNs; });
  newcomers();
  questions();
}

void Directory::newcomers() {
  for (auto& [pid, process] : processes_) {
    if (!process->newcomer || process->announced || process->service == ServiceId::None || !process->has_facts) continue;
    const std::int64_t age_ns = now_ns_ - process->start_ns;
    if (age_ns < kNewcomerNs) continue;
    const Process* parent = find(process->ppid);
    const bool worker = process->forked || (parent != nullptr && parent->service == process->service && parent->facts.exe == process->facts.exe);
    if (age_ns > kNewcomerForgetNs) process->announced = true;  // it is part of the furniture by now
    if (process->announced || worker) continue;
    if (!busy(process->usage) && !process->connects && age_ns < kNewcomerIdleNs) continue;
    if (!newcomer_limit_.allow(now_ns_, kNewcomersPerSecond)) {
      ++stats_.kernel_events_limited;
      continue;
    }
    process->announced = true;
    if (Service* service = find(process->service); service != nullptr) {
      change(process->start_ns, *service, "process.start", process.get(), {{"process.parent_pid", std::to_string(process->ppid)}});
    }
  }
}

// Asks again about processes whose facts are old, the interesting ones sooner, within a budget.
void Directory::questions() {
  std::vector<std::pair<std::int64_t, Process*>> due;  // how long overdue
  for (auto& [pid, process] : processes_) {
    std::int64_t period_ns = 30 * kSecond;
    const Service* service = find(process->service);
    if (!process->has_facts) {
      period_ns = process->asked <= 3 ? 2 * kSecond : 30 * kSecond;
    } else if (process->stopped) {
      period_ns = kSecond;
    } else if (service != nullptr && (service->watched || service->significant) && service->main_pid == pid) {
      period_ns = 2 * kSecond;
    } else if (process->facts.exe.empty()) {
      period_ns = 600 * kSecond;  // kernel threads
    } else if (service != nullptr && service->watched) {
      period_ns = 5 * kSecond;
    } else if (now_ns_ - process->exec_ns < 10 * kSecond) {
      period_ns = 4 * kSecond;  // it may have been moved to its cgroup after it began
    }
    const std::int64_t overdue_ns = now_ns_ - std::max(process->facts_ns, process->asked_ns) - period_ns;
    if (overdue_ns >= 0) due.emplace_back(overdue_ns, process.get());
  }
  const std::size_t count = std::min(due.size(), options_.limits.facts_per_second);
  std::ranges::partial_sort(due, due.begin() + static_cast<std::ptrdiff_t>(count), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second->pid < b.second->pid;
  });
  for (std::size_t i = 0; i < count; ++i) ask(*due[i].second);
}

}  // namespace culprit::track
