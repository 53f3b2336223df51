// The benchmark's events: a host of 24 services seen for a while, 2,778 events a second (10 million an hour), the same
// for the same seed. Of seven events four are log lines with text (a third of them within a request, with its
// ids), two are samples of steady series, and one is a span or, rarely, a kernel event or a change.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "daemon/base/clock.h"
#include "daemon/stream/event.h"

namespace culprit::stream {

class HostEvents {
 public:
  static constexpr std::int64_t kPerSecond = 2778;
  static constexpr std::int64_t kServices = 24;

  HostEvents(std::uint64_t seed, std::int64_t begin_ns) : random_(seed), begin_ns_(begin_ns) {
    for (double& level : levels_) level = std::exp(normal_(random_) * 2);
  }

  // All events of the next second, roughly in order of time: two CPUs' records may swap.
  std::vector<Event> second() {
    std::vector<Event> events;
    events.reserve(kPerSecond);
    const std::int64_t tick = begin_ns_ + second_ * kNsPerSecond;
    constexpr std::int64_t kSamples = kPerSecond * 2 / 7, kLogs = kPerSecond * 4 / 7, kOthers = kPerSecond - kSamples - kLogs;
    std::vector<std::int64_t> times(kLogs + kOthers);
    for (std::int64_t& time : times) time = tick - kNsPerSecond + static_cast<std::int64_t>(below(kNsPerSecond));
    std::sort(times.begin(), times.end());
    for (std::int64_t i = 0; i < kLogs + kOthers; ++i) {
      const std::int64_t time = times[static_cast<std::size_t>(i)] - static_cast<std::int64_t>(below(50'000));
      events.push_back(i % 5 == 4 ? other(time) : log(time));
    }
    for (std::int64_t i = 0; i < kSamples; ++i) events.push_back(sample(tick, i));
    ++second_;
    return events;
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  std::uint64_t often_small(std::uint64_t limit) { return below(below(limit) + 1); }
  static std::string service(std::uint64_t i) { return fmt::format("service:{}", kNames[i % std::size(kNames)]); }

  Event sample(std::int64_t time, std::int64_t i) {
    static constexpr const char* kSeries[] = {
        "request.rate", "request.errors", "request.duration.p50", "request.duration.p99", "request.duration.mean", "request.inflight",
        "cpu.time", "cpu.run_queue.wait", "memory.rss", "process.fds", "disk.read.bytes", "disk.write.bytes", "fsync.mean",
        "log.rate", "tcp.retransmits", "client.rate", "client.duration.mean", "client.inflight", "cpu.throttled", "open.mean"};
    Event event;
    event.time_ns = time;
    const auto which = static_cast<std::size_t>(i) % std::size(kSeries);
    const auto owner = static_cast<std::uint64_t>(i) / std::size(kSeries);
    event.entity = owner < kServices ? service(owner) : fmt::format("edge:{}->{}", kNames[owner % kServices], kNames[(owner * 7) % kServices]);
    event.name = kSeries[which];
    double& level = levels_[static_cast<std::size_t>(i) % std::size(levels_)];
    level *= std::exp(normal_(random_) * 0.02);
    switch (which % 4) {
      case 0: event.value = std::floor(level * 40); break;                      // counts
      case 1: event.value = below(50) == 0 ? 1 : 0; break;                      // mostly nothing
      case 2: event.value = level * (1 + 0.1 * normal_(random_)); break;        // measured means: all their bits
      default: event.value = std::round(level * 1e6) / 1e6;                     // microseconds
    }
    return event;
  }

  Event log(std::int64_t time) {
    Event event;
    event.time_ns = time;
    event.kind = Kind::Log;
    const std::uint64_t owner = often_small(kServices), line = often_small(12);
    event.entity = service(owner);
    event.name = fmt::format("t:{:016x}", (owner * 16 + line) * 0x9e3779b97f4a7c15u);
    event.severity = line == 9 ? kError : line == 8 ? kWarn : kInfo;
    const std::uint64_t pid = 4000 + owner;
    event.attributes = {{"process.pid", fmt::format("{}", pid)}, {"thread.id", fmt::format("{}", pid + below(8))},
                        {"log.file.path", fmt::format("/var/log/{}.log", kNames[owner])}, {"template", kTemplates[line]}};
    event.body = body(line);
    if (below(3) == 0 && requests_ > 0) set_ids(event, requests_ - 1 - below(std::min<std::uint64_t>(requests_, 20)));
    return event;
  }

  std::string body(std::uint64_t line) {
    switch (line) {
      case 0: return fmt::format("10.0.{}.{} - - \"GET /items/{} HTTP/1.1\" 200 {} \"-\" \"curl/7.88.1\" {}ms", below(4), below(250), often_small(5000), 500 + often_small(20000), often_small(900));
      case 1: return fmt::format("request finished route=/cart/{{id}} status=200 user={} took={:.3f}ms", often_small(20000), static_cast<double>(often_small(900000)) / 1000);
      case 2: return fmt::format("cache {} key=session:{:08x} ttl={}", below(5) == 0 ? "miss" : "hit", below(1u << 20), 60 * below(10));
      case 3: return fmt::format("SELECT id, price FROM items WHERE shop_id = ? AND id IN (?, ?, ?) -- {} rows in {} us", often_small(300), often_small(20000));
      case 4: return fmt::format("worker {} took job mail:{} after {} ms in queue", below(16), often_small(1000000), often_small(3000));
      case 5: return fmt::format("order {:012x} paid: {}.{:02} EUR, {} items, card ending {:04}", below(1ull << 40), often_small(300), below(100), 1 + often_small(9), below(10000));
      case 6: return fmt::format("connection pool: {} of 50 in use, {} waiting", below(51), often_small(10));
      case 7: return fmt::format("GC pause {:.2f} ms, heap {} MiB of 2048", static_cast<double>(often_small(4000)) / 100, 500 + often_small(1500));
      case 8: return fmt::format("retrying upstream 10.0.{}.{}:8080 (attempt {} of 3): connection reset by peer", below(4), below(250), 1 + below(3));
      case 9: return fmt::format("ERROR could not reach payment gateway: timed out after {} ms (order {:012x})", 1000 + below(4000), below(1ull << 40));
      case 10: return fmt::format("checkpoint complete: wrote {} buffers ({}.{}%); sync={:.3f} s", often_small(5000), below(30), below(10), static_cast<double>(often_small(3000)) / 1000);
      default: return fmt::format("user {} logged in from 192.168.{}.{}", often_small(20000), below(8), below(250));
    }
  }

  Event other(std::int64_t time) {
    Event event;
    event.time_ns = time;
    const std::uint64_t owner = often_small(kServices), what = below(20);
    event.entity = service(owner);
    if (what == 0) {
      event.kind = Kind::Kernel;
      event.name = "syscall.slow";
      event.value = static_cast<double>(often_small(1000000)) / 1e6;
      event.attributes = {{"service", kNames[owner]}, {"process.pid", fmt::format("{}", 4000 + owner)}, {"call", "fsync"}};
      return event;
    }
    event.kind = Kind::Span;
    static constexpr const char* kRoutes[] = {"GET /items/{id}", "GET /cart/{id}", "POST /orders", "GET /search", "GET /health"};
    const std::uint64_t route = often_small(std::size(kRoutes));
    event.name = kRoutes[route];
    event.value = static_cast<double>(1000 * (200 + often_small(90000))) / 1e9;
    event.attributes = {{"http.request.method", route == 2 ? "POST" : "GET"}, {"http.response.status_code", below(100) == 0 ? "503" : "200"},
                        {"process.pid", fmt::format("{}", 4000 + owner)}, {"thread.id", fmt::format("{}", 4000 + owner + below(8))},
                        {"self", fmt::format("{:.6f}", event.value / 2)}};
    set_ids(event, requests_++);
    return event;
  }

  static void set_ids(Event& event, std::uint64_t request) {
    std::uint64_t state = request * 0x9e3779b97f4a7c15u + 1;
    const auto next = [&state] {  // splitmix64
      std::uint64_t z = state += 0x9e3779b97f4a7c15u;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      return z ^ (z >> 31);
    };
    event.trace_id[0] = next();
    event.trace_id[1] = next();
    event.span_id = next();
  }

  static constexpr const char* kNames[] = {"nginx", "shop",   "cart",  "checkout", "payment", "search", "postgres", "redis",   "mail", "auth", "stock",  "price",
                                           "image", "review", "admin", "report",   "kafka",   "worker", "cron",     "metrics", "cdn",  "tax",  "notify", "ship"};
  static constexpr const char* kTemplates[] = {
      "<*> - - \"GET /items/<*> HTTP/1.1\" 200 <*> \"-\" \"curl/7.88.1\" <*>", "request finished route=/cart/{id} status=200 user=<*> took=<*>", "cache <*> key=<*> ttl=<*>",
      "SELECT id, price FROM items WHERE shop_id = ? AND id IN (?, ?, ?) -- <*> rows in <*> us", "worker <*> took job <*> after <*> ms in queue",
      "order <*> paid: <*> EUR, <*> items, card ending <*>", "connection pool: <*> of 50 in use, <*> waiting", "GC pause <*> ms, heap <*> MiB of 2048",
      "retrying upstream <*> (attempt <*> of 3): connection reset by peer", "ERROR could not reach payment gateway: timed out after <*> ms (order <*>)",
      "checkpoint complete: wrote <*> buffers <*>; sync=<*> s", "user <*> logged in from <*>"};

  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::int64_t begin_ns_, second_ = 1;
  std::uint64_t requests_ = 0;
  double levels_[1000] = {};
};

}  // namespace culprit::stream
