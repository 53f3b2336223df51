// Lines of real programs in the formats that they write.
#include "daemon/ingest/formats.h"

#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

struct Read {
  bool fits = false;
  stream::Event event;
  Decoded decoded;
};

Read read(const std::string& spec, std::string_view line) {
  Read result;
  const auto format = LineFormat::create(spec);
  EXPECT_TRUE(format) << spec << ": " << (format ? "" : format.error().message);
  if (format) result.fits = format->read(line, test_context(), result.event, result.decoded);
  return result;
}

TEST(AccessLogs, TellMethodRouteStatusAndTime) {
  const struct {
    const char* spec;
    const char* line;
    const char* shape;
    const char* duration;
  } cases[] = {
      {"nginx", R"(10.0.0.7 - - [14/Nov/2023:22:13:20 +0000] "GET /orders/17?token=secret HTTP/1.1" 504 167 "-" "curl/8.5")", "GET /orders/{id} 504", ""},
      {R"(nginx:$remote_addr [$time_iso8601] "$request" $status $request_time "$upstream_addr")", R"(10.0.0.7 [2023-11-14T22:13:20+00:00] "POST /pay HTTP/2.0" 201 0.125 "10.1.0.4:8080")", "POST /pay 201", "0.125"},
      {"apache", R"(10.0.0.7 - bob [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.0" 200 2326)", "GET / 200", ""},
      {R"(apache:%h %l %u %t \"%r\" %>s %b %D)", R"(10.0.0.7 - bob [14/Nov/2023:22:13:20 +0000] "GET /a/1 HTTP/1.0" 200 2326 1500)", "GET /a/{id} 200", "0.0015"},
      {"envoy", R"([2023-11-14T22:13:20.000Z] "GET /orders/17 HTTP/1.1" 504 UT 0 24 15002 - "-" "curl" "a-b" "order" "10.1.0.4:8080")", "GET /orders/{id} 504 UT", "15.002"},
      {"envoy", R"([2023-11-14T22:13:20.000Z] "GET /orders/17 HTTP/1.1" 503 UO upstream_reset_before_response_started{overflow} - "-" 0 81 3 - "-" "curl" "a-b" "order" "-" outbound|80||stock.shop.svc - 10.2.0.1:80 10.2.0.9:5 - default)", "GET /orders/{id} 503 UO", "0.003"},
      {"envoy:%START_TIME% %RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(:METHOD)% %REQ(:PATH)% %DURATION%", "2023-11-14T22:13:20.000Z 200 - GET /x 12", "GET /x 200", "0.012"},
      {"haproxy", R"(Nov 14 22:13:20 lb haproxy[71]: 10.0.0.7:33317 [14/Nov/2023:22:13:20.655] web order/app1 0/0/1/-1/50001 504 194 - - sH-- 12/12/3/1/0 0/0 "GET /orders/17 HTTP/1.1")", "GET /orders/{id} 504 sH--", "50.001"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.line);
    const Read got = read(c.spec, c.line);
    EXPECT_TRUE(got.fits);
    EXPECT_EQ(at(got.event, "template"), c.shape);
    EXPECT_EQ(at(got.event, "duration_s"), c.duration);
    EXPECT_EQ(got.event.body.find("secret"), std::string::npos);
    EXPECT_LE(got.event.time_ns, kNow);
  }
  EXPECT_EQ(at(read("haproxy", cases[7].line).event, "upstream.cluster"), "order");
  EXPECT_EQ(at(read("envoy", cases[5].line).event, "upstream.cluster"), "outbound|80||stock.shop.svc");
  EXPECT_EQ(read("envoy", cases[4].line).event.severity, stream::kError);
  EXPECT_EQ(read("nginx", cases[0].line).event.time_ns, 1'700'000'000LL * kNsPerSecond - kOffset);
}

// Who wrote a line, in the ways that common programs say it; what is no process is none.
TEST(Lines, NameTheirProcess) {
  const struct {
    const char* spec;
    const char* line;
    const char* pid;
    const char* thread;
  } cases[] = {
      {"json", R"({"pid":4211,"tid":4212,"msg":"x"})", "4211", "4212"},
      {"json", R"({"process_id":"4211","threadId":"main","msg":"x"})", "4211", ""},
      {"logfmt", "level=info pid=4211 thread_id=7 msg=x", "4211", "7"},
      {"plain", "2023/11/14 22:13:20 [error] 4211#4212: *1 connect() failed", "4211", "4212"},
      {"auto", "Nov 14 22:13:20 host cron[4211]: (root) CMD (x)", "4211", ""},
      {"redis", "4211:M 14 Nov 2023 22:13:20.000 * Ready to accept connections", "4211", ""},
      {"postgresql", "2023-11-14 22:13:20.000 UTC [4211] LOG:  checkpoint starting", "4211", ""},
      {"plain", "2023-11-14 22:13:20.000 UTC [4211] something", "", ""},
      {"plain", "took items[4] and 12#", "", ""},
      {"plain", "[ 4211.123456] a line of the kernel's", "", ""},
      {"json", R"({"pid":-1,"tid":99999999999,"msg":"x"})", "", ""},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.line);
    const Read got = read(c.spec, c.line);
    EXPECT_EQ(at(got.event, "process.pid"), c.pid);
    EXPECT_EQ(at(got.event, "thread.id"), c.thread);
  }
}

TEST(StructuredLines, JsonAndLogfmt) {
  const Read json = read("json", R"({"time":"2023-11-14T22:13:20Z","level":"error","msg":"pool exhausted","trace_id":"0102030405060708090a0b0c0d0e0f10","service":"order","n":3})");
  EXPECT_TRUE(json.fits);
  EXPECT_EQ(json.event.body, "pool exhausted");
  EXPECT_EQ(json.event.severity, stream::kError);
  EXPECT_EQ(json.event.entity, "service:order");
  EXPECT_EQ(json.event.trace_id[1], 0x090a0b0c0d0e0f10U);
  EXPECT_EQ(at(json.event, "n"), "3");
  EXPECT_EQ(read("json", R"({"level":50,"msg":"x","time":1700000000000})").event.severity, stream::kError);
  EXPECT_EQ(read("json", R"({"level":10203000000,"msg":"x"})").event.severity, stream::kUnset);  // no int holds it
  const Read logfmt = read("logfmt", R"(time=2023-11-14T22:13:20Z level=warn msg="slow \"query\"" took=1.2s)");
  EXPECT_TRUE(logfmt.fits);
  EXPECT_EQ(logfmt.event.body, "slow \"query\"");
  EXPECT_EQ(logfmt.event.severity, stream::kWarn);
  EXPECT_FALSE(read("json", "{not json").fits);
  EXPECT_EQ(read("json", "{not json").event.body, "{not json");
}

TEST(Formats, AutoFindsTheForm) {
  EXPECT_EQ(read("auto", R"({"level":"info","msg":"a"})").event.body, "a");
  EXPECT_EQ(at(read("auto", R"(1.2.3.4 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 1 "-" "-")").event, "template"), "GET / 200");
  EXPECT_EQ(read("auto", "level=error msg=broken").event.body, "broken");
  EXPECT_EQ(read("auto", "2023-11-14 22:13:20.123 UTC [71] FATAL:  sorry, too many clients already").event.severity, stream::kFatal);
}

TEST(Formats, WrongSpecsSayWhatIsKnown) {
  for (const char* spec : {"nonsense", "json:x", "nginx:$", "apache:%", "apache:%{x", "envoy:%START"}) EXPECT_FALSE(LineFormat::create(spec)) << spec;
}

TEST(Formats, StackTracesBelongToTheLineBefore) {
  const auto format = LineFormat::create("plain");
  ASSERT_TRUE(format);
  EXPECT_TRUE(format->continues("\tat org.example.Shop.order(Shop.java:17)"));
  EXPECT_TRUE(format->continues("Caused by: java.net.SocketTimeoutException"));
  EXPECT_FALSE(format->continues("2023-11-14 next"));
}

}  // namespace
}  // namespace culprit::ingest
