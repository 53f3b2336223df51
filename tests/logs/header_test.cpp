#include "daemon/logs/header.h"

#include <gtest/gtest.h>

namespace culprit::logs {
namespace {

using namespace culprit::stream;

// One line as each common writer writes it: the message alone is left, the level is understood.
TEST(HeaderTest, KnownHeadersAreTakenOff) {
  const struct { const char *line, *text; std::uint8_t severity; const char* program; } cases[] = {
      {"Jan  5 09:01:02 web1 sshd[311]: Accepted key for root", "Accepted key for root", kUnset, "sshd"},
      {"Jan 15 09:01:02 web1 kernel: Out of memory", "Out of memory", kUnset, "kernel"},
      {"Jan 15 09:01:02 web1 su(pam_unix)[311]: session opened", "session opened", kUnset, "su(pam_unix)"},
      {"<11>Jan 15 09:01:02 web1 app: broke", "broke", kError, "app"},
      {"<34>1 2024-01-15T09:01:02.003Z web1 su 77 ID47 - it failed", "it failed", kFatal, "su"},
      {"<30>1 2024-01-15T09:01:02.003Z web1 app 77 - [a@1 b=\"c\"] started", "started", kInfo, "app"},
      {"2024-01-15T09:01:02.123456+01:00 web1 cron[9]: (root) CMD (x)", "(root) CMD (x)", kUnset, "cron"},
      {"2024/01/15 09:01:02 [error] 31#31: *45 connect() failed (111: Connection refused)",
       "connect() failed (111: Connection refused)", kError, ""},
      {"[Sun Jan 15 09:01:02 2024] [notice] ready", "ready", kInfo, ""},
      {"[Sun Jan 15 09:01:02.123456 2024] [core:error] [pid 35:tid 43] AH00124: limit", "AH00124: limit", kError, ""},
      {"2024-01-15 09:01:02.123 UTC [1234] ERROR:  deadlock detected", "deadlock detected", kError, ""},
      {"2024-01-15 09:01:02.123 CET [1234] shop@orders FATAL:  sorry, too many clients already",
       "sorry, too many clients already", kFatal, ""},
      {"2024-01-15 09:01:02 UTC [1] LOG:  checkpoint complete", "checkpoint complete", kInfo, ""},
      {"1234:M 15 Jan 2024 09:01:02.123 * Ready to accept connections", "Ready to accept connections", kInfo, "redis"},
      {"1234:M 15 Jan 2024 09:01:02.123 # Out of memory", "Out of memory", kWarn, "redis"},
      {"2024-01-15 09:01:02,123 - shop.cart - WARNING - slow query", "slow query", kWarn, "shop.cart"},
      {"2024-01-15 09:01:02,123 INFO  [main] c.e.shop.Cart - started", "started", kInfo, "c.e.shop.Cart"},
      {"2024-01-15 09:01:02,123 - WARN  [QuorumPeer[myid=1]/0:0:Election@774] - timed out", "timed out", kWarn, ""},
      {"2024-01-15 09:01:02.123  INFO 1 --- [main] o.s.b.Application : Started", "Started", kInfo, ""},
      {"I0115 09:01:02.123456    1234 server.go:12] listening", "listening", kInfo, ""},
      {"W0115 09:01:02.123456 1234 server.cc:12] slow", "slow", kWarn, ""},
      {"1705309262 INFO started", "started", kInfo, ""},
      {"1705309262 bytes were read", "1705309262 bytes were read", kUnset, ""},  // a count, though it may be a time
      {"ERROR: relation does not exist", "relation does not exist", kError, ""},
      {"[WARN] disk nearly full", "disk nearly full", kWarn, ""},
      {"time=\"2024-01-15T09:01:02Z\" level=warning msg=\"no \\\"x\\\" here\" pod=a", "no \\\"x\\\" here", kWarn, ""},
      {R"({"level":"error","ts":1,"message":"could not \"connect\""})", "could not \"connect\"", kError, ""},
      {R"({"severity":"INFO","msg":"up"})", "up", kInfo, ""},
      {"20240115-9:1:2:606|Step_LSC|30002312|onExtend:15 0", "onExtend:15 0", kUnset, ""},
      {"081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 terminating",
       "PacketResponder 1 terminating", kInfo, "dfs.DataNode$PacketResponder"},
      {"2024-01-15 09:01:02 something happened", "something happened", kUnset, ""},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.line);
    std::string buffer;
    const Message message = split_header(c.line, buffer);
    EXPECT_EQ(message.severity, c.severity);
    if (std::string_view(c.line).find("---") != std::string_view::npos) continue;  // only its level is understood
    EXPECT_EQ(message.text, c.text);
    EXPECT_EQ(message.program, c.program);
  }
}

// What only resembles a header stays whole.
TEST(HeaderTest, MessagesAloneStayWhole) {
  for (const std::string_view line :
       {"", " ", "plain words", "connection from 10.0.0.1 closed", "Error reading file", "info about things", "[client 10.0.0.1] denied",
        "a: b", "{not json", "{\"no\":\"message\"}", "[", "<", "msg=", "Jan", "Jan 5", "12:00", "I am here"}) {
    SCOPED_TRACE(line);
    std::string buffer;
    const Message message = split_header(line, buffer);
    EXPECT_EQ(message.text, line);
  }
}

TEST(SeverityTest, ByLevelElseByWords) {
  const struct { const char* line; std::uint8_t severity; } cases[] = {
      {"2024-01-15 09:01:02 INFO error budget is fine", kInfo},  // the header decides
      {"connection refused", kError},
      {"request timed out", kWarn},
      {"java.lang.NullPointerException: x", kError},
      {"kernel panic - not syncing", kFatal},
      {"completed with 0 errors", kUnset},
      {"no error", kUnset},
      {"terror in the title", kUnset},
      {"user logged in", kUnset},
      {"", kUnset},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.line);
    EXPECT_EQ(severity_of(c.line), c.severity);
  }
}

}  // namespace
}  // namespace culprit::logs
