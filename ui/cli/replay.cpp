// culprit replay: ranks an exported incident, or one that others recorded, here, with this program's knowledge.
#include "daemon/explain/replay.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/explain/json.h"
#include "daemon/explain/learn/answer.h"
#include "daemon/explain/recorded/read_case.h"
#include "ui/cli/graph_knowledge.h"
#include "ui/cli/knowledge_library.h"
#include "ui/cli/offline.h"
#include "ui/cli/render.h"

namespace culprit::cli {
namespace {

struct ReplayOptions {
  std::vector<std::string> paths;
  std::string cases;
  std::string weights;
  bool all = false;
};

// The same fields as of a recorded case, from what is shown: services and the mode of the first cause.
Json with_ranking(Json document, const explain::Explanation& explanation) {
  Json ranking = Json::array();
  for (const explain::RankedCause& cause : explanation.candidates) {
    if (!cause.service.empty() && std::ranges::find(ranking, Json(cause.service)) == ranking.end()) ranking.push_back(cause.service);
  }
  document["case"] = fmt::format("incident {}", explanation.incident);
  document["ranking"] = std::move(ranking);
  document["ranking_commits"] = Json::array();
  document["fault_type"] = explanation.candidates.empty() ? "" : explanation.candidates.front().failure_mode;
  return document;
}

Result<Exit> replay_export(const Session& session, const std::string& file, const explain::Model& weights, bool all) {
  ASSIGN(const std::string bytes, read_input(file));
  auto replayable = explain::import_incident(bytes);
  if (!replayable) return std::unexpected(replayable.error().context(fmt::format("'{}'", file)));
  ASSIGN(const auto modes, load_modes(session));
  const GraphKnowledge knowledge(*modes);
  replayable->options.knowledge = &knowledge;
  replayable->options.weights = &weights;
  ASSIGN(const explain::Explanation explanation,
         explain::explain(*replayable->store, replayable->incident, replayable->options));
  return session.show_document(with_ranking(explain::to_json(explanation), explanation), [&](const Json& document, const Style& style) {
    return render_explanation(document, style, all);
  });
}

Result<Exit> replay(const Session& session, const ReplayOptions& options) {
  if (options.paths.empty() == options.cases.empty()) return fail(Code::Invalid, "give either what to replay or --cases");
  explain::Model model = explain::built_in_model();
  if (!options.weights.empty()) {
    ASSIGN(model, explain::load_model(input_path(options.weights)));
  }
  const auto one_line = [&](const explain::RecordedCase& one) {
    session.out << explain::to_json(explain::answer_case(one, model)).dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  };
  if (!options.cases.empty()) {
    TRY(explain::read_case_lines(options.cases, [&](explain::RecordedCase&& one) -> Result<void> {
      one_line(one);
      return {};
    }));
    return kAnswered;
  }
  std::error_code ignored;  // what cannot be seen is no directory, and says so when it is opened
  if (options.paths.size() == 1 && !std::filesystem::is_directory(options.paths.front(), ignored)) {
    return replay_export(session, options.paths.front(), model, options.all);
  }
  for (const std::string& path : options.paths) {
    ASSIGN(const explain::RecordedCase one, explain::read_case(path));
    if (options.paths.size() > 1) {
      one_line(one);
      continue;
    }
    return session.show_document(explain::to_json(explain::answer_case(one, model)), [&](const Json& document, const Style& style) {
      return render_explanation(document, style, options.all);
    });
  }
  return kAnswered;
}

}  // namespace

void add_replay(CLI::App& app, Session& session) {
  const auto options = std::make_shared<ReplayOptions>();  // shared by the option bindings and the callback
  app.add_option("PATH", options->paths, "An exported incident (- is standard input), or directories of recorded cases");
  app.add_option("--cases", options->cases, "A file with one recorded case a line, plain or gzip: one line of JSON each")
      ->type_name("FILE");
  app.add_option("--weights", options->weights, "Weights of `culprit learn`, instead of the built-in ones")
      ->type_name("FILE");
  app.add_flag("--all", options->all, "All causes and all evidence, not only the first");
  app.callback([&session, options] { session.run = [&session, options] { return replay(session, *options); }; });
}

}  // namespace culprit::cli
