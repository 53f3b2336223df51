#include "daemon/sensor/privileges.h"

#include <grp.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "daemon/base/handle.h"

namespace culprit::sensor {
namespace {

// Calls that neither program needs once it runs. Unknown names (other architectures, old libseccomp) are left out.
constexpr const char* kDeniedToBoth[] = {
    "execve",        "execveat",      "ptrace",        "process_vm_writev", "mount",         "umount2",
    "move_mount",    "open_tree",     "fsopen",        "fsmount",           "fsconfig",      "mount_setattr",
    "pivot_root",    "chroot",        "init_module",   "finit_module",      "delete_module", "kexec_load",
    "kexec_file_load", "reboot",      "swapon",        "swapoff",           "acct",          "add_key",
    "request_key",   "keyctl",        "perf_event_open", "setns",           "unshare",       "userfaultfd",
    "io_uring_setup", "settimeofday", "clock_settime", "clock_adjtime",     "adjtimex",      "iopl",
    "ioperm",        "personality",   "quotactl",      "nfsservctl",        "vhangup",       "sethostname",
    "setdomainname", "open_by_handle_at",
};
constexpr const char* kDeniedToDaemon[] = {"bpf", "process_vm_readv", "pidfd_getfd", "kcmp", "name_to_handle_at"};
constexpr const char* kDeniedToSensor[] = {"socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"};

constexpr int kGroupsMax = 256;

using Filter = Handle<void, seccomp_release>;
using Capabilities = Handle<std::remove_pointer_t<cap_t>, cap_free>;

Result<void> deny(std::span<const char* const> first, std::span<const char* const> second) {
  Filter filter(seccomp_init(SCMP_ACT_ALLOW));
  if (!filter) return fail(Code::Io, "seccomp: no filter");
  for (const auto names : {first, second}) {
    for (const char* name : names) {
      const int number = seccomp_syscall_resolve_name(name);
      if (number == __NR_SCMP_ERROR) continue;
      const int error = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), number, 0);
      // A call that another architecture has only as a number inside a multiplexer cannot be named there.
      if (error != 0 && error != -EDOM) return fail_errno(-error, std::string("seccomp rule for ") + name);
    }
  }
  if (const int error = seccomp_load(filter.get()); error != 0) return fail_errno(-error, "seccomp: load the filter");
  return {};
}

// Leaves `keep` in the bounding set. Without CAP_SETPCAP nothing can be dropped, and nothing need be: then the
// process has no rights to begin with.
Result<void> bound(std::span<const int> keep) {
  if (cap_get_bound(0) < 0) return {};
  for (int capability = 0; cap_get_bound(capability) >= 0; ++capability) {
    if (std::find(keep.begin(), keep.end(), capability) != keep.end()) continue;
    if (cap_get_bound(capability) == 1 && cap_drop_bound(capability) != 0 && errno != EPERM) {
      return fail_errno(errno, "drop a capability of the bounding set");
    }
  }
  return {};
}

Result<void> set_capabilities(std::span<const int> keep) {
  const Capabilities wanted(cap_init());
  if (!wanted) return fail_errno(errno, "capabilities");
  const Capabilities had(cap_get_proc());
  if (!had) return fail_errno(errno, "capabilities");
  std::vector<cap_value_t> values;
  for (const int capability : keep) {  // what a unit or container took away before is nothing to keep
    cap_flag_value_t permitted = CAP_CLEAR;
    if (cap_get_flag(had.get(), capability, CAP_PERMITTED, &permitted) == 0 && permitted == CAP_SET) values.push_back(capability);
  }
  if (!values.empty()) {
    for (const cap_flag_t flag : {CAP_PERMITTED, CAP_EFFECTIVE}) {
      if (cap_set_flag(wanted.get(), flag, static_cast<int>(values.size()), values.data(), CAP_SET) != 0) {
        return fail_errno(errno, "capabilities");
      }
    }
  }
  if (cap_set_proc(wanted.get()) != 0) return fail_errno(errno, "set the capabilities");
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) {
    return fail_errno(errno, "clear the ambient capabilities");
  }
  return {};
}

Result<void> no_new_privileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno(errno, "no_new_privs");
  return {};
}

// The kernel forgets the death signal of a process whose user or group changes.
class DeathSignal {
 public:
  DeathSignal() { prctl(PR_GET_PDEATHSIG, &signal_, 0, 0, 0); }
  void restore() const {
    if (signal_ != 0) prctl(PR_SET_PDEATHSIG, signal_, 0, 0, 0);
  }

 private:
  int signal_ = 0;
};

}  // namespace

Result<Account> find_account(const std::string& user) {
  std::vector<char> buffer(16 * 1024);
  passwd entry{};
  passwd* found = nullptr;
  const int error = getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) {
    if (error != 0) return fail_errno(error, "user '" + user + "'");
    return fail(Code::NotFound, "no user '" + user + "'");
  }
  Account account{entry.pw_uid, entry.pw_gid, {}};
  int count = kGroupsMax;
  account.groups.resize(kGroupsMax);
  if (getgrouplist(user.c_str(), entry.pw_gid, account.groups.data(), &count) < 0) return fail(Code::Exhausted, "user '" + user + "' is in more than " + std::to_string(kGroupsMax) + " groups");
  account.groups.resize(static_cast<std::size_t>(count));
  return account;
}

Result<void> act_as(const Account& account) {
  const DeathSignal death_signal;
  // The group is changed by root: before it is somebody else, after it is itself again.
  if (account.uid == 0 && seteuid(0) != 0) return fail_errno(errno, "act as root again");
  if (setegid(account.gid) != 0) return fail_errno(errno, "act as another group");
  if (account.uid != 0 && seteuid(account.uid) != 0) return fail_errno(errno, "act as another user");
  death_signal.restore();
  return {};
}

Result<void> drop_all(const Account& account) {
  TRY(bound({}));
  const DeathSignal death_signal;
  if (geteuid() == 0 && account.uid != 0) {
    if (setgroups(account.groups.size(), account.groups.data()) != 0) return fail_errno(errno, "change the groups");
    if (setresgid(account.gid, account.gid, account.gid) != 0) return fail_errno(errno, "change the group");
    if (setresuid(account.uid, account.uid, account.uid) != 0) return fail_errno(errno, "change the user");
  }
  TRY(set_capabilities({}));
  death_signal.restore();
  TRY(no_new_privileges());
  return deny(kDeniedToBoth, kDeniedToDaemon);
}

Result<void> drop_to(std::span<const int> capabilities) {
  TRY(bound(capabilities));
  TRY(set_capabilities(capabilities));
  TRY(no_new_privileges());
  return deny(kDeniedToBoth, kDeniedToSensor);
}

}  // namespace culprit::sensor
