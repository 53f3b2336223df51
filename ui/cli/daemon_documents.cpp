// The commands that show one document of the daemon as it is: summary, services, status, doctor.
#include "ui/cli/command.h"
#include "ui/cli/render.h"

namespace culprit::cli {

Result<Exit> summary(const Session& session) {
  return session.show(session.client().get("/api/v1/summary"), render_summary,
                      [](const Json& document) { return text(document, "health") != "ok"; });
}

void add_services(CLI::App& app, Session& session) {
  app.callback([&session] {
    session.run = [&session] {
      return session.show(session.client().get("/api/v1/services"), render_services);
    };
  });
}

void add_status(CLI::App& app, Session& session) {
  const auto part = std::make_shared<std::string>();  // shared by the option binding and the callback
  app.add_option("PART", *part, "Only this part of it")->check(CLI::IsMember({"channels"}));
  app.callback([&session, part] {
    session.run = [&session, part] {
      return session.show(session.client().get("/api/v1/status"),
                          *part == "channels" ? render_channels : render_status);
    };
  });
}

void add_doctor(CLI::App& app, Session& session) {
  app.callback([&session] {
    session.run = [&session] {
      return session.show(session.client().get("/api/v1/doctor"), render_doctor, [](const Json& document) {
        for (const Json& check : list(document, "checks")) {
          if (text(check, "state") == "fail") return true;
        }
        return false;
      });
    };
  });
}

}  // namespace culprit::cli
