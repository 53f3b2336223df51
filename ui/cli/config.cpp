// culprit config [--file FILE]: what is in force, or what a file would put in force.
#include "daemon/base/config.h"

#include "ui/cli/command.h"
#include "ui/cli/render.h"

namespace culprit::cli {
namespace {

Result<Exit> check_file(const Session& session, const std::string& file) {
  ASSIGN(const Config config, Config::load(file));
  TRY(config.check());
  Json values = Json::array();
  for (const Config::Row& row : config.rows())
    values.push_back({{"key", row.key}, {"value", row.value}, {"origin", row.origin}, {"text", row.help}});
  return session.show_document({{"api", 1}, {"values", std::move(values)}}, render_config);
}

}  // namespace

void add_config(CLI::App& app, Session& session) {
  const auto file = std::make_shared<std::string>();  // shared by the option binding and the callback
  app.add_option("--file", *file, "Check this file instead of asking the daemon")->type_name("FILE");
  app.callback([&session, file] {
    session.run = [&session, file]() -> Result<Exit> {
      if (!file->empty()) return check_file(session, *file);
      return session.show(session.client().get("/api/v1/config"), render_config);
    };
  });
}

}  // namespace culprit::cli
