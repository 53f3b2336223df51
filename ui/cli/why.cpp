// culprit why [SERVICE]: the question that everything else serves.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "ui/cli/command.h"
#include "ui/cli/document.h"
#include "ui/cli/render.h"
#include "ui/cli/when.h"

namespace culprit::cli {
namespace {

// Whom the question is about when nobody is named: the service of the open incident (of several the newest, and the others
// are told), else the only service that is watched.
Result<std::string> service_in_question(const Session& session) {
  ASSIGN(const std::string incidents, session.client().get("/api/v1/incidents"));
  ASSIGN(const Json document, parse_document(incidents));
  std::string service;
  std::vector<std::string> others;
  for (const Json& row : list(document, "incidents")) {
    if (text(row, "state") != "open") continue;
    if (service.empty()) {
      service = text(row, "service");
    } else {
      others.push_back(text(row, "service"));
    }
  }
  if (!others.empty()) session.err << fmt::format("culprit: this is about {}; also open: {}\n", service, fmt::join(others, ", "));
  if (!service.empty()) return service;
  ASSIGN(const std::string answer, session.client().get("/api/v1/services"));
  ASSIGN(const Json known, parse_document(answer));
  std::vector<std::string> names;
  for (const Json& row : list(known, "services")) {
    if (truth(row, "watched")) names.push_back(text(row, "service"));
  }
  if (names.size() == 1) return names.front();
  if (names.empty()) return fail(Code::NotFound, "no incident is open, and no service is watched; `culprit services` shows what is known");
  return fail(Code::NotFound, fmt::format("no incident is open; name a service: {}", fmt::join(names, ", ")));
}

}  // namespace

void add_why(CLI::App& app, Session& session) {
  struct Options {
    std::string service;
    std::string since = "5m";
    bool all = false;
  };
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  app.add_option("SERVICE", options->service, "As `culprit services` names it; else that of the open incident");
  app.add_option("--since", options->since, "Look at this much of the past")
      ->type_name("LENGTH")
      ->check(check_window)
      ->capture_default_str();
  app.add_flag("--all", options->all, "All causes and all evidence, not only the first");
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      ASSIGN(const std::int64_t since_ns, parse_window(options->since));
      std::string service = options->service;
      if (service.empty()) {
        ASSIGN(service, service_in_question(session));
      }
      const Json body = {{"service", service}, {"since_s", static_cast<double>(since_ns) / 1e9}};
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
