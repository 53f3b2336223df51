// culprit incidents [show N | export N FILE]
#include <fmt/format.h>

#include <fstream>

#include "ui/cli/command.h"
#include "ui/cli/render.h"

namespace culprit::cli {
namespace {

bool any_open(const Json& document) {
  for (const Json& row : list(document, "incidents")) {
    if (text(row, "state") == "open") return true;
  }
  return false;
}

Result<Exit> write_export(const Session& session, std::int64_t id, const std::string& file) {
  ASSIGN(const std::string body, session.client().get(fmt::format("/api/v1/incidents/{}/export", id)));
  if (file == "-") {
    session.out << body;
    return kAnswered;
  }
  std::ofstream stream(file, std::ios::binary | std::ios::trunc);
  stream << body;
  stream.close();
  if (!stream) return fail(Code::Io, fmt::format("write '{}': {}", file, std::strerror(errno)));
  session.err << fmt::format("incident {} written to '{}' ({} bytes): culprit replay {}\n", id, file,
                             body.size(), file);
  return kAnswered;
}

}  // namespace

void add_incidents(CLI::App& app, Session& session) {
  struct Options {
    std::int64_t id = 0;
    std::string file;
    bool all = false;
  };
  const auto options = std::make_shared<Options>();
  app.require_subcommand(0, 1);

  CLI::App* show = app.add_subcommand("show", "Causes and evidence of one incident, as last ranked");
  show->fallthrough()->group("Commands");
  show->add_option("N", options->id, "The incident's number")->required();
  show->add_flag("--all", options->all, "All causes and all evidence, not only the first");

  CLI::App* save =
      app.add_subcommand("export", "Write one incident with its evidence to a file for `culprit replay`");
  save->fallthrough()->group("Commands");
  save->add_option("N", options->id, "The incident's number")->required();
  save->add_option("FILE", options->file, "Where to; - is standard output")->required();

  app.callback([&session, options, show, save] {
    session.run = [&session, options, show, save]() -> Result<Exit> {
      if (save->parsed()) return write_export(session, options->id, options->file);
      if (show->parsed()) {
        return session.show(session.client().get(fmt::format("/api/v1/incidents/{}", options->id)),
                            [&](const Json& document, const Style& style) {
                              return render_explanation(document, style, options->all);
                            });
      }
      return session.show(session.client().get("/api/v1/incidents"), render_incidents, any_open);
    };
  });
}

}  // namespace culprit::cli
