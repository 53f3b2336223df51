#include "daemon/explain/blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "daemon/explain/evidence/signal.h"
#include "daemon/explain/learn/model.h"
#include "daemon/explain/live_case.h"

namespace culprit::explain {

namespace {

constexpr double kTold = 0.1;           // log-odds below which it is not worth a line
constexpr std::size_t kReasons = 2;     // in a line

struct Say {
  double weight = 0;
  std::string text;
  std::vector<std::string> sources;
  std::int64_t since_ns = 0;
};

// The strongest reasons of what speaks for a candidate.
void give_reasons(const Model& model, const Signals& signals, const Features& features, std::size_t at, Say& say) {
  std::vector<std::pair<double, const Signal*>> strongest;
  const auto parts = parts_of(model, features);
  for (const Signal& signal : signals) {
    double part = 0;
    for (const std::string_view ending : {"", " of best", " lead"}) {
      const auto found = parts.find(fmt::format("{}{}", signal.name, ending));
      if (found != parts.end()) part += found->second;
    }
    if (part > 0 && !signal.reason[at].empty()) strongest.emplace_back(part, &signal);
  }
  std::ranges::stable_sort(strongest, [](const auto& a, const auto& b) { return a.first > b.first; });
  // Two signals of one finding (how much, and which share of all) give one reason.
  for (auto each = strongest.begin(); each != strongest.end();) {
    const bool told = std::any_of(strongest.begin(), each, [&](const auto& before) { return before.second->reason[at] == each->second->reason[at]; });
    each = told ? strongest.erase(each) : std::next(each);
  }
  if (strongest.size() > kReasons) strongest.resize(kReasons);
  for (const auto& [part, signal] : strongest) {
    say.text += fmt::format("{}{}", say.text.empty() ? "" : "; ", short_line(signal->reason[at], 100));
    const std::string source(name_of(signal->modality));
    if (std::ranges::find(say.sources, source) == say.sources.end()) say.sources.push_back(source);
    if (signal->since_ns[at] != 0 && (say.since_ns == 0 || signal->since_ns[at] < say.since_ns)) say.since_ns = signal->since_ns[at];
  }
}

}  // namespace

Result<void> weigh_blocks(const stream::EventStore& store, const Scene& scene, Drafts& drafts) {
  if (drafts.empty()) return {};
  ASSIGN(const RecordedCase live, live_case(store, scene));
  if (live.candidates.size() < 2) return {};  // nobody to compare with
  const Model& model = scene.options().weights != nullptr ? *scene.options().weights : built_in_model();
  const Signals signals = all_signals(live);
  const std::vector<Features> features = features_of(live, signals, model.habits);
  const Judgement judgement = judge(model, features);
  const std::string& first = live.name(live.candidates[judgement.order.front()]);
  const auto n = static_cast<double>(judgement.chance.size());
  for (Draft& draft : drafts) {
    const ServiceId service = live.service(draft.service);
    const std::int32_t place = live.candidate(service);
    if (place < 0) continue;
    const auto at = static_cast<std::size_t>(place);
    Say say;
    // By the chance of any, and saturating: certainty about made-up features is not certainty about a host.
    say.weight = weight::kBlocks * std::tanh(std::log(std::max(1e-9, judgement.chance[at] * n)) / 2);
    if (say.weight > 0) give_reasons(model, signals, features[at], at, say);
    if (say.weight < 0) say.text = fmt::format("by the learned weights {} stands out more", first), say.sources = {"metrics, traces and logs"};
    if (std::fabs(say.weight) < kTold || say.text.empty()) continue;
    draft.add(say.weight, say.since_ns != 0 ? say.since_ns : scene.onset_ns(), std::move(say.text), std::move(say.sources));
  }
  return {};
}

double log_odds_of(const Verdicts& said) { return log_odds_after(said, weight::kVerdicts); }

void weigh_verdicts(const Scene& scene, Drafts& drafts) {
  for (Draft& draft : drafts) {
    const auto said = scene.options().verdicts.find(draft.mode);
    if (draft.judged || said == scene.options().verdicts.end()) continue;
    const Verdicts& verdicts = said->second;
    const double log_odds = log_odds_of(verdicts);
    if (std::fabs(log_odds) < kTold) continue;
    draft.add(log_odds, scene.onset_ns(), fmt::format("of {} earlier answers of this kind {} were confirmed, {} partly, {} rejected", verdicts.all(), verdicts.right, verdicts.partly, verdicts.wrong),
              {"feedback"});
  }
}

}  // namespace culprit::explain
