// B1: from the kernel's ring through the channel into the map. One thread makes calls, one empties the ring every 5 ms
// (the daemon: every 20 ms, or when it is a quarter full) into the channel, one updates the map from it. Needs root.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "daemon/base/handle.h"
#include "daemon/collect/ring.h"
#include "daemon/concurrent/channel.h"
#include "daemon/concurrent/map.h"
#include "own_calls.skel.h"
#include "tests/bench/concurrent/map_bench.h"
#include "tests/bench/concurrent/own_calls.h"
#include "tests/bench/concurrent/workload.h"

namespace bench {
namespace {

using culprit::Handle;
using culprit::concurrent::Channel;
using culprit::concurrent::Ends;
using culprit::concurrent::Map;

static_assert(sizeof(own_call) == sizeof(Event));
using Program = Handle<own_calls_probe, own_calls_probe__destroy>;
using Events = Channel<Event, Ends::OneToOne>;

struct Reader {
  Events* channel;  // null: only reads
  std::array<Event, 64> batch;
  std::size_t n = 0;
  std::uint64_t received = 0;

  void flush() {
    if (channel != nullptr && n != 0) (void)channel->send_n(std::span(batch).first(n));
    n = 0;
  }
  bool take(culprit::collect::RecordBytes bytes) {
    if (bytes.size() != sizeof(Event)) return false;
    std::memcpy(&batch[n], bytes.data(), sizeof(Event));
    ++received;
    if (++n == batch.size()) flush();
    return true;
  }
};

enum Thread { kCaller, kCollector, kUpdater, kThreads };

struct Cost {
  Parts parts = Parts(kThreads);
  std::uint64_t produced = 0, received = 0, dropped = 0, updated = 0;

  double of(Thread thread) const { return parts[thread].cpu_s; }
  double wall() const { return std::ranges::max(parts, {}, &Part::wall_s).wall_s; }
};

Program open_program() {
  Program program(own_calls_probe__open());
  if (!program) return program;
  program->rodata->target_tgid = static_cast<std::uint32_t>(getpid());
  program->rodata->getppid_number = SYS_getppid;
  if (own_calls_probe__load(program.get()) != 0 || own_calls_probe__attach(program.get()) != 0) program.reset();
  return program;
}

// Makes so many calls a millisecond for so long; without a map the ring is only read.
Cost run(const std::vector<std::uint32_t>& series, Map<Key, Aggregate, SeededHash>* map, double seconds, std::size_t a_millisecond) {
  const Program program = open_program();
  if (!program) return {};
  Events channel({.name = "bench", .capacity = 16'384});
  auto ring = culprit::collect::Ring::open(culprit::Fd(dup(bpf_map__fd(program->maps.ring))), bpf_map__max_entries(program->maps.ring));
  if (!ring) return {};
  Cost cost;
  alignas(64) std::atomic<bool> done{false};
  const auto call = [&] {
    std::size_t at = 0;
    const double start = wall_s();
    for (double slot = start; slot - start < seconds; slot += 1e-3) {
      for (std::size_t i = 0; i < a_millisecond; ++i, at = at + 1 == series.size() ? 0 : at + 1) {
        program->bss->next = series[at];
        (void)syscall(SYS_getppid);
      }
      while (wall_s() < slot + 1e-3) sched_yield();
    }
    done = true;
  };
  const auto collect = [&] {
    Reader reader{.channel = map != nullptr ? &channel : nullptr, .batch = {}};
    bool last = false;
    while (!last) {
      last = done;  // read before the drain: what was made before it is in the ring
      (void)ring->each(~std::size_t{0}, [&](culprit::collect::RecordBytes bytes) { return reader.take(bytes); });
      reader.flush();
      const timespec pause{0, 5'000'000};
      clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    }
    (void)channel.close();
    cost.received = reader.received;
  };
  const auto update = [&] {
    std::uint64_t updated = 0;
    std::array<Event, 64> batch;
    while (const std::size_t n = channel.recv_n(std::span(batch)).count) {
      map->update_n(std::span<const Event>(batch).first(n), [](const Event& e) -> const Key& { return e.key; },
                    [&](std::size_t i, Aggregate& a, bool) { a.add(batch[i].value, batch[i].time); });
      updated += n;
    }
    cost.updated = updated;
  };
  cost.parts = together(kThreads, [&](int thread) { thread == kCaller ? call() : thread == kCollector ? collect() : update(); });
  cost.produced = program->bss->produced;
  cost.dropped = program->bss->dropped;
  return cost;
}

}  // namespace

void ring_round(const Plan& plan) {
  if (!plan.any({"B1"})) return;
  libbpf_set_print(nullptr);
  if (!open_program()) {
    std::fprintf(stderr, "skipped: B1 (this user may not load BPF programs)\n");
    return;
  }
  std::vector<std::uint32_t> series(1'000'000);
  std::mt19937_64 random(7);
  Zipf ranks(plan.series, 0.99);
  for (auto& each : series) each = static_cast<std::uint32_t>(scramble(ranks(random)) % plan.series);
  Map<Key, Aggregate, SeededHash> map({.name = "bench"});
  for (std::uint64_t i = 0; i < plan.series; ++i) {  // all are live, as the kernel side makes their keys
    const Key key{{(1ULL << 32) + (i & 511), i >> 2 << 32, i * 0x9e3779b97f4a7c15ULL, i, 6ULL << 48}};
    map.update(key, [](Aggregate&, bool) {});
  }
  const Cost alone = run(series, nullptr, 1.5, 1'000);
  report("B1 ring alone, ns an event", "ours", alone.of(kCollector) / static_cast<double>(alone.received) * 1e9, alone.parts);
  const Cost all = run(series, &map, 1.5, 1'050);  // the time of starting and ending counts
  const double events = static_cast<double>(all.received);
  const double cpu_s = all.of(kCollector) + all.of(kUpdater);
  report("B1 ring to map, ns an event", "ours", cpu_s / events * 1e9, all.parts);
  report("B1 events a second, M/s", "ours", events / all.wall() / 1e6, all.parts);
  report("B1 share of a core at that rate, %", "ours", cpu_s / all.wall() * 100, all.parts);
  for (const Cost& cost : {alone, all}) {
    if (cost.produced != cost.received + cost.dropped) std::abort();
  }
  if (all.updated != all.received || map.size() != plan.series) std::abort();
  report("B1 produced - received - dropped, events", "ours", static_cast<double>(all.produced - all.received - all.dropped));
}

}  // namespace bench
