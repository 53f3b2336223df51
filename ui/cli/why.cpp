// culprit why SERVICE: the question that everything else serves.
#include "ui/cli/command.h"
#include "ui/cli/render.h"
#include "ui/cli/when.h"

namespace culprit::cli {

void add_why(CLI::App& app, Session& session) {
  struct Options {
    std::string service;
    std::string since = "5m";
    bool all = false;
  };
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  app.add_option("SERVICE", options->service, "As `culprit services` names it")->required();
  app.add_option("--since", options->since, "Look at this much of the past")
      ->type_name("LENGTH")
      ->check(check_window)
      ->capture_default_str();
  app.add_flag("--all", options->all, "All causes and all evidence, not only the first");
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      ASSIGN(const std::int64_t since_ns, parse_window(options->since));
      const Json body = {{"service", options->service}, {"since_s", static_cast<double>(since_ns) / 1e9}};
      return session.show(
          session.client().post("/api/v1/why", body),
          [&](const Json& document, const Style& style) {
            return render_explanation(document, style, options->all);
          },
          [](const Json& document) { return text(document, "verdict") != "healthy"; });
    };
  });
}

}  // namespace culprit::cli
