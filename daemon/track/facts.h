// Facts: what the tracker is told about processes, sockets, control groups, disks and the host by those who
// may look into /proc and /sys. Plain data; an absent number is -1, an absent text empty.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace culprit::track {

// Which file, and whether it is still the same one: a new version differs in at least one field.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;  // 0: unknown
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;  // wall time
  bool operator==(const FileIdentity&) const = default;
};

struct OpenFile {
  std::int32_t fd = -1;
  std::uint64_t inode = 0;
  std::string path;
};

// The answer to "who is pid N".
struct ProcessFacts {
  std::uint32_t ppid = 0;
  std::uint32_t uid = 0;
  std::uint64_t start_time_ns = 0;     // CLOCK_BOOTTIME, as in exec and exit records; 0: unknown
  std::string comm;
  std::string exe;                     // path; empty: a kernel thread, or not readable
  std::vector<std::string> cmdline;    // empty: a kernel thread
  std::string cgroup;                  // cgroup v2 path, "/system.slice/nginx.service"
  std::string cgroup_memory_v1;        // path in the v1 memory hierarchy; empty where there is none
  std::uint64_t cgroup_id = 0;         // v2, as in struct culprit_task
  FileIdentity exe_identity;
  std::string script;                  // the program of an interpreter or JVM, absolute if known
  FileIdentity script_identity;
  std::int64_t fds = -1;               // open descriptors
  std::int64_t fds_limit = -1;         // RLIMIT_NOFILE, soft
  std::int64_t rss_bytes = -1;
  std::int64_t threads = -1;
  char state = 0;                      // of /proc/PID/stat: R S D T t Z; 0: unknown
  bool gone = false;                   // there is no such process any more; all other fields are empty
  std::vector<std::uint64_t> sockets;  // inodes of its socket files
  std::vector<OpenFile> files;         // its regular files, if asked for: names for log lines
};

// One control group, sampled; paths as in ProcessFacts (either hierarchy).
struct CgroupFacts {
  std::string path;
  std::int64_t memory_bytes = -1;
  std::int64_t memory_limit_bytes = -1;  // -1: none
  std::int64_t throttled_ns = -1;        // cumulative
};

struct FilesystemFacts {
  std::string mount;  // "/var"
  std::uint64_t bytes = 0, bytes_available = 0;  // size; what an ordinary user may still write
  std::uint64_t inodes = 0, inodes_free = 0;     // 0, 0: the file system does not count them
};

struct DeviceName {
  std::uint32_t device = 0;  // major << 20 | minor
  std::string name;          // "vda"
};

struct HostFacts {
  std::int64_t cpus = -1;
  std::int64_t memory_bytes = -1;
  std::int64_t memory_available_bytes = -1;
  double pressure_cpu = -1, pressure_io = -1, pressure_memory = -1;  // "some" share of the last 10 s, 0 to 1
  std::vector<std::vector<std::uint8_t>> addresses;                  // own addresses: 4 or 16 bytes each
};

}  // namespace culprit::track
