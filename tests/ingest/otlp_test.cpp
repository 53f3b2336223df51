// OTLP: the same records in both forms give the same events; whatever is wrong is an error with an offset.
#include "daemon/ingest/otlp.h"

#include <fmt/format.h>

#include <random>

#include "daemon/ingest/wire.h"
#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

constexpr std::string_view kTraceHex = "0102030405060708090a0b0c0d0e0f10";
constexpr std::string_view kTraceBytes = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
constexpr std::string_view kSpanBytes = "\x11\x12\x13\x14\x15\x16\x17\x18";
constexpr std::string_view kParentBytes = "\x21\x22\x23\x24\x25\x26\x27\x28";

std::string text_value(std::string_view text) {
  WireWriter value;
  value.bytes(1, text);
  return value.text();
}
std::string attribute(std::string_view key, const std::string& value) {
  WireWriter pair;
  pair.bytes(1, key);
  pair.bytes(2, value);
  return pair.text();
}

// The export request around one record.
std::string request(const std::string& record, std::string_view service = "order") {
  WireWriter resource, scope, resources, whole;
  resource.bytes(1, attribute("service.name", text_value(service)));
  scope.bytes(2, record);
  resources.bytes(2, scope.text());   // before the resource, to show that the order does not matter
  resources.bytes(1, resource.text());
  whole.bytes(1, resources.text());
  return whole.text();
}

std::string span(std::int64_t start_wall, std::int64_t end_wall) {
  WireWriter span, status, event, list, inner;
  inner.bytes(1, text_value("a\"b"));
  list.bytes(5, inner.text());
  span.bytes(1, kTraceBytes);
  span.bytes(2, kSpanBytes);
  span.bytes(4, kParentBytes);
  span.bytes(5, "GET /orders/{id}");
  span.number(6, 2);
  span.fixed64(7, static_cast<std::uint64_t>(start_wall));
  span.fixed64(8, static_cast<std::uint64_t>(end_wall));
  span.bytes(9, attribute("http.request.method", text_value("GET")));
  span.bytes(9, attribute("tags", list.text()));
  event.fixed64(1, static_cast<std::uint64_t>(end_wall));
  event.bytes(2, "exception");
  event.bytes(3, attribute("exception.type", text_value("PoolTimeout")));
  event.bytes(3, attribute("exception.message", text_value("no connection within 5 s")));
  span.bytes(11, event.text());
  status.bytes(2, "pool exhausted");
  status.number(3, 2);
  span.bytes(15, status.text());
  span.number(99, 7);  // a field of the future
  return span.text();
}

void expect_span(const Decoded& decoded) {
  ASSERT_EQ(decoded.events.size(), 2U);
  const stream::Event& log = decoded.events[0];
  EXPECT_EQ(log.kind, stream::Kind::Log);
  EXPECT_EQ(log.body, "PoolTimeout: no connection within 5 s");
  EXPECT_EQ(log.severity, stream::kError);
  const stream::Event& event = decoded.events[1];
  EXPECT_EQ(event.kind, stream::Kind::Span);
  EXPECT_EQ(event.entity, "service:order");
  EXPECT_EQ(event.name, "GET /orders/{id}");
  EXPECT_EQ(event.time_ns, kNow - kNsPerSecond);
  EXPECT_DOUBLE_EQ(event.value, 0.25);
  EXPECT_EQ(event.trace_id[0], 0x0102030405060708U);
  EXPECT_EQ(event.trace_id[1], 0x090a0b0c0d0e0f10U);
  EXPECT_EQ(log.trace_id[1], event.trace_id[1]);
  EXPECT_EQ(event.span_id, 0x1112131415161718U);
  EXPECT_EQ(at(event, "parent.span_id"), "2122232425262728");
  EXPECT_EQ(at(event, "span.kind"), "server");
  EXPECT_EQ(at(event, "http.request.method"), "GET");
  EXPECT_EQ(at(event, "tags"), "[\"a\\\"b\"]");
  EXPECT_EQ(at(event, "otel.status_code"), "ERROR");
  EXPECT_EQ(event.body, "pool exhausted");
  EXPECT_EQ(decoded.records, 1U);
  EXPECT_EQ(decoded.times_corrected, 0U);
}

TEST(Otlp, SpanOfBothForms) {
  const std::int64_t end = kNowWall - kNsPerSecond, start = end - 250 * kNsPerMs;
  Decoded protobuf;
  ASSERT_TRUE(decode_otlp_protobuf(Signal::Traces, request(span(start, end)), test_context(), protobuf));
  expect_span(protobuf);
  const std::string json = fmt::format(
      R"({{"unknown":1,"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"order"}}}}]}},"scopeSpans":[{{"spans":[{{
      "traceId":"{}","spanId":"1112131415161718","parentSpanId":"2122232425262728","name":"GET /orders/{{id}}","kind":"SPAN_KIND_SERVER",
      "startTimeUnixNano":"{}","endTimeUnixNano":{},"attributes":[{{"key":"http.request.method","value":{{"stringValue":"GET"}}}},
      {{"key":"tags","value":{{"arrayValue":{{"values":[{{"stringValue":"a\"b"}}]}}}}}}],
      "events":[{{"timeUnixNano":"{}","name":"exception","attributes":[{{"key":"exception.type","value":{{"stringValue":"PoolTimeout"}}}},
      {{"key":"exception.message","value":{{"stringValue":"no connection within 5 s"}}}}]}}],"status":{{"code":2,"message":"pool exhausted"}}}}]}}]}}]}})",
      kTraceHex, start, end, end);
  Decoded from_json;
  const auto done = decode_otlp_json(Signal::Traces, json, test_context(), from_json);
  ASSERT_TRUE(done) << done.error().message;
  expect_span(from_json);
}

// Clocks of other machines run ahead: nothing in the stream is later than now.
TEST(Otlp, NothingIsInTheFuture) {
  Decoded decoded;
  ASSERT_TRUE(decode_otlp_protobuf(Signal::Traces, request(span(kNowWall + 8 * kNsPerSecond, kNowWall + 9 * kNsPerSecond)), test_context(), decoded));
  for (const stream::Event& event : decoded.events) EXPECT_LE(event.time_ns, kNow);
  EXPECT_EQ(decoded.times_corrected, 2U);
  EXPECT_DOUBLE_EQ(decoded.events[1].value, 1.0);  // durations stay
}

TEST(Otlp, RecordsThatCannotBeAreRejectedOthersStay) {
  WireWriter bare;
  bare.bytes(5, "no ids");
  Decoded decoded;
  ASSERT_TRUE(decode_otlp_protobuf(Signal::Traces, request(bare.text()) + request(span(kNowWall - 9, kNowWall - 3)), test_context(), decoded));
  EXPECT_EQ(decoded.records, 2U);
  EXPECT_EQ(decoded.rejected, 1U);
  EXPECT_EQ(otlp_response_json(Signal::Traces, decoded), R"({"partialSuccess":{"rejectedSpans":"1","errorMessage":"a span without a trace id and span id"}})");
  const std::string bytes = otlp_response_protobuf(Signal::Traces, decoded);
  WireReader outer(bytes);
  ASSERT_TRUE(outer.next());
  WireReader partial = outer.message();
  ASSERT_TRUE(partial.next());
  EXPECT_EQ(partial.number(), 1U);
}

TEST(Otlp, LogsFindSeverityTraceAndEntity) {
  WireWriter log, body;
  body.bytes(1, "payment failed trace_id=0102030405060708090a0b0c0d0e0f10 span_id=1112131415161718");
  log.fixed64(11, static_cast<std::uint64_t>(kNowWall - 5 * kNsPerSecond));
  log.number(2, 18);
  log.bytes(5, body.text());
  Decoded decoded;
  ASSERT_TRUE(decode_otlp_protobuf(Signal::Logs, request(log.text(), "payment"), test_context(), decoded));
  ASSERT_EQ(decoded.events.size(), 1U);
  const stream::Event& event = decoded.events[0];
  EXPECT_EQ(event.kind, stream::Kind::Log);
  EXPECT_EQ(event.entity, "service:payment");
  EXPECT_EQ(event.severity, stream::kError);
  EXPECT_EQ(event.time_ns, kNow - 5 * kNsPerSecond);
  EXPECT_EQ(event.trace_id[0], 0x0102030405060708U);
  EXPECT_EQ(event.span_id, 0x1112131415161718U);
  EXPECT_TRUE(event.name.empty());  // the miner gives it
}

std::string sum_point(double value, std::int64_t time_wall, std::int64_t start_wall = 0, std::uint64_t flags = 0) {
  WireWriter point, sum, metric;
  if (start_wall != 0) point.fixed64(2, static_cast<std::uint64_t>(start_wall));
  point.fixed64(3, static_cast<std::uint64_t>(time_wall));
  if (flags == 0) point.real(4, value);
  point.bytes(7, attribute("code", text_value("200")));
  if (flags != 0) point.number(8, flags);
  sum.bytes(1, point.text());
  sum.number(2, 2);
  sum.number(3, 1);
  metric.bytes(1, "http.requests");
  metric.bytes(7, sum.text());
  return metric.text();
}

TEST(Otlp, CountersBecomeRates) {
  Counters counters;
  const auto take = [&](double value, std::int64_t ago_s, std::int64_t start_ago_s = 0) {
    Decoded decoded;
    EXPECT_TRUE(decode_otlp_protobuf(Signal::Metrics, request(sum_point(value, kNowWall - ago_s * kNsPerSecond, start_ago_s == 0 ? 0 : kNowWall - start_ago_s * kNsPerSecond)), test_context(&counters), decoded));
    return decoded;
  };
  EXPECT_EQ(take(100, 40).baselines, 1U);
  const Decoded second = take(150, 30);
  ASSERT_EQ(second.events.size(), 1U);
  EXPECT_EQ(second.events[0].name, "http.requests.rate{code=\"200\"}");
  EXPECT_DOUBLE_EQ(second.events[0].value, 5.0);
  EXPECT_DOUBLE_EQ(take(20, 20).events.at(0).value, 2.0);  // started again: all of it is new
  EXPECT_TRUE(take(20, 20).events.empty());                // told twice counts once
  Counters fresh;
  Decoded decoded;
  ASSERT_TRUE(decode_otlp_protobuf(Signal::Metrics, request(sum_point(30, kNowWall, kNowWall - 10 * kNsPerSecond)), test_context(&fresh), decoded));
  ASSERT_EQ(decoded.events.size(), 1U);  // a young series is known from its start
  EXPECT_DOUBLE_EQ(decoded.events[0].value, 3.0);
}

// A point without a recorded value (what a collector makes of a stale marker) is no zero and no restart.
TEST(Otlp, NoRecordedValueEndsTheSeries) {
  Counters counters;
  const auto take = [&](double value, std::int64_t ago_s, std::uint64_t flags, std::int64_t start_ago_s = 0) {
    Decoded decoded;
    EXPECT_TRUE(decode_otlp_protobuf(Signal::Metrics, request(sum_point(value, kNowWall - ago_s * kNsPerSecond, start_ago_s == 0 ? 0 : kNowWall - start_ago_s * kNsPerSecond, flags)), test_context(&counters), decoded));
    return decoded;
  };
  (void)take(100, 60, 0);
  EXPECT_TRUE(take(0, 50, 1).events.empty());
  EXPECT_TRUE(take(200, 40, 0, 55).events.empty());  // began before that end: how much of it is new, nobody knows
  EXPECT_DOUBLE_EQ(take(220, 30, 0).events.at(0).value, 2);
  (void)take(0, 20, 1);
  EXPECT_DOUBLE_EQ(take(30, 5, 0, 15).events.at(0).value, 3);  // began after it: all of it is new
  const std::string json = fmt::format(R"({{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"temperature","gauge":{{"dataPoints":[{{"timeUnixNano":"{}","flags":1}}]}}}}]}}]}}]}})", kNowWall);
  Decoded gauge;
  ASSERT_TRUE(decode_otlp_json(Signal::Metrics, json, test_context(), gauge));
  EXPECT_TRUE(gauge.events.empty());
}

TEST(Otlp, HistogramTellsRateMeanAndQuantile) {
  const std::string json = fmt::format(R"({{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"wait","histogram":{{"aggregationTemporality":1,"dataPoints":[
    {{"startTimeUnixNano":"{}","timeUnixNano":"{}","count":"100","sum":20,"bucketCounts":["90","9","1"],"explicitBounds":[0.1,1]}}]}}}}]}}]}}]}})",
                                       kNowWall - 10 * kNsPerSecond, kNowWall);
  Decoded decoded;
  ASSERT_TRUE(decode_otlp_json(Signal::Metrics, json, test_context(), decoded));
  ASSERT_NE(find(decoded, "wait.rate"), nullptr);
  EXPECT_DOUBLE_EQ(find(decoded, "wait.rate")->value, 10);
  EXPECT_DOUBLE_EQ(find(decoded, "wait.mean")->value, 0.2);
  EXPECT_DOUBLE_EQ(find(decoded, "wait.p99")->value, 1.0);
}

TEST(Otlp, BadBytesAreErrorsWithAnOffset) {
  const std::string good = request(span(kNowWall - 9, kNowWall - 3));
  for (std::size_t size = 1; size < good.size(); ++size) {
    Decoded decoded;
    const auto done = decode_otlp_protobuf(Signal::Traces, std::string_view(good).substr(0, size), test_context(), decoded);
    ASSERT_FALSE(done) << size;
    EXPECT_NE(done.error().message.find("offset"), std::string::npos) << done.error().message;
  }
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = good;
    for (int j = 0; j < 4; ++j) bytes[random() % bytes.size()] = static_cast<char>(random());
    Decoded decoded;
    (void)decode_otlp_protobuf(static_cast<Signal>(i % 3), bytes, test_context(), decoded);
  }
  std::string deep = "x";
  for (int i = 0; i < 64; ++i) {
    WireWriter list, value;
    list.bytes(1, i == 0 ? text_value("x") : deep);
    value.bytes(5, list.text());
    deep = value.text();
  }
  WireWriter record;
  record.bytes(9, attribute("deep", deep));
  Decoded decoded;
  const auto done = decode_otlp_protobuf(Signal::Traces, request(record.text()), test_context(), decoded);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("nested"), std::string::npos);
  for (const std::string_view text : {"", "{", "[1,2", "{\"resourceSpans\":[}", "\xff\xfe"}) {
    const auto wrong = decode_otlp_json(Signal::Traces, text, test_context(), decoded);
    ASSERT_FALSE(wrong) << text;
    EXPECT_NE(wrong.error().message.find("offset"), std::string::npos) << wrong.error().message;
  }
  EXPECT_FALSE(decode_otlp_json(Signal::Traces, std::string(5000, '['), test_context(), decoded));
}

}  // namespace
}  // namespace culprit::ingest
