// Scenarios of requests through several services.
#include <cerrno>
#include <csignal>

#include <gmock/gmock.h>

#include "tests/track/records.h"

namespace culprit::track::test {

using stream::Kind;

// A request through nginx, shop, redis and postgres is counted at each service, endpoint and edge, with its times.
TEST(Flow, RatesAndDurations) {
  Shop host;
  host.tick(kStart + kSecond);
  for (int i = 0; i < 10; ++i) host.request(kStart + kSecond + 10 * kMs + i * 50 * kMs);
  host.tick(kStart + 2 * kSecond);
  const struct { const char* entity; const char* series; double value, tolerance; } cases[] = {
      {"service:nginx", "request.rate", 10, 0},
      {"service:shop", "request.rate", 10, 0},
      {"service:postgres", "request.rate", 10, 0},
      {"service:redis", "request.rate", 10, 0},
      {"endpoint:shop GET /items/{id}", "request.rate", 10, 0},
      {"edge:nginx->shop", "client.rate", 10, 0},
      {"edge:shop->postgres", "client.rate", 10, 0},
      {"edge:shop->redis", "client.rate", 10, 0},
      {"service:nginx", "request.duration.mean", 0.0027, 1e-9},
      {"service:shop", "request.duration.mean", 0.00245, 1e-9},
      {"service:shop", "request.duration.p99", 0.00245, 0.00012},
      {"service:shop", "request.self.mean", 0.00245 - 0.00201 - 0.0001, 1e-9},
      {"edge:shop->postgres", "client.duration.mean", 0.00201, 1e-9},
      {"edge:shop->redis", "client.duration.mean", 0.0001, 1e-9},
      {"edge:shop->postgres", "client.wait.share", 0.00201 / 0.00245, 1e-6},
      {"edge:shop->redis", "client.wait.share", 0.0001 / 0.00245, 1e-6},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(std::string(c.entity) + " " + c.series);
    const auto value = host.out.last(c.entity, c.series);
    ASSERT_TRUE(value.has_value());
    EXPECT_NEAR(*value, c.value, c.tolerance + 1e-12);
  }
  EXPECT_FALSE(host.out.last("service:shop", "request.errors").has_value());
  EXPECT_FALSE(host.out.last("service:shop", "request.inflight").has_value());
  EXPECT_EQ(host.tracker.stats().requests_open, 0u);
}

// Each HTTP request leaves a span; the spans of one request share its trace and name their parents.
TEST(Flow, SpansShareATrace) {
  Shop host;
  host.request(kStart + 10 * kMs);
  host.tick(kStart + kSecond);
  const auto outer = host.out.find(Kind::Span, "service:nginx", "GET /items/{id}");
  const auto inner = host.out.find(Kind::Span, "service:shop", "GET /items/{id}");
  ASSERT_EQ(outer.size(), 1u);
  ASSERT_EQ(inner.size(), 1u);
  EXPECT_NE(outer[0]->trace_id[0], 0u);
  EXPECT_EQ(outer[0]->trace_id[0], inner[0]->trace_id[0]);
  EXPECT_EQ(outer[0]->trace_id[1], inner[0]->trace_id[1]);
  EXPECT_NE(outer[0]->span_id, inner[0]->span_id);
  EXPECT_EQ(inner[0]->attribute("http.request.method"), "GET");
  EXPECT_EQ(inner[0]->attribute("http.response.status_code"), "200");
  EXPECT_EQ(inner[0]->attribute("thread.id"), "201");
  EXPECT_EQ(inner[0]->attribute("process.pid"), "200");
  EXPECT_EQ(inner[0]->attribute("client.address"), "127.0.0.1");
  EXPECT_EQ(inner[0]->attribute("client.service"), "nginx");
  EXPECT_EQ(inner[0]->attribute("wait.postgres"), "0.002010");
  EXPECT_EQ(inner[0]->attribute("wait.redis"), "0.000100");
  EXPECT_EQ(inner[0]->attribute("self"), "0.000340");
  EXPECT_EQ(outer[0]->attribute("wait.shop"), "0.002550");
  for (const auto& event : host.out.all) EXPECT_EQ(event.body.find("color"), std::string::npos);
}

// What a request's thread waited for a CPU, from the kernel's sums in its records: all of it, and what of it was before the answer of a
// callee was read. Not where another thread answers, or where the thread worked at several at once.
TEST(Flow, RunQueueOfARequest) {
  Shop host;
  const auto at = [](Thread thread, std::int64_t waited_ns) {
    thread.run_queue_ns = static_cast<std::uint64_t>(waited_ns);
    return thread;
  };
  const std::string query = "*1\r\n$4\r\nPING\r\n";
  std::int64_t t = kStart + 10 * kMs;
  host.read(host.front.server, at(host.shop, 50 * kMs), Shop::get("/a"), t);
  host.write(host.cache.client, at(host.shop, 51 * kMs), query, t + 10 * kMs);
  host.read(host.cache.client, at(host.shop, 54 * kMs), "+PONG\r\n", t + 20 * kMs);
  host.write(host.front.server, at(host.shop, 56 * kMs), Shop::answer(200, 1), t + 30 * kMs);
  t += 100 * kMs;
  host.read(host.front.server, at(host.shop, 60 * kMs), Shop::get("/b"), t);
  Thread other = host.shop;
  ++other.tid;
  host.write(host.front.server, at(other, 900 * kMs), Shop::answer(200, 1), t + 30 * kMs);
  host.tick(kStart + kSecond);
  const auto a = host.out.find(Kind::Span, "service:shop", "GET /a"), b = host.out.find(Kind::Span, "service:shop", "GET /b");
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(b.size(), 1u);
  EXPECT_EQ(a[0]->attribute("run_queue"), "0.006000");
  EXPECT_EQ(a[0]->attribute("run_queue.in_calls"), "0.003000");
  EXPECT_EQ(a[0]->attribute("self"), "0.020000");
  EXPECT_EQ(b[0]->attribute("run_queue"), "");

  // Two at once on one thread: neither's wait is its own, the first one's as little as the second's.
  const Connection second = host.connect(host.nginx, 50'077, 8080, 0x7700, kStart + kSecond + kMs);
  t = kStart + kSecond + 10 * kMs;
  host.read(host.front.server, at(host.shop, 1000 * kMs), Shop::get("/c"), t);
  host.read(second.server, at(host.shop, 1001 * kMs), Shop::get("/d"), t + kMs);
  host.write(host.front.server, at(host.shop, 1009 * kMs), Shop::answer(200, 1), t + 20 * kMs);
  host.write(second.server, at(host.shop, 1010 * kMs), Shop::answer(200, 1), t + 21 * kMs);
  host.tick(kStart + 2 * kSecond);
  for (const char* name : {"GET /c", "GET /d"}) {
    const auto span = host.out.find(Kind::Span, "service:shop", name);
    ASSERT_EQ(span.size(), 1u) << name;
    EXPECT_EQ(span[0]->attribute("run_queue"), "") << name;
  }
}

// W3C trace context of the caller is used.
TEST(Flow, TraceparentIsKept) {
  Shop host;
  const std::string head = Shop::get("/a", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n");
  host.read(host.user.server, host.nginx, head, kStart + 10 * kMs);
  host.write(host.user.server, host.nginx, Shop::answer(200, 1), kStart + 12 * kMs);
  host.tick(kStart + kSecond);
  const auto spans = host.out.find(Kind::Span, "service:nginx", "GET /a");
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0]->trace_id[0], 0x0af7651916cd43ddULL);
  EXPECT_EQ(spans[0]->trace_id[1], 0x8448eb211c80319cULL);
  EXPECT_EQ(spans[0]->attribute("parent.span_id"), "b7ad6b7169203331");
}

// 5xx answers are errors of the service, its endpoint and the caller's edge; 4xx are not.
TEST(Flow, ErrorsByStatus) {
  Shop host;
  host.tick(kStart + kSecond);
  host.request(kStart + kSecond + 10 * kMs, kMs, 500);
  host.request(kStart + kSecond + 110 * kMs, kMs, 404);
  host.tick(kStart + 2 * kSecond);
  EXPECT_EQ(host.out.last("service:shop", "request.errors"), 1.0);
  EXPECT_EQ(host.out.last("endpoint:shop GET /items/{id}", "request.errors"), 1.0);
  EXPECT_EQ(host.out.last("edge:nginx->shop", "client.errors"), 1.0);
  EXPECT_FALSE(host.out.last("edge:shop->postgres", "client.errors").has_value());
}

// A callee that hangs shows while it hangs: age grows, waiting is accrued second by second.
TEST(Flow, HangShowsWhileItHangs) {
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 500 * kMs;
  host.read(host.user.server, host.nginx, Shop::get("/x"), t);
  host.write(host.front.client, host.nginx, Shop::get("/x"), t);
  host.read(host.front.server, host.shop, Shop::get("/x"), t);
  host.write(host.cache.client, host.shop, "*1\r\n", t);
  for (int second = 2; second <= 5; ++second) {
    host.tick(kStart + second * kSecond);
    const double age = second - 1.5;
    EXPECT_EQ(host.out.last("edge:shop->redis", "client.inflight"), 1.0);
    EXPECT_NEAR(*host.out.last("edge:shop->redis", "client.inflight.age.max"), age, 1e-6);
    EXPECT_NEAR(*host.out.last("service:shop", "request.inflight.age.max"), age, 1e-6);
    EXPECT_NEAR(*host.out.last("endpoint:shop GET /x", "request.inflight.age.max"), age, 1e-6);
    EXPECT_NEAR(*host.out.last("edge:shop->redis", "client.wait.share"), 1.0, 1e-6);
    EXPECT_NEAR(*host.out.last("edge:nginx->shop", "client.wait.share"), 1.0, 1e-6);
    EXPECT_FALSE(host.out.last("edge:shop->postgres", "client.wait.share").has_value());
    EXPECT_EQ(host.out.last("service:redis", "request.inflight"), std::nullopt);  // it did not even read
  }
  host.read(host.cache.client, host.shop, "+OK\r\n", kStart + 5 * kSecond + kMs);
  host.write(host.front.server, host.shop, Shop::answer(200, 2), kStart + 5 * kSecond + 2 * kMs);
  host.tick(kStart + 6 * kSecond);
  EXPECT_EQ(host.out.last("edge:shop->redis", "client.inflight"), 0.0);
  EXPECT_EQ(host.out.last("service:shop", "request.inflight"), 0.0);
  EXPECT_NEAR(*host.out.last("service:shop", "request.duration.mean"), 3.502, 1e-6);
}

// A killed callee: broken calls, refused connections under its name, though nobody listens any more.
TEST(Flow, RedisKilled) {
  Shop host;
  host.tick(kStart + kSecond);
  std::int64_t t = kStart + kSecond + 10 * kMs;
  host.exit(400, 0, SIGKILL, t);
  host.state(socket_of(0x4000, 6379, 0, 0), {}, CULPRIT_TCP_LISTEN, CULPRIT_TCP_CLOSE, t + 1000);
  host.state(host.cache.server, {}, CULPRIT_TCP_ESTABLISHED, CULPRIT_TCP_CLOSE, t + 2000);
  host.read(host.cache.client, host.shop, "", t + 3000);
  host.state(host.cache.client, {}, CULPRIT_TCP_LAST_ACK, CULPRIT_TCP_CLOSE, t + 4000);
  for (int i = 0; i < 5; ++i) {
    culprit_socket attempt = socket_of(0x50000 + static_cast<std::uint64_t>(i), 0, 6379);
    host.state(attempt, host.shop, CULPRIT_TCP_CLOSE, CULPRIT_TCP_SYN_SENT, t + 10 * kMs + i * kMs);
    attempt.local_port = static_cast<std::uint16_t>(41000 + i);
    host.state(attempt, host.shop, CULPRIT_TCP_SYN_SENT, CULPRIT_TCP_CLOSE, t + 10 * kMs + i * kMs + 50'000, ECONNREFUSED);
  }
  host.tick(kStart + 2 * kSecond);
  EXPECT_EQ(host.out.last("edge:shop->redis", "connect.failures{errno=\"ECONNREFUSED\"}"), 5.0);
  EXPECT_EQ(host.out.last("edge:shop->redis", "client.errors"), 5.0);
  const auto failed = host.out.find(Kind::Kernel, "service:shop", "tcp.connect.failed");
  ASSERT_EQ(failed.size(), 1u);  // one a second, with the count
  EXPECT_EQ(failed[0]->value, 5.0);
  EXPECT_EQ(failed[0]->attribute("peer"), "redis");
  EXPECT_EQ(failed[0]->attribute("errno"), "ECONNREFUSED");
  const auto exits = host.out.find(Kind::Kernel, "service:redis", "process.exit");
  ASSERT_EQ(exits.size(), 1u);
  EXPECT_EQ(exits[0]->attribute("exit.signal"), "SIGKILL");
  EXPECT_EQ(exits[0]->severity, stream::kError);
  EXPECT_EQ(host.out.find(Kind::Change, "service:redis", "service.stop").size(), 1u);
  host.tick(kStart + 3 * kSecond);
  EXPECT_EQ(host.out.last("edge:shop->redis", "connect.failures{errno=\"ECONNREFUSED\"}"), 0.0);  // once, then silence
}

// A connect without an answer is waiting, too.
TEST(Flow, ConnectAttemptsWait) {
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 200 * kMs;
  host.read(host.front.server, host.shop, Shop::get("/x"), t);
  const culprit_socket attempt = socket_of(0x60000, 0, 9999, 0x0a000001);
  host.state(attempt, host.shop, CULPRIT_TCP_CLOSE, CULPRIT_TCP_SYN_SENT, t);
  host.tick(kStart + 2 * kSecond);
  EXPECT_NEAR(*host.out.last("edge:shop->10.0.0.1:9999", "client.inflight.age.max"), 0.8, 1e-6);
  EXPECT_NEAR(*host.out.last("edge:shop->10.0.0.1:9999", "client.wait.share"), 1.0, 1e-6);
}

// One event loop with two open requests: upstream answers select the request, and the spans say that it is a guess.
TEST(Flow, EventLoopInterleaves) {
  Shop host;
  const Connection user2 = host.connect({50, 50, "wrk"}, 42000, 8080, 0x70000, kStart + 10 * kMs);
  const Connection front2 = host.connect(host.nginx, 42001, 8000, 0x70010, kStart + 11 * kMs);
  const std::int64_t t = kStart + 20 * kMs;
  host.read(host.user.server, host.nginx, Shop::get("/one"), t);
  host.write(host.front.client, host.nginx, Shop::get("/one"), t + 1000);
  host.read(user2.server, host.nginx, Shop::get("/two"), t + 2000);
  host.write(front2.client, host.nginx, Shop::get("/two"), t + 3000);
  host.read(host.front.client, host.nginx, Shop::answer(200, 3), t + 5 * kMs);   // of /one
  host.write(host.user.server, host.nginx, Shop::answer(200, 3), t + 6 * kMs);
  host.read(front2.client, host.nginx, Shop::answer(200, 3), t + 9 * kMs);       // of /two
  host.write(user2.server, host.nginx, Shop::answer(200, 3), t + 10 * kMs);
  host.tick(kStart + kSecond);
  const auto one = host.out.find(Kind::Span, "service:nginx", "GET /one");
  const auto two = host.out.find(Kind::Span, "service:nginx", "GET /two");
  ASSERT_EQ(one.size(), 1u);
  ASSERT_EQ(two.size(), 1u);
  EXPECT_EQ(one[0]->attribute("wait.shop"), "0.004999");
  EXPECT_EQ(two[0]->attribute("wait.shop"), "0.008997");
  EXPECT_EQ(two[0]->attribute("culprit.ambiguous"), "true");
  EXPECT_GT(host.tracker.stats().calls_ambiguous, 0u);
}

// A kernel address that is used for another connection is another socket; the old one's request is over.
TEST(Flow, SocketAddressReused) {
  Shop host;
  host.tick(kStart + kSecond);
  host.read(host.front.server, host.shop, Shop::get("/old"), kStart + kSecond + 10 * kMs);
  culprit_socket other = host.front.server;
  other.remote_port = 45555;
  host.read(other, host.shop, Shop::get("/new"), kStart + kSecond + 20 * kMs);
  host.write(other, host.shop, Shop::answer(200, 1), kStart + kSecond + 21 * kMs);
  host.tick(kStart + 2 * kSecond);
  const auto old_span = host.out.find(Kind::Span, "service:shop", "GET /old");
  ASSERT_EQ(old_span.size(), 1u);
  EXPECT_EQ(old_span[0]->attribute("error.type"), "connection closed");
  EXPECT_EQ(host.out.find(Kind::Span, "service:shop", "GET /new").size(), 1u);
  EXPECT_EQ(host.out.last("service:shop", "request.inflight"), std::nullopt);
}

// Records of several CPUs come out of order; the order of arrival changes nothing.
TEST(Flow, OrderOfArrivalDoesNotMatter) {
  const auto play = [](bool backwards) {
    Shop host;
    for (int k = 0; k < 20; ++k) {
      const int i = backwards ? 19 - k : k;
      host.request(kStart + 10 * kMs + i * 5 * kMs);
    }
    host.tick(kStart + kSecond);
    std::vector<std::string> lines;
    for (const auto& event : host.out.all) {
      if (event.kind != Kind::Span) continue;
      lines.push_back(fmt::format("{} {} {} {} {}", event.time_ns, event.entity, event.name, event.value, event.attribute("self")));
    }
    return lines;
  };
  const auto forwards = play(false);
  EXPECT_EQ(forwards.size(), 40u);
  EXPECT_EQ(forwards, play(true));
}

// A dropped record of an answer must not look like a hang: the next request, or the other end, tells better.
TEST(Flow, LostAnswerIsNoHang) {
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 10 * kMs;
  host.write(host.front.client, host.nginx, Shop::get("/x"), t);
  host.read(host.front.server, host.shop, Shop::get("/x"), t + 1000);
  // The record of shop's write is lost; nginx read it.
  host.read(host.front.client, host.nginx, Shop::answer(200, 1), t + 5 * kMs);
  host.tick(kStart + 2 * kSecond);
  host.tick(kStart + 3 * kSecond);
  EXPECT_EQ(host.out.last("service:shop", "request.inflight").value_or(0), 0.0);
  EXPECT_EQ(host.tracker.stats().answers_unseen, 1u);
  EXPECT_EQ(host.tracker.stats().requests_open, 0u);
}

// Records of several requests are missing: an answer that comes then belongs to one of them, not to the request that
// was seen last.
TEST(Flow, AnswerAfterAGapIsNotTakenForTheLastRequests) {
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 10 * kMs;
  const std::string first = Shop::get("/first"), answer = Shop::answer(200, 1);
  const auto size = [](const std::string& text) { return static_cast<std::uint32_t>(text.size()); };
  std::uint32_t asked = 5'000, answered = 0xffff'ffff;  // a sequence number wraps
  const auto ask = [&](std::int64_t at) {
    host.payload(host.front.server, host.shop, CULPRIT_READ, first, at, 0, asked += size(first));
  };
  const auto tell = [&](std::int64_t at) {
    host.payload(host.front.server, host.shop, CULPRIT_WRITE, answer, at, 0, answered += size(answer));
  };
  ask(t);
  tell(t + kMs);
  ask(t + 2 * kMs);  // what follows is not seen for 0.7 s
  answered += 20 * size(answer);
  asked += 20 * size(first);
  tell(t + 702 * kMs);
  ask(t + 703 * kMs);
  tell(t + 705 * kMs);
  host.tick(kStart + 2 * kSecond);
  host.tick(kStart + 3 * kSecond);
  std::vector<double> seconds;
  for (const auto& event : host.out.all) {
    if (event.kind == Kind::Span && event.entity == "service:shop" && event.name == "GET /first") seconds.push_back(event.value);
  }
  EXPECT_THAT(seconds, testing::ElementsAre(testing::DoubleNear(0.001, 1e-6), testing::DoubleNear(0.002, 1e-6)));
  EXPECT_EQ(host.tracker.stats().answers_unseen, 1u);
  EXPECT_EQ(host.tracker.stats().stream_gaps, 2u);
  EXPECT_EQ(host.tracker.stats().requests_open, 0u);
}

// A connection that ends while a request waits: whether the request failed is told by how far the answering stream came.
TEST(Flow, CloseAfterAnUnseenAnswerIsNoFailure) {
  for (const std::uint32_t answered : {500u, 0u}) {  // bytes that nobody saw
    Shop host;
    host.tick(kStart + kSecond);
    const std::int64_t t = kStart + kSecond + 10 * kMs;
    const std::string ask = Shop::get("/last"), answer = Shop::answer(200, 1);
    const auto size = [](const std::string& text) { return static_cast<std::uint32_t>(text.size()); };
    host.payload(host.front.server, host.shop, CULPRIT_READ, ask, t, 0, 5'000);
    host.payload(host.front.server, host.shop, CULPRIT_WRITE, answer, t + kMs, 0, 7'000);
    host.payload(host.front.server, host.shop, CULPRIT_READ, ask, t + 2 * kMs, 0, 5'000 + size(ask));
    host.state(host.front.server, host.shop, CULPRIT_TCP_LAST_ACK, CULPRIT_TCP_CLOSE, t + 150 * kMs, 0, {5'001 + size(ask), 7'001 + answered});
    host.tick(kStart + 2 * kSecond);
    host.tick(kStart + 3 * kSecond);
    std::size_t failed = 0;
    for (const auto* span : host.out.find(Kind::Span, "service:shop", "GET /last")) failed += span->severity >= stream::kError ? 1 : 0;
    EXPECT_EQ(failed, answered == 0 ? 1u : 0u);
    EXPECT_EQ(host.out.find(Kind::Span, "service:shop", "GET /last").size(), answered == 0 ? 2u : 1u);
    EXPECT_EQ(host.tracker.stats().answers_unseen, answered == 0 ? 0u : 1u);
    EXPECT_EQ(host.tracker.stats().requests_open, 0u);
  }
}

// What was answered before a request came, unseen, does not concern that request: both positions come with each record.
TEST(Flow, GapBeforeARequestLeavesItsAnswerToIt) {
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 10 * kMs;
  const std::string ask = Shop::get("/x"), answer = Shop::answer(200, 1);
  const auto asks = static_cast<std::uint32_t>(ask.size()), answers = static_cast<std::uint32_t>(answer.size());
  host.payload(host.front.server, host.shop, CULPRIT_READ, ask, t, 0, 5'000, 7'000);
  host.payload(host.front.server, host.shop, CULPRIT_WRITE, answer, t + kMs, 0, 7'000 + answers, 5'000);
  host.payload(host.front.server, host.shop, CULPRIT_READ, ask, t + 2 * kMs, 0, 5'000 + asks, 7'000 + answers);
  // Its answer, eight requests and their answers are not seen.
  host.payload(host.front.server, host.shop, CULPRIT_READ, ask, t + 100 * kMs, 0, 5'000 + 10 * asks, 7'000 + 10 * answers);
  host.payload(host.front.server, host.shop, CULPRIT_WRITE, answer, t + 103 * kMs, 0, 7'000 + 11 * answers, 5'000 + 10 * asks);
  host.tick(kStart + 2 * kSecond);
  host.tick(kStart + 3 * kSecond);
  const auto spans = host.out.find(Kind::Span, "service:shop", "GET /x");
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_NEAR(spans[1]->value, 0.003, 1e-6);
  EXPECT_EQ(host.tracker.stats().answers_unseen, 1u);
  EXPECT_EQ(host.tracker.stats().requests_open, 0u);
}

// A connection that says nothing more after an answer that nobody saw: the list of sockets tells that it was answered.
TEST(Flow, ListOfSocketsTellsUnseenAnswers) {
  for (const bool client : {false, true}) {
    for (const std::uint32_t answered : {500u, 0u}) {
      Shop host;
      host.tick(kStart + kSecond);
      const std::int64_t t = kStart + kSecond + 10 * kMs;
      const culprit_socket& socket = client ? host.front.client : host.front.server;
      host.payload(socket, client ? host.nginx : host.shop, client ? CULPRIT_WRITE : CULPRIT_READ, Shop::get("/quiet"), t, 0, 5'000, 7'000);
      culprit_tcp_info info{};
      info.socket = socket;
      info.state = CULPRIT_TCP_ESTABLISHED;
      info.positions[client ? CULPRIT_WRITE : CULPRIT_READ] = 5'000;
      info.positions[client ? CULPRIT_READ : CULPRIT_WRITE] = 7'000 + answered;
      host.tracker.on_tcp_info(kStart + kSecond + 500 * kMs, {&info, 1});
      host.tick(kStart + 3 * kSecond);
      host.tick(kStart + 4 * kSecond);
      const double waiting = (client ? host.out.last("edge:nginx->shop", "client.inflight") : host.out.last("service:shop", "request.inflight")).value_or(0);
      EXPECT_EQ(waiting, answered == 0 ? 1.0 : 0.0) << client;
      EXPECT_EQ(host.tracker.stats().answers_unseen, answered == 0 ? 0u : 1u) << client;
    }
  }
}

// While records are left out, a request without an answer is in flight only once the list of sockets says so, or nobody can.
TEST(Flow, WhatMayBeAnsweredUnseenIsNotInFlight) {
  for (const bool listed : {true, false}) {
    Shop host;
    host.tick(kStart + kSecond);
    host.tracker.on_watched_share(0.2);
    const std::int64_t t = kStart + kSecond + 10 * kMs;
    host.payload(host.front.server, host.shop, CULPRIT_READ, Shop::get("/x"), t, 0, 5'000, 7'000);
    host.tick(kStart + 2 * kSecond);
    EXPECT_FALSE(host.out.last("service:shop", "request.inflight").has_value());
    if (listed) {
      culprit_tcp_info info{};
      info.socket = host.front.server;
      info.state = CULPRIT_TCP_ESTABLISHED;
      info.positions[CULPRIT_READ] = 5'000;
      info.positions[CULPRIT_WRITE] = 7'000;
      host.tracker.on_tcp_info(kStart + 2 * kSecond + 100 * kMs, {&info, 1});
    }
    host.tick(kStart + 3 * kSecond);
    EXPECT_EQ(host.out.last("service:shop", "request.inflight").value_or(0), listed ? 1.0 : 0.0);
    host.tick(kStart + 7 * kSecond);
    EXPECT_EQ(host.out.last("service:shop", "request.inflight").value_or(0), 1.0);
    EXPECT_NEAR(host.out.last("service:shop", "request.inflight.age.max").value_or(0), 6, 0.2);
  }
}

// The list of sockets is newer than the records that are here: an answer whose record comes yet counts as seen.
TEST(Flow, ListOfSocketsWaitsForRecords) {
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 10 * kMs;
  const std::string answer = Shop::answer(200, 1);
  const auto answered = 7'000 + static_cast<std::uint32_t>(answer.size());
  host.payload(host.front.server, host.shop, CULPRIT_READ, Shop::get("/x"), t, 0, 5'000, 7'000);
  culprit_tcp_info info{};
  info.socket = host.front.server;
  info.state = CULPRIT_TCP_ESTABLISHED;
  info.positions[CULPRIT_READ] = 5'000;
  info.positions[CULPRIT_WRITE] = answered;
  host.tracker.on_tcp_info(t + kMs, {&info, 1});
  host.tracker.advance(t + 2 * kMs);
  host.tick(t + 3 * kMs);
  host.payload(host.front.server, host.shop, CULPRIT_WRITE, answer, t + 100 * kMs, 0, answered, 5'000);  // it took that long to list all
  host.tick(kStart + 2 * kSecond);
  host.tick(kStart + 3 * kSecond);
  EXPECT_EQ(host.out.find(Kind::Span, "service:shop", "GET /x").size(), 1u);
  EXPECT_EQ(host.tracker.stats().answers_unseen, 0u);
}

// Where a stream begins is known from its connection: the first answer of it may be the one that nobody saw.
TEST(Flow, UnseenFirstAnswerIsNoFailure) {
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 10 * kMs;
  const auto connection = host.connect(host.nginx, 41'000, 8080, 0x9000, t);
  host.state(connection.server, {}, CULPRIT_TCP_SYN_RECV, CULPRIT_TCP_ESTABLISHED, t + 21'000, 0, {100, 200});
  const std::string ask = Shop::get("/only");
  host.payload(connection.server, host.shop, CULPRIT_READ, ask, t + kMs, 0, 100 + static_cast<std::uint32_t>(ask.size()));
  host.state(connection.server, host.shop, CULPRIT_TCP_LAST_ACK, CULPRIT_TCP_CLOSE, t + 90 * kMs, 0, {101 + static_cast<std::uint32_t>(ask.size()), 900});
  host.tick(kStart + 2 * kSecond);
  host.tick(kStart + 3 * kSecond);
  EXPECT_TRUE(host.out.find(Kind::Span, "service:shop", "GET /only").empty());
  EXPECT_EQ(host.tracker.stats().answers_unseen, 1u);
}

// A part of the records arrives: rates are those of all, durations those of the part.
TEST(Flow, RatesAreScaledByTheShareThatArrives) {
  Shop host;
  host.tick(kStart + kSecond);
  for (int i = 0; i < 10; ++i) {
    const std::int64_t t = kStart + kSecond + 10 * kMs + i * kMs;
    host.read(host.front.server, host.shop, Shop::get("/x"), t);
    host.write(host.front.server, host.shop, Shop::answer(i == 0 ? 500 : 200, 1), t + kMs / 2);
  }
  host.tracker.on_watched_share(0.1);
  host.tick(kStart + 2 * kSecond);
  EXPECT_NEAR(host.out.last("service:shop", "request.rate").value_or(0), 100, 1);
  EXPECT_NEAR(host.out.last("service:shop", "request.errors").value_or(0), 10, 0.1);
  EXPECT_NEAR(host.out.last("service:shop", "request.duration.mean").value_or(0), 0.0005, 0.0001);
}

// Error replies of PostgreSQL and Redis are errors; a client that says goodbye asks nothing.
TEST(Flow, GenericErrorsAndGoodbyes) {
  using namespace std::string_view_literals;
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 10 * kMs;
  host.write(host.database.client, host.shop, "Q..", t);
  host.read(host.database.client, host.shop, "E\0\0\0\x50SERROR\0VERROR\0C42P01\0"sv, t + kMs);
  host.write(host.cache.client, host.shop, "*1", t + 2 * kMs);
  host.read(host.cache.client, host.shop, "-OOM command not allowed\r\n", t + 3 * kMs);
  host.write(host.database.client, host.shop, "X\0\0\0\4"sv, t + 4 * kMs);
  host.tick(kStart + 2 * kSecond);
  EXPECT_EQ(host.out.last("edge:shop->postgres", "client.errors"), 1.0);
  EXPECT_EQ(host.out.last("edge:shop->redis", "client.errors"), 1.0);
  EXPECT_EQ(host.out.last("edge:shop->postgres", "client.rate"), 1.0);
  EXPECT_EQ(host.out.last("edge:shop->postgres", "client.inflight"), std::nullopt);
}

// A length that is the largest number there is, is no step of nothing: the tracker once stood there for ever.
TEST(Flow, HostileLengthOfAReply) {
  using namespace std::string_view_literals;
  Shop host;
  host.tick(kStart + kSecond);
  const std::int64_t t = kStart + kSecond + 10 * kMs;
  host.write(host.database.client, host.shop, "Q..", t);
  host.read(host.database.client, host.shop, "T\xff\xff\xff\xff and more"sv, t + kMs);
  host.tick(kStart + 2 * kSecond);
  EXPECT_EQ(host.out.last("edge:shop->postgres", "client.rate"), 1.0);
  EXPECT_EQ(host.out.last("edge:shop->postgres", "client.errors"), std::nullopt);
}

// Calls of a client that is not watched are seen from the server's side.
TEST(Flow, UnwatchedClientHasAnEdge) {
  Shop host;
  host.tracker.on_facts(50, host.facts("/usr/bin/wrk", "/lab/load", {}, kStart - kSecond));
  host.tick(kStart + kSecond);
  host.request(kStart + kSecond + 10 * kMs);
  host.tick(kStart + 2 * kSecond);
  EXPECT_EQ(host.out.last("edge:load->nginx", "client.rate"), 1.0);
}

}  // namespace culprit::track::test
