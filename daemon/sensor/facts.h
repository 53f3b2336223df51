// Facts: what the sensor tells the daemon beside ring records, as plain data. Both programs include this
// and nothing of each other; how it travels is protocol.h.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bpf/include/culprit_events.h"

namespace culprit::sensor {

// What may be captured of a process or cgroup, as flags.
enum Capture : std::uint32_t {
  kCaptureNone = 0,
  kCapturePayload = 1,  // bytes read and written on TCP sockets
  kCaptureLogs = 2,     // lines written to standard output, standard error and append-only files
};

enum class ProgramState : std::uint8_t { Attached = 0, Skipped = 1 };

// One BPF program of ours and what became of it.
struct Program {
  std::string family;  // "tcp"
  std::string name;    // "on_tcp_reset"
  ProgramState state = ProgramState::Skipped;
  std::string reason;  // why it was skipped, in the kernel's words where there are any
  std::uint32_t instructions = 0;  // as the verifier counted them, 0 if unknown
};

// How the rings are laid out. Ring i of each set belongs to the CPUs c with c % rings == i.
struct RingGeometry {
  std::uint32_t cpus = 0;           // possible CPUs: rows of the counters map
  std::uint32_t rings = 0;          // rings in each of the two sets
  std::uint32_t control_bytes = 0;  // of one ring; power of two
  std::uint32_t data_bytes = 0;
  std::uint32_t kinds = 0;          // columns of the counters map: CULPRIT_EVENT_KINDS
};

// Limits and choices the sensor was started with, given back so that status can show them.
struct SensorSettings {
  std::uint32_t payload_records_per_cpu = 2'000;  // a second, spent in windows of 2^30 ns; more are dropped and counted
  std::uint32_t slow_ms = 100;                     // calls and block requests above this are reported singly
  std::uint32_t control_ring_bytes = 256 * 1024;   // each
  std::uint32_t data_ring_bytes = 1024 * 1024;
  std::uint32_t rings_max = 64;                    // per set; more CPUs share rings
  std::uint32_t snapshot_ms = 1000;
  std::uint32_t calls_percent = 2;                 // of the time in which system calls are observed without a reason
  bool watch_all_payload = false;                  // capture of every process, not only watched ones
  bool watch_all_logs = false;
};

// The first message of a sensor.
struct Hello {
  std::uint32_t version = 0;  // kProtocolVersion of the sensor
  std::uint32_t sensor_pid = 0;
  std::string kernel_release;
  std::int64_t boot_offset_ns = 0;  // CLOCK_BOOTTIME - CLOCK_MONOTONIC when it started
  RingGeometry geometry;
  SensorSettings settings;
  std::vector<Program> programs;
  std::vector<std::string> notes;  // what is weaker than it could be: "keeps CAP_SYS_ADMIN: ..."
};

// A process as /proc shows it now. Empty strings: not readable or gone.
struct ProcessInfo {
  std::uint32_t tgid = 0;
  std::uint32_t ppid = 0;
  std::uint32_t uid = 0;
  char state = '?';                  // R S D Z T t I
  std::int64_t start_time_ns = 0;    // CLOCK_BOOTTIME, to the clock tick (10 ms)
  std::uint64_t rss_bytes = 0;
  std::uint32_t threads = 0;
  std::uint32_t fds = 0;
  std::uint64_t fd_limit = 0;        // soft RLIMIT_NOFILE
  std::uint64_t cgroup_id = 0;       // cgroup v2 id, joins ring records; 0 if unknown
  std::uint64_t exe_inode = 0;       // identity of the executable: device, inode, size, mtime
  std::uint64_t exe_device = 0;
  std::uint64_t exe_size = 0;
  std::int64_t exe_mtime_ns = 0;     // wall clock
  std::uint64_t script_inode = 0;    // the same of the script an interpreter runs, 0 if it runs none
  std::uint64_t script_size = 0;
  std::int64_t script_mtime_ns = 0;
  std::string comm;
  std::string exe;                   // path
  std::string script;                // path, resolved against cwd
  std::string cwd;
  std::vector<std::string> cmdline;  // at most 4 KiB in all
  std::string cgroup;                // cgroup v2 path, "/" is the root
  std::string memory_cgroup;         // cgroup v1 memory controller's path, empty on pure v2 hosts
};

// Small row of ListProcesses; ask WhoIs for the rest.
struct ProcessRow {
  std::uint32_t tgid = 0;
  std::uint32_t ppid = 0;
  std::uint32_t uid = 0;
  std::uint64_t cgroup_id = 0;
  std::int64_t start_time_ns = 0;
  std::string comm;
};

// Who holds a socket: joins culprit_tcp_info.inode.
struct SocketOwner {
  std::uint64_t inode = 0;
  std::uint32_t tgid = 0;
  std::int32_t fd = -1;
};

struct FilesystemSpace {
  std::string mount_point;
  std::string source;  // "/dev/vda1"
  std::string type;    // "ext4"
  std::uint32_t device = 0;  // major << 20 | minor, as in block events; 0 for none
  std::uint64_t total_bytes = 0;
  std::uint64_t available_bytes = 0;  // to unprivileged users
  std::uint64_t inodes_total = 0;
  std::uint64_t inodes_free = 0;
  bool read_only = false;
};

inline constexpr std::uint64_t kNoLimit = ~0ULL;

struct CgroupLimits {
  std::string path;
  std::uint64_t memory_limit_bytes = kNoLimit;
  std::uint64_t memory_usage_bytes = 0;
  std::uint64_t oom_kills = 0;
  std::uint64_t cpu_quota_us = kNoLimit;  // per period
  std::uint64_t cpu_period_us = 0;
  std::uint64_t throttled_count = 0;
  std::uint64_t throttled_us = 0;
  bool v1 = false;
};

// State of one process, sampled once a second: the watched ones and the most active ones.
struct ProcessSample {
  std::uint32_t tgid = 0;
  std::uint32_t threads = 0;
  std::uint32_t fds = 0;
  char state = '?';
  std::uint64_t fd_limit = 0;
  std::uint64_t rss_bytes = 0;
  std::uint64_t major_faults = 0;  // cumulative
};

struct SchedSample {
  std::uint32_t tgid = 0;
  culprit_sched_counts counts{};
};
struct SyscallErrorSample {
  culprit_syscall_error_key key{};
  culprit_syscall_error_counts counts{};
};
struct TimedCallSample {
  culprit_timed_call_key key{};
  culprit_latency latency{};
};
struct BlockSample {
  culprit_block_key key{};
  culprit_block_counts counts{};
};

// How full a kernel map is. `full` counts updates that found no room: what they would have said is missing.
struct TableSample {
  std::string name;
  std::uint64_t entries = 0;
  std::uint64_t limit = 0;
  std::uint64_t full = 0;
};

// Runs that the kernel skipped because the program was already running on that CPU; cumulative.
struct ProgramSample {
  std::string name;
  std::uint64_t missed = 0;
};

// Once a second. Counts are cumulative; only rows that changed since the last snapshot are sent, the first
// one has all. sockets are whole where has_sockets is set: every fourth time, and each time while the daemon looks closely: the kernel's
// walk over its table of connections costs 3 ms and the caches of a core, for ten of them as for ten thousand.
struct Snapshot {
  std::int64_t time_ns = 0;
  std::uint64_t sequence = 0;
  std::vector<SchedSample> sched;
  std::vector<SyscallErrorSample> syscall_errors;
  std::vector<TimedCallSample> timed_calls;
  std::vector<BlockSample> block;
  std::vector<culprit_tcp_info> sockets;
  bool has_sockets = false;
  std::vector<ProcessSample> processes;
  std::vector<TableSample> tables;
  std::vector<ProgramSample> programs;
  // How long system calls were observed since the sensor started: at their return (failures), and at their entry
  // too (durations of open). Counts of the time between two snapshots are of this part of it.
  std::uint64_t returns_observed_ns = 0;
  std::uint64_t entries_observed_ns = 0;
  std::uint64_t rested_ns = 0;  // targets were watched, but not observed: the budget of records was spent
  std::uint64_t sensor_cpu_ns = 0;  // the sensor's own CPU time, cumulative
  std::uint64_t sensor_rss_bytes = 0;
};

}  // namespace culprit::sensor
