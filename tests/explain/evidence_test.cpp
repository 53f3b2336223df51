// Each block alone: it sees its own kind of fault, at the right service, says why, and is quiet about what is well.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "daemon/explain/evidence/complaints.h"
#include "daemon/explain/evidence/metric_family.h"
#include "daemon/explain/learn/answer.h"
#include "tests/explain/recorded_world.h"

namespace culprit::explain {
namespace {

using test::Broken;
using test::recorded;
using testing::HasSubstr;

std::string first_of(const RecordedCase& c, std::string_view name, std::string* reason = nullptr) {
  for (const Signal& signal : all_signals(c)) {
    if (signal.name != name) continue;
    const auto best = std::ranges::max_element(signal.value);
    const auto at = static_cast<std::size_t>(best - signal.value.begin());
    if (reason != nullptr) *reason = signal.reason[at];
    return *best > 0 ? c.name(c.candidates[at]) : "nobody";
  }
  return "no signal";
}

TEST(Evidence, EachBlockSeesItsFaultAtItsService) {
  const struct {
    Broken what;
    const char *signal, *says;
  } rows[] = {
      {Broken::SlowOwnTime, "traces.own_time", "own time"},
      {Broken::SlowOwnTime, "traces.own_share", "of all time added"},
      {Broken::NetworkDelay, "traces.span_gap", "between client and server"},
      {Broken::MissingStep, "traces.event_order", "accepted the order"},
      {Broken::MissingStep, "logs.vanished", "checked the order"},
      {Broken::NewErrors, "logs.new", "cannot reach the ledger"},
      {Broken::NewErrors, "logs.errors", "cannot reach the ledger"},
      {Broken::BusyCpu, "metrics.cpu", "cpu.usage"},
  };
  for (const auto& row : rows) {
    for (const char* who : {"shop", "db"}) {
      SCOPED_TRACE(fmt::format("{} at {}", row.signal, who));
      std::string reason;
      EXPECT_EQ(first_of(recorded(row.what, who), row.signal, &reason), who);
      EXPECT_THAT(reason, HasSubstr(row.says));
    }
  }
}

// Two healthy requests of sixty lost the line (their recording ended there): that it is gone from nearly all is still seen.
TEST(Evidence, AStepThatHealthyRequestsSeldomLackIsMissed) {
  RecordedCase c = recorded(Broken::MissingStep, "shop");
  std::size_t lost = 0;
  std::erase_if(c.reference_logs, [&](const RecordedLog& line) { return line.service == c.service("shop") && line.text.starts_with("checked") && lost++ < 2; });
  std::string reason;
  EXPECT_EQ(first_of(c, "traces.event_order", &reason), "shop");
  EXPECT_THAT(reason, HasSubstr("accepted the order"));
}

// How often and which share of all are two signals of one finding: an answer says it once.
TEST(Evidence, AFindingIsToldOnce) {
  for (const Broken what : {Broken::SlowOwnTime, Broken::NetworkDelay, Broken::MissingStep, Broken::NewErrors, Broken::BusyCpu}) {
    const CaseAnswer answer = answer_case(recorded(what, "shop"), built_in_model());
    ASSERT_FALSE(answer.explanation.candidates.empty());
    EXPECT_FALSE(answer.explanation.candidates.front().evidence.empty());
    for (const auto& candidate : answer.explanation.candidates) {
      std::set<std::string> told;
      for (const auto& item : candidate.evidence) EXPECT_TRUE(told.insert(item.text).second) << item.text;
    }
  }
}

// A callee that is never twice the same, healthy or not, explains nothing away.
TEST(Evidence, ACalleeThatAlwaysSurprisesExplainsNothing) {
  RecordedCase c = recorded(Broken::MissingStep, "shop");
  int place = 100;
  for (auto* lines : {&c.reference_logs, &c.logs}) {
    for (RecordedLog& line : *lines) {
      if (line.service == c.service("db") && line.text.starts_with("checked")) line.text = fmt::format("odd.cpp:{} happened", ++place);
    }
  }
  EXPECT_EQ(first_of(c, "traces.event_order", nullptr), "shop");
}

// Who calls what fails complains too, and louder: that is the callee's.
TEST(Evidence, NewLinesAtACallerAreExplainedByNewLinesAtItsCallee) {
  RecordedCase c = recorded(Broken::NewErrors, "db");
  std::vector<RecordedLog> lines;
  for (const RecordedLog& line : c.logs) {
    lines.push_back(line);
    for (int i = 0; i < 3 && line.level == "ERROR"; ++i) lines.push_back({line.time_ns, c.service("shop"), line.trace, 0, "ERROR", "no order without the ledger"});
  }
  c.logs = lines;
  for (const char* signal : {"logs.new", "logs.errors"}) EXPECT_EQ(first_of(c, signal), "db") << signal;
  c.calls.clear(), c.spans.clear(), c.reference_spans.clear();
  for (const char* signal : {"logs.new", "logs.errors"}) EXPECT_EQ(first_of(c, signal), "shop") << signal;  // nobody calls it
}

TEST(Evidence, WhoComplainsOfAnotherServiceIsNotToBlameForIt) {
  RecordedCase c = recorded(Broken::NewErrors, "shop");
  for (const char* signal : {"logs.new", "logs.errors", "traces.event_order"}) EXPECT_EQ(first_of(c, signal), "shop") << signal;
  for (RecordedLog& line : c.logs) {
    if (line.level == "ERROR") line.text = "GET http://db/ledger failed";
  }
  for (const char* signal : {"logs.new", "logs.errors", "traces.event_order"}) EXPECT_EQ(first_of(c, signal), "nobody") << signal;
}

TEST(Evidence, AServiceIsNamedAsSuchAndNotAsAWord) {
  const struct {
    const char *text, *name;
    bool named;
  } rows[] = {
      {"No instances available for ts-basic-service", "ts-basic-service", true},
      {"no route to cart-db.", "cart-db", true},
      {"no route to cart-db-0", "cart-db", false},
      {"no route to my-cart-db", "cart-db", false},
      {"my-cart-db and cart-db", "cart-db", true},
      {"user not found", "user", false},
      {"GET http://user/42: 503", "user", true},
      {"dial tcp user:8080: refused", "user", true},
      {"of user: none", "user", false},
      {"of superuser:8080", "user", false},
      {"user", "user", false},
      {"postgres://app@cart-db.shop.svc.cluster.local/cart", "cart-db", true},
      {"", "user", false},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(named_in(row.text, {{row.name, 0}}, 1), row.named ? 0 : kNoService) << row.text << " | " << row.name;
    EXPECT_EQ(named_in(row.text, {{row.name, 0}}, 0), kNoService) << row.text << " | who says it: " << row.name;
  }
}

// Programs that do not block their threads record the call beside the span that waits for it.
TEST(Evidence, TheTimeOfACallBesideASpanIsNotItsOwn) {
  RecordedCase c = recorded(Broken::SlowOwnTime, "db");
  c.words.push_back("handle");
  for (auto* spans : {&c.reference_spans, &c.spans}) {
    std::vector<RecordedSpan> more = *spans;
    for (const RecordedSpan& call : *spans) {
      if (call.service != c.service("shop") || c.words[call.operation] != "query" || call.parent % 100 != 1) continue;
      RecordedSpan handle = call;
      handle.id += 50;
      handle.operation = static_cast<std::uint32_t>(c.words.size() - 1);
      handle.start_ns -= 100'000;
      handle.duration_ns += 300'000;
      more.push_back(handle);
    }
    ASSERT_GT(more.size(), spans->size());
    std::ranges::sort(more, [](const RecordedSpan& a, const RecordedSpan& b) { return std::tie(a.trace, a.start_ns, a.id) < std::tie(b.trace, b.start_ns, b.id); });
    *spans = more;
  }
  EXPECT_EQ(first_of(c, "traces.own_time"), "db");
  for (const Signal& signal : all_signals(c)) {
    if (signal.name != "traces.own_time") continue;
    EXPECT_EQ(signal.value[static_cast<std::size_t>(c.candidate(c.service("shop")))], 0);
  }
}

TEST(Evidence, AHealthyCaseRaisesNothing) {
  for (const Signal& signal : all_signals(recorded(Broken::Nothing))) {
    SCOPED_TRACE(signal.name);
    if (signal.modality == Modality::Topology || signal.name == "traces.own_share") continue;  // shares of noise sum to 1
    EXPECT_LT(*std::ranges::max_element(signal.value), 0.7);
  }
}

TEST(Evidence, WithoutDataABlockIsSilentRatherThanQuiet) {
  RecordedCase empty;
  empty.names = {"a", "b"};
  empty.candidates = {0, 1};
  empty.candidate_of = {0, 1};
  EXPECT_TRUE(all_signals(empty).empty());
}

// What a callee loses, its caller loses too: the deepest service whose own part moves with the alert begins it.
TEST(Evidence, FlowStopsWhereTheTimeIsAdded) {
  RecordedCase c;
  c.names = {"front", "shop", "db"};
  c.candidates = {2, 0, 1};
  c.candidate_of = {1, 2, 0};
  c.calls = {{0, 1}, {1, 2}};
  c.fired = {0, 0, "latency", ""};
  c.onset_ns = 1;
  const auto series = [](ServiceId s, double normal, double added) {
    MetricColumn out{s, "latency.average", {}};
    for (int row = 0; row < 20; ++row) out.values.push_back(normal + (row >= 16 ? added * (row - 15) : 0));
    return out;
  };
  for (int row = 0; row < 20; ++row) c.metrics.times_ns.push_back(row < 14 ? row - 100 : row);
  c.metrics.columns = {series(0, 0.2, 0.1), series(1, 0.1, 0.1), series(2, 0.01, 0.001)};
  for (const ServiceId s : {0, 1, 2}) c.metrics.columns.push_back({s, "requests.sum", std::vector<double>(20, 100)});
  std::string reason;
  EXPECT_EQ(first_of(c, "metrics.own_share", &reason), "shop");
  EXPECT_THAT(reason, HasSubstr("begin in it"));
}

TEST(Evidence, MetricsAreKnownByTheirNames) {
  const std::pair<const char*, Family> rows[] = {
      {"CpuUsageRate(%)", Family::Cpu},       {"container_memory_rss", Family::Memory}, {"latency.p99", Family::Latency},
      {"dest_success_rate", Family::Success}, {"availability.Average", Family::Success}, {"fs_usage", Family::Disk},
      {"net_receive", Family::Network},       {"requests.Sum", Family::Load},            {"http_5xx_ratio", Family::Errors},
      {"uptime", Family::Other}};
  for (const auto& [name, family] : rows) EXPECT_EQ(family_of(name), family) << name;
}

}  // namespace
}  // namespace culprit::explain
