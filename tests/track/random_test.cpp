// Random records: nothing crashes, nothing is lost uncounted, and every name is one that docs/events.md knows.
#include <random>

#include "daemon/track/output.h"
#include "tests/track/records.h"

namespace culprit::track::test {

using stream::Kind;

namespace {

bool known_name(const stream::Event& event) {
  static const std::set<std::string, std::less<>> kKernel = {"process.exec", "process.exit", "process.oom_kill", "process.signal", "tcp.listen",
                                                             "tcp.connect.failed", "tcp.reset", "syscall.slow", "block.slow", "sensor.gap"};
  static const std::set<std::string, std::less<>> kChanges = {"service.start", "service.stop", "service.restart", "service.version", "process.start"};
  switch (event.kind) {
    case Kind::Kernel: return kKernel.contains(event.name);
    case Kind::Change: return kChanges.contains(event.name);
    case Kind::Log: return event.name.empty() && !event.body.empty();
    case Kind::Span: return event.name.find(' ') != std::string::npos;
    case Kind::Sample: {
      const std::string base = event.name.substr(0, event.name.find('{'));
      if (base == "syscall.errors" || base == "connect.failures") return event.name.ends_with("\"}");
      for (unsigned i = 0; i < static_cast<unsigned>(Series::Count); ++i) {
        if (series_name(static_cast<Series>(i)) == base) return base == event.name;
      }
      return false;
    }
    case Kind::Alert: return false;
  }
  return false;
}

bool known_entity(const std::string& entity) {
  for (const char* prefix : {"service:", "process:", "edge:", "endpoint:", "device:", "mount:"}) {
    if (entity.starts_with(prefix) && entity.size() > std::strlen(prefix)) return true;
  }
  return entity == "host";
}

class Chaos {
 public:
  explicit Chaos(std::uint64_t seed) : random_(seed) {}
  std::uint64_t pick(std::uint64_t n) { return random_() % n; }

  std::vector<std::byte> record(std::int64_t now_ns) {
    static constexpr std::size_t kSizes[CULPRIT_EVENT_KINDS] = {
        0, sizeof(culprit_exec_event), sizeof(culprit_exit_event), sizeof(culprit_fork_event), sizeof(culprit_oom_event),
        sizeof(culprit_signal_event), sizeof(culprit_tcp_state_event), sizeof(culprit_tcp_retransmit_event), sizeof(culprit_tcp_reset_event),
        sizeof(culprit_syscall_slow_event), sizeof(culprit_payload_event), sizeof(culprit_log_event), sizeof(culprit_block_slow_event)};
    const auto kind = static_cast<std::uint16_t>(pick(20) == 0 ? pick(20) : 1 + pick(CULPRIT_EVENT_KINDS - 1));
    std::size_t size = kind < CULPRIT_EVENT_KINDS ? kSizes[kind] : pick(200);
    if (kind == CULPRIT_EVENT_PAYLOAD && pick(2) == 0) size = offsetof(culprit_payload_event, data) + CULPRIT_PAYLOAD_SMALL;
    if (pick(30) == 0) size = pick(700);
    std::vector<std::byte> bytes(std::max<std::size_t>(size, sizeof(culprit_payload_event)));
    for (auto& byte : bytes) byte = static_cast<std::byte>(pick(8) == 0 ? pick(256) : 0);
    const auto time_ns = static_cast<std::uint64_t>(now_ns - static_cast<std::int64_t>(pick(100)) * kMs);
    culprit_header header{time_ns, static_cast<std::uint32_t>(size), kind, 0};
    std::memcpy(bytes.data(), &header, sizeof(header));
    culprit_task task{};
    task.tgid = static_cast<std::uint32_t>(pick(40));
    task.tid = task.tgid + static_cast<std::uint32_t>(pick(3));
    task.cgroup_id = pick(4);
    const auto port = [&] { return static_cast<std::uint16_t>(pick(3) == 0 ? 80 + pick(3) : 40'000 + pick(20)); };
    culprit_socket socket = socket_of(1 + pick(60), port(), port());
    if (kind == CULPRIT_EVENT_TCP_RETRANSMIT || kind == CULPRIT_EVENT_TCP_RESET) {
      std::memcpy(bytes.data() + sizeof(header), &socket, sizeof(socket));
    } else {
      std::memcpy(bytes.data() + sizeof(header), &task, sizeof(task));
    }
    if (kind == CULPRIT_EVENT_TCP_STATE || kind == CULPRIT_EVENT_PAYLOAD) std::memcpy(bytes.data() + sizeof(header) + sizeof(task), &socket, sizeof(socket));
    if (kind == CULPRIT_EVENT_TCP_STATE) {
      culprit_tcp_state_event event;
      std::memcpy(&event, bytes.data(), sizeof(event));
      event.old_state = static_cast<std::uint16_t>(pick(12));
      event.new_state = static_cast<std::uint16_t>(pick(12));
      event.error = pick(3) == 0 ? static_cast<std::int32_t>(pick(150)) : 0;
      std::memcpy(bytes.data(), &event, sizeof(event));
    }
    if (kind == CULPRIT_EVENT_PAYLOAD) {
      culprit_payload_event event;
      std::memcpy(&event, bytes.data(), sizeof(event));
      static constexpr const char* kTexts[] = {"GET /a/17 HTTP/1.1\r\n\r\n", "POST /b HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                                               "HTTP/1.1 500 X\r\n\r\n", "*1\r\n$4\r\nPING\r\n", "+PONG\r\n", "-ERR x\r\n", "Q", "HTTP/1.1 101 X\r\n\r\n", ""};
      const std::string_view text = kTexts[pick(std::size(kTexts))];
      std::memcpy(event.data, text.data(), std::min<std::size_t>(text.size(), 64));
      event.captured = static_cast<std::uint16_t>(pick(50) == 0 ? random_() : text.size());
      event.bytes = pick(50) == 0 ? random_() : text.size() + (pick(5) == 0 ? pick(2000) : 0);
      event.direction = static_cast<std::uint16_t>(pick(50) == 0 ? random_() : pick(2));
      std::memcpy(bytes.data(), &event, sizeof(event));
    }
    if (kind == CULPRIT_EVENT_LOG) {
      culprit_log_event event;
      std::memcpy(&event, bytes.data(), std::min(sizeof(event), bytes.size()));
      event.captured = static_cast<std::uint32_t>(pick(50) == 0 ? random_() : pick(CULPRIT_LINE_MAX));
      event.bytes = event.captured + (pick(4) == 0 ? 100 : 0);
      std::memcpy(bytes.data(), &event, std::min(sizeof(event), bytes.size()));
    }
    bytes.resize(size);
    return bytes;
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace

TEST(Random, NothingCrashesNothingIsLost) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE(seed);
    TrackerOptions options;
    options.watch_all = true;
    options.limits.pending_bytes = 200'000;
    options.limits.sockets = 40;
    options.limits.processes = 30;
    options.limits.threads = 8;
    options.limits.requests_open = 16;
    options.limits.partial_lines = 4;
    options.limits.calls_per_request = 4;
    Host host(std::move(options));
    Chaos chaos(seed);
    std::uint64_t sent = 0;
    for (int step = 0; step < 300; ++step) {
      const std::int64_t now = kStart + kSecond + step * 20 * kMs;
      for (int i = 0; i < 25; ++i, ++sent) host.tracker.on_record(chaos.record(now));
      if (chaos.pick(2) == 0) {
        const auto pid = static_cast<std::uint32_t>(chaos.pick(40));
        auto facts = host.facts("/usr/bin/p" + std::to_string(pid % 7), pid % 3 == 0 ? "/lab/s" + std::to_string(pid % 5) : "/", {}, 0);
        facts.gone = chaos.pick(10) == 0;
        facts.sockets = {chaos.pick(50), chaos.pick(50)};
        host.tracker.on_facts(pid, facts);
      }
      host.tracker.advance(now - 50 * kMs);
      if (step % 50 == 49) {
        std::vector<culprit_tcp_info> infos(chaos.pick(30));
        for (auto& info : infos) {
          info.socket = socket_of(1 + chaos.pick(60), static_cast<std::uint16_t>(80 + chaos.pick(3)), static_cast<std::uint16_t>(40'000 + chaos.pick(20)));
          info.state = static_cast<std::uint32_t>(chaos.pick(12));
          info.inode = chaos.pick(50);
          info.srtt_us = 100;
        }
        host.tracker.on_tcp_info(now, infos);
        host.tracker.tick(now);
      }
      if (step == 150) host.tracker.on_gap(now - kSecond, now);
      const TrackStats stats = host.tracker.stats();
      ASSERT_EQ(stats.records_in, sent);
      ASSERT_EQ(stats.records_in, stats.processed + stats.pending + stats.dropped_bad_size + stats.dropped_unknown_kind);
      ASSERT_LE(stats.requests_open, 16u);
    }
    host.tick(kStart + 60 * kSecond);
    const TrackStats stats = host.tracker.stats();
    EXPECT_EQ(stats.pending, 0u);
    EXPECT_EQ(stats.events_out, host.out.all.size());
    EXPECT_GT(stats.dropped_bad_size, 0u);
    EXPECT_GT(stats.dropped_unknown_kind, 0u);
    EXPECT_GT(host.out.find(Kind::Span, "", "").size(), 0u);
    for (const auto& event : host.out.all) {
      ASSERT_TRUE(known_entity(event.entity)) << event.entity;
      ASSERT_TRUE(known_name(event)) << event.name << " of " << event.entity;
      ASSERT_GE(event.value, 0) << event.name << " of " << event.entity;
      ASSERT_GT(event.time_ns, 0);
    }
  }
}

// The same input gives the same output, bit for bit.
TEST(Random, Deterministic) {
  const auto play = [] {
    Host host;
    Chaos chaos(7);
    for (int i = 0; i < 3000; ++i) host.tracker.on_record(chaos.record(kStart + kSecond + i * kMs));
    host.tick(kStart + 5 * kSecond);
    std::vector<std::string> out;
    for (const auto& e : host.out.all) out.push_back(fmt::format("{} {} {} {} {:x} {}", e.time_ns, e.entity, e.name, e.value, e.trace_id[0], e.body));
    return out;
  };
  const auto first = play();
  EXPECT_GT(first.size(), 100u);
  EXPECT_EQ(first, play());
}

}  // namespace culprit::track::test
