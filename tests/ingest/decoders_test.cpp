// Alerts, Prometheus, Kubernetes events, imports.
#include <fmt/format.h>
#include <zlib.h>

#include <bit>
#include <cmath>

#include "daemon/ingest/alerts.h"
#include "daemon/ingest/imports.h"
#include "daemon/ingest/kubernetes.h"
#include "daemon/ingest/prometheus.h"
#include "daemon/ingest/wire.h"
#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

TEST(Alerts, AlertmanagersWebhook) {
  const std::string json = fmt::format(R"({{"version":"4","status":"firing","alerts":[
    {{"status":"firing","labels":{{"alertname":"HighLatency","service":"order","severity":"critical"}},"annotations":{{"summary":"p99 over 2 s"}},"startsAt":"{}","endsAt":"0001-01-01T00:00:00Z","fingerprint":"ab12"}},
    {{"status":"resolved","labels":{{"alertname":"Down","pod":"cart-7c5d8f9b6d-x2x4z"}},"annotations":{{}},"startsAt":"{}","endsAt":"{}"}}]}})",
                                       format_wall(kNowWall - 60 * kNsPerSecond), format_wall(kNowWall - 90 * kNsPerSecond), format_wall(kNowWall - 2 * kNsPerSecond));
  Decoded decoded;
  const auto done = decode_alerts(json, test_context(), decoded);
  ASSERT_TRUE(done) << done.error().message;
  ASSERT_EQ(decoded.events.size(), 2U);
  const stream::Event& fires = decoded.events[0];
  EXPECT_EQ(fires.kind, stream::Kind::Alert);
  EXPECT_EQ(fires.entity, "service:order");
  EXPECT_EQ(fires.name, "HighLatency");
  EXPECT_EQ(fires.body, "p99 over 2 s");
  EXPECT_EQ(fires.value, 1);
  EXPECT_EQ(fires.severity, stream::kFatal);
  EXPECT_EQ(fires.time_ns, kNow - 60 * kNsPerSecond);
  EXPECT_EQ(at(fires, "alert.id"), "ab12");
  const stream::Event& over = decoded.events[1];
  EXPECT_EQ(over.entity, "service:cart");
  EXPECT_EQ(over.value, 0);
  EXPECT_EQ(over.time_ns, kNow - 2 * kNsPerSecond);
}

TEST(Alerts, AnyJsonThatSaysWhatAndWhere) {
  Decoded decoded;
  ASSERT_TRUE(decode_alerts(R"({"service":"shop","title":"Checkout fails","severity":"warning","message":"12 % errors"})", test_context(), decoded));
  ASSERT_TRUE(decode_alerts(R"([{"name":"a","instance":"localhost:8080","state":"ok"},{"foo":1}])", test_context(), decoded));
  ASSERT_EQ(decoded.events.size(), 2U);
  EXPECT_EQ(decoded.events[0].entity, "service:shop");
  EXPECT_EQ(decoded.events[0].name, "Checkout fails");
  EXPECT_EQ(decoded.events[1].entity, "service:web");
  EXPECT_EQ(decoded.events[1].value, 0);
  EXPECT_EQ(decoded.rejected, 1U);
  EXPECT_FALSE(decode_alerts("12", test_context(), decoded));
  EXPECT_FALSE(decode_alerts("{", test_context(), decoded));
}

constexpr std::string_view kExposition = R"(# HELP http_requests_total x
# TYPE http_requests_total counter
http_requests_total{code="200",path="a\"b\\c"} 1027 # {trace_id="0102030405060708090a0b0c0d0e0f10"} 1
# TYPE temperature gauge
temperature -3.5
node_load1 0.5
# TYPE lag histogram
lag_bucket{le="0.1"} 90
lag_bucket{le="1"} 99
lag_bucket{le="+Inf"} 100
lag_sum 20
lag_count 100
)";

TEST(Prometheus, TextForm) {
  Counters counters;
  ScrapeTarget target;
  target.entity = "service:api";
  Context context = test_context(&counters);
  Decoded first;
  ASSERT_TRUE(decode_exposition(kExposition, target, context, first));
  EXPECT_EQ(first.records, 8U);
  EXPECT_EQ(first.baselines, 2U);  // the counter and the histogram
  ASSERT_EQ(first.events.size(), 2U);
  EXPECT_EQ(first.events[0].entity, "service:api");
  EXPECT_EQ(first.events[0].value, -3.5);
  EXPECT_EQ(first.events[1].entity, "host");
  context.now_ns += 10 * kNsPerSecond;
  std::string later(kExposition);
  later.replace(later.find("1027"), 4, "1127");
  later.replace(later.find("} 90"), 4, "} 190");
  later.replace(later.find("} 99\n"), 5, "} 199\n");
  later.replace(later.find("} 100"), 5, "} 200");
  later.replace(later.find("sum 20"), 6, "sum 30");
  later.replace(later.find("count 100"), 9, "count 200");
  Decoded second;
  ASSERT_TRUE(decode_exposition(later, target, context, second));
  const stream::Event* rate = find(second, "http_requests_total.rate{code=\"200\",path=\"a\\\"b\\\\c\"}");
  ASSERT_NE(rate, nullptr);
  EXPECT_DOUBLE_EQ(rate->value, 10);
  EXPECT_EQ(rate->trace_id[1], 0x090a0b0c0d0e0f10U);
  ASSERT_NE(find(second, "lag.rate"), nullptr);
  EXPECT_DOUBLE_EQ(find(second, "lag.rate")->value, 10);
  EXPECT_DOUBLE_EQ(find(second, "lag.mean")->value, 0.1);
  EXPECT_LE(find(second, "lag.p99")->value, 0.1);
}

TEST(Prometheus, WrongLinesAreRejectedOneByOne) {
  Decoded decoded;
  ASSERT_TRUE(decode_exposition("good 1\nbad{ 2\nworse\nx{a=\"b} 1\n", {}, test_context(), decoded));
  EXPECT_EQ(decoded.rejected, 3U);
  EXPECT_NE(decoded.rejected_why.find("line 2"), std::string::npos);
  const auto none = decode_exposition("<html>no</html>\n", {}, test_context(), decoded);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("line 1"), std::string::npos);
}

std::string series(std::string_view name, double value, std::int64_t time_ms, std::string_view le = {}) {
  WireWriter label, job_label, sample, series, request;
  label.bytes(1, "__name__");
  label.bytes(2, name);
  job_label.bytes(1, "job");
  job_label.bytes(2, "api");
  sample.real(1, value);
  sample.number(2, static_cast<std::uint64_t>(time_ms));
  series.bytes(1, label.text());
  series.bytes(1, job_label.text());
  if (!le.empty()) {
    WireWriter bucket;
    bucket.bytes(1, "le");
    bucket.bytes(2, le);
    series.bytes(1, bucket.text());
  }
  series.bytes(2, sample.text());
  request.bytes(1, series.text());
  return request.text();
}

constexpr double kStale = std::bit_cast<double>(std::uint64_t{0x7ff0000000000002});

// After a stale marker a series begins anew: neither growth nor a restart is read out of two values with an end between them.
TEST(Prometheus, StaleMarkersEndSeries) {
  struct Value {
    std::int64_t ago_s;
    double value;
  };
  const struct {
    const char* name;
    std::vector<std::vector<Value>> requests;
    std::vector<double> rates;
  } cases[] = {
      {"no end", {{{40, 10}}, {{30, 60}}}, {5}},
      {"lower after the end: no restart", {{{40, 100}}, {{30, kStale}}, {{20, 20}}, {{10, 40}}}, {2}},
      {"higher after the end: no growth", {{{40, 100}}, {{30, kStale}}, {{20, 900}}, {{10, 910}}}, {1}},
      {"all in one request", {{{40, 100}, {30, kStale}, {20, 20}, {10, 40}}}, {2}},
      {"an end that comes late ends nothing", {{{40, 100}}, {{30, 150}}, {{35, kStale}}, {{20, 200}}}, {5, 5}},
      {"older than the end", {{{40, 100}}, {{20, kStale}}, {{30, 150}}, {{10, 300}}}, {}},
      {"ended twice", {{{50, 1}}, {{40, kStale}}, {{30, kStale}}, {{20, 7}}}, {}},
  };
  const std::int64_t now_ms = kNowWall / kNsPerMs;
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    for (const bool histogram : {false, true}) {
      Counters counters;
      std::vector<double> rates;
      for (const auto& request : c.requests) {
        std::string bytes;
        for (const auto& [ago_s, value] : request) {
          const std::int64_t time_ms = now_ms - ago_s * 1000;
          if (!histogram) bytes += series("hits_total", value, time_ms);
          else bytes += series("lag_bucket", value, time_ms, "0.5") + series("lag_bucket", value, time_ms, "+Inf");
        }
        Decoded decoded;
        ASSERT_TRUE(decode_remote_write(bytes, test_context(&counters), decoded));
        EXPECT_EQ(decoded.rejected, 0U);
        for (const auto& event : decoded.events) {
          if (event.name == (histogram ? "lag.rate" : "hits_total.rate")) rates.push_back(event.value);
          EXPECT_FALSE(std::isnan(event.value)) << event.name;
        }
      }
      EXPECT_EQ(rates, c.rates) << (histogram ? "histogram" : "counter");
    }
  }
}

// The end of a bucket that a histogram has no more is not the end of the histogram.
TEST(Prometheus, StaleBucketOfALivingHistogram) {
  Counters counters;
  const std::int64_t now_ms = kNowWall / kNsPerMs;
  const auto take = [&](const std::string& bytes) {
    Decoded decoded;
    EXPECT_TRUE(decode_remote_write(bytes, test_context(&counters), decoded));
    return decoded;
  };
  (void)take(series("lag_bucket", 10, now_ms - 20000, "0.5") + series("lag_bucket", 10, now_ms - 20000, "+Inf"));
  const Decoded later = take(series("lag_bucket", kStale, now_ms - 10000, "0.1") + series("lag_bucket", 30, now_ms - 10000, "0.5") + series("lag_bucket", 30, now_ms - 10000, "+Inf"));
  ASSERT_NE(find(later, "lag.rate"), nullptr);
  EXPECT_DOUBLE_EQ(find(later, "lag.rate")->value, 2);
}

// A refused request took nothing, not even an end.
TEST(Prometheus, AnEndIsTakenBack) {
  Counters counters;
  const std::int64_t now_ms = kNowWall / kNsPerMs;
  Decoded decoded;
  Context context = test_context(&counters);
  ASSERT_TRUE(decode_remote_write(series("hits_total", 10, now_ms - 20000), context, decoded));
  CounterChanges changes;
  context.changes = &changes;
  ASSERT_TRUE(decode_remote_write(series("hits_total", kStale, now_ms - 15000), context, decoded));
  counters.take_back(changes);
  context.changes = nullptr;
  ASSERT_TRUE(decode_remote_write(series("hits_total", 60, now_ms - 10000), context, decoded));
  ASSERT_NE(find(decoded, "hits_total.rate"), nullptr);
  EXPECT_DOUBLE_EQ(find(decoded, "hits_total.rate")->value, 5);
}

// What a target does not tell any more is over, and so is all of it when it does not answer.
TEST(Prometheus, ScrapesEndWhatIsGone) {
  Counters counters;
  Context context = test_context(&counters);
  const auto scrape = [&](std::string_view text) {
    context.now_ns += 10 * kNsPerSecond;
    Decoded decoded;
    counters.begin_round();
    if (!text.empty()) {
      EXPECT_TRUE(decode_exposition(text, {}, context, decoded));
    }
    counters.end_round();
    return decoded;
  };
  (void)scrape("a_total 10\nb_total 10\n");
  EXPECT_DOUBLE_EQ(find(scrape("a_total 20\n"), "a_total.rate")->value, 1);
  const Decoded back = scrape("a_total 40\nb_total 500\n");
  EXPECT_DOUBLE_EQ(find(back, "a_total.rate")->value, 2);
  EXPECT_EQ(find(back, "b_total.rate"), nullptr);
  (void)scrape("");
  EXPECT_TRUE(scrape("a_total 1\nb_total 900\n").events.empty());
  EXPECT_EQ(scrape("a_total 2\nb_total 901\n").events.size(), 2U);
}

TEST(Prometheus, RemoteWrite) {
  Counters counters;
  const std::int64_t now_ms = kNowWall / kNsPerMs;
  Decoded decoded;
  ASSERT_TRUE(decode_remote_write(series("up", 1, now_ms - 5000) + series("hits_total", 10, now_ms - 15000) + series("hits_total", 60, now_ms - 5000) +
                                      series("up", kStale, now_ms),
                                  test_context(&counters), decoded));
  EXPECT_EQ(decoded.records, 4U);
  ASSERT_EQ(decoded.events.size(), 2U);
  EXPECT_EQ(decoded.events[0].entity, "service:api");
  EXPECT_EQ(decoded.events[0].name, "up");
  EXPECT_EQ(decoded.events[1].name, "hits_total.rate");
  EXPECT_DOUBLE_EQ(decoded.events[1].value, 5);
  const std::string good = series("up", 1, now_ms);
  for (std::size_t size = 1; size < good.size(); ++size) EXPECT_FALSE(decode_remote_write(good.substr(0, size), test_context(), decoded)) << size;
}

TEST(Kubernetes, EventsOfBothApis) {
  const std::string wall = format_wall(kNowWall - 30 * kNsPerSecond);
  Decoded decoded;
  const std::string list = fmt::format(R"({{"kind":"EventList","items":[
    {{"involvedObject":{{"kind":"Pod","name":"order-7c5d8f9b6d-x2x4z","namespace":"shop"}},"reason":"Unhealthy","message":"Readiness probe failed","type":"Warning","count":4,"lastTimestamp":"{0}"}},
    {{"regarding":{{"kind":"Deployment","name":"order"}},"reason":"ScalingReplicaSet","note":"Scaled down order to 1","type":"Normal","eventTime":"{0}"}},
    {{"metadata":{{}}}}]}})", wall);
  ASSERT_TRUE(decode_kubernetes_events(list, test_context(), decoded));
  ASSERT_EQ(decoded.events.size(), 2U);
  EXPECT_EQ(decoded.rejected, 1U);
  EXPECT_EQ(decoded.events[0].kind, stream::Kind::Log);
  EXPECT_EQ(decoded.events[0].entity, "service:order");
  EXPECT_EQ(decoded.events[0].severity, stream::kError);
  EXPECT_EQ(decoded.events[0].body, "Unhealthy: Readiness probe failed");
  EXPECT_EQ(decoded.events[0].time_ns, kNow - 30 * kNsPerSecond);
  EXPECT_EQ(decoded.events[1].kind, stream::Kind::Change);
  EXPECT_EQ(decoded.events[1].name, "kubernetes.ScalingReplicaSet");
  Decoded watched;
  const std::string lines = R"({"type":"ADDED","object":{"metadata":{"resourceVersion":"7"},"involvedObject":{"kind":"Node","name":"n1"},"reason":"Rebooted","message":"x"}}
{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}
)";
  ASSERT_TRUE(decode_kubernetes_events(lines, test_context(), watched));
  ASSERT_EQ(watched.events.size(), 1U);
  EXPECT_EQ(watched.events[0].entity, "host");
  EXPECT_EQ(watch_position(lines).resource_version, "9");
  EXPECT_TRUE(watch_position(R"({"type":"ERROR","object":{"code":410}})").expired);
}

TEST(Imports, JaegerAndZipkinTellTheSame) {
  const std::int64_t us = (kNowWall - 3600 * kNsPerSecond) / 1000;
  const std::string jaeger = fmt::format(R"({{"data":[{{"traceID":"0102030405060708090a0b0c0d0e0f10","processes":{{"p1":{{"serviceName":"order","tags":[]}}}},"spans":[
    {{"traceID":"0102030405060708090a0b0c0d0e0f10","spanID":"a1","operationName":"GET /orders","startTime":{0},"duration":250000,"processID":"p1",
      "references":[{{"refType":"CHILD_OF","traceID":"0102030405060708090a0b0c0d0e0f10","spanID":"b2"}}],
      "tags":[{{"key":"span.kind","type":"string","value":"server"}},{{"key":"error","type":"bool","value":true}},{{"key":"http.status_code","type":"int64","value":504}}],
      "logs":[{{"timestamp":{0},"fields":[{{"key":"event","value":"error"}},{{"key":"message","value":"pool exhausted"}}]}}]}}]}}]}})", us);
  const std::string zipkin = fmt::format(R"([{{"traceId":"0102030405060708090a0b0c0d0e0f10","id":"00000000000000a1","parentId":"b2","kind":"SERVER","name":"GET /orders","timestamp":{0},"duration":250000,
    "localEndpoint":{{"serviceName":"order"}},"tags":{{"error":"true","http.status_code":"504"}},"annotations":[{{"timestamp":{0},"value":"pool exhausted"}}]}}])", us);
  for (const std::string& text : {jaeger, zipkin}) {
    Decoded decoded;
    const auto done = decode_file("auto", text, test_context(), decoded);
    ASSERT_TRUE(done) << done.error().message;
    ASSERT_EQ(decoded.events.size(), 2U);
    const stream::Event& span = decoded.events[1];
    EXPECT_EQ(span.entity, "service:order");
    EXPECT_EQ(span.span_id, 0xa1U);
    EXPECT_EQ(at(span, "parent.span_id"), "00000000000000b2");
    EXPECT_EQ(at(span, "span.kind"), "server");
    EXPECT_EQ(span.severity, stream::kError);
    EXPECT_DOUBLE_EQ(span.value, 0.25);
    EXPECT_EQ(span.time_ns, us * 1000 + 250 * kNsPerMs - kOffset);
    EXPECT_NE(decoded.events[0].body.find("pool exhausted"), std::string::npos);
  }
  Decoded decoded;
  EXPECT_FALSE(decode_file("auto", "{}", test_context(), decoded));
  EXPECT_FALSE(decode_file("nonsense", "{}", test_context(), decoded));
  // A file of another format is no file without spans.
  for (const auto& [format, text] : {std::pair("jaeger", R"([{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","id":"00f067aa0ba902b7","timestamp":1,"localEndpoint":{}}])"), std::pair("otlp", R"({"data":[]})")}) {
    Decoded none;
    const auto done = decode_file(format, text, test_context(), none);
    ASSERT_FALSE(done) << format;
    EXPECT_EQ(done.error().message, fmt::format("nothing in it is of format {}", format));
  }
  EXPECT_EQ(decode_file("auto", " \n", test_context(), decoded).error().message, "it is empty");
}

// One document a line, packed, with a mark of an editor: the same spans. What cannot be placed is told.
TEST(Imports, FormsOfFiles) {
  const std::string jaeger = R"({"data":[{"traceID":"4bf92f3577b34da6a3ce929d0e0e4736","spans":[{"traceID":"4bf92f3577b34da6a3ce929d0e0e4736","spanID":"a1","operationName":"GET /","startTime":1700000000000000,"duration":5}]}]})";
  const std::string zipkin = R"({"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","id":"00f067aa0ba902b7","timestamp":1700000000000000,"duration":5,"localEndpoint":{"serviceName":"shop"}})";
  const std::string otlp = R"({"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","name":"x","startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000005"}]}]}]})";
  std::string packed(1024, '\0');
  z_stream stream{};
  ASSERT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(jaeger.data()));
  stream.avail_in = static_cast<uInt>(jaeger.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  ASSERT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  const struct { const char* name; std::string bytes; std::size_t spans; } good[] = {
      {"jaeger, two lines", jaeger + "\n" + jaeger + "\n", 2}, {"zipkin, two lines", zipkin + "\n\n" + zipkin, 2}, {"zipkin, one span", zipkin, 1},
      {"otlp, two lines", otlp + "\r\n" + otlp + "\r\n", 2},  {"with a mark", "\xef\xbb\xbf" + jaeger, 1},        {"packed", packed, 1},
  };
  for (const auto& c : good) {
    SCOPED_TRACE(c.name);
    Decoded decoded;
    const auto done = decode_file("auto", c.bytes, test_context(), decoded);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(decoded.events.size(), c.spans);
  }
  const struct { const char* name; std::string bytes; const char* says; } bad[] = {
      {"a line that breaks off", jaeger + "\n" + jaeger.substr(0, 80), "line at offset "},
      {"no document at all", jaeger.substr(0, 80) + "\n" + jaeger, "before offset"},
      {"no start", R"([{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","id":"00f067aa0ba902b7","name":"x","localEndpoint":{}}])", "none of its 1 records can be read: span 'x' has no start"},
      {"no ids", R"([{"timestamp":1700000000000000,"localEndpoint":{}}])", "none of its 1 records can be read: a span without a trace id"},
      {"packed bytes that break off", packed.substr(0, 40), "offset"},
  };
  for (const auto& c : bad) {
    SCOPED_TRACE(c.name);
    Decoded decoded;
    const auto done = decode_file("auto", c.bytes, test_context(), decoded);
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().message.find(c.says), std::string::npos) << done.error().message;
  }
}

}  // namespace
}  // namespace culprit::ingest
