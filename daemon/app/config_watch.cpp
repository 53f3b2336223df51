#include "daemon/app/config_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "daemon/base/fd.h"
#include "daemon/base/log.h"

namespace culprit::app {

ConfigLook::ConfigLook(std::vector<std::string> targets, std::shared_ptr<const rules::PolicySet> policies) : targets_(std::move(targets)), policies_(std::move(policies)) {}

void ConfigLook::look_at(const std::filesystem::path& file, const std::string& given, std::int64_t now_ns, std::map<std::string, Known>& seen, std::vector<stream::Event>& events) {
  struct stat status {};
  if (seen.size() >= kConfigFilesMax || ::stat(file.c_str(), &status) != 0) return;
  Known now{.size = static_cast<std::uint64_t>(status.st_size), .inode = status.st_ino, .written_ns = status.st_mtim.tv_sec * kNsPerSecond + status.st_mtim.tv_nsec};
  const auto before = known_.find(file.string());
  if (before != known_.end() && before->second == now) {
    seen.insert(*before);
    return;
  }
  const auto findings = rules::check_file(*policies_, file);
  if (findings) {
    now.findings = *findings;
    told_.erase(file.string());
  } else {
    // Half written, or broken: what was known stays until it can be read again.
    if (before != known_.end()) now.findings = before->second.findings;
    std::string& told = told_[file.string()];
    if (told != findings.error().message) log::warn("policies: {}; the file is looked at again when it changes", findings.error().message);
    told = findings.error().message;
  }
  if (!first_) {
    std::string service = given;
    if (service.empty() && file.extension() == ".service") service = file.stem().string();
    if (service.empty()) service = file.parent_path().filename().string();
    stream::Event event{.time_ns = now_ns, .kind = stream::Kind::Change, .entity = "service:" + service, .name = "config.write"};
    event.attributes = {{"service", service}, {"file.path", file.string()}};
    event.body = fmt::format("{} was {}", file.string(), before == known_.end() ? "made" : "written");
    events.push_back(event);
    for (const rules::PolicyFinding& finding : now.findings) {
      const auto same = [&finding](const rules::PolicyFinding& other) { return other.policy == finding.policy && other.message == finding.message; };
      if (before != known_.end() && std::ranges::any_of(before->second.findings, same)) continue;
      stream::Event violation = event;
      violation.name = "config.violation";
      violation.severity = finding.severity == rules::Severity::Error ? stream::kError : finding.severity == rules::Severity::Warning ? stream::kWarn : stream::kInfo;
      violation.attributes.emplace_back("policy", finding.policy);
      violation.attributes.emplace_back("line", std::to_string(finding.line));
      violation.body = fmt::format("{}:{} began to violate policy {}: {}", finding.file, finding.line, finding.policy, finding.message);
      events.push_back(std::move(violation));
    }
  }
  seen.insert_or_assign(file.string(), std::move(now));
}

std::vector<stream::Event> ConfigLook::look(std::int64_t now_ns) {
  std::vector<stream::Event> events;
  std::map<std::string, Known> seen;
  for (const std::string& target : targets_) {
    const auto equals = target.find('=');
    const std::string service = equals == std::string::npos ? "" : target.substr(0, equals);
    const std::filesystem::path path = equals == std::string::npos ? target : target.substr(equals + 1);
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    if (const auto files = rules::config_files(path)) {
      for (const auto& file : *files) look_at(file, service, now_ns, seen, events);
    }
  }
  known_ = std::move(seen);
  first_ = false;
  return events;
}

struct ConfigWatch::Impl {
  Fd wake;
  std::jthread thread;
};

ConfigWatch::ConfigWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::unique_ptr<ConfigWatch> ConfigWatch::start(std::vector<std::string> targets, std::shared_ptr<const rules::PolicySet> policies, const Clock& clock, Sink sink) {
  auto impl = std::make_unique<Impl>();
  impl->wake = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const int wake = impl->wake.get();
  impl->thread = std::jthread([look = ConfigLook(std::move(targets), std::move(policies)), &clock, sink = std::move(sink), wake](const std::stop_token& stop) mutable {
    ::pthread_setname_np(::pthread_self(), "policies");
    while (!stop.stop_requested()) {
      auto events = look.look(clock.now_ns());
      for (const stream::Event& event : events) {
        if (event.name == "config.violation") log::warn("{}", event.body);
      }
      if (!events.empty()) sink(std::move(events));
      pollfd wait{.fd = wake, .events = POLLIN, .revents = 0};
      ::poll(&wait, 1, static_cast<int>(kConfigEveryNs / kNsPerMs));
    }
  });
  return std::unique_ptr<ConfigWatch>(new ConfigWatch(std::move(impl)));
}

ConfigWatch::~ConfigWatch() {
  impl_->thread.request_stop();
  const std::uint64_t one = 1;
  (void)!::write(impl_->wake.get(), &one, sizeof(one));
}

}  // namespace culprit::app
