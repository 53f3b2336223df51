// Builders of kernel records, and a small host in memory that plays scenarios into a Tracker and keeps what it says.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/track/tracker.h"

namespace culprit::track::test {

inline constexpr std::int64_t kMs = 1'000'000;
inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr std::int64_t kStart = 1'000 * kSecond;  // boot was long ago

inline void set_address(std::uint8_t (&out)[16], std::uint32_t v4) {
  std::memset(out, 0, 10);
  out[10] = out[11] = 0xff;
  for (int i = 0; i < 4; ++i) out[12 + i] = static_cast<std::uint8_t>(v4 >> (24 - 8 * i));
}
inline constexpr std::uint32_t kLoopback = 0x7f000001;

inline culprit_socket socket_of(std::uint64_t sock, std::uint16_t local_port, std::uint16_t remote_port,
                                std::uint32_t remote = kLoopback, std::uint32_t local = kLoopback) {
  culprit_socket socket{};
  socket.sock = sock;
  set_address(socket.local_addr, local);
  set_address(socket.remote_addr, remote);
  socket.netns = 7;
  socket.local_port = local_port;
  socket.remote_port = remote_port;
  return socket;
}

struct Thread {
  std::uint32_t tgid = 0, tid = 0;
  std::string comm = "worker";
  std::uint64_t run_queue_ns = 0;  // of its records from now on
};

inline culprit_task task_of(const Thread& thread) {
  culprit_task task{};
  task.tgid = thread.tgid;
  task.tid = thread.tid;
  thread.comm.copy(task.comm, CULPRIT_COMM_LEN - 1);
  return task;
}

struct Recorder : Sink {
  void events(std::vector<stream::Event> batch) override {
    for (auto& event : batch) all.push_back(std::move(event));
  }
  void want_facts(std::uint32_t pid) override { asked.push_back(pid); }
  void want_watch(std::uint32_t pid, unsigned flags) override { watched[pid] = flags; }

  std::vector<const stream::Event*> find(stream::Kind kind, std::string_view entity, std::string_view name) const {
    std::vector<const stream::Event*> out;
    for (const auto& event : all) {
      if (event.kind == kind && (entity.empty() || event.entity == entity) && (name.empty() || event.name == name)) out.push_back(&event);
    }
    return out;
  }
  // The last sample of a series; nothing if there was none.
  std::optional<double> last(std::string_view entity, std::string_view name) const {
    const auto found = find(stream::Kind::Sample, entity, name);
    return found.empty() ? std::nullopt : std::optional(found.back()->value);
  }
  std::vector<stream::Event> all;
  std::vector<std::uint32_t> asked;
  std::map<std::uint32_t, unsigned> watched;
};

// One established connection: two sockets.
struct Connection {
  culprit_socket client, server;
};

class Host {
 public:
  explicit Host(TrackerOptions options = {}) : tracker(std::move(options), out) { tracker.advance(kStart); }

  template <typename T>
  void send(T event, std::uint16_t kind, std::int64_t time_ns, std::size_t size = sizeof(T)) {
    event.header = {static_cast<culprit_u64>(time_ns), static_cast<culprit_u32>(size), kind, 0};
    tracker.on_record({reinterpret_cast<const std::byte*>(&event), size});
  }

  ProcessFacts facts(std::string exe, std::string cgroup, std::vector<std::string> cmdline = {}, std::int64_t start_ns = 0) {
    ProcessFacts out_facts;
    out_facts.ppid = 1;
    out_facts.exe = std::move(exe);
    out_facts.cgroup = std::move(cgroup);
    out_facts.cmdline = cmdline.empty() ? std::vector<std::string>{out_facts.exe} : std::move(cmdline);
    out_facts.start_time_ns = static_cast<std::uint64_t>(start_ns);
    out_facts.exe_identity = {1, 10, 100, 5};
    out_facts.state = 'S';
    return out_facts;
  }
  // A process that ran before the tracker, in a cgroup of its own.
  void runs(std::uint32_t pid, const std::string& service) {
    tracker.on_facts(pid, facts("/usr/bin/" + service, "/lab/" + service, {}, kStart - 100 * kSecond));
  }
  void listen(std::uint32_t pid, std::uint16_t port, std::uint64_t sock, std::int64_t time_ns) {
    culprit_tcp_state_event event{};
    event.task = task_of({pid, pid});
    event.socket = socket_of(sock, port, 0, 0);
    event.old_state = CULPRIT_TCP_CLOSE;
    event.new_state = CULPRIT_TCP_LISTEN;
    send(event, CULPRIT_EVENT_TCP_STATE, time_ns);
  }
  void state(const culprit_socket& socket, const Thread& thread, std::uint16_t from, std::uint16_t to, std::int64_t time_ns, int error = 0,
             std::array<std::uint32_t, 2> positions = {}) {
    culprit_tcp_state_event event{};
    event.task = task_of(thread);
    event.socket = socket;
    event.old_state = from;
    event.new_state = to;
    event.error = error;
    std::ranges::copy(positions, event.positions);
    send(event, CULPRIT_EVENT_TCP_STATE, time_ns);
  }
  Connection connect(const Thread& client, std::uint16_t client_port, std::uint16_t port, std::uint64_t sock, std::int64_t time_ns) {
    const Connection made{socket_of(sock, client_port, port), socket_of(sock + 1, port, client_port)};
    culprit_socket early = made.client;
    early.local_port = 0;  // not chosen yet
    state(early, client, CULPRIT_TCP_CLOSE, CULPRIT_TCP_SYN_SENT, time_ns);
    state(made.client, {}, CULPRIT_TCP_SYN_SENT, CULPRIT_TCP_ESTABLISHED, time_ns + 20'000);
    state(made.server, {}, CULPRIT_TCP_SYN_RECV, CULPRIT_TCP_ESTABLISHED, time_ns + 21'000);
    return made;
  }
  void payload(const culprit_socket& socket, const Thread& thread, culprit_direction direction, std::string_view data, std::int64_t time_ns,
               std::uint64_t bytes = 0, std::uint32_t position = 0, std::uint32_t other_position = 0) {
    culprit_payload_event event{};
    event.task = task_of(thread);
    event.socket = socket;
    event.bytes = bytes == 0 ? data.size() : bytes;
    const bool large = data.size() > CULPRIT_PAYLOAD_SMALL;
    event.captured = static_cast<culprit_u16>(std::min<std::size_t>(data.size(), CULPRIT_PAYLOAD_LARGE));
    event.direction = direction;
    event.positions[direction] = position;
    event.positions[1 - direction] = other_position;
    event.run_queue_ns = thread.run_queue_ns;
    std::memcpy(event.data, data.data(), event.captured);
    send(event, CULPRIT_EVENT_PAYLOAD, time_ns, offsetof(culprit_payload_event, data) + (large ? CULPRIT_PAYLOAD_LARGE : CULPRIT_PAYLOAD_SMALL));
  }
  void write(const culprit_socket& socket, const Thread& thread, std::string_view data, std::int64_t time_ns, std::uint64_t bytes = 0) {
    payload(socket, thread, CULPRIT_WRITE, data, time_ns, bytes);
  }
  void read(const culprit_socket& socket, const Thread& thread, std::string_view data, std::int64_t time_ns, std::uint64_t bytes = 0) {
    payload(socket, thread, CULPRIT_READ, data, time_ns, bytes);
  }
  void log(const Thread& thread, std::string_view text, std::int64_t time_ns, std::int32_t fd = 2) {
    culprit_log_event event{};
    event.task = task_of(thread);
    event.bytes = text.size();
    event.captured = static_cast<culprit_u32>(std::min<std::size_t>(text.size(), CULPRIT_LINE_MAX));
    event.fd = fd;
    std::memcpy(event.data, text.data(), event.captured);
    send(event, CULPRIT_EVENT_LOG, time_ns);
  }
  void fork(std::uint32_t parent, std::uint32_t child, std::int64_t time_ns) {
    culprit_fork_event event{};
    event.task = task_of({parent, parent});
    event.start_time_ns = static_cast<culprit_u64>(time_ns);
    event.child_tgid = child;
    send(event, CULPRIT_EVENT_FORK, time_ns);
  }
  void exec(std::uint32_t pid, std::int64_t start_ns, std::int64_t time_ns, const char* filename, std::uint32_t ppid = 1) {
    culprit_exec_event event{};
    event.task = task_of({pid, pid});
    event.start_time_ns = static_cast<culprit_u64>(start_ns);
    event.ppid = ppid;
    std::strncpy(event.filename, filename, CULPRIT_PATH_LEN - 1);
    send(event, CULPRIT_EVENT_EXEC, time_ns);
  }
  void exit(std::uint32_t pid, std::int64_t start_ns, std::uint32_t code, std::int64_t time_ns) {
    culprit_exit_event event{};
    event.task = task_of({pid, pid});
    event.start_time_ns = static_cast<culprit_u64>(start_ns);
    event.ppid = 1;
    event.exit_code = code;
    send(event, CULPRIT_EVENT_EXIT, time_ns);
  }
  void tick(std::int64_t time_ns) {
    tracker.advance(time_ns);
    tracker.tick(time_ns);
  }

  Recorder out;
  Tracker tracker;
};

// nginx (8080) -> shop (8000) -> postgres (5432) and redis (6379), over kept-alive connections.
class Shop : public Host {
 public:
  explicit Shop(TrackerOptions options = {}) : Host(std::move(options)) {
    runs(100, "nginx");
    runs(200, "shop");
    runs(300, "postgres");
    runs(400, "redis");
    listen(100, 8080, 0x1000, kStart + kMs);
    listen(200, 8000, 0x2000, kStart + kMs);
    listen(300, 5432, 0x3000, kStart + kMs);
    listen(400, 6379, 0x4000, kStart + kMs);
    user = connect({50, 50, "wrk"}, 40000, 8080, 0x10000, kStart + 2 * kMs);
    front = connect(nginx, 40001, 8000, 0x10010, kStart + 3 * kMs);
    database = connect(shop, 40002, 5432, 0x10020, kStart + 4 * kMs);
    cache = connect(shop, 40003, 6379, 0x10030, kStart + 5 * kMs);
    tracker.advance(kStart + 9 * kMs);
  }
  static std::string get(std::string_view path, std::string_view more = "") {
    return fmt::format("GET {} HTTP/1.1\r\nHost: shop\r\n{}\r\n", path, more);
  }
  static std::string answer(int status, std::size_t length) {
    return fmt::format("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n{}", status, length, std::string(length, 'x'));
  }
  // One request through all four services; the database takes `query_ns`.
  void request(std::int64_t t, std::int64_t query_ns = 2 * kMs, int status = 200, std::string_view path = "/items/17?color=red") {
    read(user.server, nginx, get(path), t);
    write(front.client, nginx, get(path), t + 100'000);
    read(front.server, shop, get(path), t + 150'000);
    write(cache.client, shop, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", t + 200'000);
    read(cache.server, redis, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", t + 220'000);
    write(cache.server, redis, "$1\r\n1\r\n", t + 240'000);
    read(cache.client, shop, "$1\r\n1\r\n", t + 300'000);
    write(database.client, shop, "Q\0\0\0\5;", t + 400'000);
    read(database.server, postgres, "Q\0\0\0\5;", t + 420'000);
    write(database.server, postgres, "T...", t + 400'000 + query_ns);
    read(database.client, shop, "T...", t + 410'000 + query_ns);
    write(front.server, shop, answer(status, 20), t + 600'000 + query_ns);
    read(front.client, nginx, answer(status, 20), t + 650'000 + query_ns);
    write(user.server, nginx, answer(status, 20), t + 700'000 + query_ns);
  }
  Thread nginx{100, 100, "nginx"}, shop{200, 201, "python3"}, postgres{300, 300, "postgres"}, redis{400, 400, "redis-server"};
  Connection user, front, database, cache;
};

}  // namespace culprit::track::test
