// culprit-sensor: the only part of Culprit with kernel rights. Loads the probes, hands their rings to the daemon
// over the socket it was started with, and answers questions from a fixed list. Reads nothing from outside.
// Started by culpritd; not meant to be run by hand.
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <string_view>

#include "daemon/base/log.h"
#include "daemon/sensor/privileges.h"
#include "daemon/sensor/service.h"

namespace {

using namespace culprit;
using namespace culprit::sensor;

constexpr int kExitUsage = 2;
constexpr int kExitDenied = 5;
constexpr int kExitInternal = 7;

// What stays after the programs are attached: reading maps (BPF), reading other processes' /proc (the rest).
constexpr int kKeptCapabilities[] = {CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_SYSLOG};

struct Start {
  int fd = -1;
  SensorSettings settings;
  std::vector<std::uint32_t> ignored;
};

bool parse(int argc, char** argv, Start& start) {
  SensorSettings& s = start.settings;
  std::uint32_t fd = 0;
  std::uint32_t pid = 0;
  const struct {
    std::string_view name;
    std::uint32_t* value;
  } numbers[] = {{"--fd", &fd},
                 {"--ignore", &pid},
                 {"--payload-budget", &s.payload_records_per_cpu},
                 {"--slow-ms", &s.slow_ms},
                 {"--control-ring-bytes", &s.control_ring_bytes},
                 {"--data-ring-bytes", &s.data_ring_bytes},
                 {"--rings-max", &s.rings_max},
                 {"--snapshot-ms", &s.snapshot_ms},
                 {"--calls-percent", &s.calls_percent}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--watch-all-payload") {
      s.watch_all_payload = true;
      continue;
    }
    if (word == "--watch-all-logs") {
      s.watch_all_logs = true;
      continue;
    }
    const auto* found = std::find_if(std::begin(numbers), std::end(numbers), [&](const auto& n) { return n.name == word; });
    if (found == std::end(numbers) || ++i == argc) return false;
    const std::string_view value = argv[i];
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *found->value);
    if (error != std::errc() || end != value.data() + value.size()) return false;
    if (word == "--fd") start.fd = static_cast<int>(fd);
    if (word == "--ignore" && start.ignored.size() < CULPRIT_IGNORED_MAX) start.ignored.push_back(pid);
  }
  struct stat status {};
  return start.fd >= 0 && fstat(start.fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

Result<void> run(const Start& start) {
  fcntl(start.fd, F_SETFD, FD_CLOEXEC);
  Fd socket(start.fd);
  const SystemClock clock;
  std::vector<std::uint32_t> ignored = start.ignored;
  if (ignored.size() < CULPRIT_IGNORED_MAX) ignored.push_back(static_cast<std::uint32_t>(getpid()));
  ASSIGN(const auto probes, Probes::open(start.settings, ignored));
  const Procfs procfs;
  Service service(std::move(socket), start.settings, *probes, procfs, clock);
  std::vector<std::string> notes;
  if (auto dropped = drop_to(kKeptCapabilities); !dropped) {
    notes.push_back("rights kept: " + dropped.error().message);
    log::warn("cannot give up rights: {}", dropped.error().message);
  }
  TRY(service.greet(std::move(notes)));
  return service.run();
}

}  // namespace

int main(int argc, char** argv) {
  log::set_program("culprit-sensor");
  Start start;
  if (!parse(argc, argv, start)) {
    log::error("culprit-sensor is started by culpritd, which gives it a socket with --fd; run culpritd instead");
    return kExitUsage;
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, SIG_IGN);  // the terminal's Ctrl-C is for the daemon; we end when it has ended
  if (auto done = run(start); !done) {
    // The daemon ending while it is spoken to is the ordinary end.
    if (done.error().code == Code::NotFound || done.error().message.find("Broken pipe") != std::string::npos) return 0;
    log::error("{}", done.error().message);
    return done.error().code == Code::Denied ? kExitDenied : kExitInternal;
  }
  return 0;
}
