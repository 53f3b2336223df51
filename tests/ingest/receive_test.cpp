// Receivers and the door to the stream: whatever is sent is stored once, refused, or counted.
#include "daemon/ingest/receive.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <thread>

#include "daemon/base/handle.h"
#include "daemon/ingest/http_server.h"
#include "daemon/ingest/rollup.h"
#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

std::string log_json(int records) {
  std::string list;
  for (int i = 0; i < records; ++i) list += fmt::format("{}{{\"body\":{{\"stringValue\":\"line {}\"}}}}", i == 0 ? "" : ",", i);
  return fmt::format(R"({{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}})", list);
}

class ReceiveTest : public testing::Test {
 protected:
  explicit ReceiveTest(std::uint64_t events_max = 100) : intake_({.events_max = events_max, .bytes_max = 1U << 20U}, [this](Batch&& batch) {
    if (closed_) return false;
    held_.push_back(std::move(batch));
    return true;
  }) {}

  HttpAnswer post(const std::string& path, std::string_view body, const std::string& type = "application/json") {
    HttpRequest request;
    request.path = path;
    request.content_type = type;
    request.body = body;
    return receivers_.take(request);
  }
  SourceStats stats(std::string_view name) {
    for (const SourcePtr& source : receivers_.sources()) {
      if (source->name() == name) return source->stats();
    }
    return {};
  }
  static std::uint64_t lost(const SourceStats& stats) {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : stats.dropped) sum += count;
    return sum;
  }

  FakeClock clock_{kNow, kOffset};
  bool closed_ = false;
  Intake intake_;
  std::vector<Batch> held_;  // behind it: batches settle with it as they end
  Receivers receivers_{{clock_, fake_resolver(), intake_}};
};

// Sources that read again hand on whatever fits one by one, also where all of it together does not.
TEST(IntakeTest, LargeEventsAreDeliveredInSlices) {
  const auto source = std::make_shared<SourceState>("x", "file", "");
  std::size_t batches = 0;
  Intake intake({.events_max = 100, .bytes_max = 12U << 20U}, [&](Batch&& batch) {
    ++batches;
    batch.settle(true);
    return true;
  });
  std::vector<stream::Event> events(7);
  for (stream::Event& event : events) event.body.assign(3U << 20U, 'x');
  events.back().body.assign(13U << 20U, 'x');  // this one never
  ASSERT_TRUE(intake.deliver(source, std::move(events), {}));
  EXPECT_EQ(source->stats().stored, 6U);
  EXPECT_EQ(source->stats().dropped[static_cast<std::size_t>(Drop::Limit)], 1U);
  EXPECT_EQ(source->stats().produced, 7U);
  EXPECT_EQ(batches, 3U);
}

TEST_F(ReceiveTest, ProducedIsStoredPlusDropped) {
  EXPECT_EQ(post("/v1/logs", log_json(60)).status, 200U);
  // No room: nothing of it is taken, and the sender is told when to come again.
  const HttpAnswer busy = post("/v1/logs", log_json(60));
  EXPECT_EQ(busy.status, 503U);
  EXPECT_GT(busy.retry_after_s, 0);
  EXPECT_EQ(stats("otlp-logs").produced, 60U);
  EXPECT_EQ(stats("otlp-logs").refused, 1U);
  held_[0].settle(true);
  EXPECT_EQ(post("/v1/logs", log_json(60)).status, 200U);
  held_[1].settle(false);
  const SourceStats after = stats("otlp-logs");
  EXPECT_EQ(after.produced, 120U);
  EXPECT_EQ(after.stored, 60U);
  EXPECT_EQ(after.dropped[static_cast<std::size_t>(Drop::Store)], 60U);
  EXPECT_EQ(after.produced, after.stored + lost(after));
  EXPECT_EQ(intake_.in_flight(), 0U);
  closed_ = true;
  EXPECT_EQ(post("/v1/logs", log_json(5)).status, 503U);
  EXPECT_EQ(stats("otlp-logs").dropped[static_cast<std::size_t>(Drop::Stopped)], 5U);
  EXPECT_EQ(post("/v1/logs", log_json(101)).status, 413U);  // could never fit
}

// What is refused is sent again, with the same times: then it must still be news.
TEST_F(ReceiveTest, ARefusedIncrementIsNotLost) {
  const auto metric = [](int value, std::int64_t second) {
    return fmt::format(R"({{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"jobs","sum":{{"isMonotonic":true,"aggregationTemporality":2,)"
                       R"("dataPoints":[{{"asInt":"{}","timeUnixNano":"{}"}}]}}}}]}}]}}]}})", value, kNow + kOffset - (100 - second) * kNsPerSecond);
  };
  EXPECT_EQ(post("/v1/metrics", metric(10, 0)).status, 200U);  // what rates begin from
  EXPECT_EQ(post("/v1/logs", log_json(100)).status, 200U);
  EXPECT_EQ(post("/v1/metrics", metric(50, 10)).status, 503U);
  held_[0].settle(true);
  EXPECT_EQ(post("/v1/metrics", metric(50, 10)).status, 200U);
  ASSERT_EQ(held_.size(), 2U);
  ASSERT_EQ(held_[1].events.size(), 1U);
  EXPECT_DOUBLE_EQ(held_[1].events[0].value, 4);
  EXPECT_EQ(post("/v1/metrics", metric(50, 10)).status, 200U);  // told twice
  EXPECT_EQ(held_.size(), 2U);
}

TEST_F(ReceiveTest, StatusesOfTheSpecification) {
  EXPECT_EQ(post("/v1/traces", "{").status, 400U);
  EXPECT_EQ(post("/v1/traces", "{}").body, "{}");
  EXPECT_EQ(post("/v1/traces", "\xff\xff", "application/x-protobuf").status, 400U);
  EXPECT_EQ(post("/v1/traces", "x", "text/plain").status, 415U);
  EXPECT_EQ(post("/alerts", R"({"name":"a"})", "text/plain").status, 415U);
  EXPECT_EQ(post("/nothing", "{}").status, 404U);
  HttpRequest get;
  get.method = "GET";
  get.path = "/v1/traces";
  EXPECT_EQ(receivers_.take(get).status, 405U);
  get.path = "/healthz";
  EXPECT_EQ(receivers_.take(get).status, 200U);
  HttpRequest page;
  page.path = "/v1/traces";
  page.content_type = "application/json";
  page.origin = "https://evil.example";
  page.body = "{}";
  EXPECT_EQ(receivers_.take(page).status, 403U);
  HttpRequest packed = page;
  packed.origin.clear();
  packed.content_encoding = "gzip";
  EXPECT_EQ(receivers_.take(packed).status, 400U);
  packed.content_encoding = "br";
  EXPECT_EQ(receivers_.take(packed).status, 415U);
  EXPECT_EQ(stats("otlp-traces").malformed, 5U);
  EXPECT_FALSE(stats("otlp-traces").last_error.empty());
}

std::size_t discard(char*, std::size_t size, std::size_t count, void*) { return size * count; }

long status_of(const std::string& url, const std::string& body, const std::vector<std::string>& headers) {
  const Handle<CURL, curl_easy_cleanup> curl(curl_easy_init());
  curl_slist* list = nullptr;
  for (const std::string& header : headers) list = curl_slist_append(list, header.c_str());
  const Handle<curl_slist, curl_slist_free_all> owner(list);
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, discard);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 20L);
  if (!body.empty()) {
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  }
  long status = 0;
  if (curl_easy_perform(curl.get()) != CURLE_OK) return -1;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  return status;
}

TEST_F(ReceiveTest, OverRealSockets) {
  auto listener = listen_stream("127.0.0.1:0");
  ASSERT_TRUE(listener) << listener.error().message;
  const auto port = port_of(listener->get());
  ASSERT_TRUE(port);
  auto taken = listen_stream(fmt::format("127.0.0.1:{}", *port));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Code::Busy);
  auto server = HttpServer::start(std::move(*listener), receivers_);
  ASSERT_TRUE(server) << server.error().message;
  const std::string base = fmt::format("http://127.0.0.1:{}", *port);
  EXPECT_EQ(status_of(base + "/healthz", "", {}), 200);
  EXPECT_EQ(status_of(base + "/v1/logs", log_json(3), {"Content-Type: application/json"}), 200);
  EXPECT_EQ(status_of(base + "/v1/logs", std::string(kRequestBytesMax + 1, ' '), {"Content-Type: application/json"}), 413);
  EXPECT_EQ(stats("otlp-logs").produced, 3U);
  EXPECT_EQ(stats("otlp-logs").malformed, 1U);
  server->reset();
}

// More at once than there is memory for is told to come again: nothing is wrong with it.
TEST_F(ReceiveTest, TooMuchAtOnceIsRefusedNotMalformed) {
  auto listener = listen_stream("127.0.0.1:0");
  ASSERT_TRUE(listener) << listener.error().message;
  const auto port = port_of(listener->get());
  ASSERT_TRUE(port);
  auto server = HttpServer::start(std::move(*listener), receivers_, {.arriving_bytes_max = 1000});
  ASSERT_TRUE(server) << server.error().message;
  const std::string url = fmt::format("http://127.0.0.1:{}/v1/logs", *port);
  EXPECT_EQ(status_of(url, log_json(1) + std::string(2000, ' '), {"Content-Type: application/json"}), 429);
  EXPECT_EQ(status_of(url, log_json(1), {"Content-Type: application/json"}), 200);
  EXPECT_EQ(stats("otlp-logs").refused, 1U);
  EXPECT_EQ(stats("otlp-logs").malformed, 0U);
  EXPECT_EQ(stats("otlp-logs").produced, 1U);
  server->reset();
}

TEST(Listen, SaysWhatIsWrong) {
  for (const char* address : {"", "x", "127.0.0.1", "127.0.0.1:99999", "example.net:80"}) {
    const auto fd = listen_stream(address);
    ASSERT_FALSE(fd) << address;
    EXPECT_EQ(fd.error().code, Code::Invalid) << address;
  }
}

stream::Event span(std::string_view service, std::string_view kind, double seconds, std::int64_t end_ns, std::uint64_t id, std::uint64_t parent, bool error = false) {
  stream::Event event;
  event.kind = stream::Kind::Span;
  event.entity = fmt::format("service:{}", service);
  event.name = "GET /x";
  event.value = seconds;
  event.time_ns = end_ns;
  event.trace_id[1] = 77;
  event.span_id = id;
  if (error) event.severity = stream::kError;
  event.attributes = {{"span.kind", std::string(kind)}};
  if (parent != 0) event.attributes.emplace_back("parent.span_id", fmt::format("{:016x}", parent));
  return event;
}

// Spans of another tool become what the kernel's view would say of the same requests.
TEST(Rollup, SpansBecomeTheSamplesOfAService) {
  Rollup rollup;
  const std::int64_t second = 1000 * kNsPerSecond;
  rollup.add(span("stock", "server", 0.4, second + 600 * kNsPerMs, 3, 2, true), second + kNsPerSecond);
  rollup.add(span("order", "client", 0.5, second + 700 * kNsPerMs, 2, 1), second + kNsPerSecond);
  rollup.add(span("order", "server", 0.6, second + 800 * kNsPerMs, 1, 0), second + kNsPerSecond);
  rollup.add(span("order", "internal", 9, second + 800 * kNsPerMs, 9, 1), second + kNsPerSecond);
  std::vector<stream::Event> out;
  const auto kernel_sees_none = [](std::string_view) { return false; };
  rollup.tick(second + 5 * kNsPerSecond, kernel_sees_none, out);
  EXPECT_TRUE(out.empty());  // exporters send late: not yet
  rollup.tick(second + kNsPerSecond + Rollup::kDelayNs, kernel_sees_none, out);
  std::map<std::string, double> values;
  for (const stream::Event& event : out) {
    values[event.entity + " " + event.name] = event.value;
    EXPECT_EQ(event.time_ns, second + kNsPerSecond);
  }
  EXPECT_DOUBLE_EQ(values["service:order request.rate"], 1);
  EXPECT_NEAR(values["service:order request.duration.p99"], 0.6, 1e-6);
  EXPECT_NEAR(values["service:order request.self.mean"], 0.1, 1e-6);
  EXPECT_DOUBLE_EQ(values["service:stock request.errors"], 1);
  EXPECT_DOUBLE_EQ(values["edge:order->stock client.rate"], 1);
  EXPECT_NEAR(values["edge:order->stock client.duration.mean"], 0.5, 1e-6);
  EXPECT_DOUBLE_EQ(values["endpoint:order GET /x request.rate"], 1);
  out.clear();
  rollup.tick(second + 2 * kNsPerSecond + Rollup::kDelayNs, kernel_sees_none, out);
  EXPECT_EQ(out.size(), 2U);  // both fell silent
  rollup.add(span("order", "server", 0.6, second, 5, 0), second + 60 * kNsPerSecond);
  EXPECT_EQ(rollup.stats().late, 1U);
}

// What the kernel tells already is not told twice.
TEST(Rollup, TheKernelsViewWins) {
  Rollup rollup;
  const std::int64_t second = 1000 * kNsPerSecond;
  rollup.add(span("order", "server", 0.6, second + 800 * kNsPerMs, 1, 0), second + kNsPerSecond);
  std::vector<stream::Event> out;
  rollup.tick(second + 20 * kNsPerSecond, [](std::string_view service) { return service == "order"; }, out);
  EXPECT_TRUE(out.empty());
}

}  // namespace
}  // namespace culprit::ingest
