#include "daemon/explain/learn/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "daemon/explain/changes/commits.h"
#include "daemon/explain/json.h"
#include "daemon/explain/learn/alert_reasons.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kCandidatesShown = 5;
constexpr std::size_t kEvidenceShown = 8;
constexpr double kConclusive = 0.40;  // as for live incidents: less is "inconclusive"

// A signal's features are one reason: "traces.span_gap", "traces.span_gap lead".
std::string_view signal_of(std::string_view feature) {
  for (const std::string_view ending : {" of best", " lead"}) {
    if (feature.ends_with(ending)) feature.remove_suffix(ending.size());
  }
  return feature;
}

// `rarest`: the candidate's most unusual alerts.
std::vector<Evidence> evidence_for(const RecordedCase& c, const Model& model, const Signals& signals, const Features& features, const std::string& rarest, std::size_t at) {
  std::map<std::string, double, std::less<>> parts;
  for (const auto& [feature, part] : parts_of(model, features)) parts[std::string(signal_of(feature))] += part;
  std::vector<Evidence> out;
  for (const auto& [name, part] : parts) {
    const bool raised = std::ranges::any_of(features, [&](const Feature& feature) { return feature.name == name && feature.value != 0; });
    Evidence item{c.onset_ns, reason_of_alerts(name, raised), {"alerts"}, std::round(part * 100) / 100, part > 0};
    if (name.starts_with("alerts all ") && !rarest.empty()) item.text += ": " + rarest;
    const auto signal = std::ranges::find(signals, name, &Signal::name);
    if (signal != signals.end()) {
      if (!signal->reason[at].empty()) item.text = signal->reason[at];
      if (signal->since_ns[at] != 0) item.time_ns = signal->since_ns[at];
      item.sources = {std::string(name_of(signal->modality))};
    }
    // Two signals of one finding (how much, and which share of all) are told once, with what both weigh.
    const auto same = std::ranges::find(out, item.text, &Evidence::text);
    if (same == out.end()) {
      out.push_back(std::move(item));
      continue;
    }
    same->weight = std::round((same->weight + item.weight) * 100) / 100;
    same->supports = same->weight > 0;
    same->time_ns = std::min(same->time_ns, item.time_ns);
  }
  std::erase_if(out, [](const Evidence& item) { return std::fabs(item.weight) < 0.05; });
  std::ranges::stable_sort(out, [](const Evidence& a, const Evidence& b) { return std::fabs(a.weight) > std::fabs(b.weight); });
  if (out.size() > kEvidenceShown) out.resize(kEvidenceShown);
  std::ranges::stable_sort(out, {}, &Evidence::time_ns);
  return out;
}

// What would tell more, by what is not there.
std::string what_to_collect(const RecordedCase& c, const Model& model) {
  std::vector<std::string> wishes;
  if (!c.alerts.empty()) {
    if (model.habits.cases == 0) wishes.emplace_back("other incidents of this system, to know which alerts are usual (culprit learn --unlabelled)");
    if (c.spans.empty() && c.logs.empty() && c.metrics.columns.empty()) wishes.emplace_back("the metrics, traces and logs beside the alerts");
  }
  if (c.spans.empty() && c.alerts.empty()) wishes.emplace_back("traces of the incident");
  if (!c.spans.empty() && c.reference_spans.empty()) wishes.emplace_back("traces of a healthy time");
  if (c.logs.empty() && c.alerts.empty()) wishes.emplace_back("the logs of the services");
  if (c.metrics.columns.empty() && c.alerts.empty()) wishes.emplace_back("metrics of the services");
  if (c.calls.empty() && c.spans.empty()) wishes.emplace_back("who calls whom");
  if (wishes.empty()) wishes.emplace_back("a longer healthy time to compare with");
  return fmt::format("no cause stands out; collect {}", fmt::join(wishes, "; "));
}

Completeness completeness_of(const RecordedCase& c) {
  Completeness out;
  std::uint64_t skipped = 0;
  for (const auto& [file, rows] : c.skipped) {
    out.dropped[file] = rows;
    skipped += rows;
  }
  const std::uint64_t read = c.spans.size() + c.logs.size() + c.metrics.times_ns.size() + c.alerts.size() + c.changes.size();
  out.share = read + skipped == 0 ? 0 : static_cast<double>(read) / static_cast<double>(read + skipped);
  if (c.alerts.empty()) {
    if (c.spans.empty()) out.blind.emplace_back("traces");
    if (c.logs.empty()) out.blind.emplace_back("logs");
    if (c.metrics.columns.empty()) out.blind.emplace_back("metrics");
  }
  if (skipped > 0) out.text = fmt::format("{} rows could not be read", skipped);
  return out;
}

std::string mode_of(const std::string& fault) {
  if (fault.empty()) return "application/unknown";
  std::string out = "application/";
  for (const char c : fault) out += c == ' ' || c == '_' ? '-' : c;
  return out;
}

}  // namespace

CaseAnswer answer_case(const RecordedCase& c, const Model& model) {
  CaseAnswer out;
  out.case_id = c.id;
  const Signals signals = all_signals(c);
  const std::vector<Features> features = features_of(c, signals, model.habits);
  const Judgement judgement = judge(model, features);
  for (const std::size_t at : judgement.order) out.ranking.push_back(c.name(c.candidates[at]));
  out.fault_type = judgement.fault;
  const std::vector<AlertWords> raised = alert_words_of(c);
  Explanation& explanation = out.explanation;
  explanation.service = c.fired.service != kNoService ? c.name(c.fired.service) : out.ranking.empty() ? "" : out.ranking.front();
  explanation.completeness = completeness_of(c);
  explanation.state = detect::IncidentState::Closed;
  for (const std::size_t at : judgement.order) {
    if (explanation.candidates.size() >= kCandidatesShown) break;
    RankedCause cause;
    cause.rank = static_cast<int>(explanation.candidates.size()) + 1;
    cause.service = c.name(c.candidates[at]);
    cause.entity = "service:" + cause.service;
    // The first one's chance is calibrated; the others share what is left, none of them more than the first.
    const double first = judgement.chance[judgement.order.front()];
    const double chance = cause.rank == 1 ? judgement.confidence : std::min(judgement.confidence, (1 - judgement.confidence) * judgement.chance[at] / std::max(1e-9, 1 - first));
    cause.confidence = std::round(100 * chance) / 100;
    cause.failure_mode = mode_of(cause.rank == 1 ? judgement.fault : "");
    cause.evidence = evidence_for(c, model, signals, features[at], rarest_alerts(raised[at], cause.service, model.habits), at);
    const auto best = std::ranges::max_element(cause.evidence, {}, &Evidence::weight);
    cause.title = best == cause.evidence.end() || best->weight <= 0 ? fmt::format("{}: nothing speaks for it", cause.service) : fmt::format("{}: {}", cause.service, best->text);
    explanation.candidates.push_back(std::move(cause));
  }
  out.ranking_commits = rank_commits(c, explanation);
  if (explanation.candidates.empty() || judgement.confidence < kConclusive) {
    explanation.verdict = Verdict::Inconclusive;
    explanation.inconclusive = what_to_collect(c, model);
  } else {
    explanation.verdict = Verdict::Explained;
  }
  explanation.headline = explanation.candidates.empty() ? fmt::format("case {}: no candidates", c.id) : fmt::format("case {}: {}", c.id, explanation.candidates.front().title);
  return out;
}

nlohmann::json to_json(const CaseAnswer& answer) {
  nlohmann::json out = to_json(answer.explanation);
  out["case"] = answer.case_id;
  out["ranking"] = answer.ranking;
  out["ranking_commits"] = answer.ranking_commits;
  out["fault_type"] = answer.fault_type;
  return out;
}

}  // namespace culprit::explain
