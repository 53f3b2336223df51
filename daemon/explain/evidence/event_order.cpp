// Where the order of events inside a request left the beaten track.
//
// The events of a span are its log lines (as templates) and the calls it makes, in time. Which event follows which is
// learned from healthy traces; a span is surprised if what happens next there almost never happened after that event (or seldom,
// and now surely more often: few healthy requests tell, and a line lost at the edge of their recording must not hide a thing), or
// if it ends where it never ended. This is Nezha's comparison of event patterns between a fault-free and a fault-suffering
// time (Yu et al., ESEC/FSE 2023, sec. 3.4), with two differences: patterns are pairs of neighbours with a probability, and a
// surprise that follows a call to a surprised callee, or in a span that complains of another service, is that one's (explaining away), so
// only origins count.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "daemon/explain/evidence/complaints.h"
#include "daemon/explain/evidence/rate_shift.h"
#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/evidence/spans.h"
#include "daemon/explain/evidence/templates.h"

namespace culprit::explain {

namespace {

constexpr double kRare = 0.02;            // of the times that its predecessor was seen
constexpr std::size_t kSeenMin = 8;       // of the predecessor, to know by that alone
constexpr double kSeldom = 0.1;           // likewise, where it happens surely more often now
constexpr std::size_t kFewMin = 3;
constexpr double kMore = 2;
constexpr double kSure = 4;               // standard deviations: one in 30,000, as thousands of pairs are looked at
constexpr std::uint64_t kBegin = 1, kEnd = 2;

struct Step {
  std::int64_t time_ns;
  std::uint64_t event;
};

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t hash = (a ^ (b * 0x9e3779b97f4a7c15ULL)) * 0xbf58476d1ce4e5b9ULL;
  return hash ^ (hash >> 29U);
}

// More often now than before, beyond chance; of k of n.
bool surely_more(std::size_t now, std::size_t of_now, std::size_t before, std::size_t of_before) {
  if (of_before < kFewMin || of_now == 0 || static_cast<double>(before) > kSeldom * static_cast<double>(of_before)) return false;
  return rate_shift(static_cast<double>(now), static_cast<double>(of_now), static_cast<double>(before), static_cast<double>(of_before)) >= kSure;
}

class Order {
 public:
  void learn(std::uint64_t from, std::uint64_t to, bool now) {
    Counts& counts = now ? now_ : healthy_;
    ++counts.from[from];
    ++counts.pair[mix(from, to)];
  }
  // `self`: the observation itself is part of what was learned as healthy.
  bool rare(std::uint64_t from, std::uint64_t to, bool self) const {
    const std::size_t seen = count(healthy_.from, from), both = count(healthy_.pair, mix(from, to));
    if (seen >= kSeenMin && static_cast<double>(both) - (self ? 1 : 0) <= kRare * static_cast<double>(seen)) return true;
    return surely_more(count(now_.pair, mix(from, to)), count(now_.from, from), both, seen);
  }

 private:
  using Map = std::unordered_map<std::uint64_t, std::size_t>;
  struct Counts {
    Map from, pair;
  };
  static std::size_t count(const Map& map, std::uint64_t key) {
    const auto found = map.find(key);
    return found == map.end() ? 0 : found->second;
  }
  Counts healthy_, now_;
};

}  // namespace

void event_order(const RecordedCase& c, const SpanForest& forest, const CaseTemplates& templates, const Complaints& complaints, Signals& out) {
  if (!forest.usable()) return;
  std::unordered_map<std::uint64_t, std::size_t> place;  // (trace, span) -> node
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) place.emplace(mix(forest.nodes[i].span->trace, forest.nodes[i].span->id), i);
  std::vector<std::vector<Step>> steps(forest.nodes.size());
  std::vector<bool> complains(forest.nodes.size());
  const auto put_logs = [&](const std::vector<RecordedLog>& lines, const std::vector<std::uint64_t>& ids, const std::vector<ServiceId>& about) {
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (lines[i].span == 0) continue;
      const auto node = place.find(mix(lines[i].trace, lines[i].span));
      if (node == place.end()) continue;
      steps[node->second].push_back({lines[i].time_ns, ids[i] | 4U});
      if (about[i] != kNoService) complains[node->second] = true;
    }
  };
  put_logs(c.reference_logs, templates.reference, complaints.reference);
  put_logs(c.logs, templates.now, complaints.now);
  std::unordered_map<std::uint64_t, std::string_view> text;
  for (const auto& [id, entry] : templates.entries) text[id | 4U] = entry.text;
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) {
    for (const std::uint32_t child : forest.nodes[i].children) {
      const RecordedSpan& inner = *forest.nodes[child].span;
      const std::uint64_t event = mix(inner.operation, static_cast<std::uint64_t>(inner.service) + 77) | 4U;
      text[event] = c.words[inner.operation];
      steps[i].push_back({inner.start_ns, event});
    }
    std::ranges::stable_sort(steps[i], [](const Step& a, const Step& b) { return std::tie(a.time_ns, a.event) < std::tie(b.time_ns, b.event); });
  }
  Order order;
  // An event is known by the operation that it happens in, so that a shared helper's line does not mix two of them.
  const auto walk = [&](std::size_t i, const auto& each) {
    const RecordedSpan& span = *forest.nodes[i].span;
    const std::uint64_t inside = mix(span.operation, static_cast<std::uint64_t>(span.service));
    std::uint64_t last = kBegin;
    for (const Step& step : steps[i]) {
      each(mix(inside, last), last, step.event);
      last = step.event;
    }
    each(mix(inside, last), last, kEnd);
  };
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) {
    walk(i, [&](std::uint64_t from, std::uint64_t, std::uint64_t to) { order.learn(from, to, forest.nodes[i].now); });
  }
  // What a span of an operation practically always holds: its absence is a surprise where no pair of neighbours is rare.
  std::unordered_map<std::uint64_t, std::size_t> spans_of;               // operation -> healthy spans
  std::unordered_map<std::uint64_t, std::map<std::uint64_t, std::size_t>> holds;  // operation -> event -> healthy spans with it
  const auto inside_of = [&](std::size_t i) {
    return mix(forest.nodes[i].span->operation, static_cast<std::uint64_t>(forest.nodes[i].span->service));
  };
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) {
    if (forest.nodes[i].now || steps[i].empty()) continue;
    ++spans_of[inside_of(i)];
    std::set<std::uint64_t> here;
    for (const Step& step : steps[i]) here.insert(step.event);
    for (const std::uint64_t event : here) ++holds[inside_of(i)][event];
  }
  const auto missing = [&](std::size_t i, bool self) -> std::uint64_t {
    const auto usual = holds.find(inside_of(i));
    if (usual == holds.end() || steps[i].empty()) return 0;
    const std::size_t spans = spans_of.at(inside_of(i));
    if (spans < kSeenMin) return 0;
    for (const auto& [event, count] : usual->second) {
      if (static_cast<double>(count) < (1 - kRare) * static_cast<double>(spans) - (self ? 1 : 0)) continue;
      if (std::ranges::none_of(steps[i], [&](const Step& step) { return step.event == event; })) return event;
    }
    return 0;
  };
  struct Surprise {
    bool is = false;
    bool lacks = false;
    std::uint64_t from = 0, to = 0;
  };
  std::vector<Surprise> surprised(forest.nodes.size());
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) {
    const bool self = !forest.nodes[i].now;
    walk(i, [&](std::uint64_t from, std::uint64_t last, std::uint64_t to) {
      if (!surprised[i].is && order.rare(from, to, self)) surprised[i] = {true, false, last, to};
    });
    if (surprised[i].is) continue;
    if (const std::uint64_t event = missing(i, self); event != 0) surprised[i] = {true, true, event, 0};
  }
  struct Count {
    double base = 0, now = 0, spans_base = 0, spans_now = 0;
    std::map<std::tuple<bool, std::uint64_t, std::uint64_t>, std::size_t> pairs;
  };
  std::map<ServiceId, Count> counts;
  // An operation that is as often surprised in healthy requests explains nothing away.
  struct Rate {
    double base = 0, now = 0, spans_base = 0, spans_now = 0;
  };
  std::unordered_map<std::uint64_t, Rate> rates;  // by operation
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) {
    Rate& rate = rates[inside_of(i)];
    (forest.nodes[i].now ? rate.spans_now : rate.spans_base) += 1;
    if (surprised[i].is) (forest.nodes[i].now ? rate.now : rate.base) += 1;
  }
  const auto usual = [&](std::size_t i) {
    const Rate& rate = rates.at(inside_of(i));
    return rate_shift(rate.now, rate.spans_now + 1, rate.base, rate.spans_base + 1) < kMore;
  };
  std::vector<bool> below(forest.nodes.size());  // something under it is surprised
  // Children come after their parents in a trace only by start; walk up from every surprised span instead.
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) {
    if (!surprised[i].is || usual(i)) continue;
    std::size_t guard = 0;
    for (std::int32_t up = forest.nodes[i].parent; up >= 0 && guard < 256; up = forest.nodes[static_cast<std::size_t>(up)].parent, ++guard) {
      if (below[static_cast<std::size_t>(up)]) break;
      below[static_cast<std::size_t>(up)] = true;
    }
  }
  for (std::size_t i = 0; i < forest.nodes.size(); ++i) {
    Count& count = counts[forest.nodes[i].span->service];
    const bool now = forest.nodes[i].now;
    (now ? count.spans_now : count.spans_base) += 1;
    if (!surprised[i].is || below[i] || complains[i]) continue;
    (now ? count.now : count.base) += 1;
    if (now) ++count.pairs[{surprised[i].lacks, surprised[i].from, surprised[i].to}];
  }
  const auto words = [&](std::uint64_t event) -> std::string {
    if (event == kBegin) return "its beginning";
    if (event == kEnd) return "its end";
    const auto found = text.find(event);
    return found == text.end() ? "?" : fmt::format("\"{}\"", found->second.substr(0, 70));
  };
  Signal amount = make_signal(c, "traces.event_order", Modality::Traces, "code");
  Signal share = make_signal(c, "traces.event_share", Modality::Traces, "code");
  // As many surprises as healthy requests had.
  const auto expected = [](const Count& count) { return count.spans_now * (count.base + 0.5) / (count.spans_base + 1); };
  double total = 0;
  for (auto& [service, count] : counts) {
    count.now = std::max(0.0, count.now - expected(count));
    total += count.now;
  }
  for (const auto& [service, count] : counts) {
    if (count.now < 1) continue;
    const auto most = std::ranges::max_element(count.pairs, {}, [](const auto& entry) { return entry.second; });
    const auto& [lacks, from, to] = most->first;
    const std::string reason = lacks ? fmt::format("in {} requests {} is missing, which is always there in healthy ones", most->second, words(from))
                                     : fmt::format("in {} requests {} was followed by {}, which it is not in healthy ones", most->second, words(from), words(to));
    raise(amount, c, service, std::log1p(count.now / std::sqrt(expected(count) + 1)), reason, c.onset_ns);
    raise(share, c, service, count.now / total, reason, c.onset_ns);
  }
  out.push_back(std::move(amount));
  out.push_back(std::move(share));
}

}  // namespace culprit::explain
