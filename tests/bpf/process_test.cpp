// Process life, signals, OOM kills, scheduling, system call counts: do it, then assert every field.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/bpf/live.h"

namespace culprit::test {
namespace {

using collect::text_of;

std::uint32_t tgid_of(const Child& child) { return static_cast<std::uint32_t>(child.pid()); }

// cgroup v2 id of this process, as user space sees it.
std::uint64_t own_cgroup_id() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("0::")) continue;
    for (const char* mount : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      struct stat status {};
      if (access((std::string(mount) + "/cgroup.procs").c_str(), F_OK) == 0 &&
          stat((mount + line.substr(3)).c_str(), &status) == 0) {
        return status.st_ino;
      }
    }
  }
  return 0;
}

class ProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    REQUIRE_BPF();
    live_ = Live::start();
    ASSERT_TRUE(live_);
  }
  std::unique_ptr<Live> live_;
};

// A kernel of the supported range takes every program; the verifier's numbers are kept in the test's output.
TEST_F(ProcessTest, EveryProgramAttaches) {
  std::size_t attached = 0;
  for (const auto& program : live_->hello().programs) {
    printf("%-10s %-16s %6u instructions %s\n", program.family.c_str(), program.name.c_str(), program.instructions,
           program.reason.c_str());
    EXPECT_EQ(program.state, sensor::ProgramState::Attached) << program.name << ": " << program.reason;
    EXPECT_LE(program.name.size(), 15U);
    EXPECT_LT(program.instructions, 100'000U);
    ++attached;
  }
  EXPECT_GE(attached, 18U);
  for (const auto& note : live_->hello().notes) ADD_FAILURE() << note;
}

TEST_F(ProcessTest, ForkExecExit) {
  const std::int64_t before_ns = SystemClock().now_ns();
  Child child([] {
    execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
    return 1;
  });
  const auto* fork = live_->find<culprit_fork_event>([&](const auto& e) { return e.child_tgid == tgid_of(child); });
  ASSERT_TRUE(fork);
  EXPECT_EQ(fork->task.tgid, static_cast<std::uint32_t>(getpid()));
  EXPECT_EQ(fork->task.cgroup_id, own_cgroup_id());
  EXPECT_GE(fork->start_time_ns, static_cast<std::uint64_t>(before_ns));
  EXPECT_EQ(fork->reserved, 0U);
  child.go();
  EXPECT_EQ(WEXITSTATUS(child.wait()), 7);
  const auto* exec = live_->find<culprit_exec_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); });
  ASSERT_TRUE(exec);
  EXPECT_EQ(exec->header.kind, CULPRIT_EVENT_EXEC);
  EXPECT_EQ(exec->header.size, sizeof(*exec));
  EXPECT_LT(exec->header.cpu, live_->hello().geometry.cpus);
  EXPECT_EQ(exec->task.tid, tgid_of(child));
  EXPECT_EQ(exec->task.cgroup_id, own_cgroup_id());
  EXPECT_EQ(text_of(exec->task.comm), "sh");
  EXPECT_EQ(text_of(exec->filename), "/bin/sh");
  EXPECT_EQ(exec->ppid, static_cast<std::uint32_t>(getpid()));
  EXPECT_EQ(exec->uid, 0U);
  EXPECT_EQ(exec->start_time_ns, fork->start_time_ns);
  EXPECT_GE(exec->header.time_ns, fork->header.time_ns);
  const auto* exit = live_->find<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); });
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->exit_code, 7U << 8);
  EXPECT_EQ(exit->ppid, static_cast<std::uint32_t>(getpid()));
  EXPECT_EQ(exit->start_time_ns, fork->start_time_ns);
  EXPECT_EQ(text_of(exit->task.comm), "sh");
  EXPECT_EQ(live_->all<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); }).size(), 1U);
}

// One record at the end of a process, whichever thread ends last and however many there are.
TEST_F(ProcessTest, ExitOfManyThreadsIsOneRecord) {
  Child child([] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i) threads.emplace_back([] { usleep(1000); });
    for (auto& thread : threads) thread.detach();
    syscall(SYS_exit, 3);  // the leader goes first; the others after it
    return 0;
  });
  child.go();
  child.wait();
  ASSERT_TRUE(live_->find<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); }));
  live_->snapshots(2);
  EXPECT_EQ(live_->all<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); }).size(), 1U);
}

TEST_F(ProcessTest, SignalNamesItsSender) {
  Child child([] {
    while (true) pause();
    return 0;
  });
  child.go();
  const struct {
    int signal;
    bool reported;
  } cases[] = {{SIGUSR1, false}, {SIGSTOP, true}, {SIGCONT, true}, {SIGTERM, true}};
  signal(SIGUSR1, SIG_IGN);
  for (const auto& c : cases) {
    if (c.signal != SIGUSR1) child.kill(c.signal);
  }
  const int status = child.wait();
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  for (const auto& c : cases) {
    if (!c.reported) continue;
    SCOPED_TRACE(c.signal);
    const auto* event = live_->find<culprit_signal_event>(
        [&](const auto& e) { return e.target_tgid == tgid_of(child) && e.signal == c.signal; });
    ASSERT_TRUE(event);
    EXPECT_EQ(event->task.tgid, static_cast<std::uint32_t>(getpid()));
    EXPECT_EQ(event->task.tid, static_cast<std::uint32_t>(gettid()));
    EXPECT_EQ(text_of(event->target_comm), text_of(event->task.comm));
  }
  const auto* exit = live_->find<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); });
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->exit_code & 0x7f, static_cast<std::uint32_t>(SIGTERM));
}

// A fault is sent by the kernel (pid 0), not by the process that made it.
TEST_F(ProcessTest, FaultIsSentByTheKernel) {
  Child child([] {
    signal(SIGSEGV, SIG_DFL);
    return *static_cast<volatile int*>(reinterpret_cast<int*>(8));
  });
  child.go();
  child.wait();
  const auto* event = live_->find<culprit_signal_event>(
      [&](const auto& e) { return e.target_tgid == tgid_of(child) && e.signal == SIGSEGV; });
  ASSERT_TRUE(event);
  EXPECT_EQ(event->task.tgid, 0U);
}

TEST_F(ProcessTest, RunQueueAndCpuTime) {
  // Two that want the same CPU: each must wait for it about as long as it runs.
  const auto spin = [] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
    const auto end = std::chrono::steady_clock::now() + milliseconds(600);
    while (std::chrono::steady_clock::now() < end) {
    }
    return 0;
  };
  Child a(spin), b(spin);
  a.go();
  b.go();
  a.wait();
  b.wait();
  ASSERT_TRUE(live_->snapshots(2));
  for (const Child* child : {&a, &b}) {
    const auto* sample = live_->sched(tgid_of(*child));
    ASSERT_TRUE(sample);
    const auto& counts = sample->counts;
    EXPECT_GT(counts.on_cpu_ns, 50'000'000U);
    EXPECT_LT(counts.on_cpu_ns, 700'000'000U);
    EXPECT_GT(counts.run_queue_ns, 50'000'000U);
    EXPECT_GT(counts.run_queue_count, 0U);
    EXPECT_GT(counts.switches, 0U);
    EXPECT_EQ(counts.cgroup_id, own_cgroup_id());
    EXPECT_NE(text_of(counts.comm), "");
  }
}

// Threads that ended stay in their process's sums, and the sums of a process outlive it.
TEST_F(ProcessTest, ThreadsThatEndedStillCount) {
  Child child([] {
    for (int i = 0; i < 5; ++i) {
      std::thread([] {
        timespec used{};
        while (used.tv_sec == 0 && used.tv_nsec < 60'000'000) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
      }).join();
    }
    return 0;
  });
  child.go();
  EXPECT_EQ(child.wait(), 0);
  ASSERT_TRUE(live_->until([&] {
    const auto* sample = live_->sched(tgid_of(child));
    return sample != nullptr && sample->counts.on_cpu_ns >= 300'000'000U;
  }));
  EXPECT_LT(live_->sched(tgid_of(child))->counts.on_cpu_ns, 450'000'000U);
}

// vfork keeps its parent in uninterruptible sleep until the child is gone.
TEST_F(ProcessTest, BlockedTimeIsSampled) {
  Child child([] {
    if (vfork() == 0) {  // NOLINT(bugprone-unsafe-functions): what it does to its caller is what is tested
      usleep(1'500'000);
      _exit(0);
    }
    return 0;
  });
  child.go();
  child.wait();
  ASSERT_TRUE(live_->snapshots(2));
  const auto* sample = live_->sched(tgid_of(child));
  ASSERT_TRUE(sample);
  EXPECT_GT(sample->counts.blocked_ns, 1'000'000'000U);
  EXPECT_LT(sample->counts.blocked_ns, 2'500'000'000U);
  EXPECT_LT(sample->counts.on_cpu_ns, 300'000'000U);
}

TEST_F(ProcessTest, ErrorsAreCountedByErrno) {
  Child child([] {
    for (int i = 0; i < 1000; ++i) open("/nonexistent-culprit", O_RDONLY);
    for (int i = 0; i < 37; ++i) close(-1);
    const int full = open("/dev/full", O_WRONLY);
    for (int i = 0; i < 5; ++i) (void)!write(full, "x", 1);
    int pipes[2];
    if (pipe2(pipes, O_NONBLOCK) != 0) return 1;
    char byte = 0;
    for (int i = 0; i < 9; ++i) (void)!read(pipes[0], &byte, 1);  // EAGAIN is no failure
    return 0;
  });
  child.go();
  EXPECT_EQ(child.wait(), 0);
  ASSERT_TRUE(live_->until([&] { return live_->errors(tgid_of(child), SYS_write, ENOSPC) == 5; }));
  EXPECT_EQ(live_->errors(tgid_of(child), SYS_openat, ENOENT), 1000U);
  EXPECT_EQ(live_->errors(tgid_of(child), SYS_close, EBADF), 37U);
  EXPECT_EQ(live_->errors(tgid_of(child), SYS_read, EAGAIN), 0U);
}

TEST_F(ProcessTest, FsyncAndOpenAreTimed) {
  const auto file = std::filesystem::temp_directory_path() / ("culprit-fsync-" + std::to_string(getpid()));
  Child child([file] {
    const int fd = open(file.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    for (int i = 0; i < 20; ++i) {
      (void)!write(fd, "x", 1);
      if (fsync(fd) != 0) return 1;
    }
    for (int i = 0; i < 4; ++i) fdatasync(fd);
    for (int i = 0; i < 10; ++i) close(open("/dev/null", O_RDONLY));
    return 0;
  });
  child.go();
  EXPECT_EQ(child.wait(), 0);
  std::filesystem::remove(file);
  const struct {
    culprit_timed_call call;
    std::uint64_t count;
  } cases[] = {{CULPRIT_CALL_FSYNC, 20}, {CULPRIT_CALL_FDATASYNC, 4}, {CULPRIT_CALL_OPEN, 11}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.call);
    (void)live_->until([&] {
      const auto* latency = live_->timed(tgid_of(child), c.call);
      return latency != nullptr && latency->count >= c.count;
    });
    const auto* latency = live_->timed(tgid_of(child), c.call);
    ASSERT_NE(latency, nullptr);
    EXPECT_EQ(latency->count, c.count);
    EXPECT_GT(latency->sum_ns, 0U);
    EXPECT_GE(latency->max_ns, latency->sum_ns / latency->count);
    std::uint64_t sum = 0;
    for (const auto bucket : latency->buckets) sum += bucket;
    EXPECT_EQ(sum, c.count);
  }
}

// A memory cgroup too small for its process: the kernel names the victim, and so do we.
class OomTest : public ProcessTest {
 protected:
  void TearDown() override {
    if (!folder_.empty()) rmdir(folder_.c_str());
  }
  std::filesystem::path folder_;
};

TEST_F(OomTest, VictimOfASmallCgroup) {
  const std::string name = "culprit-oom-" + std::to_string(getpid());
  const char* limit = nullptr;
  if (access("/sys/fs/cgroup/memory/cgroup.procs", W_OK) == 0) {
    folder_ = "/sys/fs/cgroup/memory/" + name;
    limit = "memory.limit_in_bytes";
  } else if (access("/sys/fs/cgroup/cgroup.subtree_control", W_OK) == 0) {
    folder_ = "/sys/fs/cgroup/" + name;
    limit = "memory.max";
  }
  ASSERT_NE(limit, nullptr) << "no memory cgroup to test with";
  ASSERT_EQ(mkdir(folder_.c_str(), 0755), 0);
  std::ofstream(folder_ / limit) << "16777216";
  Child child([] {
    for (int i = 0; i < 64; ++i) {
      auto* block = static_cast<volatile char*>(malloc(1 << 20));
      for (int at = 0; at < 1 << 20; at += 4096) block[at] = 1;
    }
    return 0;
  });
  std::ofstream(folder_ / "cgroup.procs") << child.pid();
  child.go();
  const int status = child.wait();
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  const auto* event = live_->find<culprit_oom_event>([&](const auto& e) { return e.victim_tgid == tgid_of(child); });
  ASSERT_TRUE(event);
  EXPECT_EQ(event->task.tgid, tgid_of(child));  // it ran into its own limit
  EXPECT_GT(event->anon_rss_bytes, 8U << 20);
  EXPECT_LT(event->anon_rss_bytes, 512U << 20);  // with what it inherited from the test
  EXPECT_NE(text_of(event->victim_comm), "");
  EXPECT_EQ(event->victim_cgroup_id, event->task.cgroup_id);
  const auto* kill = live_->find<culprit_signal_event>(
      [&](const auto& e) { return e.target_tgid == tgid_of(child) && e.signal == SIGKILL; });
  ASSERT_TRUE(kill);
  EXPECT_EQ(kill->task.tgid, 0U);
}

}  // namespace
}  // namespace culprit::test
