// Syslog in its forms, and its frames cut anywhere.
#include "daemon/ingest/syslog.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <thread>

#include "daemon/ingest/accept.h"
#include "daemon/ingest/http_server.h"

#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

// Without a descriptor left the listener rests for a second, and says so; then connections are taken again.
TEST(Accept, RestsWhenNoDescriptorIsLeft) {
  const auto source = std::make_shared<SourceState>("test", "syslog", "here");
  Acceptor acceptor(listen_stream("127.0.0.1:0").value(), source);
  EXPECT_FALSE(acceptor.accept(kNow));  // nobody there: nothing to tell
  EXPECT_EQ(source->stats().refused, 0U);
  const std::uint16_t port = port_of(acceptor.fd()).value();
  const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const Fd refused = acceptor.accept(kNow);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_FALSE(refused);
  EXPECT_EQ(source->stats().refused, 1U);
  EXPECT_NE(source->stats().last_error.find("Too many open files"), std::string::npos) << source->stats().last_error;
  EXPECT_EQ(acceptor.poll_fd(kNow + Acceptor::kRestNs - 1), -1);
  EXPECT_EQ(acceptor.poll_fd(kNow + Acceptor::kRestNs), acceptor.fd());
  const Fd taken = acceptor.accept(kNow + Acceptor::kRestNs);
  ASSERT_TRUE(taken);
  int probed = 0;
  socklen_t size = sizeof(probed);
  ASSERT_EQ(::getsockopt(taken.get(), SOL_SOCKET, SO_KEEPALIVE, &probed, &size), 0);
  EXPECT_EQ(probed, 1);
}

// Without room for another sender the one that was silent longest goes, with what it left; but only if it was silent for long.
TEST(Syslog, SilentConnectionsMakeRoom) {
  for (const bool long_silent : {true, false}) {
    SCOPED_TRACE(long_silent);
    const SystemClock clock;
    const auto source = std::make_shared<SourceState>("test", "syslog", "here");
    std::mutex mutex;
    std::vector<std::string> bodies;
    Intake intake({}, [&](Batch&& batch) {
      const std::lock_guard lock(mutex);
      for (const auto& event : batch.events) bodies.push_back(event.body);
      batch.settle(true);
      return true;
    });
    auto sockets = SyslogServer::open("127.0.0.1:0", "tcp");
    ASSERT_TRUE(sockets);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port_of(sockets->stream.get()).value());
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto server = SyslogServer::start(std::move(*sockets), "", source, intake, clock, fake_resolver(), {.connections_max = 2, .idle_ns = long_silent ? 0 : 3600 * kNsPerSecond});
    const auto seen = [&](std::string_view body) {
      const std::lock_guard lock(mutex);
      return std::ranges::find(bodies, body) != bodies.end();
    };
    const auto wait_until = [](const std::function<bool()>& done) {
      for (int i = 0; i < 2000 && !done(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return done();
    };
    std::vector<Fd> clients;
    for (int i = 0; i < 3; ++i) {
      const Fd& client = clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
      const std::string text = fmt::format("<14>app: from {}\n<14>app: half of {}", i, i);
      (void)::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
      EXPECT_TRUE(wait_until([&] { return seen(fmt::format("from {}", i)) || source->stats().refused > 0; }));
    }
    EXPECT_EQ(seen("from 2"), long_silent);
    EXPECT_EQ(seen("half of 0"), long_silent);
    EXPECT_FALSE(seen("half of 1"));
    EXPECT_EQ(source->stats().refused, long_silent ? 0U : 1U);
  }
}

TEST(Syslog, FormsOfMessages) {
  std::tm local{};
  local.tm_min = 59, local.tm_hour = 22, local.tm_mday = 13, local.tm_mon = 10, local.tm_year = 123, local.tm_isdst = -1;
  const std::int64_t local_ns = ::mktime(&local) * kNsPerSecond - kOffset;
  const struct {
    const char* message;
    const char* entity;
    const char* body;
    std::uint8_t severity;
    std::int64_t time_ns;
  } cases[] = {
      {"<11>1 2023-11-15T00:59:00Z web1 shop 71 ID7 [a@1 b=\"c\\\"d\"] it failed\n", "service:shop", "it failed", stream::kError, 9940 * kNsPerSecond},
      {"<165>1 2023-11-15T00:59:00.5Z - - - - - bare", "host", "bare", stream::kInfo, 9940 * kNsPerSecond + 500 * kNsPerMs},
      {"<11>1 2023-11-15T00:59:00Z testhost x 4211 - - pid known", "service:shop", "pid known", stream::kError, 9940 * kNsPerSecond},
      {"<14>/usr/sbin/cron[7]: no time", "service:cron", "no time", stream::kInfo, kNow},
      {"no header at all", "host", "no header at all", stream::kInfo, kNow},
      {"<11>Nov 13 2023 22:59:00 asa1 : %ASA-3-710003: TCP access denied", "host", "%ASA-3-710003: TCP access denied", stream::kError, local_ns},
      {"<11>Nov 13 22:59:00.250 asa1 %ASA-3-710003: denied", "host", "%ASA-3-710003: denied", stream::kError, local_ns + 250 * kNsPerMs},
      {"<11>Nov 13 2023 22:59:00: %ASA-3-710003: denied", "host", "%ASA-3-710003: denied", stream::kError, local_ns},
      {"<11>123: %SYS-5-CONFIG_I: configured", "host", "123: %SYS-5-CONFIG_I: configured", stream::kError, kNow},
      {"<11>{\"level\":\"error\",\"msg\":\"x\"}", "host", "{\"level\":\"error\",\"msg\":\"x\"}", stream::kError, kNow},
      {"<999>bad priority", "host", "<999>bad priority", stream::kInfo, kNow},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.message);
    Decoded out;
    decode_syslog(c.message, "", test_context(), out);
    ASSERT_EQ(out.events.size(), 1U);
    EXPECT_EQ(out.events[0].entity, c.entity);
    EXPECT_EQ(out.events[0].body, c.body);
    EXPECT_EQ(out.events[0].severity, c.severity);
    EXPECT_EQ(out.events[0].time_ns, c.time_ns);
  }
  Decoded out;
  decode_syslog("<11>1 2023-11-15T00:59:00Z web1 shop 71 ID7 [a@1 b=\"c\\\"d\"] x", "named", test_context(), out);
  EXPECT_EQ(out.events[0].entity, "service:named");
  EXPECT_EQ(at(out.events[0], "b"), "c\"d");
  EXPECT_EQ(at(out.events[0], "host.name"), "web1");
  Decoded bsd;
  decode_syslog("<13>Nov 14 22:13:20 web1 shop[71]: old form", "", test_context(), bsd);
  EXPECT_EQ(bsd.events[0].entity, "service:shop");
  EXPECT_EQ(bsd.events[0].body, "old form");
  EXPECT_EQ(at(bsd.events[0], "host.name"), "web1");
}

// Octet counting and newlines, cut into pieces of every size, give the same messages.
TEST(Syslog, FramesCutAnywhere) {
  const std::string stream = "10 <13>a\nb cc<14>line one\n<14>line two\n8 <13>last";
  const std::vector<std::string> wanted = {"<13>a\nb cc", "<14>line one", "<14>line two", "<13>last"};
  for (std::size_t size = 1; size <= stream.size(); ++size) {
    SyslogFramer framer;
    std::vector<std::string> got;
    const auto each = [&](std::string_view message) { got.emplace_back(message); };
    for (std::size_t at = 0; at < stream.size(); at += size) framer.add(std::string_view(stream).substr(at, size), each);
    framer.finish(each);
    EXPECT_EQ(got, wanted) << size;
  }
}

// A message beyond the limit is cut, however it was framed; those behind it come whole.
TEST(Syslog, LongMessagesAreCut) {
  const std::string longest(kSyslogBytesMax, 'x'), longer = longest + std::string(100'000, 'y');
  const std::string stream = longer + "\n<14>next\n" + std::to_string(longer.size()) + " " + longer + "8 <13>last" + longest + "\n" + longer;
  for (const std::size_t size : {std::size_t{1'000}, std::size_t{65'536}, stream.size()}) {
    SCOPED_TRACE(size);
    SyslogFramer framer;
    std::vector<std::string> got;
    const auto each = [&](std::string_view message) { got.emplace_back(message); };
    for (std::size_t at = 0; at < stream.size(); at += size) framer.add(std::string_view(stream).substr(at, size), each);
    EXPECT_EQ(framer.take_cut(), 3U);
    framer.finish(each);
    EXPECT_EQ(got, (std::vector<std::string>{longest, "<14>next", longest, "<13>last", longest, longest}));
    EXPECT_EQ(framer.take_cut(), 0U);
  }
}

}  // namespace
}  // namespace culprit::ingest
