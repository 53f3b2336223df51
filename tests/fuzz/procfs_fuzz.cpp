// What the sensor reads of /proc and /sys: names of processes, control groups and mounts are anybody's bytes.
#include <cstdint>
#include <string_view>

#include "daemon/sensor/procfs.h"
#include "tests/fuzz/folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static culprit::fuzz::Folder folder;
  static const std::set<std::string, std::less<>> kFiles = {"proc/self/mountinfo", "proc/77/stat", "proc/77/status", "proc/77/cmdline", "proc/77/comm",
      "proc/77/limits", "proc/77/cgroup", "proc/77/environ", "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.events",
      "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cgroup.procs"};
  folder.fill({reinterpret_cast<const char*>(data), size}, kFiles);
  const culprit::sensor::Procfs procfs({folder.path() / "proc", folder.path() / "sys"});
  (void)procfs.process(77);
  (void)procfs.sample(77);
  (void)procfs.processes();
  (void)procfs.socket_owners(77);
  for (const char* path : {"/", "/web", "/../x"}) (void)procfs.cgroup(path);
  (void)procfs.cgroup_members("/web");  // not "/": an input may name any folder of this host as the mount, and all below it would be read
  return 0;
}
