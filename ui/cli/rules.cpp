// culprit rules list|check|test
#include <fmt/format.h>

#include "rules/loader.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

// The rules of `path`, or without one the built-in rules and those of --state DIR, checked against the
// knowledge.
Result<std::shared_ptr<const rules::RuleSet>> load(const Session& session, const std::string& path) {
  ASSIGN(const auto known, load_knowledge(session));
  if (path.empty()) return rules::load_rules(own_folder(session) / "rules", known.get());
  ASSIGN(const std::vector<rules::RuleText> texts_of, rules::read_rules(path));
  return rules::load_rules(texts_of, known.get());
}

Json rows_of(const rules::RuleSet& set) {
  Json rows = Json::array();
  for (const rules::Rule& rule : set.rules()) {
    rows.push_back({{"rule", rule.id},
                    {"status", rules::status_name(rule.status)},
                    {"summary", rule.summary},
                    {"cause", rule.cause},
                    {"weight", rule.weight},
                    {"source", rule.source},
                    {"tests", rule.tests.size()},
                    {"origin", rule.origin}});
  }
  return rows;
}

Result<Exit> list_rules(const Session& session, const std::string& path) {
  ASSIGN(const auto set, load(session, path));
  return session.show_document(
      {{"api", 1}, {"rules", rows_of(*set)}}, [](const Json& document, const Style& style) {
        Table table({{"rule"}, {"status"}, {"cause"}, {"tests", Table::Align::Right}, {"summary"}});
        for (const Json& row : list(document, "rules"))
          table.add({text(row, "rule"), text(row, "status"), text(row, "cause"), whole(row, "tests"),
                     text(row, "summary")});
        return table.empty() ? std::string("no rules\n") : table.text(style, 0);
      });
}

Result<Exit> check(const Session& session, const std::string& path) {
  ASSIGN(const auto set, load(session, path));
  return session.show_document(
      {{"api", 1}, {"rules", rows_of(*set)}}, [](const Json& document, const Style&) {
        return fmt::format("{} rules are good (their own tests: culprit rules test)\n",
                           list(document, "rules").size());
      });
}

Result<Exit> test(const Session& session, const std::string& path) {
  ASSIGN(const auto set, load(session, path));
  Json rows = Json::array();
  std::size_t failed = 0;
  for (const rules::TestResult& result : rules::run_tests(*set)) {
    failed += result.passed ? 0 : 1;
    rows.push_back({{"rule", result.rule},
                    {"test", result.test},
                    {"origin", result.origin},
                    {"passed", result.passed},
                    {"message", result.message}});
  }
  ASSIGN(const Exit shown,
         session.show_document(
             {{"api", 1}, {"failed", failed}, {"tests", std::move(rows)}},
             [](const Json& document, const Style&) {
               std::string out;
               for (const Json& row : list(document, "tests")) {
                 if (!truth(row, "passed"))
                   out += fmt::format("{}: rule '{}', test '{}': {}\n", text(row, "origin"),
                                      text(row, "rule"), text(row, "test"), text(row, "message"));
               }
               return out + fmt::format("{} tests, {} failed\n", list(document, "tests").size(),
                                        whole(document, "failed"));
             }));
  return failed > 0 ? kBadInput : shown;
}

}  // namespace

void add_rules(CLI::App& app, Session& session) {
  const auto path = std::make_shared<std::string>();  // shared by the option bindings and the callbacks
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* summary,
                       Result<Exit> (*run)(const Session&, const std::string&)) {
    CLI::App* sub = app.add_subcommand(name, summary);
    sub->fallthrough()->group("Commands");
    sub->add_option("PATH", *path, "A file or folder; else the built-in rules and those of --state DIR");
    sub->callback(
        [&session, path, run] { session.run = [&session, path, run] { return run(session, *path); }; });
  };
  add("list", "All rules with their causes", list_rules);
  add("check", "Read rules and report every mistake with file:line", check);
  add("test", "Run the tests that rules carry", test);
}

}  // namespace culprit::cli
