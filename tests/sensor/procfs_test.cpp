#include "daemon/sensor/procfs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <fstream>

#include "daemon/base/fd.h"

namespace culprit::sensor {
namespace fs = std::filesystem;
namespace {

// A /proc and a cgroup tree of our own making.
class MadeTree : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / fmt::format("culprit-procfs-{}", getpid());
    fs::remove_all(root_);
    mountinfo_ = fmt::format(
        "30 1 0:26 / {0}/cg2 rw - cgroup2 cgroup2 rw\n"
        "31 1 0:27 / {0}/cgmem rw - cgroup cgroup rw,memory\n"
        "32 1 0:28 / {0}/cgcpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        "34 1 8:1 /sub /tmp rw,relatime - ext4 /dev/sda1 rw\n"
        "35 1 0:5 / /proc rw - proc proc rw\n"
        "nonsense\n",
        root_.string());
    put("proc/self/mountinfo", mountinfo_);
  }
  void TearDown() override { fs::remove_all(root_); }
  void put(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  Procfs procfs() const { return Procfs({root_ / "proc", root_ / "sys"}); }
  fs::path root_;
  std::string mountinfo_;
};

TEST_F(MadeTree, ProcessWithAHostileName) {
  const std::string name = "a) R 1 (b c";
  put("proc/77/stat", "77 (" + name + ") S 5 77 77 0 -1 4194560 100 0 33 0 1 2 0 0 20 0 4 0 500 1000000 250 18446744073709551615\n");
  put("proc/77/status", "Name:\tx\nTgid:\t77\nUid:\t1000\t1000\t1000\t1000\n");
  put("proc/77/cmdline", std::string("python3\0-u\0app.py\0", 18));
  put("proc/77/limits", "Limit                     Soft Limit           Hard Limit           Units\n"
                        "Max open files            1024                 4096                 files\n");
  put("proc/77/cgroup", "4:memory:/shop\n1:cpu,cpuacct:/\n0::/web\n");
  put("cg2/web/cgroup.procs", "77\n");
  put("proc/77/root/srv/app.py", "print()");
  fs::create_directories(root_ / "proc/77/fd");
  fs::create_symlink("/usr/bin/python3.11", root_ / "proc/77/exe");
  fs::create_symlink("/srv", root_ / "proc/77/cwd");
  const auto info = procfs().process(77);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->comm, name);
  EXPECT_EQ(info->state, 'S');
  EXPECT_EQ(info->ppid, 5U);
  EXPECT_EQ(info->threads, 4U);
  EXPECT_EQ(info->uid, 1000U);
  EXPECT_EQ(info->start_time_ns, 500 * (1'000'000'000 / sysconf(_SC_CLK_TCK)));
  EXPECT_EQ(info->rss_bytes, 250U * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(info->fd_limit, 1024U);
  EXPECT_EQ(info->cmdline, (std::vector<std::string>{"python3", "-u", "app.py"}));
  EXPECT_EQ(info->exe, "/usr/bin/python3.11");
  EXPECT_EQ(info->script, "/srv/app.py");
  EXPECT_EQ(info->script_size, 7U);
  EXPECT_EQ(info->cgroup, "/web");
  EXPECT_EQ(info->memory_cgroup, "/shop");
  struct stat status {};
  stat((root_ / "cg2/web").c_str(), &status);
  EXPECT_EQ(info->cgroup_id, status.st_ino);
  const auto sample = procfs().sample(77);
  ASSERT_TRUE(sample);
  EXPECT_EQ(sample->state, 'S');
  EXPECT_EQ(sample->major_faults, 33U);
  EXPECT_EQ(procfs().processes().size(), 1U);
}

TEST_F(MadeTree, BrokenFilesAreErrorsNotCrashes) {
  for (const char* text : {"", "77", "77 (x", ") (", "77 (x) ", "77 (x) S"}) {
    SCOPED_TRACE(text);
    put("proc/77/stat", text);
    const auto info = procfs().process(77);
    if (info) {
      EXPECT_EQ(info->ppid, 0U);
    }
    (void)procfs().sample(77);
  }
  EXPECT_EQ(procfs().process(78).error().code, Code::NotFound);
  EXPECT_EQ(procfs().fd_path(78, 1).error().code, Code::NotFound);
}

TEST_F(MadeTree, AThreadIsNoProcess) {
  put("proc/78/stat", "78 (x) S 5 77 77 0 -1 0 0 0 0 0 1 2 0 0 20 0 4 0 500 1000000 250\n");
  put("proc/78/status", "Tgid:\t77\n");
  EXPECT_EQ(procfs().process(78).error().code, Code::NotFound);
}

TEST_F(MadeTree, CgroupLimitsOfBothVersions) {
  put("cg2/two/memory.current", "1000\n");
  put("cg2/two/memory.max", "max\n");
  put("cg2/two/memory.events", "low 0\noom 2\noom_kill 3\noom_group_kill 0\n");
  put("cg2/two/cpu.max", "50000 100000\n");
  put("cg2/two/cpu.stat", "usage_usec 5\nnr_throttled 7\nthrottled_usec 900\n");
  put("cgmem/one/memory.usage_in_bytes", "2000\n");
  put("cgmem/one/memory.limit_in_bytes", "9223372036854771712\n");
  put("cgmem/one/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
  put("cgcpu/one/cpu.cfs_quota_us", "-1\n");
  put("cgcpu/one/cpu.cfs_period_us", "100000\n");
  put("cgcpu/one/cpu.stat", "nr_throttled 1\nthrottled_time 5000\n");
  const auto two = procfs().cgroup("/two");
  ASSERT_TRUE(two);
  EXPECT_EQ(two->memory_usage_bytes, 1000U);
  EXPECT_EQ(two->memory_limit_bytes, kNoLimit);
  EXPECT_EQ(two->oom_kills, 3U);
  EXPECT_EQ(two->cpu_quota_us, 50000U);
  EXPECT_EQ(two->throttled_count, 7U);
  EXPECT_EQ(two->throttled_us, 900U);
  EXPECT_FALSE(two->v1);
  const auto one = procfs().cgroup("/one");
  ASSERT_TRUE(one);
  EXPECT_EQ(one->memory_usage_bytes, 2000U);
  EXPECT_EQ(one->memory_limit_bytes, kNoLimit);
  EXPECT_EQ(one->oom_kills, 4U);
  EXPECT_EQ(one->cpu_quota_us, kNoLimit);
  EXPECT_EQ(one->throttled_us, 5U);
  EXPECT_TRUE(one->v1);
}

TEST_F(MadeTree, PathsOutsideAreRefused) {
  for (const char* path : {"", "two", "/../etc", "/two/..", "/two/../../etc"}) {
    SCOPED_TRACE(path);
    EXPECT_EQ(procfs().cgroup(path).error().code, Code::Invalid);
    EXPECT_EQ(procfs().cgroup_id(path).error().code, Code::Invalid);
    EXPECT_TRUE(procfs().cgroup_members(path).empty());
  }
  EXPECT_EQ(procfs().cgroup("/none").error().code, Code::NotFound);
}

TEST_F(MadeTree, MembersOfACgroupAndBelow) {
  put("cg2/web/cgroup.procs", "5\n6\n");
  put("cg2/web/child/cgroup.procs", "7\n");
  put("cgmem/web/cgroup.procs", "6\n8\n");
  EXPECT_EQ(procfs().cgroup_members("/web"), (std::vector<std::uint32_t>{5, 6, 7, 8}));
}

TEST_F(MadeTree, OneRowPerFilesystem) {
  put("sys/dev/block/8:1/partition", "1\n");
  put("sys/dev/block/dev", "8:0\n");
  const auto spaces = procfs().filesystems();
  ASSERT_EQ(spaces.size(), 1U);
  EXPECT_EQ(spaces[0].mount_point, "/");
  EXPECT_EQ(spaces[0].source, "/dev/sda1");
  EXPECT_EQ(spaces[0].type, "ext4");
  EXPECT_EQ(spaces[0].device, 8U << 20);  // its whole disk, as block events name it
  EXPECT_GT(spaces[0].total_bytes, 0U);
}

// The real /proc, about this process.
TEST(ProcfsTest, Itself) {
  const Procfs procfs;
  const auto self = static_cast<std::uint32_t>(getpid());
  const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct stat status {};
  fstat(socket.get(), &status);
  const auto owners = procfs.socket_owners(self);
  EXPECT_TRUE(std::any_of(owners.begin(), owners.end(), [&](const auto& o) { return o.inode == status.st_ino && o.fd == socket.get(); }));
  const auto info = procfs.process(self);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->comm, "sensor_test");
  EXPECT_EQ(info->ppid, static_cast<std::uint32_t>(getppid()));
  EXPECT_TRUE(procfs.exists(self));
  EXPECT_FALSE(procfs.exists(0x7ffffff0));
}

}  // namespace
}  // namespace culprit::sensor
