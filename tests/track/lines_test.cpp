// Log lines: whose they are, where they end, how bad they are.
#include "daemon/track/lines.h"

#include "daemon/track/histogram.h"
#include "tests/track/records.h"

namespace culprit::track::test {

using stream::Kind;

// A line that a thread writes while it handles a request belongs to that request, and so does one right after it.
TEST(Lines, JoinedToTheRequest) {
  Shop host;
  const std::int64_t t = kStart + 10 * kMs;
  host.read(host.front.server, host.shop, Shop::get("/pay"), t);
  host.log(host.shop, "ERROR payment failed\n", t + kMs);
  host.log({200, 202, "python3"}, "background\n", t + kMs);  // another thread
  host.write(host.front.server, host.shop, Shop::answer(500, 2), t + 2 * kMs);
  host.log(host.shop, "127.0.0.1 - GET /pay 500\n", t + 2 * kMs + 100'000);
  host.log(host.shop, "much later\n", t + 500 * kMs);
  host.tick(kStart + kSecond);
  const auto spans = host.out.find(Kind::Span, "service:shop", "GET /pay");
  const auto lines = host.out.find(Kind::Log, "service:shop", "");
  ASSERT_EQ(spans.size(), 1u);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0]->body, "ERROR payment failed");
  EXPECT_EQ(lines[0]->severity, stream::kError);
  EXPECT_EQ(lines[0]->trace_id[0], spans[0]->trace_id[0]);
  EXPECT_EQ(lines[0]->span_id, spans[0]->span_id);
  EXPECT_EQ(lines[0]->attribute("thread.id"), "201");
  EXPECT_EQ(lines[1]->body, "background");
  EXPECT_EQ(lines[1]->span_id, 0u);
  EXPECT_EQ(lines[2]->span_id, spans[0]->span_id);
  EXPECT_EQ(lines[3]->span_id, 0u);
  EXPECT_EQ(host.out.last("service:shop", "log.rate"), 4.0);
  EXPECT_EQ(host.out.last("service:shop", "log.errors"), 1.0);
}

// With two open requests on the thread nobody can tell: the line stays alone, and that is counted.
TEST(Lines, AmbiguousStayAlone) {
  Shop host;
  const Connection other = host.connect(host.nginx, 42001, 8000, 0x70010, kStart + 9 * kMs);
  host.read(host.front.server, host.shop, Shop::get("/a"), kStart + 10 * kMs);
  host.read(other.server, host.shop, Shop::get("/b"), kStart + 11 * kMs);
  host.log(host.shop, "which one?\n", kStart + 12 * kMs);
  host.tick(kStart + kSecond);
  const auto lines = host.out.find(Kind::Log, "service:shop", "");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]->span_id, 0u);
  EXPECT_EQ(host.tracker.stats().lines_ambiguous, 1u);
}

// Writes and lines are not the same: several lines in a write, a line in several writes, an end that never comes.
TEST(Lines, CutAndJoined) {
  const struct { const char* name; std::vector<std::string> writes; std::vector<std::string> lines; } cases[] = {
      {"one", {"a\n"}, {"a"}},
      {"several in one", {"a\nb\n\nc\n"}, {"a", "b", "c"}},
      {"one in several", {"a", "b", "c\n"}, {"abc"}},
      {"rest and start", {"a\nb", "c\nd\n"}, {"a", "bc", "d"}},
      {"no end", {"unfinished"}, {"unfinished"}},
      {"carriage return", {"a\r\n"}, {"a"}},
      {"longer than captured", {std::string(600, 'x') + "\n"}, {std::string(512, 'x')}},
      {"not text", {"\xff\xfe\x01z\n"}, {"\uFFFD\uFFFD\uFFFDz"}},
      {"query values", {"GET /pay?card=4711 HTTP/1.1\n"}, {"GET /pay?… HTTP/1.1"}},
      {"a question", {"what? a=b\n"}, {"what? a=b"}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    Host host;
    host.runs(200, "shop");
    std::int64_t t = kStart + kMs;
    for (const std::string& write : c.writes) host.log({200, 200}, write, t += kMs);
    host.tick(kStart + kSecond);
    host.tick(kStart + 3 * kSecond);
    std::vector<std::string> lines;
    for (const auto* event : host.out.find(Kind::Log, "service:shop", "")) lines.push_back(event->body);
    EXPECT_EQ(lines, c.lines);
  }
}

TEST(Lines, Severity) {
  const struct { const char* line; stream::Severity severity; } cases[] = {
      {"2026-11-23 14:02:08,123 ERROR shop: payment failed", stream::kError},
      {"2026-11-23 14:02:08.123 UTC [4211] FATAL:  sorry, too many clients already", stream::kFatal},
      {"2026-11-23 14:02:08.123 UTC [4211] LOG:  checkpoint starting: time", stream::kInfo},
      {"2026-11-23 14:02:08.123 UTC [4211] PANIC:  could not write to file", stream::kFatal},
      {"2026/11/23 14:02:08 [error] 7#7: *5 connect() failed (111: Connection refused) while connecting to upstream", stream::kError},
      {"2026/11/23 14:02:08 [crit] 7#7: *5 open() failed", stream::kFatal},
      {"2026/11/23 14:02:08 [notice] 7#7: signal process started", stream::kInfo},
      {"127.0.0.1 - - [23/Nov/2026:14:02:08 +0000] \"GET /error HTTP/1.1\" 200 17 \"-\" \"wrk\"", stream::kInfo},
      {"127.0.0.1 - - [23/Nov/2026:14:02:08 +0000] \"GET / HTTP/1.1\" 502 17 \"-\" \"wrk\"", stream::kError},
      {"{\"level\":\"warn\",\"msg\":\"slow\"}", stream::kWarn},
      {"{\"level\":50,\"msg\":\"x\"}", stream::kError},
      {"{\"msg\":\"no error\",\"severity\":\"INFO\"}", stream::kInfo},
      {"time=2026 level=error msg=x", stream::kError},
      {"1:M 23 Nov 2026 14:02:08.123 # Out of memory", stream::kWarn},
      {"1:M 23 Nov 2026 14:02:08.123 * Ready to accept connections", stream::kInfo},
      {"WARNING: deprecated", stream::kWarn},
      {"error: no such file", stream::kError},
      {"Traceback (most recent call last):", stream::kError},
      {"psycopg2.OperationalError: connection refused", stream::kError},
      {"OSError: [Errno 28] No space left on device", stream::kError},
      {"DEBUG: x", stream::kDebug},
      {"hello world", stream::kUnset},
      {"terrors of the deep", stream::kUnset},
      {"", stream::kUnset},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.line);
    EXPECT_EQ(severity_of_line(c.line), c.severity);
  }
}

// Quantiles are within 5 % of the truth over the whole range.
TEST(Lines, HistogramError) {
  for (double scale = 2e3; scale < 1e12; scale *= 3.7) {
    Histogram histogram;
    for (int i = 1; i <= 1000; ++i) histogram.add(static_cast<std::int64_t>(scale * i / 1000));
    for (const double q : {0.5, 0.9, 0.99}) {
      const double truth = scale * q * 1e-9;
      EXPECT_NEAR(histogram.quantile_s(q), truth, 0.05 * truth) << scale << " " << q;
    }
    histogram.clear();
    EXPECT_EQ(histogram.quantile_s(0.5), 0);
  }
}

}  // namespace culprit::track::test
