#include "daemon/ingest/join.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

using stream::Event;

constexpr std::uint64_t kTrace[2] = {0x1111, 0x2222};
constexpr std::int64_t kMs = kNsPerMs;

struct Call {
  std::string entity = "service:shop";
  std::int64_t start_ns = kNow - 3 * kNsPerSecond, took_ns = 40 * kMs;
  std::uint64_t trace = kTrace[1], span = 7, parent = 0;
  std::string path = "/orders/{id}";
  stream::Attributes more = {};
};

Event span_of(const Call& call) {
  Event event;
  event.kind = stream::Kind::Span;
  event.entity = call.entity;
  event.time_ns = call.start_ns + call.took_ns;
  event.value = static_cast<double>(call.took_ns) / kNsPerSecond;
  event.name = "GET " + call.path;
  event.trace_id[0] = call.trace == 0 ? 0 : kTrace[0];
  event.trace_id[1] = call.trace;
  event.span_id = call.span;
  event.attributes = {{"http.request.method", "GET"}, {"url.path", call.path}};
  if (call.parent != 0) event.attributes.emplace_back("parent.span_id", fmt::format("{:016x}", call.parent));
  event.attributes.append(call.more);
  return event;
}

Event kernel(Call call) {
  call.more.append({{"process.pid", "4211"}, {"thread.id", "4212"}, {"wait.postgres", "0.012000"}, {"self", "0.028000"}, {"client.port", "40001"}});
  return span_of(call);
}

Event told(Call call) {
  call.start_ns += kMs;
  call.took_ns -= 2 * kMs;
  call.span = 0xbeef;
  call.more.emplace_back("span.kind", "server");
  return span_of(call);
}

// A join whose services have told spans before, so that the kernel's wait for theirs.
struct Joined {
  Join join{"testhost"};
  std::vector<Event> stored;

  explicit Joined(std::string_view service = "service:shop") {
    Call first{.entity = std::string(service), .start_ns = kNow - 20 * kNsPerSecond, .trace = 0x99};
    std::vector<Event> seen = {kernel(first)};
    join.kernel(seen, kNow);
    EXPECT_EQ(seen.size(), 1U);  // nobody told yet: it passes at once
    std::vector<Event> said = {told({.entity = std::string(service), .start_ns = kNow - 19 * kNsPerSecond, .trace = 0x98})};
    join.told(said, kNow, kOffset);
  }
  void see(std::vector<Event> events, std::int64_t now_ns = kNow) {
    join.kernel(events, now_ns);
    std::ranges::move(events, std::back_inserter(stored));
  }
  void tell(std::vector<Event> events, std::int64_t now_ns = kNow) {
    join.told(events, now_ns, kOffset);
    std::ranges::move(events, std::back_inserter(stored));
  }
  std::size_t spans() const { return static_cast<std::size_t>(std::ranges::count(stored, stream::Kind::Span, &Event::kind)); }
};

// What both saw is stored once, with the program's ids and the kernel's waits; else both are stored.
TEST(JoinTest, OneCallIsOneSpan) {
  const Call call{.parent = 0xabc};
  const struct {
    const char* name;
    Event seen, said;
    std::uint64_t by_trace, by_time;
  } cases[] = {
      {"the same header", kernel(call), told(call), 1, 0},
      {"the same header, another name", kernel(call), told({.entity = "service:orders", .parent = 0xabc}), 1, 0},
      {"no header", kernel({.trace = 0x77}), told({}), 0, 1},
      {"no header, other ways to cut the path", kernel({.trace = 0x77}), told({.path = "/orders/:order"}), 0, 1},
      {"no header, the path as it was", kernel({.trace = 0x77}), told({.path = "/orders/17"}), 0, 1},
      {"the same connection, long before the program noticed", kernel({.start_ns = kNow - 3 * kNsPerSecond - 200 * kMs, .took_ns = 240 * kMs, .trace = 0x77}),
       told({.more = {{"network.peer.port", "40001"}}}), 0, 1},
      {"another connection", kernel({.trace = 0x77}), told({.more = {{"network.peer.port", "40002"}}}), 0, 0},
      {"another path", kernel({.trace = 0x77}), told({.path = "/cart"}), 0, 0},
      {"another time", kernel({.start_ns = kNow - 4 * kNsPerSecond, .trace = 0x77}), told({}), 0, 0},
      {"another host", kernel(call), told({.parent = 0xabc, .more = {{"host.name", "elsewhere"}}}), 0, 0},
      {"another caller", kernel(call), told({.start_ns = kNow - 2 * kNsPerSecond, .parent = 0xdef}), 0, 0},
      {"a proxy that passes the header on", kernel({.took_ns = 100 * kMs, .parent = 0xabc, .more = {{"wait.orders", "0.099000"}}}), told({.entity = "service:orders", .parent = 0xabc}), 0, 0},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    Joined of;
    const JoinStats before = of.join.stats();
    of.see({c.seen});
    of.tell({c.said});
    of.join.release(kNow + Join::kHoldNs, false, of.stored);
    EXPECT_EQ(of.join.stats().by_trace - before.by_trace, c.by_trace);
    EXPECT_EQ(of.join.stats().by_time - before.by_time, c.by_time);
    const bool one = c.by_trace + c.by_time > 0;
    ASSERT_EQ(of.spans(), one ? 1U : 2U);
    EXPECT_EQ(of.join.stats().held, 0U);
    if (!one) continue;
    const Event& both = of.stored.front();
    EXPECT_EQ(both.entity, "service:shop");
    EXPECT_EQ(both.span_id, 0xbeefU);
    EXPECT_EQ(at(both, "wait.postgres"), "0.012000");
    EXPECT_EQ(at(both, "thread.id"), "4212");
    EXPECT_EQ(at(both, "kernel.span_id"), "0000000000000007");
    EXPECT_EQ(at(both, "kernel.trace_id").empty(), c.by_trace == 1);
  }
}

// Of requests at the same time each is taken once, and what is sure goes before what is likely.
TEST(JoinTest, ConcurrentRequestsPairOff) {
  Joined of;
  std::vector<Event> seen, said;
  for (std::uint64_t i = 0; i < 50; ++i) {
    const Call call{.start_ns = kNow - 3 * kNsPerSecond + static_cast<std::int64_t>(i) * kMs, .trace = 100 + i, .span = i + 1, .parent = i % 2 == 0 ? 5000 + i : 0};
    seen.push_back(kernel(call));
    said.push_back(told(call));
    if (i % 2 != 0) seen.back().trace_id[1] = 9000 + i;  // the kernel's own id: it saw no header
  }
  std::ranges::reverse(said);
  of.see(std::move(seen));
  of.tell(std::move(said));
  of.join.release(kNow + Join::kHoldNs, false, of.stored);
  EXPECT_EQ(of.spans(), 50U);
  EXPECT_EQ(of.join.stats().by_trace, 25U);
  EXPECT_EQ(of.join.stats().by_time, 25U);
}

// Connections that carry request after request, as close as they come: each is joined with its own, and each line finds the request of its
// thread, also one that lasts while thousands of others begin and end.
TEST(JoinTest, BusyServicesPairOff) {
  constexpr std::int64_t kConnections = 20, kEach = 200, kTook = 9 * kMs;
  const auto slot = [](std::int64_t connection, std::string_view port_key) {
    return stream::Attributes{{"process.pid", "4211"}, {"thread.id", fmt::to_string(5000 + connection)}, {std::string(port_key), fmt::to_string(40'000 + connection)}};
  };
  Joined of;
  std::vector<Event> seen, said, lines;
  const auto write_line = [&](std::int64_t at_ns, std::int64_t connection) {
    Event line;
    line.kind = stream::Kind::Log;
    line.time_ns = at_ns;
    line.attributes = {{"process.pid", "4211"}, {"thread.id", fmt::to_string(5000 + connection)}};
    lines.push_back(std::move(line));
  };
  const std::int64_t begin = kNow - 4 * kNsPerSecond + 7;
  for (std::int64_t i = 0; i < kEach; ++i) {
    for (std::int64_t connection = 0; connection < kConnections; ++connection) {
      const auto number = static_cast<std::uint64_t>(i * kConnections + connection) + 1;
      const Call call{.start_ns = begin + i * 10 * kMs + connection * kMs / 2, .took_ns = kTook, .trace = number << 20U, .span = number};
      Call by_kernel = call, by_program = call;
      by_kernel.more = slot(connection, "client.port");
      by_program.more = slot(connection, "network.peer.port");
      by_program.more.emplace_back("span.kind", "server");
      by_program.trace = 0;
      by_program.start_ns += kMs;
      by_program.took_ns -= 2 * kMs;
      by_program.span = number << 32U;
      seen.push_back(span_of(by_kernel));
      said.push_back(span_of(by_program));
      write_line(call.start_ns + kTook / 2, connection);
    }
  }
  Call slow{.start_ns = begin + 3, .took_ns = 2 * kNsPerSecond, .trace = 0x5105, .span = 0x5105, .path = "/report"};
  slow.more = slot(kConnections, "client.port");
  seen.push_back(span_of(slow));
  write_line(begin + 50 * kMs, kConnections);
  of.see(std::move(seen));
  of.tell(std::move(lines));
  of.tell(std::move(said));
  std::uint64_t number = 0;
  for (const Event& event : of.stored) {
    if (event.kind == stream::Kind::Log) {
      ++number;
      EXPECT_EQ(event.span_id, number <= kConnections * kEach ? number : 0x5105U);
    } else if (event.span_id > 1U << 30U) {
      EXPECT_EQ(event.attribute("kernel.span_id"), fmt::format("{:016x}", event.span_id >> 32U));
    }
  }
  EXPECT_EQ(number, kConnections * kEach + 1);
  EXPECT_EQ(of.join.stats().by_time, static_cast<std::uint64_t>(kConnections * kEach));
  EXPECT_EQ(of.join.stats().held, 1U);
}

// A span without a twin goes on after the time it may be waited for; one of a service that tells nothing at once; none is lost.
TEST(JoinTest, NothingIsHeldForLong) {
  Joined of;
  of.see({kernel({}), kernel({.entity = "service:other"})});
  EXPECT_EQ(of.spans(), 1U);
  of.join.release(kNow + Join::kHoldNs - 4 * kNsPerSecond, false, of.stored);
  EXPECT_EQ(of.spans(), 1U);
  of.join.release(kNow + Join::kHoldNs - 2 * kNsPerSecond, false, of.stored);
  EXPECT_EQ(of.spans(), 2U);
  EXPECT_EQ(of.join.stats().alone, 1U);
  const std::size_t before = of.spans();
  for (std::uint64_t i = 0; i < Join::kHeldMax + 100; ++i) of.see({kernel({.trace = i + 1, .span = i + 1})});
  EXPECT_EQ(of.join.stats().held, Join::kHeldMax);
  EXPECT_EQ(of.join.stats().pushed_out, 100U);
  of.join.release(kNow, true, of.stored);
  EXPECT_EQ(of.spans() - before, Join::kHeldMax + 100);
  EXPECT_EQ(of.join.stats().held, 0U);
}

// Told before the kernel's span is there: the batch waits for it. Told after that was stored: a second event, counted.
TEST(JoinTest, EarlyAndLate) {
  Joined of;
  std::vector<Event> early = {told({.start_ns = kNow - 50 * kMs})};
  EXPECT_EQ(of.join.ready_ns(early, kNow), early.front().time_ns + Join::kEarlyNs);
  EXPECT_EQ(of.join.ready_ns({told({.entity = "service:unseen", .start_ns = kNow - 50 * kMs})}, kNow), kNow);
  EXPECT_EQ(of.join.ready_ns({told({})}, kNow), kNow);
  of.see({kernel({.parent = 0xabc})});
  of.join.release(kNow + Join::kHoldNs, false, of.stored);
  of.tell({told({.parent = 0xabc})}, kNow + Join::kHoldNs);
  EXPECT_EQ(of.spans(), 2U);
  EXPECT_EQ(of.join.stats().late, 1U);
  EXPECT_EQ(at(of.stored.back(), "kernel.span_id"), "0000000000000007");
}

// What calls itself otherwise than the kernel does is one service from the first join on, and keeps its own name.
TEST(JoinTest, NamesMeet) {
  Joined of;
  of.see({kernel({.parent = 0xabc})});
  of.tell({told({.entity = "service:orders", .parent = 0xabc})});
  EXPECT_EQ(of.join.names(), (std::map<std::string, std::string>{{"orders", "shop"}}));
  Event metric;
  metric.entity = "service:orders";
  metric.name = "pool.size";
  Event elsewhere = metric;
  elsewhere.attributes = {{"host.name", "elsewhere"}};
  of.tell({metric, elsewhere});
  EXPECT_EQ(of.stored[1].entity, "service:shop");
  EXPECT_EQ(at(of.stored[1], "service.name"), "orders");
  EXPECT_EQ(of.stored[2].entity, "service:orders");
}

// Lines with a process id find the one request that was worked at; what may have been another's stays alone.
TEST(JoinTest, LinesFindTheirRequest) {
  const std::int64_t start = kNow - 3 * kNsPerSecond + 7;  // no whole millisecond
  const auto line = [&](std::int64_t at_ns, stream::Attributes attributes) {
    Event event;
    event.kind = stream::Kind::Log;
    event.time_ns = at_ns;
    event.attributes = std::move(attributes);
    event.body = "order failed";
    return event;
  };
  const std::int64_t inside = start + 20 * kMs;
  const struct {
    const char* name;
    Event line;
    std::uint64_t span;
  } cases[] = {
      {"its thread", line(inside, {{"process.pid", "4211"}, {"thread.id", "4212"}}), 7},
      {"its process, which had no other request", line(inside, {{"process.pid", "4211"}}), 7},
      {"just after the answer", line(start + 41 * kMs, {{"process.pid", "4211"}}), 7},
      {"another thread", line(inside, {{"process.pid", "4211"}, {"thread.id", "4299"}}), 0},
      {"another process", line(inside, {{"process.pid", "17"}}), 0},
      {"before it", line(start - 20 * kMs, {{"process.pid", "4211"}}), 0},
      {"a second long after it", line(start + 1000 * kMs, {{"process.pid", "4211"}}), 0},
      {"a process of a container", line(inside, {{"process.pid", "4211"}, {"container.id", "0123456789ab"}}), 0},
      {"a process of another host", line(inside, {{"process.pid", "4211"}, {"host.name", "elsewhere"}}), 0},
      {"no process", line(inside, {}), 0},
      {"a file that tells seconds", line(kNow - 3 * kNsPerSecond, {{"process.pid", "4211"}}), 7},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    Joined of;
    of.see({kernel({.start_ns = start})});
    of.tell({c.line});
    EXPECT_EQ(of.stored.front().span_id, c.span);
    EXPECT_EQ(of.stored.front().trace_id[1], c.span == 0 ? 0 : kTrace[1]);
  }
  // Two at once: nobody knows whose it is, unless the thread tells; and after a join it is the program's span.
  Joined of;
  Event second = kernel({.start_ns = start + 5 * kMs, .trace = 0x33, .span = 8});
  second.attributes.erase_if([](const auto& attribute) { return attribute.first == "thread.id"; });
  second.attributes.emplace_back("thread.id", "4213");
  of.see({kernel({.start_ns = start, .parent = 0xabc}), second});
  of.tell({told({.start_ns = start, .parent = 0xabc})});
  of.stored.clear();
  of.tell({line(inside, {{"process.pid", "4211"}}), line(inside, {{"process.pid", "4211"}, {"thread.id", "4213"}}), line(inside, {{"process.pid", "4211"}, {"thread.id", "4212"}})});
  EXPECT_EQ(of.stored[0].span_id, 0U);
  EXPECT_EQ(of.stored[1].span_id, 8U);
  EXPECT_EQ(of.stored[2].span_id, 0xbeefU);
  EXPECT_EQ(of.join.ready_ns({line(kNow - kMs, {{"process.pid", "4211"}})}, kNow), kNow - kMs + Join::kEarlyNs);
}

}  // namespace
}  // namespace culprit::ingest
