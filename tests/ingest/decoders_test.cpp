// Alerts, Prometheus, Kubernetes events, imports.
#include <fmt/format.h>

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

std::string series(std::string_view name, double value, std::int64_t time_ms) {
  WireWriter label, job_label, sample, series, request;
  label.bytes(1, "__name__");
  label.bytes(2, name);
  job_label.bytes(1, "job");
  job_label.bytes(2, "api");
  sample.real(1, value);
  sample.number(2, static_cast<std::uint64_t>(time_ms));
  series.bytes(1, label.text());
  series.bytes(1, job_label.text());
  series.bytes(2, sample.text());
  request.bytes(1, series.text());
  return request.text();
}

TEST(Prometheus, RemoteWrite) {
  Counters counters;
  const std::int64_t now_ms = kNowWall / kNsPerMs;
  Decoded decoded;
  ASSERT_TRUE(decode_remote_write(series("up", 1, now_ms - 5000) + series("hits_total", 10, now_ms - 15000) + series("hits_total", 60, now_ms - 5000) +
                                      series("up", std::bit_cast<double>(std::uint64_t{0x7ff0000000000002}), now_ms),
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
}

}  // namespace
}  // namespace culprit::ingest
