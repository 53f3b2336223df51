// Probes: loads and attaches every family of BPF programs, and owns the maps they share.
//
// Each family is its own object. A program that the kernel refuses is left out with the kernel's reason and its
// family is loaded again without it; nothing else stops. Nothing is pinned: when this process ends, however it
// ends, the kernel detaches and frees everything. Threads: one owner.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "bpf/include/tables.h"
#include "daemon/base/fd.h"
#include "daemon/base/handle.h"
#include "daemon/base/result.h"
#include "daemon/sensor/facts.h"

struct bpf_link;
struct bpf_object;
struct bpf_program;
struct ring_buffer;
extern "C" void ring_buffer__free(ring_buffer* ring);  // of libbpf

namespace culprit::sensor {

// What the running kernel's BTF says about hooks whose arguments changed over time.
struct KernelHooks {
  bool btf = false;
  bool exit_has_group_dead = false;
  bool victim_is_task = false;
};
KernelHooks inspect_kernel();

class Probes {
 public:
  // Creates the shared maps and loads all families. Errors: Denied (no rights for BPF), Io. `ignored`: processes
  // whose system calls are not observed (our own), at most CULPRIT_IGNORED_MAX.
  static Result<std::unique_ptr<Probes>> open(const SensorSettings& settings, std::span<const std::uint32_t> ignored);
  Probes(const Probes&) = delete;
  Probes& operator=(const Probes&) = delete;
  ~Probes();

  const RingGeometry& geometry() const { return geometry_; }
  const std::vector<Program>& programs() const { return programs_; }
  std::span<const Fd> control_rings() const { return control_; }
  std::span<const Fd> data_rings() const { return data_; }
  // The daemon maps it read-only. A read-only descriptor would be better, but the kernel refuses to map one
  // (bpf_map_mmap wants VM_SHARED, which mmap takes from read-only files; Linux 6.18).
  int counters_fd() const { return counters_.get(); }

  // Descriptor of a family's map, -1 if the family is not loaded.
  int map_fd(const char* family, const char* name) const;
  int watched_tgids() const { return watched_tgids_.get(); }
  int watched_cgroups() const { return watched_cgroups_.get(); }
  int table_full() const { return table_full_.get(); }
  int timed_calls() const { return timed_calls_.get(); }

  // All TCP sockets of this network namespace. Errors: Unsupported (the iterator is not attached), Io.
  Result<std::vector<culprit_tcp_info>> read_sockets() const;
  // All threads of the host that exist. Errors: likewise.
  Result<std::vector<culprit_task_time>> read_tasks() const;

  // Attaches and detaches the programs on every system call: on_sys_exit, on_sys_enter. What the kernel refuses is
  // in programs() from the start; a later failure is logged and tried again at the next call.
  void observe_calls(bool returns, bool entries);
  // The last window (CULPRIT_BUDGET_WINDOW_SHIFT) in which a CPU captured all the records that it may; 0 before the first. The
  // descriptor becomes readable with each, until budget_spent() is asked.
  std::uint64_t budget_spent();
  int budget_spent_fd() const { return budget_spent_.get(); }
  // System calls that began while entries were observed, of all CPUs, since the start.
  std::uint64_t entries_seen() const;
  bool returns_observed() const { return returns_observed_; }
  bool entries_observed() const { return entries_observed_; }
  std::vector<ProgramSample> missed() const;

 private:
  struct Family;
  Probes();
  Result<void> create_maps(const SensorSettings& settings);
  void load_family(Family& family);
  bool try_load(Family& family, std::vector<Program>& verdicts);
  void attach(Family& family, std::vector<Program>& verdicts);
  bool is_attached(const char* program) const;
  culprit_syncs timed_syncs() const;
  static int on_budget_spent(void* self, void* window, std::size_t bytes);
  // Everything an iterator writes, as rows. T: the record that the program writes.
  template <typename T>
  Result<std::vector<T>> read_all(const char* family, const char* program) const;

  RingGeometry geometry_;
  std::vector<Fd> control_;
  std::vector<Fd> data_;
  Fd control_rings_, data_rings_, counters_, watched_tgids_, watched_cgroups_, table_full_, timed_calls_, budget_spent_;
  Handle<ring_buffer, ring_buffer__free> budget_reader_;
  std::uint64_t spent_window_ = 0;
  std::vector<Program> programs_;
  std::vector<std::unique_ptr<Family>> families_;
  bool returns_observed_ = false;
  bool entries_observed_ = false;
};

}  // namespace culprit::sensor
