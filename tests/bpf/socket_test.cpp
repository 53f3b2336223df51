// TCP, payload and log lines of a watched child, over loopback.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/bpf/live.h"

namespace culprit::test {
namespace {

using collect::line_of;
using collect::payload_of;

std::uint32_t tgid_of(const Child& child) { return static_cast<std::uint32_t>(child.pid()); }

std::string_view text(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

const std::uint8_t kLoopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};

bool is_loopback(const std::uint8_t (&address)[16]) { return memcmp(address, kLoopback, 16) == 0; }

struct Listener {
  Fd fd{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::uint16_t port = 0;
  Listener() {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd.get(), 16), 0);
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
  }
};

int connect_to(std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = loopback(port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

class SocketTest : public testing::Test {
 protected:
  void SetUp() override {
    REQUIRE_BPF();
    live_ = Live::start();
    ASSERT_TRUE(live_);
  }
  std::unique_ptr<Live> live_;
};

TEST_F(SocketTest, ConnectAndListen) {
  Listener listener;
  const auto* listen_event = live_->find<culprit_tcp_state_event>(
      [&](const auto& e) { return e.new_state == CULPRIT_TCP_LISTEN && e.socket.local_port == listener.port; });
  ASSERT_TRUE(listen_event);
  EXPECT_EQ(listen_event->task.tgid, static_cast<std::uint32_t>(getpid()));
  EXPECT_TRUE(is_loopback(listen_event->socket.local_addr));
  Child child([&] { return connect_to(listener.port) >= 0 ? 0 : 1; });
  child.go();
  EXPECT_EQ(child.wait(), 0);
  close(accept(listener.fd.get(), nullptr, nullptr));
  const auto* connect = live_->find<culprit_tcp_state_event>([&](const auto& e) {
    return e.new_state == CULPRIT_TCP_ESTABLISHED && e.old_state == CULPRIT_TCP_SYN_SENT && e.task.tgid == tgid_of(child);
  });
  ASSERT_TRUE(connect);
  EXPECT_EQ(connect->socket.remote_port, listener.port);
  EXPECT_TRUE(is_loopback(connect->socket.local_addr));
  EXPECT_TRUE(is_loopback(connect->socket.remote_addr));
  EXPECT_NE(connect->socket.local_port, 0);
  EXPECT_NE(connect->socket.sock, 0U);
  struct stat netns {};
  stat("/proc/self/ns/net", &netns);
  EXPECT_EQ(connect->socket.netns, netns.st_ino);
  EXPECT_GT(connect->connect_ns, 0U);
  EXPECT_LT(connect->connect_ns, 2'000'000'000U);
  EXPECT_EQ(connect->error, 0);
  // The accepting side: established in the interrupt of its peer, so it has no owner yet.
  const auto* accepted = live_->find<culprit_tcp_state_event>([&](const auto& e) {
    return e.new_state == CULPRIT_TCP_ESTABLISHED && e.socket.local_port == listener.port &&
           e.socket.remote_port == connect->socket.local_port;
  });
  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->task.tgid, 0U);
  EXPECT_EQ(accepted->connect_ns, 0U);
  // The end still has both ports and its owner.
  const auto* closed = live_->find<culprit_tcp_state_event>([&](const auto& e) {
    return e.new_state == CULPRIT_TCP_CLOSE && e.socket.local_port == connect->socket.local_port &&
           e.socket.remote_port == listener.port;
  });
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->task.tgid, tgid_of(child));
  EXPECT_EQ(closed->socket.sock, connect->socket.sock);
}

TEST_F(SocketTest, RefusedConnectHasItsError) {
  std::uint16_t port = 0;
  {
    Listener listener;
    port = listener.port;
  }
  Child child([port] { return connect_to(port) < 0 && errno == ECONNREFUSED ? 0 : 1; });
  child.go();
  EXPECT_EQ(child.wait(), 0);
  const auto* event = live_->find<culprit_tcp_state_event>(
      [&](const auto& e) { return e.new_state == CULPRIT_TCP_CLOSE && e.task.tgid == tgid_of(child); });
  ASSERT_TRUE(event);
  EXPECT_EQ(event->old_state, CULPRIT_TCP_SYN_SENT);
  EXPECT_EQ(event->error, ECONNREFUSED);
  EXPECT_EQ(event->socket.remote_port, port);
  EXPECT_GT(event->connect_ns, 0U);
}

TEST_F(SocketTest, ResetIsReportedOnBothSides) {
  Listener listener;
  Child child([&] {
    const int fd = connect_to(listener.port);
    char byte = 0;
    if (send(fd, &byte, 1, 0) != 1) return 2;
    return recv(fd, &byte, 1, 0) < 0 && errno == ECONNRESET ? 0 : 1;
  });
  child.go();
  const int accepted = accept(listener.fd.get(), nullptr, nullptr);
  char byte = 0;  // before it comes the connect may still be on its way back, and would be what the reset ends
  EXPECT_EQ(recv(accepted, &byte, 1, 0), 1);
  const linger now{1, 0};
  setsockopt(accepted, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  close(accepted);
  EXPECT_EQ(child.wait(), 0);
  const auto* received = live_->find<culprit_tcp_reset_event>(
      [&](const auto& e) { return e.received == 1 && e.socket.remote_port == listener.port; });
  ASSERT_TRUE(received);
  EXPECT_TRUE(is_loopback(received->socket.remote_addr));
}

// Every call that moves bytes on a TCP socket, with what it moved, in order, and the peer's end.
TEST_F(SocketTest, PayloadOfAWatchedChild) {
  Listener listener;
  const std::string request = "GET /items/7?x=1 HTTP/1.1\r\nHost: shop\r\n" + std::string(700, 'a') + "\r\n\r\n";
  Child child([&] {
    const int fd = accept(listener.fd.get(), nullptr, nullptr);
    char buffer[4096];
    ssize_t have = 0;
    recv(fd, buffer, 1, MSG_PEEK | MSG_WAITALL);  // looks without taking: must not be told
    while (have < static_cast<ssize_t>(request.size())) {
      have += recv(fd, buffer + have, sizeof(buffer) - static_cast<std::size_t>(have), 0);
    }
    char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 120\r\nX-Filler: 0123456789012345678901234567890123456789\r\n\r\n";
    char body[120];
    memset(body, 'b', sizeof(body));
    const iovec pieces[] = {{head, sizeof(head) - 1}, {body, 0}, {body, sizeof(body)}};
    if (writev(fd, pieces, 3) != static_cast<ssize_t>(sizeof(head) - 1 + sizeof(body))) return 1;
    msghdr message{};
    iovec one = {body, 8};
    message.msg_iov = &one;
    message.msg_iovlen = 1;
    if (sendmsg(fd, &message, 0) != 8) return 2;
    const int in = open("/proc/self/exe", O_RDONLY);
    (void)in;
    shutdown(fd, SHUT_WR);
    return read(fd, buffer, sizeof(buffer)) == 0 ? 0 : 3;
  });
  ASSERT_TRUE(live_->watch(child.pid(), sensor::kCapturePayload));
  child.go();
  const int peer = connect_to(listener.port);
  ASSERT_GE(peer, 0);
  ASSERT_EQ(send(peer, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  char buffer[4096];
  while (recv(peer, buffer, sizeof(buffer), 0) > 0) {
  }
  close(peer);
  EXPECT_EQ(child.wait(), 0);
  const auto of_child = [&](const culprit_payload_event& e) { return e.task.tgid == tgid_of(child); };
  ASSERT_TRUE(live_->find<culprit_payload_event>([&](const auto& e) { return of_child(e) && e.bytes == 0; }));
  const auto events = live_->all<culprit_payload_event>(of_child);
  std::uint64_t received = 0;
  std::vector<const culprit_payload_event*> sent;
  std::uint32_t positions[2] = {0, 0};
  for (const auto* event : events) {
    EXPECT_EQ(event->socket.local_port, listener.port);
    EXPECT_TRUE(is_loopback(event->socket.remote_addr));
    EXPECT_EQ(event->task.tid, tgid_of(child));
    EXPECT_GE(event->fd, 3);
    std::uint32_t& position = positions[event->direction];
    ASSERT_NE(event->positions[0], 0U);
    ASSERT_NE(event->positions[1], 0U);
    if (position != 0 && event->bytes != 0) {  // the end of a stream takes a number too
      EXPECT_EQ(event->positions[event->direction], static_cast<std::uint32_t>(position + event->bytes));
    }
    if (const std::uint32_t other = positions[1 - event->direction]; other != 0) {
      EXPECT_LE(event->positions[1 - event->direction] - other, 1U);  // one thread: nothing but the end moves there meanwhile
    }
    position = event->positions[event->direction];
    if (event->direction == CULPRIT_READ) {
      received += event->bytes;
    } else {
      sent.push_back(event);
    }
  }
  EXPECT_EQ(received, request.size());  // the peek is not in it
  const auto* ended = live_->find<culprit_tcp_state_event>([&](const auto& e) {
    return e.new_state == CULPRIT_TCP_CLOSE && e.socket.sock == events.front()->socket.sock;
  });
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->positions[CULPRIT_WRITE], positions[CULPRIT_WRITE] + 1);  // the end takes one
  const auto* first = events.front();
  EXPECT_EQ(first->captured, std::min<std::uint64_t>(first->bytes, CULPRIT_PAYLOAD_LARGE));
  EXPECT_TRUE(text(payload_of(*first)).starts_with("GET /items/7?x=1 HTTP/1.1\r\n"));
  EXPECT_EQ(text(payload_of(*first)), request.substr(0, first->captured));
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_TRUE(text(payload_of(*sent[0])).starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(text(payload_of(*sent[0])).ends_with(std::string(120, 'b')));
  EXPECT_EQ(sent[0]->captured, sent[0]->bytes);
  EXPECT_EQ(text(payload_of(*sent[1])), "bbbbbbbb");
  EXPECT_EQ(sent[1]->header.size, offsetof(culprit_payload_event, data) + CULPRIT_PAYLOAD_SMALL);
  EXPECT_EQ(events.back()->bytes, 0U);
  EXPECT_EQ(events.back()->direction, CULPRIT_READ);
}

std::uint64_t run_queue_ns_of_self() {
  std::ifstream file("/proc/thread-self/schedstat");
  std::uint64_t on_cpu = 0, waited = 0;
  file >> on_cpu >> waited;
  return waited;
}

// Each record says what its thread had waited for a CPU by then: as the kernel itself tells it right before and right after.
TEST_F(SocketTest, PayloadTellsTheRunQueue) {
  Listener listener;
  const auto pin = [] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
  };
  const auto spin = [](int ms) {
    timespec begin{}, now{};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1'000'000 < ms);
  };
  Child rival([&] {
    pin();
    spin(600);
    return 0;
  });
  Child child([&] {
    pin();
    const int fd = connect_to(listener.port);
    if (fd < 0) return 1;
    for (int i = 0; i < 3; ++i) {
      const std::string said = std::to_string(run_queue_ns_of_self());
      if (send(fd, said.data(), said.size(), 0) != static_cast<ssize_t>(said.size())) return 2;
      spin(100);
    }
    return 0;
  });
  ASSERT_TRUE(live_->watch(child.pid(), sensor::kCapturePayload));
  rival.go();
  child.go();
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(rival.wait(), 0);
  const auto of_child = [&](const culprit_payload_event& e) { return e.task.tgid == tgid_of(child) && e.direction == CULPRIT_WRITE; };
  ASSERT_TRUE(live_->find<culprit_payload_event>(of_child));
  const auto sent = live_->all<culprit_payload_event>(of_child);
  ASSERT_EQ(sent.size(), 3U);
  for (std::size_t i = 0; i < sent.size(); ++i) {
    const std::uint64_t before = std::stoull(std::string(text(payload_of(*sent[i]))));
    EXPECT_GE(sent[i]->run_queue_ns, before) << i;
    if (i > 0) { EXPECT_LE(sent[i - 1]->run_queue_ns, before) << i; }
  }
  EXPECT_GT(sent[2]->run_queue_ns, sent[0]->run_queue_ns);  // two on one CPU: it had to wait
}

// Nothing of a process that is not watched; not even while others are.
TEST_F(SocketTest, UnwatchedIsNotCaptured) {
  Listener listener;
  Child child([&] {
    const int fd = connect_to(listener.port);
    for (int i = 0; i < 50; ++i) (void)!write(fd, "secret", 6);
    (void)!write(2, "", 0);
    return 0;
  });
  child.go();
  EXPECT_EQ(child.wait(), 0);
  ASSERT_TRUE(live_->find<culprit_exit_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); }));
  live_->drain();
  EXPECT_EQ(live_->collector().counts().kinds[CULPRIT_EVENT_PAYLOAD].produced, 0U);
  EXPECT_EQ(live_->collector().counts().kinds[CULPRIT_EVENT_LOG].produced, 0U);
}

// Children of a watched process are watched from their first instruction.
TEST_F(SocketTest, LogLinesAlsoOfChildren) {
  const auto file = std::filesystem::temp_directory_path() / ("culprit-log-" + std::to_string(getpid()));
  const std::string longest(2000, 'L');
  Child child([&] {
    const int null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    char line[] = "to stdout\n";  // /dev/null reads nothing: a literal's page may never have been touched
    (void)!write(1, line, 10);
    const int log = open(file.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
    (void)!write(log, longest.data(), longest.size());
    const int plain = open(file.c_str(), O_WRONLY);
    (void)!write(plain, "not a log", 9);
    if (const pid_t pid = fork(); pid == 0) {
      char one[] = "by the ", two[] = "grandchild\n";
      const iovec pieces[] = {{one, 7}, {two, 11}};
      (void)!writev(log, pieces, 2);
      _exit(0);
    } else {
      waitpid(pid, nullptr, 0);
    }
    return 0;
  });
  ASSERT_TRUE(live_->watch(child.pid(), sensor::kCaptureLogs));
  child.go();
  EXPECT_EQ(child.wait(), 0);
  const auto* grandchild =
      live_->find<culprit_log_event>([&](const auto& e) { return line_of(e) == "by the grandchild\n"; });
  struct stat status {};
  stat(file.c_str(), &status);
  std::filesystem::remove(file);
  ASSERT_TRUE(grandchild);
  EXPECT_NE(grandchild->task.tgid, tgid_of(child));
  EXPECT_EQ(grandchild->inode, status.st_ino);
  EXPECT_EQ(grandchild->device, major(status.st_dev) << 20 | minor(status.st_dev));
  EXPECT_EQ(grandchild->is_append_file, 1U);
  EXPECT_EQ(grandchild->bytes, 18U);
  const auto lines = live_->all<culprit_log_event>([&](const auto& e) { return e.task.tgid == tgid_of(child); });
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(line_of(*lines[0]), "to stdout\n");
  EXPECT_EQ(lines[0]->fd, 1);
  EXPECT_EQ(lines[0]->is_append_file, 0U);
  EXPECT_EQ(lines[0]->device, 0U);  // no regular file
  EXPECT_EQ(lines[1]->bytes, longest.size());
  EXPECT_EQ(line_of(*lines[1]), std::string(CULPRIT_LINE_MAX, 'L'));
}

TEST_F(SocketTest, SnapshotShowsSocketsWithTheirInode) {
  Listener listener;
  struct stat status {};
  fstat(listener.fd.get(), &status);
  ASSERT_TRUE(live_->snapshots(1));  // may have been made before
  bool has_sockets = false;
  for (int i = 0; i < 4 && !has_sockets; ++i) {  // every fourth one has them
    ASSERT_TRUE(live_->snapshots(1));
    has_sockets = live_->last_snapshot().has_sockets;
  }
  ASSERT_TRUE(has_sockets);
  const auto& sockets = live_->last_snapshot().sockets;
  const auto found = std::find_if(sockets.begin(), sockets.end(), [&](const auto& s) { return s.inode == status.st_ino; });
  ASSERT_NE(found, sockets.end());
  EXPECT_EQ(found->state, static_cast<std::uint32_t>(CULPRIT_TCP_LISTEN));
  EXPECT_EQ(found->socket.local_port, listener.port);
  EXPECT_EQ(found->send_queue_bytes, 16U);
  EXPECT_EQ(found->uid, 0U);
}

TEST_F(SocketTest, SnapshotShowsHowFarTheStreamsAre) {
  Listener listener;
  const Fd client(connect_to(listener.port));
  ASSERT_GE(client.get(), 0);
  const Fd server(accept(listener.fd.get(), nullptr, nullptr));
  ASSERT_GE(server.get(), 0);
  live_->client().look_closely(60, [](const Result<void>& done) { EXPECT_TRUE(done); });
  const auto positions_of = [&](std::uint16_t local_port, std::uint16_t remote_port) {
    std::array<std::uint32_t, 2> out{};
    EXPECT_TRUE(live_->snapshots(2));  // not the one that was being made meanwhile
    EXPECT_TRUE(live_->last_snapshot().has_sockets);
    for (const culprit_tcp_info& info : live_->last_snapshot().sockets) {
      if (info.socket.local_port == local_port && info.socket.remote_port == remote_port) out = {info.positions[CULPRIT_READ], info.positions[CULPRIT_WRITE]};
    }
    return out;
  };
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  ASSERT_EQ(getsockname(client.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::uint16_t port = ntohs(address.sin_port);
  const auto before = positions_of(listener.port, port);
  ASSERT_NE(before[CULPRIT_READ], 0U);
  ASSERT_NE(before[CULPRIT_WRITE], 0U);
  ASSERT_EQ(write(client.get(), "ask", 3), 3);
  ASSERT_EQ(write(server.get(), "answered", 8), 8);
  auto after = positions_of(listener.port, port);
  EXPECT_EQ(after[CULPRIT_READ] - before[CULPRIT_READ], 0U);  // it was not read yet
  EXPECT_EQ(after[CULPRIT_WRITE] - before[CULPRIT_WRITE], 8U);
  char buffer[8];
  ASSERT_EQ(read(server.get(), buffer, sizeof(buffer)), 3);
  after = positions_of(listener.port, port);
  EXPECT_EQ(after[CULPRIT_READ] - before[CULPRIT_READ], 3U);
}

}  // namespace
}  // namespace culprit::test
