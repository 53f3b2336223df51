#include "daemon/track/tracker.h"

#include <algorithm>
#include <cstring>

#include "daemon/track/counts.h"
#include "daemon/track/directory.h"
#include "daemon/track/lines.h"
#include "daemon/track/network.h"
#include "daemon/track/output.h"
#include "daemon/track/requests.h"

namespace culprit::track {

namespace {

constexpr double kAllSeen = 0.999;
constexpr std::int64_t kTickReorderNs = 100'000'000;    // if nobody calls advance()
constexpr std::int64_t kSocketGoneNs = 5'000'000'000;   // not listed by the kernel, and not used for this long
constexpr std::size_t kPidsShown = 64;
constexpr double kWatchedShareMin = 0.001;  // less is too little to scale by
constexpr std::size_t kPayloadHead = offsetof(culprit_payload_event, data);

// Size that a record of this kind must have; 0: the kind is unknown. Payload has two.
bool good_size(const culprit_header& header, std::size_t size) {
  switch (header.kind) {
    case CULPRIT_EVENT_EXEC: return size == sizeof(culprit_exec_event);
    case CULPRIT_EVENT_EXIT: return size == sizeof(culprit_exit_event);
    case CULPRIT_EVENT_FORK: return size == sizeof(culprit_fork_event);
    case CULPRIT_EVENT_OOM: return size == sizeof(culprit_oom_event);
    case CULPRIT_EVENT_SIGNAL: return size == sizeof(culprit_signal_event);
    case CULPRIT_EVENT_TCP_STATE: return size == sizeof(culprit_tcp_state_event);
    case CULPRIT_EVENT_TCP_RETRANSMIT: return size == sizeof(culprit_tcp_retransmit_event);
    case CULPRIT_EVENT_TCP_RESET: return size == sizeof(culprit_tcp_reset_event);
    case CULPRIT_EVENT_SYSCALL_SLOW: return size == sizeof(culprit_syscall_slow_event);
    case CULPRIT_EVENT_PAYLOAD: return size == kPayloadHead + CULPRIT_PAYLOAD_SMALL || size == kPayloadHead + CULPRIT_PAYLOAD_LARGE;
    case CULPRIT_EVENT_LOG: return size == sizeof(culprit_log_event);
    case CULPRIT_EVENT_BLOCK_SLOW: return size == sizeof(culprit_block_slow_event);
    default: return false;
  }
}

template <typename T>
T decode(std::span<const std::byte> record) {
  T out;
  std::memcpy(&out, record.data(), sizeof(T));
  return out;
}

}  // namespace

struct Tracker::Impl {
  Impl(TrackerOptions o, Sink& sink)
      : options(std::move(o)), output(sink, stats), directory(options, stats, output), network(options, stats, output, directory),
        requests(options, stats, output, directory, network), lines(options, stats, output, directory, requests),
        counts(options, stats, output, directory) {}

  // A record that waits for its turn: sorted by time, then by arrival.
  struct Waiting {
    std::uint64_t time_ns;
    std::uint64_t order;
    std::size_t offset, size;
  };

  void keep(std::span<const std::byte> record, const culprit_header& header);
  void process_until(std::int64_t until_ns);
  void process(std::span<const std::byte> record);
  void on_tcp_info(std::int64_t now_ns, std::span<const culprit_tcp_info> sockets);
  void follow_names();
  void tick(std::int64_t now_ns);

  TrackerOptions options;
  TrackStats stats;
  Output output;
  Directory directory;
  Network network;
  Requests requests;
  Lines lines;
  Counts counts;

  std::vector<Waiting> waiting, later;
  std::vector<std::byte> bytes, bytes_later;
  std::uint64_t order = 0;
  std::int64_t horizon_ns = 0;  // processed up to here
  std::int64_t tick_ns = 0;
  double watched_share = 1;
};

void Tracker::Impl::keep(std::span<const std::byte> record, const culprit_header& header) {
  if (bytes.size() + record.size() > options.limits.pending_bytes && !waiting.empty()) {
    // Too much to hold back: the older half goes now, less well ordered.
    std::vector<std::uint64_t> times;
    times.reserve(waiting.size());
    for (const Waiting& entry : waiting) times.push_back(entry.time_ns);
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::ranges::nth_element(times, middle);
    const std::uint64_t before = stats.processed;
    process_until(static_cast<std::int64_t>(*middle));
    stats.forced += stats.processed - before;
  }
  waiting.push_back({header.time_ns, order++, bytes.size(), record.size()});
  bytes.insert(bytes.end(), record.begin(), record.end());
  stats.pending = waiting.size();
}

void Tracker::Impl::process_until(std::int64_t until_ns) {
  const auto until = static_cast<std::uint64_t>(std::max<std::int64_t>(until_ns, 0));
  std::ranges::sort(waiting, [](const Waiting& a, const Waiting& b) { return a.time_ns != b.time_ns ? a.time_ns < b.time_ns : a.order < b.order; });
  std::size_t done = 0;
  while (done < waiting.size() && waiting[done].time_ns <= until) {
    const Waiting& entry = waiting[done++];
    const auto time_ns = static_cast<std::int64_t>(entry.time_ns);
    if (time_ns < horizon_ns) ++stats.late;
    directory.set_now(time_ns);
    process({bytes.data() + entry.offset, entry.size});
    ++stats.processed;
  }
  later.clear();
  bytes_later.clear();
  for (std::size_t i = done; i < waiting.size(); ++i) {
    Waiting entry = waiting[i];
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(entry.offset);
    entry.offset = bytes_later.size();
    bytes_later.insert(bytes_later.end(), from, from + static_cast<std::ptrdiff_t>(entry.size));
    later.push_back(entry);
  }
  waiting.swap(later);
  bytes.swap(bytes_later);
  stats.pending = waiting.size();
  horizon_ns = std::max(horizon_ns, until_ns);
  directory.set_now(horizon_ns);
}

void Tracker::Impl::process(std::span<const std::byte> record) {
  switch (decode<culprit_header>(record).kind) {
    case CULPRIT_EVENT_EXEC: directory.on_exec(decode<culprit_exec_event>(record)); break;
    case CULPRIT_EVENT_EXIT: directory.on_exit(decode<culprit_exit_event>(record)); break;
    case CULPRIT_EVENT_FORK: directory.on_fork(decode<culprit_fork_event>(record)); break;
    case CULPRIT_EVENT_OOM: directory.on_oom(decode<culprit_oom_event>(record)); break;
    case CULPRIT_EVENT_SIGNAL: directory.on_signal(decode<culprit_signal_event>(record)); break;
    case CULPRIT_EVENT_TCP_STATE: requests.on_state(decode<culprit_tcp_state_event>(record)); break;
    case CULPRIT_EVENT_TCP_RETRANSMIT: {
      const auto event = decode<culprit_tcp_retransmit_event>(record);
      if (Socket* socket = network.find(event.socket.sock); socket != nullptr) network.retransmit(*socket, 1);
      break;
    }
    case CULPRIT_EVENT_TCP_RESET: {
      const auto event = decode<culprit_tcp_reset_event>(record);
      if (Socket* socket = network.find(event.socket.sock); socket != nullptr) network.reset(*socket, static_cast<std::int64_t>(event.header.time_ns));
      break;
    }
    case CULPRIT_EVENT_SYSCALL_SLOW: counts.on_syscall_slow(decode<culprit_syscall_slow_event>(record)); break;
    case CULPRIT_EVENT_BLOCK_SLOW: counts.on_block_slow(decode<culprit_block_slow_event>(record)); break;
    case CULPRIT_EVENT_PAYLOAD: {
      culprit_payload_event event;
      std::memcpy(&event, record.data(), record.size());  // the small form has no more
      event.captured = std::min(event.captured, static_cast<culprit_u16>(record.size() - kPayloadHead));
      event.bytes = std::max<std::uint64_t>(event.bytes, event.captured);
      requests.on_payload(event);
      break;
    }
    case CULPRIT_EVENT_LOG: {
      auto event = decode<culprit_log_event>(record);
      event.captured = std::min<std::uint32_t>(event.captured, CULPRIT_LINE_MAX);
      lines.on_log(event);
      break;
    }
    default: break;  // on_record lets no others in
  }
}

void Tracker::Impl::on_tcp_info(std::int64_t now_ns, std::span<const culprit_tcp_info> infos) {
  std::unordered_set<std::uint64_t> listed;
  std::unordered_set<std::uint32_t> netns;
  listed.reserve(infos.size());
  for (auto& [id, service] : directory.services()) service->accept_queue_ratio = 0;
  for (const culprit_tcp_info& info : infos) {
    if (info.socket.sock == 0) continue;
    listed.insert(info.socket.sock);
    netns.insert(info.socket.netns);
    const bool listening = info.state == CULPRIT_TCP_LISTEN;
    if (!listening && info.state != CULPRIT_TCP_ESTABLISHED && info.state != CULPRIT_TCP_CLOSE_WAIT) continue;
    // A snapshot may be older than the records: it makes sockets only where there is none.
    Socket* socket = network.find(info.socket.sock);
    if (socket == nullptr) {
      std::unique_ptr<Socket> replaced;
      socket = network.open(info.socket, replaced);
      if (socket == nullptr) continue;
      socket->used_ns = now_ns;
    }
    socket->inode = info.inode;
    const std::uint32_t owner = network.owner_of(info.inode);
    if (listening) {
      // Who called listen() is known best; of those who share the descriptor the oldest.
      const bool known = socket->tgid != 0 && directory.find(socket->tgid) != nullptr;
      network.listen(*socket, known || owner == 0 ? socket->tgid : owner);
      if (Service* service = directory.find(directory.service_of(socket->tgid)); service != nullptr && info.send_queue_bytes > 0) {
        service->accept_queue_ratio = std::max(service->accept_queue_ratio, static_cast<double>(info.receive_queue_bytes) / info.send_queue_bytes);
      }
      continue;
    }
    socket->established = true;
    if (socket->tgid == 0 && owner != 0) socket->tgid = owner;
    network.decide_role(*socket);
    if (info.state == CULPRIT_TCP_ESTABLISHED && socket->listed_ns == 0) {  // after that the end of a stream counts too
      std::ranges::copy(info.positions, socket->listed_positions);
      socket->listed_ns = now_ns;
    }
    if (socket->role != Role::Client || info.srtt_us == 0) continue;
    if (Edge* edge = network.edge_of(*socket); edge != nullptr) {
      edge->rtt_sum_s += static_cast<double>(info.srtt_us) * 1e-6;
      ++edge->rtts;
    }
  }
  std::vector<std::uint64_t> gone;
  for (const auto& [sock, socket] : network.sockets()) {
    if (!listed.contains(sock) && netns.contains(socket->id.netns) && now_ns - socket->used_ns > kSocketGoneNs) gone.push_back(sock);
  }
  for (const std::uint64_t sock : gone) {
    if (const auto socket = network.close(sock)) requests.closed(*socket, now_ns, 0, true);
  }
  while (const auto evicted = network.evict()) requests.closed(*evicted, now_ns, 0, false);
}

// Names that changed reach the edges.
void Tracker::Impl::follow_names() {
  for (const auto& [id, old_name] : directory.take_renamed()) network.forget_name(id, old_name);
}

void Tracker::Impl::tick(std::int64_t now_ns) {
  if (horizon_ns < now_ns - kTickReorderNs) process_until(now_ns - kTickReorderNs);
  directory.set_now(now_ns);
  const double seconds = tick_ns == 0 || now_ns <= tick_ns ? 1.0 : static_cast<double>(now_ns - tick_ns) * 1e-9;
  tick_ns = now_ns;
  follow_names();
  requests.accrue(horizon_ns, watched_share >= kAllSeen);
  lines.tick(now_ns);
  directory.tick();
  network.emit_second(now_ns, seconds, seconds * watched_share);
  counts.emit_services(now_ns, seconds, seconds * watched_share);
  counts.emit_host(now_ns, seconds);
  counts.begin_second();
  requests.begin_second(horizon_ns);
  network.forget(now_ns);
  stats.processes = directory.processes().size();
  stats.services = directory.services().size();
  stats.sockets = network.sockets().size();
  stats.edges = network.edges().size();
  output.flush();
}

Tracker::Tracker(TrackerOptions options, Sink& sink) : impl_(std::make_unique<Impl>(std::move(options), sink)) {}
Tracker::~Tracker() = default;

void Tracker::on_record(std::span<const std::byte> record) {
  ++impl_->stats.records_in;
  if (record.size() < sizeof(culprit_header)) {
    ++impl_->stats.dropped_bad_size;
    return;
  }
  const auto header = decode<culprit_header>(record);
  if (header.kind == CULPRIT_EVENT_NONE || header.kind >= CULPRIT_EVENT_KINDS) {
    ++impl_->stats.dropped_unknown_kind;
  } else if (!good_size(header, record.size()) || header.time_ns > kTimeMaxNs) {
    ++impl_->stats.dropped_bad_size;
  } else {
    impl_->keep(record, header);
  }
}

void Tracker::advance(std::int64_t until_ns) {
  impl_->process_until(until_ns);
  impl_->output.flush();
}

void Tracker::on_facts(std::uint32_t pid, const ProcessFacts& facts) {
  if (pid == 0) return;
  impl_->directory.on_facts(pid, facts);
  impl_->follow_names();
  for (const std::uint64_t inode : facts.sockets) impl_->network.on_socket_owner(pid, inode);
  impl_->output.flush();
}

void Tracker::on_socket_owner(std::uint32_t pid, std::uint64_t inode) { impl_->network.on_socket_owner(pid, inode); }

void Tracker::on_sched(std::int64_t now_ns, Snapshot<std::uint32_t, culprit_sched_counts> counts) {
  impl_->directory.set_now(now_ns);
  impl_->counts.on_sched(now_ns, counts);
}
void Tracker::on_calls_observed(std::int64_t now_ns, std::uint64_t returns_ns, std::uint64_t entries_ns) {
  impl_->counts.on_calls_observed(now_ns, returns_ns, entries_ns);
}
void Tracker::on_watched_share(double share) { impl_->watched_share = std::clamp(share, kWatchedShareMin, 1.0); }
void Tracker::on_syscall_errors(std::int64_t now_ns, Snapshot<culprit_syscall_error_key, culprit_syscall_error_counts> counts) {
  impl_->counts.on_syscall_errors(now_ns, counts);
}
void Tracker::on_timed_calls(std::int64_t now_ns, Snapshot<culprit_timed_call_key, culprit_latency> counts) {
  impl_->counts.on_timed_calls(now_ns, counts);
}
void Tracker::on_block(std::int64_t now_ns, Snapshot<culprit_block_key, culprit_block_counts> counts) { impl_->counts.on_block(now_ns, counts); }
void Tracker::on_tcp_info(std::int64_t now_ns, std::span<const culprit_tcp_info> sockets) { impl_->on_tcp_info(now_ns, sockets); }
void Tracker::on_cgroup_limits(std::int64_t now_ns, std::span<const CgroupFacts> cgroups) { impl_->counts.on_cgroup_limits(now_ns, cgroups); }
void Tracker::on_filesystems(std::int64_t, std::span<const FilesystemFacts> filesystems) { impl_->counts.on_filesystems(filesystems); }
void Tracker::on_devices(std::span<const DeviceName> devices) { impl_->counts.on_devices(devices); }
void Tracker::on_host(std::int64_t, const HostFacts& host) {
  impl_->network.set_own_addresses(host.addresses);
  impl_->counts.on_host(host);
}

void Tracker::on_gap(std::int64_t from_ns, std::int64_t to_ns) {
  impl_->process_until(from_ns);
  impl_->directory.set_now(to_ns);
  impl_->requests.forget_open();
  impl_->counts.forget_base();
  for (auto& [pid, process] : impl_->directory.processes()) process->facts_ns = process->asked_ns = 0;  // who is still there?
  if (stream::Event* event = impl_->directory.kernel_event(to_ns, "sensor.gap", 0, ServiceId::None, "")) {
    event->severity = stream::kWarn;
    event->value = static_cast<double>(to_ns - from_ns) * 1e-9;
    impl_->directory.submit(event);
  }
  impl_->output.flush();
}

void Tracker::tick(std::int64_t now_ns) { impl_->tick(now_ns); }

TrackStats Tracker::stats() const { return impl_->stats; }

std::vector<ServiceView> Tracker::services() const {
  std::vector<ServiceView> out;
  for (const auto& [id, holder] : impl_->directory.services()) {
    const Service& service = *holder;
    if (!service.alive && !service.significant) continue;
    ServiceView view;
    view.name = service.name;
    view.significant = service.significant;
    view.watched = service.watched;
    view.cgroup = service.cgroup;
    view.cgroup_memory_v1 = service.cgroup_memory_v1;
    if (const Process* main = impl_->directory.find(service.main_pid); main != nullptr) {
      view.exe = main->facts.exe;
      view.script = main->facts.script;
    }
    for (const std::uint32_t pid : service.pids) {
      if (view.pids.size() == kPidsShown) break;
      view.pids.push_back(pid);
    }
    view.main_pid = service.main_pid;
    view.ports.assign(service.ports.begin(), service.ports.end());
    view.started_ns = service.started_ns;
    view.seen_ns = service.seen_ns;
    view.rate = service.last.rate;
    view.errors = service.last.errors;
    view.p50_s = service.last.p50_s;
    view.p99_s = service.last.p99_s;
    view.inflight = service.last.inflight;
    view.inflight_age_s = service.last.age_s;
    view.cpu = service.last_cpu;
    view.rss_bytes = service.last_rss;
    for (const auto& [operation, endpoint] : service.endpoints) {
      view.endpoints.push_back({operation, endpoint->last.rate, endpoint->last.errors, endpoint->last.p50_s, endpoint->last.p99_s});
    }
    std::ranges::sort(view.endpoints, {}, &EndpointView::operation);
    out.push_back(std::move(view));
  }
  std::ranges::sort(out, {}, &ServiceView::name);
  return out;
}

std::vector<EdgeView> Tracker::edges() const {
  std::vector<EdgeView> out;
  for (const auto& [key, holder] : impl_->network.edges()) {
    const Edge& edge = *holder;
    EdgeView view;
    view.caller = edge.caller_name;
    view.callee = edge.callee;
    view.rate = edge.last.rate;
    view.errors = edge.last.errors;
    view.mean_s = edge.last.mean_s;
    view.p99_s = edge.last.p99_s;
    view.inflight = edge.last.inflight;
    view.inflight_age_s = edge.last.age_s;
    view.wait_share = edge.last_wait_share;
    view.retransmits = edge.last_retransmits;
    view.rtt_s = edge.last_rtt_s;
    view.seen_ns = edge.used_ns;
    out.push_back(std::move(view));
  }
  std::ranges::sort(out, [](const EdgeView& a, const EdgeView& b) { return a.caller != b.caller ? a.caller < b.caller : a.callee < b.callee; });
  return out;
}

std::vector<ProcessView> Tracker::processes() const {
  std::vector<ProcessView> out;
  for (const auto& [pid, holder] : impl_->directory.processes()) {
    const Process& process = *holder;
    ProcessView view;
    view.pid = pid;
    view.ppid = process.ppid;
    view.uid = process.facts.uid;
    view.service = service_of(pid);
    view.comm = process.comm;
    view.exe = process.facts.exe;
    view.cmdline = process.facts.cmdline;
    view.started_ns = process.start_ns;
    view.state = process.stopped ? 'T' : process.facts.state;
    view.watched = process.watched != 0;
    out.push_back(std::move(view));
  }
  std::ranges::sort(out, {}, &ProcessView::pid);
  return out;
}

std::string Tracker::service_of(std::uint32_t pid) const {
  const Service* service = impl_->directory.find(impl_->directory.service_of(pid));
  return service == nullptr ? std::string() : service->name;
}

std::vector<std::string> Tracker::cgroups() const {
  std::vector<std::string> out;
  for (const auto& [id, service] : impl_->directory.services()) {
    if (!service->alive || !service->significant || !named(service->by)) continue;
    if (service->cgroup.size() > 1) out.push_back(service->cgroup);
    if (service->cgroup_memory_v1.size() > 1 && service->cgroup_memory_v1 != service->cgroup) out.push_back(service->cgroup_memory_v1);
  }
  return out;
}

}  // namespace culprit::track
