// Giving up rights. Each call but act_as is final; there is no way back for the process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::sensor {

struct Account {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups = {};  // its supplementary ones: what it may read is its administrator's to say (adm, systemd-journal)
};

// The account of a user name. Errors: NotFound.
Result<Account> find_account(const std::string& user);

// The effective user and group, for a while: where the unit leaves root no right to write into the folders of the daemon's
// user, what belongs there is made as that user. act_as({0, 0}) takes them back. One thread, before any other is started.
Result<void> act_as(const Account& account);

// For culpritd, once the sensor runs: root's supplementary groups replaced by the account's, uid and gid changed (skipped when not root),
// every capability set emptied including the bounding set, no_new_privs, and a seccomp filter that answers
// EPERM to bpf, ptrace, mount, module, kexec, perf_event_open, execve and their relatives. All threads
// must be started after it.
Result<void> drop_all(const Account& account);

// For culprit-sensor, once its programs are attached: keeps only those of `capabilities` (numbers of
// linux/capability.h) that it has in the effective, permitted and bounding sets, no_new_privs, and a seccomp filter that
// denies sockets, execve, mount and module calls.
Result<void> drop_to(std::span<const int> capabilities);

}  // namespace culprit::sensor
