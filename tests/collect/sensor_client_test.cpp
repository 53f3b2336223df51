// The client against a sensor that the test plays itself.
#include "daemon/collect/sensor_client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/sensor/protocol.h"

namespace culprit::collect {
namespace {

using sensor::MessageHeader;
using sensor::MessageType;
using std::chrono::milliseconds;

class SensorClientTest : public testing::Test {
 protected:
  void SetUp() override {
    handlers_.on_hello = [this](sensor::Hello hello, RingFds fds) {
      ++hellos_;
      hello_ = std::move(hello);
      fds_ = std::move(fds);
    };
    handlers_.on_snapshot = [this](sensor::Snapshot snapshot) { snapshots_.push_back(std::move(snapshot)); };
    handlers_.on_lost = [this](const std::string& reason) { lost_.push_back(reason); };
  }
  static std::pair<Fd, Fd> make_pair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    return {Fd(fds[0]), Fd(fds[1])};
  }
  void open() {
    auto [ours, theirs] = make_pair();
    sensor_ = std::move(theirs);
    client_ = std::move(*SensorClient::open(std::move(ours), handlers_));
  }
  static void send(int socket, MessageType type, std::span<const std::byte> body = {}, std::span<const int> fds = {},
                   std::uint32_t id = 0, std::uint16_t flags = 0) {
    MessageHeader header;
    header.type = static_cast<std::uint16_t>(type);
    header.id = id;
    header.flags = flags;
    ASSERT_TRUE(sensor::send_message(socket, header, body, fds));
  }
  static std::vector<std::byte> body_of(const auto&... fields) {
    std::vector<std::byte> body;
    sensor::Writer out(body);
    (out.put(fields), ...);
    return body;
  }
  static void greet(int socket, std::uint32_t version = sensor::kProtocolVersion) {
    sensor::Hello hello;
    hello.version = version;
    hello.kernel_release = "6.18";
    hello.programs.push_back({"tcp", "on_tcp_state", sensor::ProgramState::Skipped, "no", 3});
    std::vector<std::byte> body;
    sensor::Writer out(body);
    encode(out, hello);
    send(socket, MessageType::Hello, body);
    const int fd[] = {socket, socket};
    send(socket, MessageType::Rings, body_of(std::uint32_t{0}, std::uint32_t{0}), fd);
    send(socket, MessageType::Rings, body_of(std::uint32_t{1}, std::uint32_t{0}), fd);
    send(socket, MessageType::Counters, {}, std::span(fd).first(1));
    send(socket, MessageType::Ready);
  }
  void turn() { (void)client_->dispatch(milliseconds(0)); }
  // The next request as the sensor sees it.
  sensor::Message request() {
    auto message = sensor::receive_message(sensor_.get());
    EXPECT_TRUE(message);
    return std::move(*message);
  }

  SensorHandlers handlers_;
  Fd sensor_;
  std::unique_ptr<SensorClient> client_;
  int hellos_ = 0;
  sensor::Hello hello_;
  RingFds fds_;
  std::vector<sensor::Snapshot> snapshots_;
  std::vector<std::string> lost_;
};

TEST_F(SensorClientTest, HelloComesWithItsDescriptors) {
  open();
  greet(sensor_.get());
  turn();
  EXPECT_EQ(hellos_, 1);
  EXPECT_EQ(hello_.kernel_release, "6.18");
  ASSERT_EQ(hello_.programs.size(), 1U);
  EXPECT_EQ(hello_.programs[0].name, "on_tcp_state");
  EXPECT_EQ(hello_.programs[0].state, sensor::ProgramState::Skipped);
  EXPECT_EQ(fds_.control.size(), 2U);
  EXPECT_EQ(fds_.data.size(), 2U);
  EXPECT_TRUE(fds_.counters);
}

TEST_F(SensorClientTest, AnotherVersionIsRefused) {
  open();
  greet(sensor_.get(), sensor::kProtocolVersion + 1);
  turn();
  EXPECT_EQ(hellos_, 0);
  ASSERT_EQ(lost_.size(), 1U);
  EXPECT_NE(lost_[0].find("version"), std::string::npos);
}

TEST_F(SensorClientTest, AnswersFindTheirQuestions) {
  open();
  greet(sensor_.get());
  turn();
  std::string first, second;
  client_->fd_path(1, 2, [&](Result<std::string> path) { first = path.value_or("error"); });
  client_->fd_path(3, 4, [&](Result<std::string> path) { second = path ? *path : path.error().message; });
  const auto one = request();
  const auto two = request();
  // The second answer first, and the first in two parts.
  std::vector<std::byte> body = body_of(1 + static_cast<std::uint32_t>(Code::NotFound));
  sensor::Writer(body).put_string("gone");
  send(sensor_.get(), MessageType::Reply, body, {}, two.header.id, sensor::kLastPart);
  body = body_of(std::uint32_t{0});
  sensor::Writer(body).put_string("/var/log/x");
  send(sensor_.get(), MessageType::Reply, std::span(body).first(6), {}, one.header.id);
  send(sensor_.get(), MessageType::Reply, std::span(body).subspan(6), {}, one.header.id, sensor::kLastPart);
  turn();
  EXPECT_EQ(first, "/var/log/x");
  EXPECT_EQ(second, "gone");
  EXPECT_EQ(client_->counts().replies, 2U);
}

// A lost sensor answers every waiting question with an error; later ones get theirs at once.
TEST_F(SensorClientTest, LossAnswersEverybody) {
  open();
  greet(sensor_.get());
  turn();
  int errors = 0;
  for (int i = 0; i < 10; ++i) client_->who_is(1, [&](Result<sensor::ProcessInfo> info) { errors += !info; });
  fds_ = {};  // copies of the sensor's own end
  sensor_.reset();
  EXPECT_FALSE(client_->dispatch(milliseconds(0)));
  EXPECT_EQ(errors, 10);
  EXPECT_EQ(lost_.size(), 1U);
  client_->who_is(1, [&](Result<sensor::ProcessInfo> info) {
    EXPECT_EQ(info.error().code, Code::Busy);
    ++errors;
  });
  EXPECT_EQ(errors, 11);
  EXPECT_EQ(client_->dispatch(milliseconds(0)).error().code, Code::NotFound);
}

TEST_F(SensorClientTest, TooManyQuestionsAreRefused) {
  open();
  greet(sensor_.get());
  turn();
  std::size_t refused = 0;
  for (std::size_t i = 0; i < SensorClient::kRequestsMax + 5; ++i) {
    client_->who_is(1, [&](Result<sensor::ProcessInfo> info) { refused += info.error().code == Code::Exhausted; });
  }
  EXPECT_EQ(refused, 5U);
  EXPECT_EQ(client_->counts().refused, 5U);
}

TEST_F(SensorClientTest, GarbageIsCountedAndSurvived) {
  open();
  greet(sensor_.get());
  turn();
  ASSERT_GT(::send(sensor_.get(), "garbage", 7, 0), 0);
  send(sensor_.get(), MessageType::Snapshot, body_of(std::uint32_t{99}), {}, 1, sensor::kLastPart);
  send(sensor_.get(), MessageType::Rings, body_of(std::uint8_t{1}));
  send(sensor_.get(), MessageType::Counters);
  send(sensor_.get(), MessageType::Ready);
  send(sensor_.get(), static_cast<MessageType>(77));
  send(sensor_.get(), MessageType::Reply, {}, {}, 12345, sensor::kLastPart);  // nobody asked
  sensor::Snapshot snapshot;
  snapshot.sequence = 2;
  for (const auto& part : encode_parts(snapshot)) {
    send(sensor_.get(), MessageType::Snapshot, part, {}, 2, sensor::kLastPart);
  }
  turn();
  EXPECT_EQ(client_->counts().malformed, 6U);
  ASSERT_EQ(snapshots_.size(), 1U);
  EXPECT_EQ(snapshots_[0].sequence, 2U);
  EXPECT_TRUE(lost_.empty());
}

// Under a supervisor one sensor follows another.
TEST_F(SensorClientTest, NextSensorTakesOver) {
  auto [control, supervisor] = make_pair();
  client_ = std::move(*SensorClient::open_supervised(std::move(control), handlers_));
  EXPECT_TRUE(client_->dispatch(milliseconds(0)));
  EXPECT_FALSE(client_->connected());
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    auto [ours, theirs] = make_pair();
    const int fds[] = {ours.get()};
    send(supervisor.get(), MessageType::Ready, {}, fds);
    greet(theirs.get());
    turn();
    turn();
    EXPECT_EQ(hellos_, i + 1);
    EXPECT_EQ(fds_.control.size(), 2U);
    fds_ = {};
    ours.reset();
    theirs.reset();
    turn();
    EXPECT_EQ(lost_.size(), static_cast<std::size_t>(i) + 1);
    EXPECT_FALSE(client_->connected());
  }
  supervisor.reset();
  EXPECT_FALSE(client_->dispatch(milliseconds(0)));
}

}  // namespace
}  // namespace culprit::collect
