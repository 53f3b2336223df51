#include "daemon/sensor/privileges.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <map>
#include <set>

namespace culprit::sensor {
namespace {

// Runs `work` in a child and returns its exit status: what is given up there stays there.
int in_child(const std::function<int()>& work) {
  const pid_t pid = fork();
  if (pid == 0) _exit(work());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

std::string status_of(const char* key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(std::string(key) + ":")) return line.substr(line.find_first_not_of(" \t", strlen(key) + 1));
  }
  return "";
}

TEST(PrivilegesTest, DaemonKeepsNothing) {
  const auto nobody = find_account("nobody");
  ASSERT_TRUE(nobody);
  EXPECT_EQ(in_child([&] {
              prctl(PR_SET_PDEATHSIG, SIGKILL);
              const bool root = geteuid() == 0;
              if (!drop_all(*nobody)) return 1;
              if (root && (getuid() != nobody->uid || geteuid() != nobody->uid || getgid() != nobody->gid)) return 2;
              if (setuid(0) == 0 && root) return 3;
              // The account's groups, and none of root's.
              gid_t groups[64];
              const int count = getgroups(64, groups);
              if (root && (count < 0 || std::multiset<gid_t>(groups, groups + count) != std::multiset<gid_t>(nobody->groups.begin(), nobody->groups.end()))) return 13;
              for (const char* set : {"CapEff", "CapPrm", "CapInh", "CapAmb"}) {
                if (std::stoull(status_of(set), nullptr, 16) != 0) return 4;
              }
              if (root && std::stoull(status_of("CapBnd"), nullptr, 16) != 0) return 5;
              if (status_of("NoNewPrivs") != "1" || status_of("Seccomp") != "2") return 6;
              if (execl("/bin/true", "true", nullptr) != -1 || errno != EPERM) return 7;
              if (syscall(SYS_bpf, 0, nullptr, 0) != -1 || errno != EPERM) return 8;
              if (mount("none", "/tmp", "tmpfs", 0, nullptr) != -1 || errno != EPERM) return 9;
              if (syscall(SYS_ptrace, 0, 0, 0, 0) != -1 || errno != EPERM) return 10;
              int signal = 0;
              prctl(PR_GET_PDEATHSIG, &signal);
              if (signal != SIGKILL) return 11;  // lost when the user changes
              // Ordinary life goes on: files, sockets, threads.
              int fds[2];
              if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) return 12;
              std::thread([] {}).join();
              return 0;
            }),
            0);
}

// Its groups are its user's, not root's: so an administrator lets it read what a group may.
TEST(PrivilegesTest, DaemonHasTheGroupsOfItsUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to change groups";
  const auto nobody = find_account("nobody");
  ASSERT_TRUE(nobody);
  int count = 64;
  gid_t expected[64];
  ASSERT_GT(getgrouplist("nobody", nobody->gid, expected, &count), 0);
  EXPECT_EQ(in_child([&] {
              const gid_t roots[] = {0, 4};
              if (setgroups(2, roots) != 0) return 1;
              if (!drop_all(*nobody)) return 2;
              gid_t groups[64];
              const int got = getgroups(64, groups);
              return std::set<gid_t>(groups, groups + std::max(got, 0)) == std::set<gid_t>(expected, expected + count) ? 0 : 3;
            }),
            0);
}

TEST(PrivilegesTest, SensorKeepsWhatItNames) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to have rights to keep";
  EXPECT_EQ(in_child([] {
              const int kept[] = {19};  // CAP_SYS_PTRACE
              if (!drop_to(kept)) return 1;
              for (const char* set : {"CapEff", "CapPrm", "CapBnd"}) {
                if (std::stoull(status_of(set), nullptr, 16) != 1ULL << 19) return 2;
              }
              if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EPERM) return 3;
              if (execl("/bin/true", "true", nullptr) != -1 || errno != EPERM) return 4;
              return 0;
            }),
            0);
}

// In a container or unit some of the named rights were never there.
TEST(PrivilegesTest, SensorKeepsOnlyWhatItHas) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to have rights to keep";
  EXPECT_EQ(in_child([] {
              const int had[] = {19}, kept[] = {19, 34};  // CAP_SYS_PTRACE, CAP_SYSLOG
              if (!drop_to(had)) return 1;
              if (!drop_to(kept)) return 2;
              return std::stoull(status_of("CapPrm"), nullptr, 16) == 1ULL << 19 ? 0 : 3;
            }),
            0);
}

// Root without the right to write everywhere makes files in a folder of the daemon's user as that user, and is root again.
TEST(PrivilegesTest, ActsAsTheUserForAWhile) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to act as somebody else";
  const auto nobody = find_account("nobody");
  ASSERT_TRUE(nobody);
  char folder[] = "/tmp/culprit-act-as-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  ASSERT_EQ(chown(folder, nobody->uid, nobody->gid), 0);
  const std::string file = std::string(folder) + "/file";
  EXPECT_EQ(in_child([&] {
              prctl(PR_SET_PDEATHSIG, SIGKILL);
              if (!act_as(*nobody)) return 1;
              const int fd = open(file.c_str(), O_CREAT | O_WRONLY, 0600);
              if (fd < 0) return 2;
              struct stat status {};
              if (fstat(fd, &status) != 0 || status.st_uid != nobody->uid || status.st_gid != nobody->gid) return 3;
              if (open("/etc/shadow", O_RDONLY) >= 0) return 4;
              if (!act_as({})) return 5;
              int signal = 0;
              prctl(PR_GET_PDEATHSIG, &signal);
              if (signal != SIGKILL) return 6;
              return geteuid() == 0 && getegid() == 0 && open("/etc/shadow", O_RDONLY) >= 0 ? 0 : 7;
            }),
            0);
  unlink(file.c_str());
  rmdir(folder);
}

TEST(PrivilegesTest, UnknownUser) {
  EXPECT_EQ(find_account("no-such-user-culprit").error().code, Code::NotFound);
}

}  // namespace
}  // namespace culprit::sensor
