#include "daemon/sensor/probes.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdarg>
#include <map>
#include <numeric>
#include <set>

#include "block.skel.h"
#include "daemon/base/handle.h"
#include "daemon/base/log.h"
#include "oom.skel.h"
#include "process.skel.h"
#include "sched.skel.h"
#include "signal.skel.h"
#include "sync.skel.h"
#include "syscall.skel.h"
#include "tcp.skel.h"
#include "tcp_iter.skel.h"

namespace culprit::sensor {
namespace {

constexpr std::uint32_t kWatchedTgidsMax = 16'384;
constexpr std::uint32_t kWatchedCgroupsMax = 1'024;
constexpr std::size_t kLibbpfLogBytesMax = 256 * 1024;
constexpr std::size_t kLibbpfTextBytesMax = 16 * 1024;
constexpr std::size_t kReasonBytesMax = 400;
constexpr std::size_t kRowsBytesMax = 64 << 20;  // of one reading of an iterator

using Link = Handle<bpf_link, bpf_link__destroy>;
using Btf = Handle<btf, btf__free>;

// What libbpf said since the last clear; it is the only place where the verifier's words appear. One thread.
std::string& libbpf_log() {
  static std::string text;
  return text;
}

// The verifier's whole log comes in one call, and what it objects to stands at its end: of a long text the first line, which
// says what follows, and the end are kept.
int keep_libbpf_log(libbpf_print_level, const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int bytes = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string& log = libbpf_log();
  if (bytes <= 0 || log.size() >= kLibbpfLogBytesMax) return bytes;
  std::string text(static_cast<std::size_t>(bytes) + 1, '\0');
  vsnprintf(text.data(), text.size(), format, arguments);
  text.pop_back();
  if (text.size() > kLibbpfTextBytesMax) text = text.substr(0, text.find('\n') + 1) + text.substr(text.size() - kLibbpfTextBytesMax);
  log += text;
  return bytes;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    if (const auto line = text.substr(0, end); !line.empty()) lines.push_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

// The program that libbpf complained about last, "" if it named none.
std::string failed_program(std::string_view text) {
  std::string name;
  for (const auto line : lines_of(text)) {
    const auto at = line.find("prog '");
    if (at == std::string_view::npos || line.find("fail") == std::string_view::npos) continue;
    const auto rest = line.substr(at + 6);
    name = rest.substr(0, rest.find('\''));
  }
  return name;
}

// The verifier's last words, or libbpf's, or the errno.
std::string reason_of(std::string_view text, int error) {
  std::string last;
  std::string verifier;
  bool inside = false;
  for (auto line : lines_of(text)) {
    if (line.find("BEGIN PROG LOAD LOG") != std::string_view::npos) {
      inside = true;
    } else if (line.find("END PROG LOAD LOG") != std::string_view::npos) {
      inside = false;
    } else if (inside && !line.starts_with("processed ")) {
      verifier = line;
    } else if (!inside && line.find("failed to load object") == std::string_view::npos &&
               line.find("try raising 'ulimit -l'") == std::string_view::npos &&  // a guess, wrong since 5.11
               line.find("failed to load: ") == std::string_view::npos) {
      last = line.starts_with("libbpf: ") ? line.substr(8) : line;
    }
  }
  std::string reason = !verifier.empty() ? "verifier: " + verifier : last;
  if (reason.empty()) reason = strerror(std::abs(error));
  if (reason.size() > kReasonBytesMax) reason.resize(kReasonBytesMax);
  while (!reason.empty() && reason.back() == '\n') reason.pop_back();
  return reason;
}

// Parameters of a tracepoint behind its first one (the probe's own data), from typedef btf_trace_<name>.
const btf_type* tracepoint_proto(const btf* types, const std::string& name) {
  const int id = btf__find_by_name_kind(types, ("btf_trace_" + name).c_str(), BTF_KIND_TYPEDEF);
  if (id < 0) return nullptr;
  const btf_type* pointer = btf__type_by_id(types, btf__type_by_id(types, static_cast<std::uint32_t>(id))->type);
  if (pointer == nullptr || !btf_is_ptr(pointer)) return nullptr;
  const btf_type* proto = btf__type_by_id(types, pointer->type);
  return proto != nullptr && btf_is_func_proto(proto) ? proto : nullptr;
}

Result<Fd> create_map(bpf_map_type type, const char* name, std::uint32_t key, std::uint32_t value,
                      std::uint32_t entries, std::uint32_t flags = 0, int inner = -1) {
  bpf_map_create_opts options{};
  options.sz = sizeof(options);
  options.map_flags = flags;
  if (inner >= 0) options.inner_map_fd = static_cast<std::uint32_t>(inner);
  const int fd = bpf_map_create(type, name, key, value, entries, &options);
  if (fd < 0) return fail_errno(errno, fmt::format("create BPF map '{}'", name));
  return Fd(fd);
}

Result<std::vector<Fd>> create_rings(const char* name, std::uint32_t count, std::uint32_t bytes) {
  std::vector<Fd> rings;
  for (std::uint32_t i = 0; i < count; ++i) {
    ASSIGN(Fd ring, create_map(BPF_MAP_TYPE_RINGBUF, name, 0, 0, bytes));
    rings.push_back(std::move(ring));
  }
  return rings;
}

Result<Fd> create_ring_table(const char* name, const std::vector<Fd>& rings) {
  ASSIGN(Fd table, create_map(BPF_MAP_TYPE_ARRAY_OF_MAPS, name, 4, 4, static_cast<std::uint32_t>(rings.size()), 0,
                              rings[0].get()));
  for (std::uint32_t i = 0; i < rings.size(); ++i) {
    const int fd = rings[i].get();
    if (bpf_map_update_elem(table.get(), &i, &fd, BPF_ANY) != 0) return fail_errno(errno, "fill the table of rings");
  }
  return table;
}

// Rings are powers of two of at least a page.
std::uint32_t ring_bytes(std::uint32_t wanted) {
  const auto page = static_cast<std::uint32_t>(sysconf(_SC_PAGESIZE));
  return std::bit_ceil(std::clamp(wanted, page, 1U << 28));
}

// Classic tracepoints are found through tracefs. Where nobody has mounted it, a private mount namespace gets it,
// so that the host does not see a mount of ours.
void ensure_tracefs() {
  if (access("/sys/kernel/tracing/events", F_OK) == 0 || access("/sys/kernel/debug/tracing/events", F_OK) == 0) return;
  if (unshare(CLONE_NEWNS) != 0) return;
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return;
  (void)mount("tracefs", "/sys/kernel/tracing", "tracefs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
}

}  // namespace

KernelHooks inspect_kernel() {
  KernelHooks hooks;
  const Btf types(btf__load_vmlinux_btf());
  if (!types) return hooks;
  hooks.btf = true;
  if (const btf_type* proto = tracepoint_proto(types.get(), "sched_process_exit")) {
    hooks.exit_has_group_dead = btf_vlen(proto) >= 3;
  }
  if (const btf_type* proto = tracepoint_proto(types.get(), "mark_victim"); proto != nullptr && btf_vlen(proto) >= 2) {
    const btf_type* argument = btf__type_by_id(types.get(), btf_params(proto)[1].type);
    hooks.victim_is_task = argument != nullptr && btf_is_ptr(argument);
  }
  return hooks;
}

// One skeleton, behind functions that do not depend on its type.
struct Probes::Family {
  struct Opened {
    std::shared_ptr<void> skeleton;  // shared: only to erase the type of its deleter
    bpf_object* object = nullptr;
  };
  std::string name;
  std::function<Opened()> open;               // with the settings written
  std::map<std::string, std::vector<std::string>> stands_in;  // program -> those it replaces where the first of them is refused
  std::set<std::string> on_demand;               // attached by observe_calls(), at the start only to see whether they can
  std::set<std::string> refused;
  Opened opened;
  std::vector<std::pair<std::string, Link>> links;
  std::vector<std::pair<std::string, int>> program_fds;
};

Probes::Probes() = default;

Probes::~Probes() {
  for (auto& family : families_) family->links.clear();  // detach everything before freeing anything
}

Result<void> Probes::create_maps(const SensorSettings& settings) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0) return fail_errno(-cpus, "count the CPUs");
  geometry_.cpus = static_cast<std::uint32_t>(cpus);
  geometry_.rings = std::clamp(std::min(geometry_.cpus, settings.rings_max), 1U, 1024U);
  geometry_.control_bytes = ring_bytes(settings.control_ring_bytes);
  geometry_.data_bytes = ring_bytes(settings.data_ring_bytes);
  geometry_.kinds = CULPRIT_EVENT_KINDS;
  ASSIGN(control_, create_rings("culprit_control", geometry_.rings, geometry_.control_bytes));
  ASSIGN(data_, create_rings("culprit_data", geometry_.rings, geometry_.data_bytes));
  ASSIGN(control_rings_, create_ring_table("control_rings", control_));
  ASSIGN(data_rings_, create_ring_table("data_rings", data_));
  ASSIGN(counters_, create_map(BPF_MAP_TYPE_ARRAY, "kind_counts", 4, sizeof(culprit_kind_counts),
                               geometry_.cpus * geometry_.kinds, BPF_F_MMAPABLE));
  ASSIGN(watched_tgids_, create_map(BPF_MAP_TYPE_HASH, "watched_tgids", 4, 4, kWatchedTgidsMax, BPF_F_NO_PREALLOC));
  ASSIGN(watched_cgroups_,
         create_map(BPF_MAP_TYPE_HASH, "watched_cgroups", 8, 4, kWatchedCgroupsMax, BPF_F_NO_PREALLOC));
  ASSIGN(timed_calls_, create_map(BPF_MAP_TYPE_PERCPU_HASH, "timed_calls", sizeof(culprit_timed_call_key),
                                  sizeof(culprit_latency), CULPRIT_TIMED_CALLS_MAX, BPF_F_NO_PREALLOC));
  ASSIGN(budget_spent_, create_map(BPF_MAP_TYPE_RINGBUF, "budget_spent", 0, 0, static_cast<std::uint32_t>(sysconf(_SC_PAGESIZE))));
  budget_reader_.reset(ring_buffer__new(budget_spent_.get(), &Probes::on_budget_spent, this, nullptr));
  if (!budget_reader_) return fail_errno(errno, "map the ring of spent budgets");
  ASSIGN(table_full_, create_map(BPF_MAP_TYPE_ARRAY, "table_full", 4, 8, CULPRIT_TABLES));
  return {};
}

// One attempt to load a family without what was refused so far. False: try again.
bool Probes::try_load(Family& family, std::vector<Program>& verdicts) {
  libbpf_log().clear();
  family.opened = family.open();
  bpf_object* object = family.opened.object;
  const auto skip = [&](const std::string& name, const std::string& reason) {
    family.refused.insert(name);
    verdicts.push_back({family.name, name, ProgramState::Skipped, reason, 0});
  };
  bpf_program* program = nullptr;
  if (object == nullptr) {
    verdicts.push_back({family.name, family.name, ProgramState::Skipped, reason_of(libbpf_log(), errno), 0});
    return true;
  }
  std::size_t wanted = 0;
  bpf_object__for_each_program(program, object) {
    const std::string name = bpf_program__name(program);
    const auto stand_in = family.stands_in.find(name);
    const bool idle = stand_in != family.stands_in.end() && !family.refused.contains(stand_in->second.front());
    const bool load = !family.refused.contains(name) && !idle;
    bpf_program__set_autoload(program, load);
    wanted += load;
  }
  if (wanted == 0) {
    family.opened = {};
    return true;
  }
  const struct {
    const char* name;
    int fd;
  } shared[] = {{"control_rings", control_rings_.get()}, {"data_rings", data_rings_.get()},
                {"kind_counts", counters_.get()},        {"table_full", table_full_.get()},
                {"watched_tgids", watched_tgids_.get()}, {"watched_cgroups", watched_cgroups_.get()},
                {"timed_calls", timed_calls_.get()},     {"budget_spent", budget_spent_.get()}};
  for (const auto& map : shared) {
    if (bpf_map* found = bpf_object__find_map_by_name(object, map.name)) (void)bpf_map__reuse_fd(found, map.fd);
  }
  const int error = bpf_object__load(object);
  if (error == 0) return true;
  const std::string name = failed_program(libbpf_log());
  const std::string reason = reason_of(libbpf_log(), error);
  if (!name.empty() && !family.refused.contains(name)) {
    skip(name, reason);
    family.opened = {};
    return false;
  }
  bpf_object__for_each_program(program, object) {
    if (bpf_program__autoload(program)) skip(bpf_program__name(program), reason);
  }
  family.opened = {};
  return true;
}

void Probes::attach(Family& family, std::vector<Program>& verdicts) {
  if (family.opened.object == nullptr) return;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, family.opened.object) {
    if (!bpf_program__autoload(program)) continue;
    libbpf_log().clear();
    const std::string name = bpf_program__name(program);
    Link link(bpf_program__type(program) == BPF_PROG_TYPE_TRACING &&
                      bpf_program__expected_attach_type(program) == BPF_TRACE_ITER
                  ? bpf_program__attach_iter(program, nullptr)
                  : bpf_program__attach(program));
    if (!link) {
      family.refused.insert(name);
      verdicts.push_back({family.name, name, ProgramState::Skipped, reason_of(libbpf_log(), errno), 0});
      continue;
    }
    bpf_prog_info info{};
    std::uint32_t bytes = sizeof(info);
    const int fd = bpf_program__fd(program);
    const bool known = bpf_prog_get_info_by_fd(fd, &info, &bytes) == 0;
    const bool on_demand = family.on_demand.contains(name);
    verdicts.push_back({family.name, name, ProgramState::Attached, on_demand ? "only while wanted: see calls_percent" : "",
                        known ? info.verified_insns : 0});
    family.program_fds.emplace_back(name, fd);
    if (!on_demand) family.links.emplace_back(name, std::move(link));
  }
}

void Probes::load_family(Family& family) {
  std::vector<Program> verdicts;
  while (!try_load(family, verdicts)) {
  }
  attach(family, verdicts);
  // A stand-in is tried when the program it replaces was refused, be it at load or at attach.
  for (const auto& [name, originals] : family.stands_in) {
    const std::string& original = originals.front();
    const auto attached = [&](const std::string& who) {
      return std::any_of(family.links.begin(), family.links.end(), [&](const auto& link) { return link.first == who; });
    };
    if (attached(original) || attached(name) || !family.refused.contains(original)) continue;
    ensure_tracefs();
    family.links.clear();
    family.program_fds.clear();
    std::erase_if(verdicts, [](const Program& p) { return p.state == ProgramState::Attached; });
    while (!try_load(family, verdicts)) {
    }
    attach(family, verdicts);
  }
  // What a stand-in sees is not missing: the one program tells both stories.
  for (const auto& [name, originals] : family.stands_in) {
    const auto stand_in = std::ranges::find_if(verdicts, [&](const Program& p) { return p.name == name && p.state == ProgramState::Attached; });
    const auto replaced = std::ranges::find_if(verdicts, [&](const Program& p) { return p.name == originals.front(); });
    if (stand_in == verdicts.end() || replaced == verdicts.end()) continue;
    stand_in->reason = fmt::format("in place of {}: {}", originals.front(), replaced->reason);
    std::erase_if(verdicts, [&](const Program& p) { return p.state != ProgramState::Attached && std::ranges::find(originals, p.name) != originals.end(); });
  }
  programs_.insert(programs_.end(), verdicts.begin(), verdicts.end());
}

Result<std::unique_ptr<Probes>> Probes::open(const SensorSettings& settings, std::span<const std::uint32_t> ignored) {
  libbpf_set_print(keep_libbpf_log);
  std::unique_ptr<Probes> probes(new Probes());
  if (auto created = probes->create_maps(settings); !created) {
    return fail(created.error().code,
                fmt::format("BPF needs root, or CAP_BPF and CAP_PERFMON: {}", created.error().message));
  }
  const KernelHooks hooks = inspect_kernel();
  const RingGeometry geometry = probes->geometry_;
  const std::uint64_t slow_ns = std::uint64_t{settings.slow_ms} * 1'000'000;
  const auto common = [geometry](auto* rodata) {
    rodata->ring_count = geometry.rings;
    rodata->control_wake_bytes = geometry.control_bytes / 4;
    rodata->data_wake_bytes = geometry.data_bytes / 4;
  };
  const auto add = [&](const char* name, auto open, auto destroy, const auto& configure) {
    auto family = std::make_unique<Family>();
    family->name = name;
    family->open = [=] {
      auto* skeleton = open();
      if (skeleton == nullptr) return Family::Opened{};
      common(skeleton->rodata);
      configure(skeleton->rodata);
      return Family::Opened{std::shared_ptr<void>(skeleton, [=](void* s) { destroy(static_cast<decltype(skeleton)>(s)); }),
                            skeleton->obj};
    };
    probes->families_.push_back(std::move(family));
  };
  add("process", process_probe__open, process_probe__destroy,
      [hooks](auto* rodata) { rodata->exit_has_group_dead = hooks.exit_has_group_dead; });
  add("oom", oom_probe__open, oom_probe__destroy, [hooks](auto* rodata) {
    rodata->victim_is_task = hooks.victim_is_task;
    rodata->page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  });
  probes->families_.back()->stands_in = {{"on_oom_classic", {"on_oom_victim"}}};
  add("signal", signal_probe__open, signal_probe__destroy, [](auto*) {});
  add("sched", sched_probe__open, sched_probe__destroy, [](auto*) {});
  add("block", block_probe__open, block_probe__destroy, [slow_ns](auto* rodata) { rodata->slow_ns = slow_ns; });
  add("tcp", tcp_probe__open, tcp_probe__destroy, [](auto*) {});
  add("tcp_iter", tcp_iter_probe__open, tcp_iter_probe__destroy, [](auto*) {});
  std::vector<std::uint32_t> own(ignored.begin(), ignored.end());
  own.resize(CULPRIT_IGNORED_MAX, 0);
  const std::uint32_t watch_all = (settings.watch_all_payload ? CULPRIT_WATCH_PAYLOAD : 0U) |
                                  (settings.watch_all_logs ? CULPRIT_WATCH_LOGS : 0U);
  const auto timed = [=](auto* rodata) {
    rodata->slow_ns = slow_ns;
    for (std::size_t i = 0; i < CULPRIT_IGNORED_MAX; ++i) rodata->ignored_tgids[i] = own[i];
  };
  add("sync", sync_probe__open, sync_probe__destroy, timed);
  probes->families_.back()->stands_in = {{"on_ext4_sync", {"on_sync_start", "on_fsync_start", "on_fdsync_start"}},
                                           {"on_ext4_synced", {"on_sync_end", "on_fsync_end", "on_fdsync_end"}}};
  Probes* const self = probes.get();
  add("syscall", syscall_probe__open, syscall_probe__destroy, [=](auto* rodata) {
    timed(rodata);
    rodata->syncs_timed = self->timed_syncs();  // sync is loaded before this
    rodata->payload_budget = static_cast<std::uint32_t>(
        std::max<std::uint64_t>(1, (std::uint64_t{settings.payload_records_per_cpu} << CULPRIT_BUDGET_WINDOW_SHIFT) / 1'000'000'000));
    rodata->watch_all = watch_all;
  });
  probes->families_.back()->on_demand = {"on_sys_enter", "on_sys_exit"};
  for (auto& family : probes->families_) probes->load_family(*family);
  return probes;
}

int Probes::map_fd(const char* family, const char* name) const {
  for (const auto& candidate : families_) {
    if (candidate->name != family || candidate->opened.object == nullptr) continue;
    return bpf_object__find_map_fd_by_name(candidate->opened.object, name);
  }
  return -1;
}

int Probes::on_budget_spent(void* self, void* window, std::size_t bytes) {
  std::uint64_t& last = static_cast<Probes*>(self)->spent_window_;
  if (bytes == sizeof(last)) last = std::max(last, *static_cast<const std::uint64_t*>(window));
  return 0;
}

std::uint64_t Probes::budget_spent() {
  (void)ring_buffer__consume(budget_reader_.get());
  return spent_window_;
}

std::uint64_t Probes::entries_seen() const {
  std::vector<std::uint64_t> of_cpus(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  const std::uint32_t first = 0;
  if (bpf_map_lookup_elem(map_fd("syscall", "entries_seen"), &first, of_cpus.data()) != 0) return 0;
  return std::accumulate(of_cpus.begin(), of_cpus.end(), std::uint64_t{0});
}

bool Probes::is_attached(const char* program) const {
  return std::ranges::any_of(programs_, [&](const Program& p) { return p.name == program && p.state == ProgramState::Attached; });
}

culprit_syncs Probes::timed_syncs() const {
  if (is_attached("on_sync_start") && is_attached("on_sync_end")) return CULPRIT_SYNCS_ALL;
  if (is_attached("on_ext4_sync") && is_attached("on_ext4_synced")) return CULPRIT_SYNCS_EXT4;
  return CULPRIT_SYNCS_NONE;
}

void Probes::observe_calls(bool returns, bool entries) {
  const auto family = std::ranges::find_if(families_, [](const auto& f) { return f->name == "syscall"; });
  if (family == families_.end() || (*family)->opened.object == nullptr) return;
  const struct {
    const char* program;
    bool wanted;
    bool& observed;
  } changes[] = {{"on_sys_exit", returns, returns_observed_}, {"on_sys_enter", entries, entries_observed_}};
  for (const auto& [name, wanted, observed] : changes) {
    if (wanted == observed || !is_attached(name)) continue;
    if (!wanted) {
      std::erase_if((*family)->links, [name](const auto& link) { return link.first == name; });
    } else {
      libbpf_log().clear();
      Link link(bpf_program__attach(bpf_object__find_program_by_name((*family)->opened.object, name)));
      if (!link) {
        log::warn("attach {}: {}; trying again later", name, reason_of(libbpf_log(), errno));
        continue;
      }
      (*family)->links.emplace_back(name, std::move(link));
    }
    observed = wanted;
  }
}

template <typename T>
Result<std::vector<T>> Probes::read_all(const char* family_name, const char* program) const {
  for (const auto& family : families_) {
    if (family->name != family_name) continue;
    const auto link = std::ranges::find_if(family->links, [&](const auto& named) { return named.first == program; });
    if (link == family->links.end()) break;
    const Fd fd(bpf_iter_create(bpf_link__fd(link->second.get())));
    if (!fd) return fail_errno(errno, fmt::format("start the iterator {}", program));
    std::vector<T> rows;
    std::size_t have = 0;
    while (have < kRowsBytesMax) {
      constexpr std::size_t kStep = 512;
      rows.resize(have / sizeof(T) + kStep);
      const ssize_t bytes = read(fd.get(), reinterpret_cast<std::byte*>(rows.data()) + have, rows.size() * sizeof(T) - have);
      if (bytes < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (bytes < 0) return fail_errno(errno, fmt::format("read the iterator {}", program));
      if (bytes == 0) break;
      have += static_cast<std::size_t>(bytes);
    }
    rows.resize(have / sizeof(T));
    return rows;
  }
  return fail(Code::Unsupported, fmt::format("the iterator {} is not attached", program));
}

Result<std::vector<culprit_tcp_info>> Probes::read_sockets() const { return read_all<culprit_tcp_info>("tcp_iter", "on_tcp_socket"); }
Result<std::vector<culprit_task_time>> Probes::read_tasks() const { return read_all<culprit_task_time>("sched", "on_each_task"); }

std::vector<ProgramSample> Probes::missed() const {
  std::vector<ProgramSample> samples;
  for (const auto& family : families_) {
    for (const auto& [name, fd] : family->program_fds) {
      bpf_prog_info info{};
      std::uint32_t bytes = sizeof(info);
      if (bpf_prog_get_info_by_fd(fd, &info, &bytes) == 0) samples.push_back({name, info.recursion_misses});
    }
  }
  return samples;
}

}  // namespace culprit::sensor
