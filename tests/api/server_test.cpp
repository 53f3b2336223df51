#include "daemon/api/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "tests/api/fake_backend.h"

namespace culprit::api {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr Asset kPage[] = {{"/", "text/html; charset=utf-8", "<!doctype html>"}};

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "culprit-api-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    socket_ = folder_ / "run" / "api.sock";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void start(ServerOptions options = {}) {
    options.page = kPage;
    auto listeners = Listeners::open({.socket = socket_, .port = std::uint16_t{0}});
    ASSERT_TRUE(listeners) << listeners.error().message;
    auto server = Server::start(std::move(*listeners), backend_, options);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }

  Fd connect_unix() const {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, socket_.c_str());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  Fd connect_tcp() const {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(*server_->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  static void send(const Fd& fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the server may close early
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  // Everything until the server closes; fails the test if it does not for half a minute.
  static std::string read_all(const Fd& fd) {
    std::string text;
    char buffer[4096];
    for (;;) {
      pollfd ready{fd.get(), POLLIN, 0};
      if (::poll(&ready, 1, 30'000) <= 0) {
        ADD_FAILURE() << "the server neither answers nor closes; so far: " << text;
        return text;
      }
      const ssize_t got = ::recv(fd.get(), buffer, sizeof(buffer), 0);
      if (got <= 0) return text;
      text.append(buffer, static_cast<std::size_t>(got));
    }
  }
  std::string ask(const std::string& bytes) const {
    const Fd fd = connect_unix();
    send(fd, bytes);
    return read_all(fd);
  }
  std::string get(const std::string& target) const {
    return ask("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }
  void expect_alive() const { EXPECT_THAT(get("/api/v1/summary"), StartsWith("HTTP/1.1 200")); }

  std::filesystem::path folder_;
  std::filesystem::path socket_;
  FakeBackend backend_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AnswersOnBothDoors) {
  start();
  const std::string answer = get("/api/v1/events?entity=a%20b");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json"));
  ASSERT_TRUE(backend_.asked_events);
  EXPECT_EQ(backend_.asked_events->entities.at(0), "a b");

  const Fd page = connect_tcp();
  send(page, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  const std::string html = read_all(page);
  EXPECT_THAT(html, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(html, HasSubstr("<!doctype html>"));
  EXPECT_THAT(html, testing::Not(HasSubstr("Access-Control")));

  const Fd rebound = connect_tcp();
  send(rebound, "GET /api/v1/summary HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(read_all(rebound), StartsWith("HTTP/1.1 403"));
}

TEST_F(ServerTest, TakesBodiesAndHead) {
  start();
  const std::string body = R"({"service":"shop"})";
  EXPECT_THAT(ask(fmt::format(
                  "POST /api/v1/why HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                  body.size(), body)),
              HasSubstr("postgresql/lock-wait"));
  EXPECT_THAT(ask("POST /api/v1/why HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n12\r\n" +
                  body + "\r\n0\r\n\r\n"),
              HasSubstr("postgresql/lock-wait"));
  const std::string head = ask("HEAD /api/v1/summary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(head, testing::EndsWith("\r\n\r\n"));
}

// Nothing that arrives stops the server or makes it wait forever; each gets an error or a closed connection.
TEST_F(ServerTest, SurvivesHostileBytes) {
  start({.idle_s = 1, .request_s = 1});
  std::mt19937 random(7);
  std::string noise(100'000, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  const std::string inputs[] = {
      noise,
      "\r\n\r\n\r\n",
      "GET\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "GET /api/v1/summary HTTP/1.1\r\n\r\n",  // no Host
      "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(200'000, 'h') + "\r\n\r\n",
      "POST /api/v1/why HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
      "POST /api/v1/why HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
      "POST /api/v1/why HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"service\":",  // truncated body
      "POST /api/v1/why HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{",
      "POST /api/v1/why HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{",
      "GET /api/v1/events?%00%ff=%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  // a TLS hello
  };
  for (const std::string& input : inputs) {
    SCOPED_TRACE(input.substr(0, 60));
    const std::string answer = ask(input);
    EXPECT_THAT(answer, testing::Not(StartsWith("HTTP/1.1 200")));
    expect_alive();
  }
  // A NUL byte ends the target for libmicrohttpd 0.9 (the request is the shorter one); 1.0 refuses it without an answer.
  EXPECT_THAT(ask(std::string("GET /x\0y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 49)),
              testing::AnyOf(StartsWith("HTTP/1.1 404"), ""));
  expect_alive();
}

TEST_F(ServerTest, RefusesLongBodies) {
  start({.body_bytes_max = 1000});
  const std::string body(5000, 'x');
  EXPECT_THAT(
      ask("POST /api/v1/why HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n" + body),
      StartsWith("HTTP/1.1 413"));
  EXPECT_EQ(server_->stats().oversized, 1U);
}

// One byte at a time restarts libmicrohttpd's timeout with each byte; the watch ends it nevertheless.
TEST_F(ServerTest, EndsSlowRequests) {
  start({.idle_s = 20, .request_s = 1});
  const Fd slow = connect_unix();
  const std::string request = "GET /api/v1/summary HTTP/1.1\r\nX: " + std::string(1000, 'x');
  std::size_t sent = 0;
  for (; sent < request.size(); ++sent) {
    if (::send(slow.get(), &request[sent], 1, MSG_NOSIGNAL) != 1) break;
    pollfd ready{slow.get(), POLLIN, 0};
    if (::poll(&ready, 1, 50) > 0) break;  // closed
  }
  EXPECT_LT(sent, request.size());
  EXPECT_EQ(server_->stats().timed_out, 1U);
  expect_alive();
}

// More connections than allowed are refused, not queued without end; those that leave make room.
TEST_F(ServerTest, LimitsConnections) {
  start({.connections_max = 8});
  std::vector<Fd> idle;
  for (int i = 0; i < 40; ++i) {
    idle.push_back(connect_unix());
    send(idle.back(), "GET /");
  }
  idle.clear();
  while (server_->stats().connections_open > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  expect_alive();
  EXPECT_LE(server_->stats().connections, 42U);
}

TEST_F(ServerTest, CountsWhatItAnswered) {
  start();
  (void)get("/api/v1/summary");
  (void)get("/nothing");
  const ServerStats stats = server_->stats();
  EXPECT_EQ(stats.requests, 2U);
  EXPECT_EQ(stats.by_status.at(200), 1U);
  EXPECT_EQ(stats.by_status.at(404), 1U);
}

TEST_F(ServerTest, SocketFileHasItsModeAndGoesAway) {
  start();
  struct stat status{};
  ASSERT_EQ(::stat(socket_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0660U);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(socket_));
}

// A socket that a dead daemon left is replaced; one that a live daemon answers on is not, nor any other file.
TEST_F(ServerTest, ReplacesOnlyStaleSockets) {
  std::filesystem::create_directories(socket_.parent_path());
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, socket_.c_str());
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(socket_));
  start();
  expect_alive();

  const auto second = Listeners::open({.socket = socket_, .port = std::nullopt});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::Busy);
  EXPECT_THAT(second.error().message, HasSubstr("--socket"));
  expect_alive();

  const std::filesystem::path file = folder_ / "file";
  std::ofstream(file) << "keep";
  const auto onto_file = Listeners::open({.socket = file, .port = std::nullopt});
  ASSERT_FALSE(onto_file);
  EXPECT_EQ(onto_file.error().code, Code::Invalid);
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(ServerTest, TakenPortAndBadPathsAreNamed) {
  start();
  const auto port = Listeners::open({.socket = folder_ / "other.sock", .port = server_->port()});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::Busy);
  EXPECT_THAT(port.error().message, HasSubstr(std::to_string(*server_->port())));
  EXPECT_THAT(port.error().message, HasSubstr("--port"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "other.sock"));

  const auto path = Listeners::open({.socket = "/" + std::string(200, 'p'), .port = std::nullopt});
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().code, Code::Invalid);
  const auto group =
      Listeners::open({.socket = folder_ / "g.sock", .group = "no-such-group", .port = std::nullopt});
  ASSERT_FALSE(group);
  EXPECT_THAT(group.error().message, HasSubstr("no-such-group"));
}

// Many clients at once get whole answers.
TEST_F(ServerTest, ServesManyAtOnce) {
  start();
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < 8; ++i) {
      clients.emplace_back([&] {
        for (int k = 0; k < 20; ++k)
          good += get("/api/v1/status").find("\"uptime_s\":93784.0") != std::string::npos;
      });
    }
  }
  EXPECT_EQ(good, 160);
}

}  // namespace
}  // namespace culprit::api
