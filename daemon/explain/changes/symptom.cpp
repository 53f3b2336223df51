#include "daemon/explain/changes/symptom.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "daemon/explain/changes/climb.h"
#include "daemon/explain/evidence/metric_family.h"
#include "daemon/explain/evidence/robust.h"
#include "daemon/logs/header.h"

namespace culprit::explain {

namespace {

constexpr std::uint8_t kWarn = 13;
constexpr std::uint8_t kError = 17;
constexpr std::size_t kTextMax = 200'000;

struct Outside {
  std::string_view words;
  double weight;
  std::string_view text;
};
// What no commit brings about.
constexpr std::array kOutside = std::to_array<Outside>({
    {"certificate has expired", 3.0, "a certificate ran out"},
    {"certificate expired", 2.5, "a certificate ran out"},
    {"noisy neighbor", 2.5, "a neighbour on the machine"},
    {"co-tenant", 2.5, "a neighbour on the machine"},
    {"cpu contended", 2.5, "a neighbour on the machine"},
    {"nodeundermemorypressure", 2.0, "the machine is short of memory"},
    {"memorypressure", 1.5, "the machine is short of memory"},
    {"no route to host", 1.5, "the network"},
    {"dns resolution", 1.5, "name resolution"},
    {"name resolution", 1.5, "name resolution"},
    {"availability zone", 2.0, "the provider"},
    {"hardware error", 2.5, "the hardware"},
    {"i/o error", 1.5, "the hardware"},
});

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

// "returned 503", not "took 503 ms".
bool has_server_status(std::string_view line) {  // in lower case
  constexpr std::array kUnits = std::to_array<std::string_view>({
      "ns", "us", "ms", "s", "sec", "second", "millisecond", "microsecond", "nanosecond", "m", "min", "minute", "h", "hour", "b", "byte",
      "kb", "mb", "gb", "kib", "mib", "gib", "%", "row", "item", "record", "request", "time"});
  for (const std::string_view code : {"500", "502", "503", "504"}) {
    for (auto at = line.find(code); at != std::string_view::npos; at = line.find(code, at + 1)) {
      const bool begins = at > 0 && std::string_view(" =:(\"").contains(line[at - 1]);
      std::string_view behind = line.substr(at + code.size());
      if (!begins || (!behind.empty() && (behind[0] == '.' || behind[0] == '_' || (behind[0] >= '0' && behind[0] <= '9')))) continue;
      behind.remove_prefix(std::min(behind.size(), behind.find_first_not_of(' ')));
      std::string_view word = behind.starts_with('%') ? behind.substr(0, 1) : behind.substr(0, behind.find_first_not_of("abcdefghijklmnopqrstuvwxyz"));
      if (word.size() > 2 && word.ends_with('s')) word.remove_suffix(1);
      if (std::ranges::find(kUnits, word) == kUnits.end()) return true;
    }
  }
  return false;
}

// "POST https://api.example.com/v1/x returned 503": somebody else's server failed.
bool foreign_failure(std::string_view line) {  // in lower case
  const auto at = line.find("https://");
  if (at == std::string_view::npos) return false;
  const std::string_view host = line.substr(at + 8, line.substr(at + 8).find_first_of(":/ \""));
  const bool own = host.find('.') == std::string_view::npos || host.ends_with(".svc") || host.ends_with(".local") || host.ends_with(".internal");
  if (own) return false;
  for (const std::string_view sign : {"deadline", "timed out", "timeout", "unavailable"}) {
    if (line.find(sign) != std::string_view::npos) return true;
  }
  return has_server_status(line.substr(at));
}

// Since when there are more errors than before: of the two rates of a Poisson process that changes once, where the errors fit them best
// (likelihood ratio). Few errors in all, or a steady trickle, begin with the first.
std::int64_t onset_of_errors(std::vector<std::int64_t> times_ns, std::int64_t from_ns, std::int64_t until_ns) {
  std::erase_if(times_ns, [&](std::int64_t time_ns) { return time_ns > until_ns; });
  if (times_ns.empty()) return 0;
  std::ranges::sort(times_ns);
  from_ns = std::min(from_ns, times_ns.front());
  const auto count = static_cast<double>(times_ns.size());
  const double all_s = static_cast<double>(until_ns - from_ns) / 1e9 + 1;
  const auto fit = [](double errors, double seconds) { return errors > 0 ? errors * std::log(errors / seconds) : 0; };
  std::size_t best = 0;
  double most = fit(count, all_s) + std::log(count + 1);  // what a change has to beat: it has two numbers more (Schwarz, 1978)
  for (std::size_t i = 1; i < times_ns.size(); ++i) {
    const double before_s = static_cast<double>(times_ns[i] - from_ns) / 1e9 + 1, after_s = all_s - before_s + 1;
    const auto before = static_cast<double>(i), after = count - before;
    if (after / after_s <= before / before_s) continue;
    if (const double fits = fit(before, before_s) + fit(after, after_s); fits > most) most = fits, best = i;
  }
  const double first_s = static_cast<double>(times_ns.front() - from_ns) / 1e9 + 1;
  return fit(count, all_s - first_s + 1) >= most ? times_ns.front() : times_ns[best];  // quiet, and then errors
}

// Since when the noticed series has been away from its past without a break.
std::int64_t onset_of_metric(const RecordedCase& c, std::int64_t alert_ns) {
  for (const MetricColumn& column : c.metrics.columns) {
    if (column.service != c.fired.service || column.name != c.fired.metric) continue;
    std::vector<double> past;
    const std::size_t rows = column.values.size();
    for (std::size_t i = 0; i < rows / 3; ++i) {
      if (std::isfinite(column.values[i])) past.push_back(column.values[i]);
    }
    if (past.size() < 3) return 0;
    const Center center = center_of(past);
    const double bar = 6 * (center.spread + 0.02 * std::fabs(center.median) + 1e-9);
    std::int64_t onset = 0;
    for (std::size_t i = rows; i-- > 0;) {
      if (c.metrics.times_ns[i] > alert_ns || !std::isfinite(column.values[i])) continue;  // a sample that is missing says nothing
      if (!(std::fabs(column.values[i] - center.median) > bar)) break;
      onset = c.metrics.times_ns[i];
    }
    return onset;
  }
  return 0;
}

// What fills up is noticed when it is full, long after what made it fill: since when, if the symptom speaks of such a thing. 0 = it does not.
std::int64_t onset_of_climb(const RecordedCase& c, const SymptomWords& symptom, std::int64_t alert_ns) {
  static constexpr std::array<std::string_view, 8> kFills = {"oom", "memory", "heap", "rss", "disk", "no space", "volume", "storage"};
  if (std::ranges::none_of(kFills, [&](std::string_view sign) { return speaks_of(symptom, sign); })) return 0;
  std::int64_t onset = 0;
  for (const MetricColumn& column : c.metrics.columns) {
    const Family family = family_of(column.name);
    if (column.service != c.fired.service || (family != Family::Memory && family != Family::Disk) || is_of_host(column.name)) continue;
    const std::int64_t since = climb_since(c.metrics.times_ns, column.values, alert_ns);
    if (since != 0 && (onset == 0 || since < onset)) onset = since;
  }
  return onset;
}

}  // namespace

bool speaks_of(const SymptomWords& symptom, std::string_view sign) {
  if (sign.empty()) return false;
  const bool digits = sign[0] >= '0' && sign[0] <= '9';
  if (!digits && sign.find(' ') == std::string_view::npos) {
    const auto word = symptom.words.lower_bound(sign);
    return word != symptom.words.end() && word->first.starts_with(sign);
  }
  const auto in_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (auto at = symptom.text.find(sign); at != std::string::npos; at = symptom.text.find(sign, at + 1)) {
    const auto end = at + sign.size();
    if ((at == 0 || !in_word(symptom.text[at - 1])) && (end == symptom.text.size() || !in_word(symptom.text[end]))) return true;
  }
  return false;
}

SymptomWords symptom_of(const RecordedCase& c) {
  SymptomWords out;
  const std::int64_t alert_ns = c.fired.time_ns != 0 ? c.fired.time_ns : c.onset_ns;
  const auto take = [&](std::string_view text, double weight) {
    add_words(out.words, text, weight);
    if (out.text.size() < kTextMax) out.text += lower(text) + "\n";
  };
  take(c.fired.metric, 2);
  take(c.fired.text, 2);
  const auto show = [&](ServiceId service, double how_much) {
    if (service != kNoService) out.services[service] = std::max(out.services[service], how_much);
  };
  show(c.fired.service, 1);
  Bag healthy;
  std::vector<std::int64_t> errors_ns;
  std::int64_t first_line_ns = alert_ns;
  std::map<std::string, double> foreign;
  double complaints = 0, complaints_outside = 0;  // of the service that was noticed
  for (const RecordedLog& line : c.logs) {
    std::uint8_t severity = line.level.empty() ? logs::severity_of(line.text) : logs::severity_of_level(line.level);
    if (severity == stream::kUnset) severity = 9;
    first_line_ns = std::min(first_line_ns, line.time_ns);
    if (severity < kWarn) {
      add_words(healthy, line.text, 1);
      continue;
    }
    take(line.text, severity >= kError ? 1.6 : 1.2);
    if (severity >= kError) errors_ns.push_back(line.time_ns);
    show(line.service, severity >= kError ? 0.7 : 0.4);
    const std::string text = lower(line.text);
    bool outside = foreign_failure(text);
    if (outside) ++foreign[text];
    for (const Outside& sign : kOutside) {
      if (text.find(sign.words) == std::string::npos) continue;
      outside = true;
      if (sign.weight <= out.outside) continue;
      out.outside = sign.weight;
      out.outside_text = sign.text;
    }
    if (line.service == c.fired.service) complaints += 1, complaints_outside += outside ? 1 : 0;
  }
  double foreign_lines = 0;
  for (const auto& [text, count] : foreign) foreign_lines += count;
  if (foreign_lines >= 3 && out.outside < 2.5) {
    out.outside = 2.5;
    out.outside_text = "a server of somebody else fails";
  }
  if (complaints > 0) out.outside *= 1 + complaints_outside / complaints;  // all that it complains of, or one line of many
  for (const RecordedSpan& span : c.spans) {
    if (!span.failed) continue;
    take(c.words[span.operation], 1.2);
    take(c.words[span.error], 1.6);
    show(span.service, 0.6);
  }
  for (auto& [word, weight] : out.words) {
    if (healthy.contains(word)) weight *= 0.5;
  }
  const std::int64_t metric_ns = onset_of_metric(c, alert_ns), errors_since_ns = onset_of_errors(std::move(errors_ns), first_line_ns, alert_ns);
  out.onset_ns = metric_ns != 0 && errors_since_ns != 0 ? std::min(metric_ns, errors_since_ns) : metric_ns != 0 ? metric_ns : errors_since_ns;
  if (out.onset_ns == 0 || out.onset_ns > alert_ns) out.onset_ns = alert_ns;
  if (const std::int64_t climb_ns = onset_of_climb(c, out, alert_ns); climb_ns != 0) out.onset_ns = std::min(out.onset_ns, climb_ns);
  return out;
}

}  // namespace culprit::explain
