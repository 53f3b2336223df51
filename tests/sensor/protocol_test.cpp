#include "daemon/sensor/protocol.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace culprit::sensor {
namespace {

std::pair<Fd, Fd> make_pair() {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
  return {Fd(fds[0]), Fd(fds[1])};
}

ProcessInfo some_process() {
  ProcessInfo info;
  info.tgid = 42;
  info.ppid = 1;
  info.state = 'S';
  info.rss_bytes = 1 << 20;
  info.comm = "postgres";
  info.exe = "/usr/lib/postgresql/15/bin/postgres";
  info.cmdline = {"postgres", "-D", "", "/var/lib"};
  info.cgroup = "/system.slice/postgresql.service";
  info.script_mtime_ns = -5;
  return info;
}

TEST(ProtocolTest, ProcessInfoRoundTrip) {
  const ProcessInfo info = some_process();
  std::vector<std::byte> bytes;
  Writer out(bytes);
  encode(out, info);
  Reader in(bytes);
  ProcessInfo read;
  ASSERT_TRUE(decode(in, read));
  EXPECT_EQ(in.left(), 0U);
  EXPECT_EQ(read.tgid, info.tgid);
  EXPECT_EQ(read.state, 'S');
  EXPECT_EQ(read.comm, info.comm);
  EXPECT_EQ(read.exe, info.exe);
  EXPECT_EQ(read.cmdline, info.cmdline);
  EXPECT_EQ(read.cgroup, info.cgroup);
  EXPECT_EQ(read.script_mtime_ns, -5);
  // Cut anywhere, it is refused rather than half read.
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    Reader cut(std::span<const std::byte>(bytes).first(size));
    ProcessInfo half;
    EXPECT_FALSE(decode(cut, half)) << size;
  }
}

TEST(ProtocolTest, HelloRoundTrip) {
  Hello hello;
  hello.version = kProtocolVersion;
  hello.geometry = {2, 2, 4096, 8192, CULPRIT_EVENT_KINDS};
  hello.settings.slow_ms = 77;
  hello.settings.watch_all_logs = true;
  hello.programs = {{"tcp", "on_tcp_state", ProgramState::Attached, "", 754}, {"oom", "on_oom", ProgramState::Skipped, "why", 0}};
  hello.notes = {"a note"};
  std::vector<std::byte> bytes;
  Writer out(bytes);
  encode(out, hello);
  Reader in(bytes);
  Hello read;
  ASSERT_TRUE(decode(in, read));
  EXPECT_EQ(read.geometry.data_bytes, 8192U);
  EXPECT_EQ(read.settings.slow_ms, 77U);
  EXPECT_TRUE(read.settings.watch_all_logs);
  EXPECT_FALSE(read.settings.watch_all_payload);
  ASSERT_EQ(read.programs.size(), 2U);
  EXPECT_EQ(read.programs[1].state, ProgramState::Skipped);
  EXPECT_EQ(read.programs[1].reason, "why");
  EXPECT_EQ(read.notes, hello.notes);
}

Snapshot large_snapshot() {
  Snapshot snapshot;
  snapshot.time_ns = 123;
  snapshot.sequence = 9;
  snapshot.sensor_cpu_ns = 5;
  for (std::uint32_t i = 0; i < 3000; ++i) {
    SchedSample sched;
    sched.tgid = i;
    sched.counts.on_cpu_ns = i;
    snapshot.sched.push_back(sched);
    snapshot.syscall_errors.push_back({{1, i, 1, 28}, {i, 1}});
    culprit_tcp_info socket{};
    socket.inode = i;
    snapshot.sockets.push_back(socket);
    snapshot.processes.push_back({i, 1, 2, 'R', 3, 4, 5});
  }
  TimedCallSample timed;
  timed.key = {7, CULPRIT_CALL_FSYNC};
  timed.latency.count = 3;
  snapshot.timed_calls.push_back(timed);
  BlockSample block;
  block.key = {1, 2, 1, 0};
  block.counts.bytes = 4096;
  snapshot.block.push_back(block);
  snapshot.tables.push_back({"sched_counts", 10, 100, 1});
  snapshot.programs.push_back({"on_switch", 2});
  return snapshot;
}

// A snapshot of any size travels in messages of bounded size and arrives whole, in whatever order.
TEST(ProtocolTest, SnapshotInParts) {
  const Snapshot snapshot = large_snapshot();
  auto parts = encode_parts(snapshot);
  EXPECT_GT(parts.size(), 5U);
  std::reverse(parts.begin(), parts.end());
  Snapshot read;
  for (const auto& part : parts) {
    EXPECT_LE(part.size(), kMessageBytesMax);
    ASSERT_TRUE(decode_part(part, read));
  }
  EXPECT_EQ(read.time_ns, 123);
  EXPECT_EQ(read.sequence, 9U);
  EXPECT_EQ(read.sched.size(), 3000U);
  EXPECT_EQ(read.syscall_errors.size(), 3000U);
  EXPECT_EQ(read.sockets.size(), 3000U);
  EXPECT_EQ(read.processes.size(), 3000U);
  std::uint64_t sum = 0;
  for (const auto& sample : read.sched) sum += sample.counts.on_cpu_ns;
  EXPECT_EQ(sum, 2999U * 3000 / 2);
  ASSERT_EQ(read.timed_calls.size(), 1U);
  EXPECT_EQ(read.timed_calls[0].latency.count, 3U);
  ASSERT_EQ(read.block.size(), 1U);
  EXPECT_EQ(read.block[0].counts.bytes, 4096U);
  ASSERT_EQ(read.tables.size(), 1U);
  EXPECT_EQ(read.tables[0].name, "sched_counts");
  ASSERT_EQ(read.programs.size(), 1U);
  EXPECT_EQ(read.programs[0].missed, 2U);
}

TEST(ProtocolTest, HugeCountsAreRefusedWithoutMemory) {
  for (std::uint32_t section = 0; section < 12; ++section) {
    std::vector<std::byte> bytes;
    Writer out(bytes);
    out.put(section);
    out.put(std::uint32_t{0xffffffff});
    Snapshot snapshot;
    EXPECT_FALSE(decode_part(bytes, snapshot)) << section;
  }
}

TEST(ProtocolTest, MessagesCarryDescriptors) {
  auto [a, b] = make_pair();
  const Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int fds[] = {null.get(), null.get(), null.get()};
  const std::byte body[] = {std::byte{1}, std::byte{2}};
  MessageHeader header;
  header.type = static_cast<std::uint16_t>(MessageType::Rings);
  header.id = 5;
  ASSERT_TRUE(send_message(a.get(), header, body, fds));
  const auto message = receive_message(b.get());
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_EQ(message->header.id, 5U);
  EXPECT_EQ(message->body.size(), 2U);
  ASSERT_EQ(message->fds.size(), 3U);
  for (const Fd& fd : message->fds) {
    EXPECT_NE(fd.get(), null.get());
    EXPECT_EQ(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  }
  EXPECT_EQ(receive_message(b.get()).error().code, Code::Busy);
}

TEST(ProtocolTest, BadMessagesAndTheEnd) {
  auto [a, b] = make_pair();
  MessageHeader header;
  const struct {
    const char* name;
    std::function<void(MessageHeader&)> spoil;
  } cases[] = {{"wrong magic", [](auto& h) { h.magic = 1; }}, {"wrong size", [](auto& h) { h.bytes = 7; }}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    MessageHeader bad = header;
    c.spoil(bad);
    ASSERT_EQ(send(a.get(), &bad, sizeof(bad), 0), static_cast<ssize_t>(sizeof(bad)));
    EXPECT_EQ(receive_message(b.get()).error().code, Code::Corrupt);
  }
  ASSERT_EQ(send(a.get(), "x", 1, 0), 1);
  EXPECT_EQ(receive_message(b.get()).error().code, Code::Corrupt);
  const std::vector<std::byte> huge(kMessageBytesMax + 1);
  EXPECT_EQ(send_message(a.get(), header, huge).error().code, Code::Invalid);
  a.reset();
  EXPECT_EQ(receive_message(b.get()).error().code, Code::NotFound);
  EXPECT_FALSE(send_message(b.get(), header, {}));
}

TEST(ProtocolTest, AFullSocketIsSaid) {
  auto [a, b] = make_pair();
  fcntl(a.get(), F_SETFL, O_NONBLOCK);
  const std::vector<std::byte> body(kMessageBytesMax / 2);
  Result<void> sent;
  for (int i = 0; i < 10'000 && sent; ++i) sent = send_message(a.get(), {}, body);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Code::Exhausted);
}

}  // namespace
}  // namespace culprit::sensor
