// GraphKnowledge: the knowledge graph behind explain's seam, as the daemon puts it there; for what ranks without one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "daemon/explain/knowledge.h"
#include "daemon/recall/recall.h"

namespace culprit::cli {

class GraphKnowledge final : public explain::Knowledge {
 public:
  explicit GraphKnowledge(const recall::Modes& modes) : modes_(modes) {}
  std::vector<explain::ModeMatch> match(std::string_view line, std::string_view program) const override {
    std::vector<explain::ModeMatch> matches;
    for (const graph::Match& match : modes_.recognise(line, program)) {
      matches.push_back({std::string(match.failure_mode()), std::string(match.middleware()),
                         std::string(match.name()), match.weight});
    }
    return matches;
  }
  std::vector<std::string> mitigations(std::string_view mode_id) const override {
    return modes_.remedies(mode_id);
  }
  bool is_effect(std::span<const std::string_view> names) const override { return modes_.is_effect(names); }
  bool brings_about(std::span<const std::string_view> cause, std::span<const std::string_view> effect) const override { return modes_.brings_about(cause, effect); }

 private:
  const recall::Modes& modes_;  // outlives the ranking
};

}  // namespace culprit::cli
