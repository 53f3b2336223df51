#include "daemon/sensor/protocol.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

namespace culprit::sensor {
namespace {

// Longest list that a message may announce; protects the reader's memory.
constexpr std::uint32_t kItemsMax = 1 << 20;

template <typename T, typename F>
void put_list(Writer& out, const std::vector<T>& items, F put_item) {
  out.put(static_cast<std::uint32_t>(items.size()));
  for (const T& item : items) put_item(item);
}

template <typename T, typename F>
bool get_list(Reader& in, std::vector<T>& items, F get_item) {
  const auto count = in.get<std::uint32_t>();
  if (!in.ok() || count > kItemsMax) return false;
  for (std::uint32_t i = 0; i < count; ++i) {
    T item{};
    get_item(item);
    if (!in.ok()) return false;
    items.push_back(std::move(item));
  }
  return true;
}

void encode(Writer& out, const SensorSettings& s) {
  out.put(s.payload_records_per_cpu);
  out.put(s.slow_ms);
  out.put(s.control_ring_bytes);
  out.put(s.data_ring_bytes);
  out.put(s.rings_max);
  out.put(s.snapshot_ms);
  out.put(s.calls_percent);
  out.put(static_cast<std::uint8_t>(s.watch_all_payload));
  out.put(static_cast<std::uint8_t>(s.watch_all_logs));
}

void decode(Reader& in, SensorSettings& s) {
  s.payload_records_per_cpu = in.get<std::uint32_t>();
  s.slow_ms = in.get<std::uint32_t>();
  s.control_ring_bytes = in.get<std::uint32_t>();
  s.data_ring_bytes = in.get<std::uint32_t>();
  s.rings_max = in.get<std::uint32_t>();
  s.snapshot_ms = in.get<std::uint32_t>();
  s.calls_percent = in.get<std::uint32_t>();
  s.watch_all_payload = in.get<std::uint8_t>() != 0;
  s.watch_all_logs = in.get<std::uint8_t>() != 0;
}

// Sections of a snapshot part: u32 section, u32 count, the items.
enum class Section : std::uint32_t {
  Times = 0,
  Sched = 1,
  SyscallErrors = 2,
  TimedCalls = 3,
  Block = 4,
  Sockets = 5,
  Processes = 6,
  Tables = 7,
  Programs = 8,
};

// Cuts sections into bodies of at most kPartBytes.
class PartWriter {
 public:
  static constexpr std::size_t kPartBytes = 48 * 1024;

  template <typename T, typename F>
  void add(Section section, const std::vector<T>& items, F put_item) {
    std::size_t next = 0;
    while (next < items.size()) {
      Writer out(open());
      const std::size_t start = parts_.back().size();
      out.put(section);
      out.put(std::uint32_t{0});
      std::uint32_t count = 0;
      while (next < items.size() && (count == 0 || parts_.back().size() < kPartBytes)) {
        put_item(out, items[next++]);
        ++count;
      }
      std::memcpy(parts_.back().data() + start + sizeof(Section), &count, sizeof(count));
    }
  }
  // Items that are sent as they are in memory: no padding may hide in them.
  template <typename T>
    requires std::has_unique_object_representations_v<T>
  void add_plain(Section section, const std::vector<T>& items) {
    add(section, items, [](Writer& out, const T& item) { out.put(item); });
  }
  std::vector<std::byte>& open() {
    if (parts_.empty() || parts_.back().size() >= kPartBytes) parts_.emplace_back();
    return parts_.back();
  }
  std::vector<std::vector<std::byte>> take() { return std::move(parts_); }

 private:
  std::vector<std::vector<std::byte>> parts_;
};

void put_process(Writer& out, const ProcessSample& p) {
  out.put(p.tgid);
  out.put(p.threads);
  out.put(p.fds);
  out.put(p.state);
  out.put(p.fd_limit);
  out.put(p.rss_bytes);
  out.put(p.major_faults);
}

void get_process(Reader& in, ProcessSample& p) {
  p.tgid = in.get<std::uint32_t>();
  p.threads = in.get<std::uint32_t>();
  p.fds = in.get<std::uint32_t>();
  p.state = in.get<char>();
  p.fd_limit = in.get<std::uint64_t>();
  p.rss_bytes = in.get<std::uint64_t>();
  p.major_faults = in.get<std::uint64_t>();
}

template <typename T>
bool get_plain(Reader& in, std::uint32_t count, std::vector<T>& items) {
  if (in.left() / sizeof(T) < count) return false;
  items.reserve(items.size() + count);
  for (std::uint32_t i = 0; i < count; ++i) items.push_back(in.get<T>());
  return in.ok();
}

template <typename T, typename F>
bool get_items(Reader& in, std::uint32_t count, std::vector<T>& items, F get_item) {
  for (std::uint32_t i = 0; i < count; ++i) {
    T item{};
    get_item(in, item);
    if (!in.ok()) return false;
    items.push_back(std::move(item));
  }
  return true;
}

}  // namespace

void Writer::put_string(std::string_view text) {
  put(static_cast<std::uint32_t>(text.size()));
  const auto bytes = std::as_bytes(std::span(text));
  out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void Reader::take(std::span<std::byte> out) {
  if (!ok_ || in_.size() < out.size()) {
    ok_ = false;
    in_ = {};
    return;
  }
  std::memcpy(out.data(), in_.data(), out.size());
  in_ = in_.subspan(out.size());
}

std::string Reader::get_string(std::size_t bytes_max) {
  const auto bytes = get<std::uint32_t>();
  if (!ok_ || bytes > bytes_max || bytes > in_.size()) {
    ok_ = false;
    in_ = {};
    return {};
  }
  std::string text(bytes, '\0');
  take(std::as_writable_bytes(std::span(text)));
  return text;
}

void encode(Writer& out, const Hello& hello) {
  out.put(hello.version);
  out.put(hello.sensor_pid);
  out.put_string(hello.kernel_release);
  out.put(hello.boot_offset_ns);
  out.put(hello.geometry);
  encode(out, hello.settings);
  put_list(out, hello.programs, [&](const Program& p) {
    out.put_string(p.family);
    out.put_string(p.name);
    out.put(p.state);
    out.put_string(p.reason);
    out.put(p.instructions);
  });
  put_list(out, hello.notes, [&](const std::string& note) { out.put_string(note); });
}

bool decode(Reader& in, Hello& hello) {
  hello.version = in.get<std::uint32_t>();
  if (hello.version != kProtocolVersion) return in.ok();  // the rest may look different
  hello.sensor_pid = in.get<std::uint32_t>();
  hello.kernel_release = in.get_string();
  hello.boot_offset_ns = in.get<std::int64_t>();
  hello.geometry = in.get<RingGeometry>();
  decode(in, hello.settings);
  return get_list(in, hello.programs,
                  [&](Program& p) {
                    p.family = in.get_string();
                    p.name = in.get_string();
                    p.state = in.get<std::uint8_t>() == 0 ? ProgramState::Attached : ProgramState::Skipped;
                    p.reason = in.get_string();
                    p.instructions = in.get<std::uint32_t>();
                  }) &&
         get_list(in, hello.notes, [&](std::string& note) { note = in.get_string(); });
}

void encode(Writer& out, const ProcessInfo& i) {
  out.put(i.tgid);
  out.put(i.ppid);
  out.put(i.uid);
  out.put(i.state);
  out.put(i.start_time_ns);
  out.put(i.rss_bytes);
  out.put(i.threads);
  out.put(i.fds);
  out.put(i.fd_limit);
  out.put(i.cgroup_id);
  out.put(i.exe_inode);
  out.put(i.exe_device);
  out.put(i.exe_size);
  out.put(i.exe_mtime_ns);
  out.put(i.script_inode);
  out.put(i.script_size);
  out.put(i.script_mtime_ns);
  for (const std::string* text : {&i.comm, &i.exe, &i.script, &i.cwd, &i.cgroup, &i.memory_cgroup}) {
    out.put_string(*text);
  }
  put_list(out, i.cmdline, [&](const std::string& argument) { out.put_string(argument); });
}

bool decode(Reader& in, ProcessInfo& i) {
  i.tgid = in.get<std::uint32_t>();
  i.ppid = in.get<std::uint32_t>();
  i.uid = in.get<std::uint32_t>();
  i.state = in.get<char>();
  i.start_time_ns = in.get<std::int64_t>();
  i.rss_bytes = in.get<std::uint64_t>();
  i.threads = in.get<std::uint32_t>();
  i.fds = in.get<std::uint32_t>();
  i.fd_limit = in.get<std::uint64_t>();
  i.cgroup_id = in.get<std::uint64_t>();
  i.exe_inode = in.get<std::uint64_t>();
  i.exe_device = in.get<std::uint64_t>();
  i.exe_size = in.get<std::uint64_t>();
  i.exe_mtime_ns = in.get<std::int64_t>();
  i.script_inode = in.get<std::uint64_t>();
  i.script_size = in.get<std::uint64_t>();
  i.script_mtime_ns = in.get<std::int64_t>();
  for (std::string* text : {&i.comm, &i.exe, &i.script, &i.cwd, &i.cgroup, &i.memory_cgroup}) {
    *text = in.get_string();
  }
  return get_list(in, i.cmdline, [&](std::string& argument) { argument = in.get_string(); });
}

void encode(Writer& out, const ProcessRow& row) {
  out.put(row.tgid);
  out.put(row.ppid);
  out.put(row.uid);
  out.put(row.cgroup_id);
  out.put(row.start_time_ns);
  out.put_string(row.comm);
}

bool decode(Reader& in, ProcessRow& row) {
  row.tgid = in.get<std::uint32_t>();
  row.ppid = in.get<std::uint32_t>();
  row.uid = in.get<std::uint32_t>();
  row.cgroup_id = in.get<std::uint64_t>();
  row.start_time_ns = in.get<std::int64_t>();
  row.comm = in.get_string();
  return in.ok();
}

void encode(Writer& out, const SocketOwner& owner) {
  out.put(owner.inode);
  out.put(owner.tgid);
  out.put(owner.fd);
}

bool decode(Reader& in, SocketOwner& owner) {
  owner.inode = in.get<std::uint64_t>();
  owner.tgid = in.get<std::uint32_t>();
  owner.fd = in.get<std::int32_t>();
  return in.ok();
}

void encode(Writer& out, const FilesystemSpace& s) {
  out.put_string(s.mount_point);
  out.put_string(s.source);
  out.put_string(s.type);
  out.put(s.device);
  out.put(s.total_bytes);
  out.put(s.available_bytes);
  out.put(s.inodes_total);
  out.put(s.inodes_free);
  out.put(static_cast<std::uint8_t>(s.read_only));
}

bool decode(Reader& in, FilesystemSpace& s) {
  s.mount_point = in.get_string();
  s.source = in.get_string();
  s.type = in.get_string();
  s.device = in.get<std::uint32_t>();
  s.total_bytes = in.get<std::uint64_t>();
  s.available_bytes = in.get<std::uint64_t>();
  s.inodes_total = in.get<std::uint64_t>();
  s.inodes_free = in.get<std::uint64_t>();
  s.read_only = in.get<std::uint8_t>() != 0;
  return in.ok();
}

void encode(Writer& out, const CgroupLimits& c) {
  out.put_string(c.path);
  out.put(c.memory_limit_bytes);
  out.put(c.memory_usage_bytes);
  out.put(c.oom_kills);
  out.put(c.cpu_quota_us);
  out.put(c.cpu_period_us);
  out.put(c.throttled_count);
  out.put(c.throttled_us);
  out.put(static_cast<std::uint8_t>(c.v1));
}

bool decode(Reader& in, CgroupLimits& c) {
  c.path = in.get_string();
  c.memory_limit_bytes = in.get<std::uint64_t>();
  c.memory_usage_bytes = in.get<std::uint64_t>();
  c.oom_kills = in.get<std::uint64_t>();
  c.cpu_quota_us = in.get<std::uint64_t>();
  c.cpu_period_us = in.get<std::uint64_t>();
  c.throttled_count = in.get<std::uint64_t>();
  c.throttled_us = in.get<std::uint64_t>();
  c.v1 = in.get<std::uint8_t>() != 0;
  return in.ok();
}

std::vector<std::vector<std::byte>> encode_parts(const Snapshot& snapshot) {
  PartWriter parts;
  {
    Writer out(parts.open());
    out.put(Section::Times);
    out.put(std::uint32_t{1});
    out.put(snapshot.time_ns);
    out.put(snapshot.sequence);
    out.put(static_cast<std::uint8_t>(snapshot.has_sockets));
    out.put(snapshot.returns_observed_ns);
    out.put(snapshot.entries_observed_ns);
    out.put(snapshot.rested_ns);
    out.put(snapshot.sensor_cpu_ns);
    out.put(snapshot.sensor_rss_bytes);
  }
  parts.add(Section::Sched, snapshot.sched, [](Writer& out, const SchedSample& sample) {
    out.put(sample.tgid);
    out.put(sample.counts);
  });
  parts.add_plain(Section::SyscallErrors, snapshot.syscall_errors);
  parts.add_plain(Section::TimedCalls, snapshot.timed_calls);
  parts.add_plain(Section::Block, snapshot.block);
  parts.add_plain(Section::Sockets, snapshot.sockets);
  parts.add(Section::Processes, snapshot.processes, put_process);
  parts.add(Section::Tables, snapshot.tables, [](Writer& out, const TableSample& table) {
    out.put_string(table.name);
    out.put(table.entries);
    out.put(table.limit);
    out.put(table.full);
  });
  parts.add(Section::Programs, snapshot.programs, [](Writer& out, const ProgramSample& program) {
    out.put_string(program.name);
    out.put(program.missed);
  });
  return parts.take();
}

bool decode_part(std::span<const std::byte> body, Snapshot& into) {
  Reader in(body);
  while (in.ok() && in.left() > 0) {
    const auto section = static_cast<Section>(in.get<std::uint32_t>());
    const auto count = in.get<std::uint32_t>();
    if (!in.ok() || count > kItemsMax) return false;
    bool good = true;
    switch (section) {
      case Section::Times:
        into.time_ns = in.get<std::int64_t>();
        into.sequence = in.get<std::uint64_t>();
        into.has_sockets = in.get<std::uint8_t>() != 0;
        into.returns_observed_ns = in.get<std::uint64_t>();
        into.entries_observed_ns = in.get<std::uint64_t>();
        into.rested_ns = in.get<std::uint64_t>();
        into.sensor_cpu_ns = in.get<std::uint64_t>();
        into.sensor_rss_bytes = in.get<std::uint64_t>();
        good = in.ok();
        break;
      case Section::Sched:
        good = get_items(in, count, into.sched, [](Reader& from, SchedSample& sample) {
          sample.tgid = from.get<std::uint32_t>();
          sample.counts = from.get<culprit_sched_counts>();
        });
        break;
      case Section::SyscallErrors: good = get_plain(in, count, into.syscall_errors); break;
      case Section::TimedCalls: good = get_plain(in, count, into.timed_calls); break;
      case Section::Block: good = get_plain(in, count, into.block); break;
      case Section::Sockets: good = get_plain(in, count, into.sockets); break;
      case Section::Processes: good = get_items(in, count, into.processes, get_process); break;
      case Section::Tables:
        good = get_items(in, count, into.tables, [](Reader& from, TableSample& table) {
          table.name = from.get_string(64);
          table.entries = from.get<std::uint64_t>();
          table.limit = from.get<std::uint64_t>();
          table.full = from.get<std::uint64_t>();
        });
        break;
      case Section::Programs:
        good = get_items(in, count, into.programs, [](Reader& from, ProgramSample& program) {
          program.name = from.get_string(64);
          program.missed = from.get<std::uint64_t>();
        });
        break;
      default: return false;
    }
    if (!good) return false;
  }
  return in.ok();
}

Result<void> send_message(int socket, MessageHeader header, std::span<const std::byte> body,
                          std::span<const int> fds) {
  header.bytes = static_cast<std::uint32_t>(body.size());
  iovec pieces[2] = {{&header, sizeof(header)}, {const_cast<std::byte*>(body.data()), body.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kFdsPerMessageMax)> control{};
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = 2;
  if (fds.size() > kFdsPerMessageMax || body.size() > kMessageBytesMax) {
    return fail(Code::Invalid, "message too large");
  }
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return fail(Code::Exhausted, "the peer does not read");
    return fail_errno(errno, "send a message");
  }
  return {};
}

Result<Message> receive_message(int socket) {
  Message received;
  std::vector<std::byte> body(kMessageBytesMax);
  iovec pieces[2] = {{&received.header, sizeof(received.header)}, {body.data(), body.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kFdsPerMessageMax)> control{};
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = 2;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t bytes = 0;
  do {
    bytes = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return fail(Code::Busy, "no message");
    if (errno == ECONNRESET) return fail(Code::NotFound, "the connection ended");
    return fail_errno(errno, "receive a message");
  }
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
      received.fds.emplace_back(fd);
    }
  }
  if (bytes == 0) return fail(Code::NotFound, "the connection ended");
  const std::size_t have = static_cast<std::size_t>(bytes);
  if (have < sizeof(MessageHeader) || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
      received.header.magic != kMessageMagic || received.header.bytes != have - sizeof(MessageHeader)) {
    return fail(Code::Corrupt, "no message of the sensor protocol");
  }
  body.resize(received.header.bytes);
  received.body = std::move(body);
  return received;
}

}  // namespace culprit::sensor
