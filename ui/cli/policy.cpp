// culprit policy check|test|list: known mistakes in configuration files.
#include "rules/policy.h"

#include <fmt/format.h>

#include <algorithm>

#include "rules/report.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string pack, format = "text", least = "info";
  bool fix_hint = false, schema = false;
};

Result<std::shared_ptr<const rules::PolicySet>> load(const Session& session) {
  const std::filesystem::path folder = own_folder(session) / "policies";
  std::error_code ignored;  // a folder that cannot be seen counts as none
  if (std::filesystem::is_directory(folder, ignored)) return rules::PolicySet::load(folder);
  return rules::PolicySet::load(rules::built_in_policies());
}

std::string render_findings(const Json& document, const Style& style, bool fix_hint) {
  std::string out;
  for (const Json& row : list(document, "findings")) {
    const std::string severity = text(row, "severity");
    out += fmt::format("{}:{}: {}: {} [{}]\n", text(row, "file"), whole(row, "line"),
                       paint(style, severity == "error" ? Paint::Red : Paint::Yellow, severity),
                       text(row, "message"), text(row, "policy"));
    for (const char* key : {"why", "advice"}) {
      if (const std::string said = text(row, key); !said.empty()) {
        for (const std::string& part : wrap(said, style.width - 4)) out += "    " + part + "\n";
      }
    }
    if (const Json& fix = field(row, "fix"); fix_hint && fix.is_string()) {
      std::string_view rest = fix.get_ref<const std::string&>();
      while (!rest.empty()) {
        const auto end = std::min(rest.find('\n'), rest.size());
        out += "    + " + std::string(rest.substr(0, end)) + "\n";
        rest.remove_prefix(std::min(end + 1, rest.size()));
      }
    }
  }
  const std::size_t unreadable = list(document, "unreadable").size();
  return out + fmt::format("{} checked, {} findings{}\n", list(document, "files").size(), list(document, "findings").size(), unreadable == 0 ? "" : fmt::format(", {} unreadable", unreadable));
}

// Every file is checked, whatever is wrong with another one; the worst of them decides the exit code.
Result<Exit> check(const Session& session, const Options& options) {
  ASSIGN(const auto policies, load(session));
  std::vector<std::string> checked;
  std::vector<rules::Issue> issues;
  Json findings = Json::array();
  std::vector<rules::Unreadable> unreadable;
  const auto complain = [&](const std::string& file, const Error& error) {
    session.err << "culprit: " << error.message << "\n";
    unreadable.push_back({file, error.message});
  };
  for (const std::string& given : options.files) {
    const auto files = rules::config_files(given);
    if (!files) {
      complain(given, files.error());
      continue;
    }
    for (const std::filesystem::path& file : *files) {
      const auto found = rules::check_file(*policies, file, options.pack);
      if (!found) {
        complain(file.string(), found.error());
        continue;
      }
      checked.push_back(file.string());
      for (const rules::PolicyFinding& finding : *found) {
        const std::string severity(rules::severity_name(finding.severity));
        if (finding.severity < (options.least == "error" ? rules::Severity::Error : options.least == "warning" ? rules::Severity::Warning : rules::Severity::Info)) continue;
        issues.push_back({finding.policy, severity, finding.file, finding.line, 0, finding.message, finding.advice});
        findings.push_back({{"policy", finding.policy}, {"severity", severity}, {"file", finding.file}, {"line", finding.line}, {"message", finding.message},
                            {"why", finding.why}, {"advice", finding.advice}, {"fix", finding.fix.empty() ? Json(nullptr) : Json(finding.fix)}});
      }
    }
  }
  if (options.format == "junit") {
    session.out << rules::junit("culprit policies", checked, issues, unreadable);
  } else if (options.format == "github") {
    session.out << rules::github(issues, unreadable);
  } else if (options.format == "sarif") {
    std::vector<rules::IssueKind> kinds;
    for (const rules::PolicySet::Info& policy : policies->list()) kinds.push_back({policy.id, policy.summary, policy.why + (policy.why.empty() ? "" : ". ") + policy.advice, std::string(rules::severity_name(policy.severity))});
    session.out << rules::sarif(CULPRIT_VERSION, kinds, issues, unreadable);
  } else {
    Json not_read = Json::array();
    for (const rules::Unreadable& file : unreadable) not_read.push_back({{"file", file.file}, {"message", file.message}});
    const Json document = {{"api", 1}, {"files", checked}, {"findings", std::move(findings)}, {"unreadable", std::move(not_read)}};
    if (options.format == "json") session.out << document.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    else TRY(session.show_document(document, [&options](const Json& shown, const Style& style) { return render_findings(shown, style, options.fix_hint); }));
  }
  return !unreadable.empty() ? kUnreadable : issues.empty() ? kAnswered : kViolations;
}

Result<Exit> test(const Session& session, const Options& options) {
  ASSIGN(const auto policies, load(session));
  const std::vector<rules::TestResult> results = policies->run_tests();
  const auto failed = std::ranges::count_if(results, &rules::TestResult::failed);
  if (options.format == "junit") {
    session.out << rules::junit("culprit policies", results);
    return failed > 0 ? kBadInput : kAnswered;
  }
  Json rows = Json::array();
  for (const rules::TestResult& result : results) rows.push_back({{"policy", result.rule}, {"test", result.test}, {"origin", result.origin}, {"passed", result.passed}, {"message", result.message}});
  ASSIGN(const Exit shown, session.show_document({{"api", 1}, {"failed", failed}, {"tests", std::move(rows)}}, [](const Json& document, const Style&) {
    std::string out;
    for (const Json& row : list(document, "tests")) {
      if (!truth(row, "passed")) out += fmt::format("{}: policy '{}', test '{}': {}\n", text(row, "origin"), text(row, "policy"), text(row, "test"), text(row, "message"));
    }
    return out + fmt::format("{} tests, {} failed\n", list(document, "tests").size(), whole(document, "failed"));
  }));
  return failed > 0 ? kBadInput : shown;
}

Result<Exit> list_policies(const Session& session, const Options& options) {
  if (options.schema) {
    session.out << rules::schema_of("policy");
    return kAnswered;
  }
  ASSIGN(const auto policies, load(session));
  Json rows = Json::array();
  for (const rules::PolicySet::Info& policy : policies->list()) {
    if (!options.pack.empty() && policy.pack != options.pack) continue;
    rows.push_back({{"policy", policy.id}, {"pack", policy.pack}, {"severity", rules::severity_name(policy.severity)}, {"summary", policy.summary}, {"why", policy.why},
                    {"advice", policy.advice}, {"source", policy.source}, {"good", policy.good}, {"bad", policy.bad}});
  }
  return session.show_document(
      {{"api", 1}, {"policies", std::move(rows)}}, [](const Json& document, const Style& style) {
        Table table({{"policy"}, {"pack"}, {"severity"}, {"finds"}});
        for (const Json& row : list(document, "policies"))
          table.add({text(row, "policy"), text(row, "pack"), text(row, "severity"), text(row, "summary")});
        return table.empty() ? std::string("no policies\n") : table.text(style, 0);
      });
}

}  // namespace

void add_policy(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callbacks
  app.require_subcommand(1);
  const std::vector<std::string> packs(std::begin(rules::kPacks), std::end(rules::kPacks));
  const auto add = [&](const char* name, const char* summary, Result<Exit> (*run)(const Session&, const Options&)) {
    CLI::App* sub = app.add_subcommand(name, summary);
    sub->fallthrough()->group("Commands");
    sub->callback([&session, options, run] { session.run = [&session, options, run] { return run(session, *options); }; });
    return sub;
  };
  CLI::App* checking = add("check", "Report known mistakes with file:line and what to do", check);
  checking->add_option("FILE", options->files, "nginx, postgresql, redis, ini, env, yaml or json configuration, or a folder of them")->required();
  checking->add_option("--pack", options->pack, "Only the policies of one pack: " + packs.front() + ", ...")->check(CLI::IsMember(packs));
  checking->add_option("--format", options->format, "text, json, sarif, junit or github")->check(CLI::IsMember({"text", "json", "sarif", "junit", "github"}));
  checking->add_option("--severity", options->least, "The least that counts: info, warning or error")->check(CLI::IsMember({"info", "warning", "error"}));
  checking->add_flag("--fix-hint", options->fix_hint, "Show lines that mend each finding");
  CLI::App* testing = add("test", "Run the cases that policies carry", test);
  testing->add_option("--format", options->format, "text or junit")->check(CLI::IsMember({"text", "junit"}));
  CLI::App* listing = add("list", "All policies", list_policies);
  listing->add_option("--pack", options->pack, "Only one pack")->check(CLI::IsMember(packs));
  listing->add_flag("--schema", options->schema, "Print the JSON Schema of policies instead");
}

}  // namespace culprit::cli
