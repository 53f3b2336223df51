// Procfs: facts about processes, cgroups and file systems that the unprivileged daemon cannot read itself.
// Each call reads the kernel's files now; nothing is cached but what never changes. Roots are arguments so
// that tests can give a made-up tree.
#pragma once

#include <filesystem>

#include "daemon/base/result.h"
#include "daemon/sensor/facts.h"

namespace culprit::sensor {

class Procfs {
 public:
  struct Roots {
    std::filesystem::path proc = "/proc";
    std::filesystem::path sys = "/sys";
  };
  // Finds the cgroup mounts. Never fails: without them cgroup fields stay empty.
  explicit Procfs(Roots roots);
  Procfs() : Procfs(Roots{}) {}

  Result<ProcessInfo> process(std::uint32_t tgid) const;
  // State, memory, descriptors: cheap enough to ask every second.
  Result<ProcessSample> sample(std::uint32_t tgid) const;
  Result<std::string> fd_path(std::uint32_t tgid, std::int32_t fd) const;
  bool exists(std::uint32_t tgid) const;
  std::vector<std::uint32_t> tgids() const;
  std::vector<ProcessRow> processes() const;
  // Sockets held by one process, or by all (0).
  std::vector<SocketOwner> socket_owners(std::uint32_t tgid) const;
  // File systems on storage, and tmpfs; not those of the network or of the kernel, one entry a device.
  std::vector<FilesystemSpace> filesystems() const;
  // `path` as /proc/PID/cgroup shows it. Errors: Invalid ("..", not absolute), NotFound.
  Result<CgroupLimits> cgroup(const std::string& path) const;
  // cgroup v2 id of a path. Errors: NotFound.
  Result<std::uint64_t> cgroup_id(const std::string& path) const;
  // Processes in a cgroup and those below it, of v2 and of the v1 memory controller.
  std::vector<std::uint32_t> cgroup_members(const std::string& path) const;

 private:
  std::filesystem::path of(std::uint32_t tgid) const { return roots_.proc / std::to_string(tgid); }
  void read_stat(std::uint32_t tgid, std::string_view text, ProcessInfo& info) const;
  void read_cgroups(std::uint32_t tgid, std::string& v2, std::string& memory) const;
  void read_executable(std::uint32_t tgid, ProcessInfo& info) const;

  Roots roots_;
  std::filesystem::path cgroup2_;        // mount point, empty if none
  std::filesystem::path cgroup_memory_;  // v1 controllers
  std::filesystem::path cgroup_cpu_;
  std::int64_t tick_ns_;
};

}  // namespace culprit::sensor
