// Entities, ids and path templates.
#include "daemon/ingest/record.h"

#include "daemon/ingest/compress.h"
#include "daemon/ingest/line_time.h"
#include "tests/ingest/support.h"

#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

namespace culprit::ingest {
namespace {

TEST(Origin, NamesTheServiceByWhatIsKnownBest) {
  const struct {
    const char* name;
    stream::Attributes resource;
    const char* entity;
  } cases[] = {
      {"its own name", {{"service.name", "order"}}, "service:order"},
      {"the kernel's name for its process", {{"service.name", "x"}, {"process.pid", "4211"}, {"host.name", "testhost"}}, "service:shop"},
      {"a pid of another host means nothing here", {{"service.name", "x"}, {"process.pid", "4211"}, {"host.name", "other"}}, "service:x"},
      {"a container of this host", {{"service.name", "x"}, {"container.id", "0123456789abcdef"}}, "service:cart"},
      {"a workload", {{"service.name", "unknown_service:node"}, {"k8s.deployment.name", "pay"}}, "service:pay"},
      {"a pod", {{"k8s.pod.name", "order-7c5d8f9b6d-x2x4z"}}, "service:order"},
      {"nothing", {}, "host"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(origin_of(c.resource, test_context()).entity, c.entity);
  }
}

TEST(Pods, ToWorkloads) {
  EXPECT_EQ(workload_of_pod("order-7c5d8f9b6d-x2x4z"), "order");
  EXPECT_EQ(workload_of_pod("order-api-7c5d8f9b6d-x2x4z"), "order-api");
  EXPECT_EQ(workload_of_pod("postgres-0"), "postgres");
  EXPECT_EQ(workload_of_pod("node-exporter-x2x4z"), "node-exporter");
  EXPECT_EQ(workload_of_pod("backup-28391040-x2x4z"), "backup");
  EXPECT_EQ(workload_of_pod("shop"), "shop");
}

TEST(TraceIds, InsideText) {
  const struct {
    const char* text;
    std::uint64_t low;
    std::uint64_t span;
  } cases[] = {
      {"traceparent: 00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01 x", 0x090a0b0c0d0e0f10, 0x1112131415161718},
      {"failed {\"traceId\":\"0102030405060708090a0b0c0d0e0f10\",\"spanId\":\"1112131415161718\"}", 0x090a0b0c0d0e0f10, 0x1112131415161718},
      {"[trace_id=0102030405060708090a0b0c0d0e0f10] x", 0x090a0b0c0d0e0f10, 0},
      {"TRACE.ID: 0102030405060708090a0b0c0d0e0f10", 0x090a0b0c0d0e0f10, 0},
      {"stack trace ids follow", 0, 0},
      {"trace_id=00000000000000000000000000000000", 0, 0},
      {"trace_id=12", 0, 0},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    std::uint64_t trace[2] = {0, 0}, span = 0;
    EXPECT_EQ(find_trace_id(c.text, trace, span), c.low != 0);
    EXPECT_EQ(trace[1], c.low);
    EXPECT_EQ(span, c.span);
  }
}

TEST(Paths, ToTemplates) {
  EXPECT_EQ(path_template("/orders/17/items?x=1"), "/orders/{id}/items");
  EXPECT_EQ(path_template("/v1/users/0b9c1a3e-6f0d-4a61-9c58-0f8a2c0e9a11"), "/v1/users/{id}");
  EXPECT_EQ(path_template("http://shop.example.net/cart"), "/cart");
  EXPECT_EQ(path_template("/static/app.js"), "/static/app.js");
  EXPECT_EQ(path_template(""), "/");
}

TEST(LineTime, FormsOfManyPrograms) {
  constexpr std::int64_t kWall = 1'795'442'528LL * kNsPerSecond;  // 2026-11-23T14:02:08Z
  for (const char* line : {"2026-11-23T14:02:08Z x", "[2026-11-23T14:02:08.000Z] \"GET", "2026-11-23 14:02:08 UTC [71] ERROR", "10.0.0.1 - - [23/Nov/2026:15:02:08 +0100] \"GET",
                           "{\"time\":\"2026-11-23T15:02:08+01:00\"}", "<11>1 2026-11-23T14:02:08.000Z host"}) {
    EXPECT_EQ(line_time(line, kWall), kWall) << line;
  }
  EXPECT_EQ(line_time("2026-11-23 14:02:08,250 UTC", kWall), kWall + 250 * kNsPerMs);
  // Local times: of the same hour, of another one, of another zone than before.
  const auto local = [](int day, int hour, int minute, int second) {
    std::tm tm{};
    tm.tm_year = 126, tm.tm_mon = 10, tm.tm_mday = day, tm.tm_hour = hour, tm.tm_min = minute, tm.tm_sec = second, tm.tm_isdst = -1;
    return static_cast<std::int64_t>(::mktime(&tm)) * kNsPerSecond;
  };
  for (const auto& [line, wall] : {std::pair("2026-11-22 14:02:08 x", local(22, 14, 2, 8)), {"2026-11-22 14:59:59.5 x", local(22, 14, 59, 59) + 500 * kNsPerMs}, {"2026-11-22 15:00:00 x", local(22, 15, 0, 0)},
                                   {"2026-11-21 15:00:00 x", local(21, 15, 0, 0)}, {"Nov 22 15:00:01 web1 x", local(22, 15, 0, 1)}}) {
    EXPECT_EQ(line_time(line, kWall), wall) << line;
  }
  for (const char* line : {"", "no time here at all", "2026-13-23T14:02:08Z", "99:99:99 2026", "1.2.3.4 5678"}) EXPECT_FALSE(line_time(line, kWall)) << line;
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string snap(const std::string& text) {
  std::string out;
  snappy::Compress(text.data(), text.size(), &out);
  return out;
}

TEST(Unpack, WhatWasPackedAndNothingElse) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "line " + std::to_string(i * 7919) + "\n";
  const std::pair<const char*, std::string> packed[] = {{"gzip", gzip(text)}, {"zstd", zstd(text)}, {"snappy", snap(text)}, {"", text}};
  for (const auto& [encoding, bytes] : packed) {
    SCOPED_TRACE(encoding);
    const auto out = unpack(encoding, bytes);
    ASSERT_TRUE(out) << out.error().message;
    EXPECT_EQ(*out, text);
    EXPECT_EQ(unpack(encoding, bytes, text.size() - 1).error().code, Code::Exhausted);
    if (*encoding == '\0') continue;
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, bytes.size() / 2, bytes.size() - 1}) {
      EXPECT_FALSE(unpack(encoding, std::string_view(bytes).substr(0, size))) << size;
    }
  }
  EXPECT_EQ(unpack("br", "x").error().code, Code::Unsupported);
}

TEST(Unpack, BombsAreRefused) {
  const std::string zeroes(200U << 20U, '\0');
  for (const auto& [encoding, bytes] : {std::pair{"gzip", gzip(zeroes)}, {"zstd", zstd(zeroes)}, {"snappy", snap(zeroes)}}) {
    const auto out = unpack(encoding, bytes);
    ASSERT_FALSE(out) << encoding;
    EXPECT_EQ(out.error().code, Code::Exhausted) << encoding;
  }
}

}  // namespace
}  // namespace culprit::ingest
