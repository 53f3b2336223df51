// The sensor as a whole: nothing is lost uncounted, the reader needs no rights, nothing of BPF stays behind.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "bpf/include/tables.h"
#include "daemon/sensor/privileges.h"
#include "tests/bpf/live.h"

namespace culprit::test {
namespace {

std::uint32_t tgid_of(const Child& child) { return static_cast<std::uint32_t>(child.pid()); }

// Writes lines to a /dev/null that is its standard output for `time`, then says how many.
std::function<int()> log_writer(milliseconds time, int result_fd) {
  return [=] {
    dup2(open("/dev/null", O_WRONLY), 1);
    const char line[100] = "a line";
    std::uint64_t count = 0;
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      for (int i = 0; i < 100; ++i) count += write(1, line, sizeof(line)) == static_cast<ssize_t>(sizeof(line));
    }
    return write(result_fd, &count, sizeof(count)) == sizeof(count) ? 0 : 1;
  };
}

// A watched child writes lines for some windows of the budget. How many; everything it left in the rings is read.
std::optional<std::uint64_t> flood(Live& live) {
  int results[2];
  std::uint64_t written = 0;
  if (pipe(results) != 0) return std::nullopt;
  Child child(log_writer(milliseconds(3500), results[1]));
  if (!live.watch(child.pid(), sensor::kCaptureLogs)) return std::nullopt;
  child.go();
  if (!live.find<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); }, milliseconds(30'000))) return std::nullopt;
  if (child.wait() != 0 || read(results[0], &written, sizeof(written)) != static_cast<ssize_t>(sizeof(written))) return std::nullopt;
  live.drain();
  return written;
}

void expect_conserved(const collect::CollectorCounts& counts) {
  for (std::uint32_t kind = 1; kind < CULPRIT_EVENT_KINDS; ++kind) {
    const auto& row = counts.kinds[kind];
    std::uint64_t dropped = 0;
    for (const std::uint64_t reason : row.dropped) dropped += reason;
    EXPECT_EQ(row.produced, row.received + dropped) << collect::kind_name(kind);
  }
  EXPECT_EQ(counts.malformed, 0U);
}

struct Load {
  const char* name;
  sensor::SensorSettings settings;
  culprit_drop expected;  // the reason that must have been counted
};

class ConservationTest : public testing::TestWithParam<Load> {};

// produced = received + dropped, exactly, for every kind, while far more is produced than fits.
TEST_P(ConservationTest, NothingIsLostUncounted) {
  REQUIRE_BPF();
  auto live = Live::start(GetParam().settings);
  ASSERT_TRUE(live);
  int results[2];
  ASSERT_EQ(pipe(results), 0);
  Child child(log_writer(milliseconds(1000), results[1]));
  ASSERT_TRUE(live->watch(child.pid(), sensor::kCaptureLogs));
  child.go();
  ASSERT_TRUE(live->find<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); },
                                             milliseconds(30'000)));
  EXPECT_EQ(child.wait(), 0);
  std::uint64_t written = 0;
  ASSERT_EQ(read(results[0], &written, sizeof(written)), static_cast<ssize_t>(sizeof(written)));
  // Other processes of the host never stop forking and connecting: stop the probes before the books are closed.
  kill(live->sensor_pid(), SIGKILL);
  live->until([&] { return !live->client().connected(); });
  collect::CollectorCounts counts;
  for (int i = 0; i < 50; ++i) {  // until the kernel has let go of the programs
    live->drain();
    counts = live->collector().counts();
    usleep(20'000);
  }
  const auto& logs = counts.kinds[CULPRIT_EVENT_LOG];
  printf("%s: %lu lines written, %lu received, %lu ring_full, %lu budget\n", GetParam().name, written, logs.received,
         logs.dropped[CULPRIT_DROP_RING_FULL], logs.dropped[CULPRIT_DROP_BUDGET]);
  EXPECT_EQ(logs.produced, written);
  EXPECT_GT(logs.received, 0U);
  EXPECT_GT(logs.dropped[GetParam().expected], 0U);
  expect_conserved(counts);
  // What was dropped was payload: the control ring lost nothing.
  EXPECT_EQ(counts.kinds[CULPRIT_EVENT_EXIT].dropped[CULPRIT_DROP_RING_FULL], 0U);
}

constexpr Load kLoads[] = {
    {"tiny rings", {.payload_records_per_cpu = 100'000'000, .data_ring_bytes = 4096}, CULPRIT_DROP_RING_FULL},
    {"small budget", {.payload_records_per_cpu = 1000}, CULPRIT_DROP_BUDGET},
};
INSTANTIATE_TEST_SUITE_P(Loads, ConservationTest, testing::ValuesIn(kLoads), [](const auto& test_info) {
  std::string name = test_info.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

// Of a flood that would spend a window's budget at once only a quarter of it is captured, also while calls are observed without a pause.
TEST(SensorTest, AFloodIsCapturedThinly) {
  REQUIRE_BPF();
  constexpr std::uint32_t kRecords = 1000;
  constexpr std::uint64_t kBudget = (std::uint64_t{kRecords} << CULPRIT_BUDGET_WINDOW_SHIFT) / 1'000'000'000;
  auto live = Live::start({.payload_records_per_cpu = kRecords});
  ASSERT_TRUE(live);
  ASSERT_TRUE(flood(*live));
  std::map<std::uint64_t, std::uint64_t> windows;  // records in each
  for (const auto* line : live->all<culprit_log_event>([](const auto&) { return true; })) {
    ++windows[line->header.time_ns >> CULPRIT_BUDGET_WINDOW_SHIFT];
  }
  ASSERT_GE(windows.size(), 4U);
  windows.erase(windows.begin());  // the flood began somewhere within it, and ended within the last
  windows.erase(std::prev(windows.end()));
  const auto fewest = std::ranges::min_element(windows, {}, &std::pair<const std::uint64_t, std::uint64_t>::second);
  EXPECT_GT(fewest->second, 0U);
  EXPECT_LT(fewest->second, kBudget * 3 / 4);  // of a CPU; the writer may have been on two
}

// Nothing else makes the sensor look meanwhile: no snapshot is due, and windows are rare.
TEST(SensorTest, ASpentBudgetWakesIt) {
  REQUIRE_BPF();
  auto live = Live::start({.payload_records_per_cpu = 1000, .snapshot_ms = 60'000, .calls_percent = 1});
  ASSERT_TRUE(live);
  const auto written = flood(*live);
  ASSERT_TRUE(written);
  EXPECT_GT(live->collector().counts().kinds[CULPRIT_EVENT_LOG].produced, 0U);
  EXPECT_LT(live->collector().counts().kinds[CULPRIT_EVENT_LOG].produced, *written / 10);
}

// A process with no rights at all maps the rings and reads them.
TEST(SensorTest, ReaderNeedsNoRights) {
  REQUIRE_BPF();
  setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
  auto spawned = sensor::spawn_sensor(CULPRIT_SENSOR, {});
  ASSERT_TRUE(spawned);
  const int socket = spawned->socket.get();
  Child reader([socket] {
    const auto account = sensor::find_account("nobody");
    if (!account || !sensor::drop_all(*account)) return 10;
    if (geteuid() == 0 || syscall(SYS_bpf, 0, nullptr, 0) != -1 || errno != EPERM) return 11;
    const SystemClock clock;
    std::unique_ptr<collect::Collector> collector;
    collect::SensorHandlers handlers;
    handlers.on_hello = [&](sensor::Hello hello, collect::RingFds fds) {
      if (auto opened = collect::Collector::open(hello.geometry, std::move(fds), clock)) collector = std::move(*opened);
    };
    auto client = collect::SensorClient::open(Fd(dup(socket)), std::move(handlers));
    close(socket);
    if (!client) return 12;
    collect::RecordBatch batch;
    for (int i = 0; i < 2000; ++i) {
      if (!(*client)->dispatch(milliseconds(5))) return 13;
      if (!collector) continue;
      if (const pid_t pid = fork(); pid == 0) _exit(0);
      while (waitpid(-1, nullptr, WNOHANG) > 0) {
      }
      if (!collector->poll(milliseconds(5), batch)) return 14;
      for (std::size_t k = 0; k < batch.size(); ++k) {
        const auto* event = collect::as<culprit_fork_event>(batch[k]);
        if (event != nullptr && event->task.tgid == static_cast<std::uint32_t>(getpid())) return 0;
      }
    }
    return 15;
  });
  spawned->socket.reset();
  reader.go();
  EXPECT_EQ(WEXITSTATUS(reader.wait()), 0);
  waitpid(spawned->pid, nullptr, 0);
}

// Program and map ids that a process holds.
std::vector<std::pair<char, std::uint32_t>> bpf_ids(pid_t pid) {
  std::vector<std::pair<char, std::uint32_t>> ids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fdinfo")) {
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("prog_id:")) ids.emplace_back('p', std::stoul(line.substr(8)));
      if (line.starts_with("map_id:")) ids.emplace_back('m', std::stoul(line.substr(7)));
      if (line.starts_with("link_id:")) ids.emplace_back('l', std::stoul(line.substr(8)));
    }
  }
  return ids;
}

bool exists(const std::pair<char, std::uint32_t>& id) {
  int fd = -1;
  if (id.first == 'p') fd = bpf_prog_get_fd_by_id(id.second);
  if (id.first == 'm') fd = bpf_map_get_fd_by_id(id.second);
  if (id.first == 'l') fd = bpf_link_get_fd_by_id(id.second);
  if (fd < 0) return false;
  close(fd);
  return true;
}

TEST(SensorTest, NothingStaysBehindAKilledSensor) {
  REQUIRE_BPF();
  auto live = Live::start();
  ASSERT_TRUE(live);
  const auto ids = bpf_ids(live->sensor_pid());
  ASSERT_GT(ids.size(), 30U);
  for (const auto& id : ids) EXPECT_TRUE(exists(id)) << id.first << id.second;
  kill(live->sensor_pid(), SIGKILL);
  EXPECT_TRUE(live->until([&] { return !live->client().connected(); }));
  live.reset();  // the reader lets go of the rings
  std::size_t left = ids.size();
  for (int i = 0; i < 250 && left > 0; ++i) {
    usleep(20'000);
    left = static_cast<std::size_t>(std::count_if(ids.begin(), ids.end(), exists));
  }
  EXPECT_EQ(left, 0U);
}

TEST(SensorTest, KeepsFewRights) {
  REQUIRE_BPF();
  auto live = Live::start();
  ASSERT_TRUE(live);
  std::ifstream file("/proc/" + std::to_string(live->sensor_pid()) + "/status");
  std::map<std::string, std::string> status;
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    const auto value = line.find_first_not_of(" \t", colon + 1);
    if (value != std::string::npos) status[line.substr(0, colon)] = line.substr(value);
  }
  // CAP_BPF CAP_PERFMON CAP_SYSLOG CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
  const std::uint64_t kept = 1ULL << 39 | 1ULL << 38 | 1ULL << 34 | 1ULL << 19 | 1ULL << 2;
  for (const char* set : {"CapEff", "CapPrm", "CapBnd"}) EXPECT_EQ(std::stoull(status[set], nullptr, 16), kept) << set;
  EXPECT_EQ(status["NoNewPrivs"], "1");
  EXPECT_EQ(status["Seccomp"], "2");
}

// Every question of the allow-list, asked of a real sensor about this process.
TEST(SensorTest, AnswersQuestions) {
  REQUIRE_BPF();
  auto live = Live::start();
  ASSERT_TRUE(live);
  auto& client = live->client();
  const auto self = static_cast<std::uint32_t>(getpid());
  int answered = 0;
  client.who_is(self, [&](Result<sensor::ProcessInfo> info) {
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_EQ(info->tgid, self);
    EXPECT_EQ(info->ppid, static_cast<std::uint32_t>(getppid()));
    EXPECT_EQ(info->comm, "bpf_test");
    EXPECT_EQ(info->exe, std::filesystem::read_symlink("/proc/self/exe"));
    EXPECT_EQ(info->cwd, std::filesystem::current_path());
    EXPECT_GT(info->fds, 3U);
    EXPECT_GT(info->fd_limit, 0U);
    EXPECT_GT(info->rss_bytes, 1U << 20);
    EXPECT_GT(info->start_time_ns, 0);
    EXPECT_LT(info->start_time_ns, SystemClock().now_ns());
    EXPECT_NE(info->exe_inode, 0U);
    EXPECT_NE(info->cgroup, "");
    EXPECT_NE(info->cgroup_id, 0U);
    ++answered;
  });
  client.who_is(0x7ffffff0, [&](Result<sensor::ProcessInfo> info) {
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code, Code::NotFound);
    ++answered;
  });
  const int file = open("/dev/null", O_RDONLY);
  client.fd_path(self, file, [&](Result<std::string> path) {
    EXPECT_EQ(path.value_or("?"), "/dev/null");
    ++answered;
  });
  client.list_processes([&](Result<std::vector<sensor::ProcessRow>> rows) {
    ASSERT_TRUE(rows);
    EXPECT_TRUE(std::any_of(rows->begin(), rows->end(), [&](const auto& row) { return row.tgid == self && row.comm == "bpf_test"; }));
    ++answered;
  });
  client.list_sockets(self, [&](Result<std::vector<sensor::SocketOwner>> owners) {
    ASSERT_TRUE(owners);
    EXPECT_FALSE(owners->empty());
    for (const auto& owner : *owners) EXPECT_EQ(owner.tgid, self);
    ++answered;
  });
  client.filesystem_spaces([&](Result<std::vector<sensor::FilesystemSpace>> spaces) {
    ASSERT_TRUE(spaces);
    const auto root = std::find_if(spaces->begin(), spaces->end(), [](const auto& s) { return s.mount_point == "/"; });
    ASSERT_NE(root, spaces->end());
    EXPECT_GT(root->total_bytes, root->available_bytes);
    ++answered;
  });
  client.watch_tgid(0x7ffffff0, sensor::kCaptureLogs, [&](Result<void> result) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::NotFound);
    ++answered;
  });
  client.watch_tgid(self, 64, [&](Result<void> result) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::Invalid);
    ++answered;
  });
  client.watch_cgroup("/../etc", sensor::kCaptureLogs, [&](Result<void> result) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::Invalid);
    ++answered;
  });
  client.read_cgroup("/no-such-cgroup", [&](Result<sensor::CgroupLimits> limits) {
    ASSERT_FALSE(limits);
    EXPECT_EQ(limits.error().code, Code::NotFound);
    ++answered;
  });
  EXPECT_TRUE(live->until([&] { return answered == 10; }));
  close(file);
}

// A process that enters a watched cgroup and then runs a program is watched, and so are those already in it.
TEST(SensorTest, WatchedCgroup) {
  REQUIRE_BPF();
  const char* root = access("/sys/fs/cgroup/unified/cgroup.procs", W_OK) == 0 ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
  if (access((std::string(root) + "/cgroup.controllers").c_str(), F_OK) != 0) GTEST_SKIP() << "no cgroup v2";
  const std::string name = "/culprit-watch-" + std::to_string(getpid());
  const std::string folder = root + name;
  ASSERT_EQ(mkdir(folder.c_str(), 0755), 0);
  {
    auto live = Live::start();
    ASSERT_TRUE(live);
    Child member([] {
      dup2(open("/dev/null", O_WRONLY), 1);
      char line[] = "member\n";  // /dev/null reads nothing: a literal's page may never have been touched
      return write(1, line, 7) == 7 ? 0 : 1;
    });
    std::ofstream(folder + "/cgroup.procs") << member.pid();
    std::optional<Result<void>> answer;
    live->client().watch_cgroup(name, sensor::kCaptureLogs, [&](Result<void> result) { answer = std::move(result); });
    ASSERT_TRUE(live->until([&] { return answer.has_value(); }));
    ASSERT_TRUE(*answer) << answer->error().message;
    Child later([] {
      execl("/bin/sh", "sh", "-c", "echo newcomer >/dev/null", nullptr);
      return 1;
    });
    std::ofstream(folder + "/cgroup.procs") << later.pid();
    member.go();
    later.go();
    member.wait();
    later.wait();
    EXPECT_TRUE(live->find<culprit_log_event>([](const auto& e) { return collect::line_of(e) == "member\n"; }));
    EXPECT_TRUE(live->find<culprit_log_event>([](const auto& e) { return collect::line_of(e) == "newcomer\n"; }));
  }
  EXPECT_EQ(rmdir(folder.c_str()), 0);
}

}  // namespace
}  // namespace culprit::test
