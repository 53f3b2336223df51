// New, vanished and shifted log templates of each service.
//
// Rarity weighs a template: one that every service or every minute prints says little (the inverse document frequency of
// Log3C and LogCluster; Lin et al., ICSE-SEIP 2016, eq. 1). The shift is a log-likelihood ratio of its rate now against the
// healthy rate (Dunning, 1993), for lines by severity, less the same change at a callee. Complaints about others (complaints.h) do not count.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>

#include "daemon/explain/evidence/complaints.h"
#include "daemon/explain/evidence/rate_shift.h"
#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/evidence/templates.h"

namespace culprit::explain {

namespace {

constexpr std::uint8_t kWarn = 13;
constexpr std::uint8_t kError = 17;

// What a service calls may be why its own lines changed (explaining away: Pearl, Probabilistic Reasoning, 1988, section 2.3): of a change, only
// what is more than the same change at a callee is its own.
void explain_away(const RecordedCase& c, std::initializer_list<Signal*> signals) {
  const auto calls = c.all_calls();
  for (Signal* signal : signals) {
    const std::vector<double> was = signal->value;
    for (const auto& [caller, callee] : calls) {
      const std::int32_t above = c.candidate(caller), below = c.candidate(callee);
      if (above < 0 || below < 0 || above == below) continue;
      const auto at = static_cast<std::size_t>(above), from = static_cast<std::size_t>(below);
      signal->value[at] = std::min(signal->value[at], std::max(0.0, was[at] - was[from]));
    }
  }
}

}  // namespace

void log_news(const RecordedCase& c, const CaseTemplates& templates, const Complaints& complaints, Signals& out) {
  if (c.logs.empty()) return;
  struct Count {
    double base = 0, now = 0;
    std::int64_t first_ns = 0;
  };
  std::map<std::uint64_t, Count> counts;
  double base_lines = 0, now_lines = 0;
  for (std::size_t i = 0; i < templates.reference.size(); ++i) {
    if (complaints.reference[i] != kNoService) continue;
    ++counts[templates.reference[i]].base;
    ++base_lines;
  }
  for (std::size_t i = 0; i < c.logs.size(); ++i) {
    if (complaints.now[i] != kNoService) continue;
    Count& count = counts[templates.now[i]];
    const bool now = c.logs[i].time_ns >= c.onset_ns;
    (now ? count.now : count.base) += 1;
    (now ? now_lines : base_lines) += 1;
    if (now && count.first_ns == 0) count.first_ns = c.logs[i].time_ns;
  }
  if (base_lines < 10 || now_lines < 3) return;
  // Against the service's own volume: a busier minute is no news, nor is a quieter one.
  std::map<ServiceId, std::pair<double, double>> volume;
  for (const auto& [id, count] : counts) {
    auto& [base, now] = volume[templates.entries.at(id).service];
    base += count.base, now += count.now;
  }
  Signal fresh = make_signal(c, "logs.new", Modality::Logs, "exception");
  Signal gone = make_signal(c, "logs.vanished", Modality::Logs, "return");
  Signal bad = make_signal(c, "logs.errors", Modality::Logs, "exception");
  for (const auto& [id, count] : counts) {
    const CaseTemplates::Entry& entry = templates.entries.at(id);
    const auto& [base, now] = volume.at(entry.service);
    const double score = rate_shift(count.now, now + 1, count.base, base + 1);
    const double severity = entry.severity >= kError ? 1.5 : entry.severity >= kWarn ? 1.2 : 1;
    if (count.base == 0 && count.now > 0 && base > 0) {
      raise(fresh, c, entry.service, severity * std::log1p(score), fmt::format("{:.0f} lines of a new kind: {}", count.now, entry.text), count.first_ns);
    } else if (score < -2 && entry.severity < kWarn && count.now <= 0.3 * count.base * now / std::max(1.0, base)) {
      raise(gone, c, entry.service, std::log1p(-score), fmt::format("a usual line stopped: {}", entry.text), c.onset_ns);
    }
    if (entry.severity >= kError && score > 1) {
      raise(bad, c, entry.service, std::log1p(score), fmt::format("{:.0f} errors (normal {:.1f}): {}", count.now, count.base * now_lines / base_lines, entry.text), count.first_ns);
    }
  }
  explain_away(c, {&fresh, &gone, &bad});
  out.push_back(std::move(fresh));
  out.push_back(std::move(gone));
  out.push_back(std::move(bad));
}

}  // namespace culprit::explain
