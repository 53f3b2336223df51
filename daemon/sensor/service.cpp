#include "daemon/sensor/service.h"

#include <bpf/bpf.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <utility>

#include "daemon/base/log.h"
#include "daemon/sensor/protocol.h"

namespace culprit::sensor {
namespace {

constexpr std::size_t kReplyPartBytes = 48 * 1024;
constexpr std::size_t kRequestsPerTurn = 64;  // then snapshots get their chance
constexpr int kSocketBytes = 4 << 20;
constexpr std::uint32_t kTaskSamples = 2;  // readings of who is blocked, for each snapshot
constexpr std::uint32_t kCaptureAll = kCapturePayload | kCaptureLogs;

MessageHeader header_of(MessageType type, std::uint32_t id = 0, std::uint16_t flags = 0) {
  MessageHeader header;
  header.type = static_cast<std::uint16_t>(type);
  header.id = id;
  header.flags = flags;
  return header;
}

template <typename T>
Result<void> put_value(std::vector<std::byte>& body, const Result<T>& value) {
  if (!value) return std::unexpected(value.error());
  Writer out(body);
  if constexpr (std::is_same_v<T, std::string>) {
    out.put_string(*value);
  } else {
    encode(out, *value);
  }
  return {};
}

template <typename T>
Result<void> put_values(std::vector<std::byte>& body, const std::vector<T>& values) {
  Writer out(body);
  out.put(static_cast<std::uint32_t>(values.size()));
  for (const T& value : values) encode(out, value);
  return {};
}

}  // namespace

Service::Service(Fd socket, const SensorSettings& settings, Probes& probes, const Procfs& procfs, const Clock& clock)
    : socket_(std::move(socket)), settings_(settings), probes_(probes), procfs_(procfs), clock_(clock), snapshots_(probes, procfs, clock),
      schedule_(settings.calls_percent, static_cast<std::uint64_t>(clock.now_ns())) {
  // A daemon that does not read for a second loses a snapshot; the next one is whole again.
  const timeval wait{1, 0};
  setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  if (setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBytes, sizeof(kSocketBytes)) != 0) {
    setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
  }
}

Result<void> Service::greet(std::vector<std::string> notes) {
  schedule_.set_watching(anyone_watched());
  (void)observe_calls();  // who hears our hello may count on it
  Hello hello;
  hello.version = kProtocolVersion;
  hello.sensor_pid = static_cast<std::uint32_t>(getpid());
  utsname name{};
  if (uname(&name) == 0) hello.kernel_release = name.release;
  timespec boot{}, monotonic{};
  clock_gettime(CLOCK_BOOTTIME, &boot);
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  hello.boot_offset_ns = (boot.tv_sec - monotonic.tv_sec) * kNsPerSecond + boot.tv_nsec - monotonic.tv_nsec;
  hello.geometry = probes_.geometry();
  hello.settings = settings_;
  hello.programs = probes_.programs();
  hello.notes = std::move(notes);
  std::vector<std::byte> body;
  Writer out(body);
  encode(out, hello);
  TRY(send_message(socket_.get(), header_of(MessageType::Hello), body));
  const std::span<const Fd> sets[] = {probes_.control_rings(), probes_.data_rings()};
  for (std::uint32_t set = 0; set < 2; ++set) {
    for (std::size_t first = 0; first < sets[set].size(); first += kFdsPerMessageMax) {
      std::vector<int> fds;
      for (const Fd& fd : sets[set].subspan(first, std::min(kFdsPerMessageMax, sets[set].size() - first))) {
        fds.push_back(fd.get());
      }
      body.clear();
      out.put(set);
      out.put(static_cast<std::uint32_t>(first));
      TRY(send_message(socket_.get(), header_of(MessageType::Rings), body, fds));
    }
  }
  const int counters[] = {probes_.counters_fd()};
  TRY(send_message(socket_.get(), header_of(MessageType::Counters), {}, counters));
  return send_message(socket_.get(), header_of(MessageType::Ready), {});
}

Result<void> Service::watch_tgid(std::uint32_t tgid, std::uint32_t flags) {
  if ((flags & ~kCaptureAll) != 0) return fail(Code::Invalid, "unknown capture flags");
  if (flags == 0) {
    (void)bpf_map_delete_elem(probes_.watched_tgids(), &tgid);
    return {};
  }
  if (bpf_map_update_elem(probes_.watched_tgids(), &tgid, &flags, BPF_ANY) != 0) {
    return fail(Code::Exhausted, "too many watched processes");
  }
  schedule_.set_watching(true);
  // Asked after the update: one that ended in between would leave its entry behind for ever.
  if (!procfs_.exists(tgid)) {
    (void)bpf_map_delete_elem(probes_.watched_tgids(), &tgid);
    return fail(Code::NotFound, "no process " + std::to_string(tgid));
  }
  return {};
}

Result<void> Service::watch_cgroup(const std::string& path, std::uint32_t flags) {
  if ((flags & ~kCaptureAll) != 0) return fail(Code::Invalid, "unknown capture flags");
  const auto id = procfs_.cgroup_id(path);
  if (!id && id.error().code == Code::Invalid) return std::unexpected(id.error());
  if (id) {
    if (flags == 0) {
      (void)bpf_map_delete_elem(probes_.watched_cgroups(), &*id);
    } else if (bpf_map_update_elem(probes_.watched_cgroups(), &*id, &flags, BPF_ANY) != 0) {
      return fail(Code::Exhausted, "too many watched cgroups");
    } else {
      schedule_.set_watching(true);  // whoever is born there is watched from the start
    }
  }
  const auto members = procfs_.cgroup_members(path);
  if (!id && members.empty()) return fail(Code::NotFound, "no cgroup '" + path + "'");
  for (const std::uint32_t tgid : members) (void)watch_tgid(tgid, flags);
  return {};
}

Result<void> Service::answer_into(std::span<const std::byte> request, std::vector<std::byte>& body) {
  Reader in(request);
  const auto kind = static_cast<RequestKind>(in.get<std::uint32_t>());
  const auto complete = [&] { return in.ok() && in.left() == 0; };
  const auto malformed = [] { return fail(Code::Invalid, "malformed request"); };
  switch (kind) {
    case RequestKind::WhoIs: {
      const auto tgid = in.get<std::uint32_t>();
      return complete() ? put_value(body, procfs_.process(tgid)) : malformed();
    }
    case RequestKind::FdPath: {
      const auto tgid = in.get<std::uint32_t>();
      const auto fd = in.get<std::int32_t>();
      return complete() && fd >= 0 ? put_value(body, procfs_.fd_path(tgid, fd)) : malformed();
    }
    case RequestKind::WatchTgid: {
      const auto tgid = in.get<std::uint32_t>();
      const auto flags = in.get<std::uint32_t>();
      return complete() ? watch_tgid(tgid, flags) : malformed();
    }
    case RequestKind::WatchCgroup: {
      const std::string path = in.get_string(4096);
      const auto flags = in.get<std::uint32_t>();
      return complete() ? watch_cgroup(path, flags) : malformed();
    }
    case RequestKind::ListProcesses: return complete() ? put_values(body, procfs_.processes()) : malformed();
    case RequestKind::ListSockets: {
      const auto tgid = in.get<std::uint32_t>();
      return complete() ? put_values(body, procfs_.socket_owners(tgid)) : malformed();
    }
    case RequestKind::FilesystemSpaces: return complete() ? put_values(body, procfs_.filesystems()) : malformed();
    case RequestKind::LookClosely: {
      const auto seconds = in.get<std::uint32_t>();
      if (!complete() || seconds > kCloselyMaxS) return malformed();
      schedule_.look_closely(clock_.now_ns() + seconds * kNsPerSecond);
      return {};
    }
    case RequestKind::ReadCgroup: {
      const std::string path = in.get_string(4096);
      return complete() ? put_value(body, procfs_.cgroup(path)) : malformed();
    }
  }
  return fail(Code::Unsupported, "not in the sensor's allow-list");
}

std::vector<std::byte> Service::answer(std::span<const std::byte> request) {
  std::vector<std::byte> body;
  Writer out(body);
  out.put(std::uint32_t{0});
  if (const auto done = answer_into(request, body); !done) {
    body.clear();
    out.put(1 + static_cast<std::uint32_t>(done.error().code));
    out.put_string(done.error().message);
  }
  return body;
}

Result<void> Service::send_reply(std::uint32_t id, std::span<const std::byte> body) {
  do {
    const auto part = body.first(std::min(body.size(), kReplyPartBytes));
    body = body.subspan(part.size());
    TRY(send_message(socket_.get(), header_of(MessageType::Reply, id, body.empty() ? kLastPart : 0), part));
  } while (!body.empty());
  return {};
}

Result<void> Service::send_snapshot() {
  Snapshot snapshot = snapshots_.take(schedule_.looking_closely(clock_.now_ns()));
  schedule_.set_watching(anyone_watched());
  (void)observe_calls();
  snapshot.returns_observed_ns = returns_observed_ns_;
  snapshot.entries_observed_ns = entries_observed_ns_;
  snapshot.rested_ns = rested_ns_;
  const auto parts = encode_parts(snapshot);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::uint16_t flags = i + 1 == parts.size() ? kLastPart : 0;
    const auto sent = send_message(
        socket_.get(), header_of(MessageType::Snapshot, static_cast<std::uint32_t>(snapshot.sequence), flags), parts[i]);
    if (sent) continue;
    if (sent.error().code != Code::Exhausted) return sent;
    log::warn("the daemon does not read: snapshot {} is left out, the next one is whole", snapshot.sequence);
    snapshots_.resend_all();
    return {};
  }
  return {};
}

Result<void> Service::serve_requests() {
  for (std::size_t i = 0; i < kRequestsPerTurn; ++i) {
    auto message = receive_message(socket_.get());
    if (!message) {
      if (message.error().code == Code::Busy) return {};
      if (message.error().code != Code::Corrupt) return std::unexpected(message.error());
      log::warn("refused a message: {}", message.error().message);
      continue;
    }
    if (message->header.type != static_cast<std::uint16_t>(MessageType::Request)) {
      log::warn("refused a message of type {}", message->header.type);
      continue;
    }
    const auto sent = send_reply(message->header.id, answer(message->body));
    if (!sent && sent.error().code != Code::Exhausted) return sent;  // Exhausted: the asker's wait runs out
  }
  return {};
}

bool Service::anyone_watched() const {
  if (settings_.watch_all_payload || settings_.watch_all_logs) return true;
  std::uint32_t tgid = 0;
  std::uint64_t cgroup = 0;
  return bpf_map_get_next_key(probes_.watched_tgids(), nullptr, &tgid) == 0 ||
         bpf_map_get_next_key(probes_.watched_cgroups(), nullptr, &cgroup) == 0;
}

int Service::observe_calls() {
  const std::int64_t now = clock_.now_ns();
  const auto passed = static_cast<std::uint64_t>(observed_at_ns_ == 0 ? 0 : now - observed_at_ns_);
  if (probes_.returns_observed()) returns_observed_ns_ += passed;
  if (probes_.entries_observed()) entries_observed_ns_ += passed;
  if (resting_) rested_ns_ += passed;
  const auto spent = static_cast<std::int64_t>(probes_.budget_spent());
  const std::int64_t window = now >> CULPRIT_BUDGET_WINDOW_SHIFT;
  if (spent == window) schedule_.rest((window + 1) << CULPRIT_BUDGET_WINDOW_SHIFT);
  if (probes_.entries_observed() && probes_.entries_seen() - entries_before_ >= CallSchedule::kCallsPerCpu * cpus_) schedule_.enough(now);
  const CallSchedule::Wanted wanted = schedule_.wanted(now);
  if (wanted.entries && !probes_.entries_observed()) entries_before_ = probes_.entries_seen();
  probes_.observe_calls(wanted.returns, wanted.entries);
  observed_at_ns_ = clock_.now_ns();
  // What attaching takes, nothing is captured; what detaching takes, next to nothing.
  const bool rested = std::exchange(resting_, schedule_.resting(now));
  if (rested != resting_) rested_ns_ += static_cast<std::uint64_t>(observed_at_ns_ - now);
  return static_cast<int>((schedule_.next_look_ns(now) - now + 999'999) / 1'000'000);
}

Result<void> Service::run() {
  const Fd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return fail_errno(errno, "timer");
  const auto ms = static_cast<long>(std::clamp<std::uint32_t>(settings_.snapshot_ms / kTaskSamples, 5, 60'000));
  const timespec period{ms / 1000, ms % 1000 * 1'000'000};
  const itimerspec spec{period, period};
  if (timerfd_settime(timer.get(), 0, &spec, nullptr) != 0) return fail_errno(errno, "timer");
  for (std::uint64_t ticks = 0;;) {
    const int wait_ms = observe_calls();
    pollfd wait[] = {{socket_.get(), POLLIN, 0}, {timer.get(), POLLIN, 0}, {probes_.budget_spent_fd(), POLLIN, 0}};
    if (poll(wait, std::size(wait), wait_ms) < 0 && errno != EINTR) return fail_errno(errno, "wait");
    if (wait[0].revents != 0) {
      if (auto served = serve_requests(); !served) {
        if (served.error().code == Code::NotFound) return {};
        return served;
      }
    }
    std::uint64_t expired = 0;
    if (read(timer.get(), &expired, sizeof(expired)) != sizeof(expired)) continue;
    if (++ticks % kTaskSamples == 0) {
      TRY(send_snapshot());
    } else {
      snapshots_.sample_tasks();
    }
  }
}

}  // namespace culprit::sensor
