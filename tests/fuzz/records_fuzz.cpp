// What watched programs move and write, as the tracker gets it: records whose payload, lines, names, sizes and order are anybody's.
// Every step is one byte that says what happens, then what it needs. Nothing crashes, no record is lost uncounted, tables keep
// their limits, and no value is negative.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "daemon/track/tracker.h"

namespace {

using namespace culprit;
using namespace culprit::track;

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kStart = 1'000'000 * kMs;

// Bytes of the input, in order; zeroes behind its end.
class Input {
 public:
  explicit Input(std::string_view bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }
  std::uint32_t below(std::uint32_t n) { return byte() % n; }
  std::string_view text(std::size_t most) {
    const std::string_view piece = rest_.substr(0, std::min<std::size_t>(most, std::size_t{byte()} * 2));
    rest_.remove_prefix(std::min(rest_.size(), piece.size()));
    return piece;
  }

 private:
  std::string_view rest_;
};

struct Checks final : Sink {
  void events(std::vector<stream::Event> batch) override {
    for (const stream::Event& event : batch) {
      if (event.time_ns <= 0 || event.value < 0 || event.entity.empty()) std::abort();
    }
    count += batch.size();
  }
  void want_facts(std::uint32_t pid) override { asked = pid; }
  void want_watch(std::uint32_t, unsigned) override {}
  std::uint64_t count = 0;
  std::uint32_t asked = 0;
};

class Play {
 public:
  explicit Play(std::string_view bytes) : in_(bytes), tracker_(options(), checks_) { tracker_.advance(kStart); }

  void run() {
    for (int steps = 0; !in_.empty() && steps < 400; ++steps) step();
    now_ += 2'000 * kMs;
    tracker_.advance(now_);
    tracker_.tick(now_);
    const TrackStats stats = tracker_.stats();
    if (stats.records_in != sent_ || stats.pending != 0 || stats.events_out != checks_.count) std::abort();
    if (stats.records_in != stats.processed + stats.dropped_bad_size + stats.dropped_unknown_kind) std::abort();
    if (stats.requests_open > options().limits.requests_open || stats.sockets > options().limits.sockets) std::abort();
    (void)tracker_.services();
    (void)tracker_.edges();
  }

 private:
  static TrackerOptions options() {
    TrackerOptions options;
    options.watch_all = true;
    options.limits.sockets = 12;
    options.limits.processes = 12;
    options.limits.threads = 6;
    options.limits.requests_open = 6;
    options.limits.partial_lines = 3;
    options.limits.calls_per_request = 3;
    options.limits.templates_per_service = 5;
    return options;
  }

  template <typename T>
  void send(T event, std::uint16_t kind, std::size_t size = sizeof(T)) {
    event.header = {static_cast<culprit_u64>(now_ - in_.below(4) * 20 * kMs), static_cast<culprit_u32>(size), kind, 0};
    tracker_.on_record({reinterpret_cast<const std::byte*>(&event), size});
    ++sent_;
  }
  culprit_task task() {
    culprit_task task{};
    const std::uint8_t who = in_.byte();
    task.tgid = 1 + who % 5U;
    task.tid = task.tgid + who / 8U % 3U;
    task.cgroup_id = who / 64U;
    std::memcpy(task.comm, "worker", 6);
    return task;
  }
  // The two ends of eight connections to two ports.
  culprit_socket socket() {
    const std::uint8_t which = in_.byte();
    culprit_socket socket{};
    socket.sock = 1 + which % 16U;
    const auto client = static_cast<std::uint16_t>(40'000 + which % 8U), server = static_cast<std::uint16_t>(80 + which % 2U);
    const bool at_client = which % 16U < 8U;
    socket.local_port = at_client ? client : server;
    socket.remote_port = at_client ? server : client;
    for (auto* address : {socket.local_addr, socket.remote_addr}) {
      address[10] = address[11] = 0xff;
      address[12] = 127;
      address[15] = static_cast<culprit_u8>(1 + which / 64U);
    }
    return socket;
  }

  void step() {
    const std::uint8_t what = in_.byte();
    now_ += (what >> 4U) * 7 * kMs;
    switch (what % 12U) {
      case 0: case 1: case 2: {
        culprit_payload_event event{};
        event.task = task();
        event.socket = socket();
        const std::uint8_t how = in_.byte();
        event.direction = how & 1U;
        const std::string_view text = in_.text(CULPRIT_PAYLOAD_LARGE);
        std::memcpy(event.data, text.data(), text.size());
        event.captured = static_cast<culprit_u16>(text.size() + (how == 255 ? 9'999U : 0U));
        event.bytes = text.size() + ((how & 2U) != 0 ? in_.byte() * 64U : 0U);
        event.positions[event.direction] = (how & 4U) != 0 ? in_.byte() * 16U : 0U;
        event.positions[1 - event.direction] = (how & 16U) != 0 ? in_.byte() * 16U : 0U;
        send(event, CULPRIT_EVENT_PAYLOAD, text.size() <= CULPRIT_PAYLOAD_SMALL && (how & 8U) != 0 ? offsetof(culprit_payload_event, data) + CULPRIT_PAYLOAD_SMALL : sizeof(event));
        break;
      }
      case 3: {
        culprit_log_event event{};
        event.task = task();
        event.fd = static_cast<culprit_s32>(in_.below(4));
        event.inode = in_.below(3);
        event.is_append_file = event.fd > 2 ? 1 : 0;
        const std::string_view text = in_.text(CULPRIT_LINE_MAX);
        std::memcpy(event.data, text.data(), text.size());
        event.captured = static_cast<culprit_u32>(text.size());
        event.bytes = text.size() + in_.below(2) * 100U;
        send(event, CULPRIT_EVENT_LOG);
        break;
      }
      case 4: {
        culprit_tcp_state_event event{};
        event.task = task();
        event.socket = socket();
        event.old_state = static_cast<culprit_u16>(in_.below(13));
        event.new_state = static_cast<culprit_u16>(in_.below(13));
        event.error = static_cast<culprit_s32>(in_.below(134));
        event.positions[0] = in_.byte() * 16U;
        event.positions[1] = in_.byte() * 16U;
        send(event, CULPRIT_EVENT_TCP_STATE);
        break;
      }
      case 5: {
        culprit_exec_event event{};
        event.task = task();
        event.ppid = 1 + in_.below(5);
        event.start_time_ns = static_cast<culprit_u64>(kStart);
        const std::string_view name = in_.text(CULPRIT_PATH_LEN - 1);
        std::memcpy(event.filename, name.data(), name.size());
        send(event, CULPRIT_EVENT_EXEC);
        break;
      }
      case 6: {
        culprit_exit_event event{};
        event.task = task();
        event.exit_code = in_.byte() * 64U;
        send(event, CULPRIT_EVENT_EXIT);
        break;
      }
      case 7: {
        culprit_tcp_reset_event event{};
        event.socket = socket();
        event.received = in_.below(2);
        send(event, CULPRIT_EVENT_TCP_RESET);
        break;
      }
      case 8: {  // a record as it should not be
        std::byte bytes[sizeof(culprit_payload_event)] = {};
        const std::size_t size = std::size_t{in_.byte()} * 3;
        culprit_header header{static_cast<culprit_u64>(now_), static_cast<culprit_u32>(size), in_.byte(), 0};
        std::memcpy(bytes, &header, sizeof(header));
        const std::string_view text = in_.text(sizeof(bytes) - sizeof(header));
        std::memcpy(bytes + sizeof(header), text.data(), text.size());
        tracker_.on_record({bytes, std::min(size, sizeof(bytes))});
        ++sent_;
        break;
      }
      case 9: {
        ProcessFacts facts;
        facts.ppid = in_.below(6);
        facts.gone = in_.below(8) == 7;
        facts.exe = in_.text(200);
        facts.cgroup = in_.text(200);
        facts.script = in_.text(200);
        facts.cmdline = {facts.exe, std::string(in_.text(100))};
        facts.sockets = {in_.below(9)};
        facts.files = {{static_cast<std::int32_t>(in_.below(4)), in_.below(3), std::string(in_.text(60))}};
        tracker_.on_facts(checks_.asked, facts);
        break;
      }
      case 10: {
        culprit_tcp_info info{};
        info.socket = socket();
        info.state = in_.below(12);
        info.inode = in_.below(9);
        info.receive_queue_bytes = in_.byte();
        info.srtt_us = in_.byte();
        tracker_.on_tcp_info(now_, {&info, 1});
        break;
      }
      default:
        tracker_.advance(now_ - 50 * kMs);
        if (what >= 128) tracker_.tick(now_ - 50 * kMs);
        if (what == 255) tracker_.on_gap(now_ - 500 * kMs, now_);
    }
  }

  Input in_;
  Checks checks_;
  Tracker tracker_;
  std::int64_t now_ = kStart + 1'000 * kMs;
  std::uint64_t sent_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Play({reinterpret_cast<const char*>(data), size}).run();
  return 0;
}
