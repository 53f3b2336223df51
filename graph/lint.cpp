#include "graph/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace culprit::graph {
namespace {

constexpr std::size_t kSymptomsLeast = 2;
constexpr std::size_t kCausesLeast = 2;
constexpr std::size_t kParaphrasesLeast = 3;
constexpr double kTellTale = 0.7;
constexpr double kChecked = 0.9;      // such confidence needs a source that can be looked up
constexpr double kPriorSumMost = 1.005;

}  // namespace

std::vector<LintFinding> lint(const Knowledge& known) {
  std::vector<LintFinding> findings;
  std::unordered_map<std::string_view, const FailureMode*> said;
  for (const Pack& pack : known.packs()) {
    for (const FailureMode& mode : pack.modes) {
      const auto find = [&](std::string what) { findings.push_back({&mode, std::move(what)}); };
      if (mode.symptoms.size() < kSymptomsLeast) find(fmt::format("{} symptoms, at least {} are asked for", mode.symptoms.size(), kSymptomsLeast));
      if (std::ranges::none_of(mode.symptoms, [](const Symptom& s) { return s.weight >= kTellTale; })) {
        find(fmt::format("no tell-tale: a symptom with a literal, regex or condition of weight >= {}", kTellTale));
      }
      if (mode.causes.size() < kCausesLeast) find(fmt::format("{} causes, at least {} are asked for", mode.causes.size(), kCausesLeast));
      double priors = 0;
      for (const Cause& cause : mode.causes) {
        if (cause.prior <= 0) find(fmt::format("cause '{}' has no prior", cause.id));
        priors += cause.prior;
      }
      if (priors > kPriorSumMost) find(fmt::format("the priors of the causes add up to {:.2f}", priors));
      for (const char* kind : {"immediate", "lasting"}) {
        if (std::ranges::none_of(mode.mitigations, [&](const Mitigation& m) { return m.kind == kind; })) find(fmt::format("no {} mitigation", kind));
      }
      if (mode.paraphrases.size() < kParaphrasesLeast) find(fmt::format("{} paraphrases, at least {} are asked for", mode.paraphrases.size(), kParaphrasesLeast));
      for (const std::string& text : mode.paraphrases) {
        if (const auto [at, fresh] = said.try_emplace(text, &mode); !fresh) find(fmt::format("paraphrase '{}' is also one of {}", text, at->second->id));
      }
      if (mode.effect && known.causes_of(mode.id).empty()) find("it is an effect, and nothing brings it about: a `from` of its causes, or `causes_modes` of another mode");
      if (mode.sources.empty()) find("no source");
      const bool checked = std::ranges::any_of(mode.sources, [](const Source& s) { return s.kind == "manual" || s.kind == "source_code" || s.kind == "release_notes"; });
      const auto claim = [&](double confidence, std::string_view source, std::string_view what) {
        if (confidence < kChecked) return;
        if (!checked) find(fmt::format("{} claims confidence {} without a manual, source code or release notes as its source", what, confidence));
        if (source.empty()) find(fmt::format("{} claims confidence {} without a `source` of its own: where was it looked up?", what, confidence));
      };
      for (const VersionNote& note : mode.versions) claim(note.confidence, note.source, "version note '" + note.range + "'");
      for (const CloudNote& note : mode.cloud) claim(note.confidence, note.source, "cloud note '" + note.provider + "'");
      for (const ModeLink& link : mode.causes_modes) claim(link.confidence, link.source, "link to '" + link.to + "'");
    }
  }
  return findings;
}

}  // namespace culprit::graph
