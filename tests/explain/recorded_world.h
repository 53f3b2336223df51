// A made-up recorded case: front calls shop, shop calls db; one of them is broken in one way.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::test {

enum class Broken : std::uint8_t { Nothing, SlowOwnTime, NetworkDelay, MissingStep, NewErrors, BusyCpu };

inline explain::RecordedCase recorded(Broken what, const std::string& who = "shop") {
  using namespace explain;
  RecordedCase c;
  c.id = "made";
  c.names = {"front", "shop", "db"};
  c.candidates = {2, 0, 1};  // by name
  c.candidate_of = {1, 2, 0};
  c.words = {"", "GET /", "Checkout", "query"};
  c.calls = {{0, 1}, {1, 2}};
  const std::int64_t kMs = 1'000'000, kSecond = 1'000'000'000;
  c.onset_ns = 1000 * kSecond;
  const ServiceId broken = c.service(who);
  std::uint64_t next = 1;
  const auto trace = [&](std::vector<RecordedSpan>& spans, std::vector<RecordedLog>& logs, std::int64_t start_ns, bool bad, int wobble) {
    const std::uint64_t id = next++;
    const auto own = [&](ServiceId s) { return (5 + wobble % 3 + (bad && what == Broken::SlowOwnTime && s == broken ? 80 : 0)) * kMs; };
    const auto gap = [&](ServiceId a, ServiceId b) { return (1 + (bad && what == Broken::NetworkDelay && (a == broken || b == broken) ? 60 : 0)) * kMs; };
    std::int64_t below = 0;
    std::vector<RecordedSpan> made;
    for (const ServiceId s : {2, 1, 0}) {  // from the inside out
      const std::int64_t server = own(s) + (s == 2 ? 0 : below + gap(s, s + 1));
      if (s != 2) made.back().parent = 100 * id + 10 + static_cast<std::uint64_t>(s);
      if (s != 2) {
        RecordedSpan client{.trace = id, .id = 100 * id + 10 + static_cast<std::uint64_t>(s), .parent = 100 * id + static_cast<std::uint64_t>(s), .service = s, .operation = 3};
        client.duration_ns = below + gap(s, s + 1);
        client.start_ns = start_ns + s * 2 * kMs + 1 * kMs;
        made.push_back(client);
      }
      RecordedSpan span{.trace = id, .id = 100 * id + static_cast<std::uint64_t>(s), .service = s, .operation = static_cast<std::uint32_t>(s + 1)};
      span.start_ns = start_ns + s * 2 * kMs;
      span.duration_ns = server;
      made.push_back(span);
      below = server;
    }
    for (const RecordedSpan& span : made) spans.push_back(span);
    for (const ServiceId s : {0, 1, 2}) {
      for (const char* step : {"accepted the order", "checked the order", "finished the order"}) {
        if (bad && what == Broken::MissingStep && s == broken && step[0] == 'c') continue;
        logs.push_back({start_ns + s * 2 * kMs + (step[0] == 'f' ? 900'000 : 100'000), s, id, 100 * id + static_cast<std::uint64_t>(s), "INFO", std::string(step)});
      }
      if (bad && what == Broken::NewErrors && s == broken) logs.push_back({start_ns + s * 2 * kMs + 950'000, s, id, 100 * id + static_cast<std::uint64_t>(s), "ERROR", "cannot reach the ledger"});
    }
  };
  for (int i = 0; i < 60; ++i) trace(c.reference_spans, c.reference_logs, i * kSecond, false, i);
  for (int i = 0; i < 30; ++i) trace(c.spans, c.logs, c.onset_ns + i * kSecond, true, i);
  const auto by_trace = [](const RecordedSpan& a, const RecordedSpan& b) { return std::tie(a.trace, a.start_ns, a.id) < std::tie(b.trace, b.start_ns, b.id); };
  std::ranges::sort(c.spans, by_trace);
  std::ranges::sort(c.reference_spans, by_trace);
  for (int row = 0; row < 30; ++row) c.metrics.times_ns.push_back(c.onset_ns + (row - 24) * 60 * kSecond);
  for (const ServiceId s : {0, 1, 2}) {
    MetricColumn cpu{s, "cpu.usage", {}};
    for (int row = 0; row < 30; ++row) cpu.values.push_back(10 + row % 3 + (row >= 24 && what == Broken::BusyCpu && s == broken ? 70 : 0));
    c.metrics.columns.push_back(std::move(cpu));
  }
  return c;
}

}  // namespace culprit::test
