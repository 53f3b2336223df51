// culprit policy check FILE...: known mistakes in configuration files.
#include "rules/policy.h"

#include <fmt/format.h>

#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

Result<std::shared_ptr<const rules::PolicySet>> load(const Session& session) {
  const std::filesystem::path folder = own_folder(session) / "policies";
  std::error_code ignored;  // a folder that cannot be seen counts as none
  if (std::filesystem::is_directory(folder, ignored)) return rules::PolicySet::load(folder);
  return rules::PolicySet::load(rules::built_in_policies());
}

std::string render_findings(const Json& document, const Style& style) {
  std::string out;
  for (const Json& row : list(document, "findings")) {
    const std::string severity = text(row, "severity");
    out += fmt::format("{}:{}: {}: {} [{}]\n", text(row, "file"), whole(row, "line"),
                       paint(style, severity == "error" ? Paint::Red : Paint::Yellow, severity),
                       text(row, "message"), text(row, "policy"));
    if (const std::string advice = text(row, "advice"); !advice.empty()) {
      for (const std::string& part : wrap(advice, style.width - 4)) out += "    " + part + "\n";
    }
  }
  return out + fmt::format("{} checked, {} findings\n", scalar(field(document, "files")),
                           list(document, "findings").size());
}

// Every file is checked, whatever is wrong with another one.
Result<Exit> check(const Session& session, const std::vector<std::string>& files) {
  ASSIGN(const auto policies, load(session));
  Json findings = Json::array();
  Json checked = Json::array();
  std::optional<Error> error;
  bool wrong = false;
  for (const std::string& file : files) {
    const auto found = rules::check_file(*policies, file);
    if (!found) {
      if (error) session.err << "culprit: " << error->message << "\n";
      error = found.error();
      continue;
    }
    checked.push_back(file);
    for (const rules::PolicyFinding& finding : *found) {
      wrong = wrong || finding.severity != rules::Severity::Info;
      findings.push_back({{"policy", finding.policy},
                          {"severity", rules::severity_name(finding.severity)},
                          {"file", finding.file},
                          {"line", finding.line},
                          {"message", finding.message},
                          {"advice", finding.advice}});
    }
  }
  if (!checked.empty())
    TRY(session.show_document({{"api", 1}, {"files", std::move(checked)}, {"findings", std::move(findings)}},
                              render_findings));
  if (error) return std::unexpected(*error);
  return session.exit_code && wrong ? kSomethingWrong : kAnswered;
}

Result<Exit> list_policies(const Session& session) {
  ASSIGN(const auto policies, load(session));
  Json rows = Json::array();
  for (const rules::PolicySet::Info& policy : policies->list()) {
    rows.push_back({{"policy", policy.id},
                    {"severity", rules::severity_name(policy.severity)},
                    {"summary", policy.summary},
                    {"advice", policy.advice},
                    {"source", policy.source}});
  }
  return session.show_document(
      {{"api", 1}, {"policies", std::move(rows)}}, [](const Json& document, const Style& style) {
        Table table({{"policy"}, {"severity"}, {"finds"}});
        for (const Json& row : list(document, "policies"))
          table.add({text(row, "policy"), text(row, "severity"), text(row, "summary")});
        return table.empty() ? std::string("no policies\n") : table.text(style, 0);
      });
}

}  // namespace

void add_policy(CLI::App& app, Session& session) {
  const auto files =
      std::make_shared<std::vector<std::string>>();  // shared by the option binding and the callback
  app.require_subcommand(1);
  CLI::App* checking = app.add_subcommand("check", "Report known mistakes with file:line and what to do");
  checking->fallthrough()->group("Commands");
  checking->add_option("FILE", *files, "nginx, postgresql, redis, ini, env, yaml or json configuration")
      ->required();
  checking->callback(
      [&session, files] { session.run = [&session, files] { return check(session, *files); }; });
  CLI::App* listing = app.add_subcommand("list", "All policies");
  listing->fallthrough()->group("Commands");
  listing->callback([&session] { session.run = [&session] { return list_policies(session); }; });
}

}  // namespace culprit::cli
