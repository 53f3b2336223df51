// culprit replay FILE: ranks an exported incident again, here, with this program's knowledge.
#include "daemon/explain/replay.h"

#include <fmt/format.h>

#include "daemon/explain/json.h"
#include "ui/cli/knowledge_library.h"
#include "ui/cli/offline.h"
#include "ui/cli/render.h"

namespace culprit::cli {
namespace {

constexpr std::size_t kMitigationsMax = 3;

// The knowledge graph behind explain's seam, as the daemon puts it there.
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
    std::vector<std::string> lines;
    const graph::FailureMode* mode = modes_.known().find(mode_id);
    if (mode == nullptr) return lines;
    for (const graph::Mitigation& mitigation : modes_.known().mitigations(mode->id)) {
      if (lines.size() == kMitigationsMax) break;
      lines.push_back(mitigation.command.empty()
                          ? mitigation.text
                          : fmt::format("{}: {}", mitigation.text, mitigation.command));
    }
    return lines;
  }

 private:
  const recall::Modes& modes_;  // outlives the ranking
};

}  // namespace

void add_replay(CLI::App& app, Session& session) {
  struct Options {
    std::string file;
    bool all = false;
  };
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  app.add_option("FILE", options->file, "What `culprit incidents export` wrote; - is standard input")
      ->required();
  app.add_flag("--all", options->all, "All causes and all evidence, not only the first");
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      ASSIGN(const std::string bytes, read_input(options->file));
      auto replayable = explain::import_incident(bytes);
      if (!replayable) return std::unexpected(replayable.error().context(fmt::format("'{}'", options->file)));
      ASSIGN(const auto modes, load_modes(session));
      const GraphKnowledge knowledge(*modes);
      replayable->options.knowledge = &knowledge;
      ASSIGN(const explain::Explanation explanation,
             explain::explain(*replayable->store, replayable->incident, replayable->options));
      return session.show_document(explain::to_json(explanation),
                                   [&](const Json& document, const Style& style) {
                                     return render_explanation(document, style, options->all);
                                   });
    };
  });
}

}  // namespace culprit::cli
