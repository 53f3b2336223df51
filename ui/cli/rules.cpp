// culprit rules list|show|new|check|test: rules as files, without a daemon.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "daemon/base/fd.h"
#include "daemon/base/text.h"
#include "rules/lint.h"
#include "rules/report.h"
#include "ui/cli/rules_files.h"

namespace culprit::cli {

Result<rules::RuleSetPtr> load_rule_files(const Session& session, const std::string& path) {
  ASSIGN(const auto known, load_knowledge(session));
  const rules::LoadOptions options{.knowledge = known.get()};
  if (path.empty()) return rules::load_rules(own_folder(session) / "rules", options);
  ASSIGN(const std::vector<rules::RuleText> texts_of, rules::read_rules(path));
  return rules::load_rules(texts_of, options);
}

Result<rules::RulePtr> find_rule(const rules::RuleSet& set, const std::string& id) {
  if (auto rule = set.find(id)) return rule;
  const std::vector<std::string> ids = set.ids();
  const std::vector<std::string> near = nearest(id, ids);
  return fail(Code::NotFound, fmt::format("no rule '{}'{} (culprit rules list)", id, near.empty() ? "" : fmt::format("; did you mean '{}'?", near.front())));
}

namespace {

struct Options {
  std::string path, rule, format = "text";
  bool strict = false, schema = false;
};

Json row_of(const rules::RuleSet& set, const rules::Rule& rule) {
  const std::string_view disabled = set.disabled(rule.id);
  return {{"rule", rule.id}, {"status", rules::status_name(rule.status)}, {"summary", rule.summary}, {"cause", rule.cause}, {"weight", rule.weight}, {"pinned", rule.pinned},
          {"source", rule.source}, {"tests", rule.tests.size()}, {"origin", rule.origin}, {"off", disabled.empty() ? Json(nullptr) : Json(disabled)}, {"cost", rules::estimated_cost(rule)}};
}

Json rows_of(const rules::RuleSet& set) {
  Json rows = Json::array();
  for (const auto& rule : set.rules()) rows.push_back(row_of(set, *rule));
  return rows;
}

// With a daemon that answers, its set in force and its state; else the files.
Result<Exit> list_rules(const Session& session, const Options& options) {
  Json document;
  if (options.path.empty()) {
    if (const auto answer = session.client().get("/api/v1/rules")) {
      if (auto parsed = parse_document(*answer)) document = std::move(*parsed);
    }
  }
  if (document.is_null()) {
    ASSIGN(const auto set, load_rule_files(session, options.path));
    document = {{"api", 1}, {"hash", set->hash()}, {"rules", rows_of(*set)}};
  }
  return session.show_document(document, [](const Json& shown, const Style& style) {
    Table table({{"rule"}, {"status"}, {"cause"}, {"tests", Table::Align::Right}, {"summary"}});
    for (const Json& row : list(shown, "rules")) {
      const std::string off = text(row, "off");
      table.add({text(row, "rule"), text(row, "status"), text(row, "cause"), whole(row, "tests"), text(row, "summary") + (off.empty() ? "" : fmt::format(" [off: {}]", off))});
    }
    std::string out = table.empty() ? std::string("no rules\n") : table.text(style, 0);
    if (const Json& reload = field(shown, "reload"); reload.is_object()) {
      if (const Json& error = field(reload, "error"); error.is_string()) out += fmt::format("the rules folder has a mistake; the last good set (hash {}) is in force:\n{}\n", text(shown, "hash"), error.get<std::string>());
      else out += fmt::format("in force: hash {}, {} reloads\n", text(shown, "hash"), whole(reload, "good"));
    }
    return out;
  });
}

Result<Exit> show_rule(const Session& session, const Options& options) {
  ASSIGN(const auto set, load_rule_files(session, options.path));
  ASSIGN(const auto rule, find_rule(*set, options.rule));
  Json items = Json::array();
  for (const rules::MatchItem& item : rule->match) {
    Json where = Json::array();
    for (const rules::AttributeMatch& match : item.where) where.push_back({{"attribute", match.attribute}, {"globs", match.globs}});
    const bool windowed = item.when != rules::When::Any;
    items.push_back({{"id", item.id}, {"kind", rules::kind_key(item.kind)}, {"name", item.name}, {"entity", item.entity}, {"text", item.text}, {"regex", item.regex}, {"filter", item.filter_text}, {"where", std::move(where)},
                     {"above", item.above ? Json(*item.above) : Json(nullptr)}, {"below", item.below ? Json(*item.below) : Json(nullptr)}, {"times_normal", item.times_normal ? Json(*item.times_normal) : Json(nullptr)}, {"optional", item.optional}, {"absent", item.absent},
                     {"same_entity", item.same_entity}, {"least", item.least}, {"weight", item.optional ? Json(item.weight) : Json(nullptr)}, {"within_s", static_cast<double>(item.within_ns) / 1e9},
                     {"when", !windowed ? Json(nullptr) : Json(item.when == rules::When::Before ? "before" : item.when == rules::When::After ? "after" : "around")}, {"of", rule->match[item.of].id}});
  }
  Json relations = Json::array();
  for (const rules::Join& join : rule->joins) relations.push_back(join.text);
  for (const rules::Path& path : rule->paths) relations.push_back(path.text);
  Json document = {{"api", 1}, {"rule", row_of(*set, *rule)}, {"match", std::move(items)}, {"relations", std::move(relations)}, {"blame", rule->blame}, {"explain", rule->explain},
                   {"next", rule->next}, {"false_positives", rule->false_positives}};
  return session.show_document(document, [](const Json& shown, const Style& style) {
    const Json& row = field(shown, "rule");
    std::string out = fmt::format("{} ({}): {}\n", paint(style, Paint::Bold, text(row, "rule")), text(row, "status"), text(row, "summary"));
    for (const Json& item : list(shown, "match")) {
      out += fmt::format("  {:<10} {}{} {}", text(item, "id"), truth(item, "absent") ? "no " : "", text(item, "kind"), text(item, "name"));
      for (const char* key : {"entity", "text", "regex", "filter"}) {
        if (const std::string value = text(item, key); !value.empty()) out += fmt::format("  {}: {}", key, value);
      }
      for (const Json& match : list(item, "where")) out += fmt::format("  {}: {}", text(match, "attribute"), fmt::join(texts(match, "globs"), " or "));
      for (const char* key : {"above", "below", "times_normal"}) {
        if (field(item, key).is_number()) out += fmt::format("  {} {}", key, scalar(field(item, key)));
      }
      if (number_or(item, "least", 1) > 1) out += fmt::format("  {} times", whole(item, "least"));
      if (truth(item, "same_entity")) out += "  same entity";
      if (const std::string when = text(item, "when"); !when.empty()) out += fmt::format("  within {} {} {}", format_seconds(number_or(item, "within_s", 0)), when, text(item, "of"));
      out += truth(item, "optional") ? fmt::format("  (optional, +{})\n", scalar(field(item, "weight"))) : "\n";
    }
    for (const std::string& relation : texts(shown, "relations")) out += "  " + relation + "\n";
    out += fmt::format("blames   {}\ncause    {} (weight {}{})\ntells    {}\n", text(shown, "blame"), text(row, "cause"), scalar(field(row, "weight")), truth(row, "pinned") ? ", pinned" : "", text(shown, "explain"));
    for (const std::string& next : texts(shown, "next")) out += fmt::format("next     {}\n", next);
    for (const std::string& wrong : texts(shown, "false_positives")) out += fmt::format("not when {}\n", wrong);
    return out + fmt::format("source   {}\ntests    {}\norigin   {}\n", text(row, "source"), whole(row, "tests"), text(row, "origin"));
  });
}

constexpr std::string_view kNewRule = R"(rule: @
status: sandbox             # sandbox | incubating | stable | deprecated; only stable rules are on
summary: One sentence that says what is wrong
match:                      # all must hold; the first is what the others are measured from
  - {id: slow, metric: request.duration.p99, entity: 'service:*', above: 0.5, least: 3}
  - {id: line, log: '', text: pool exhausted, within: 60s around slow}
blame: line.entity
cause: application/dependency-timeouts
weight: 1.0                 # log-odds; 2.3 = ten times as likely
explain: "{slow.entity} takes {slow.value:seconds} while {line.entity} says: {line.body}"
next:
  - culprit events --kind log
false_positives:
  - a load test
source: where you know it from
tests:
  - name: it happens
    events:
      - {metric: request.duration.p99, entity: service:shop, series: "20ms x10, 900ms x5"}
      - {at: 12s, log: '', entity: service:shop, body: 'ERROR pool exhausted'}
    expect: {cause: application/dependency-timeouts, blame: service:shop}
  - name: slow for another reason
    events:
      - {metric: request.duration.p99, entity: service:shop, series: "20ms x10, 900ms x5"}
    expect: none
  - name: the line long before
    events:
      - {at: 0s, log: '', entity: service:shop, body: 'ERROR pool exhausted'}
      - {at: 300s, metric: request.duration.p99, entity: service:shop, series: "900ms x5"}
    expect: none
)";

// Writes NAME.yaml here; never over a file that is there.
Result<Exit> new_rule(const Session& session, const Options& options) {
  if (options.rule.empty() || options.rule.size() > 64 || options.rule.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) {
    return fail(Code::Invalid, fmt::format("'{}' must be lower-case letters, digits and '-'", options.rule));
  }
  std::string text_of(kNewRule);
  text_of.replace(text_of.find('@'), 1, options.rule);
  const std::string file = options.path.empty() ? options.rule + ".yaml" : options.path;
  const Fd out(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!out) return fail_errno(errno, fmt::format("create '{}'", file));
  if (::write(out.get(), text_of.data(), text_of.size()) != static_cast<ssize_t>(text_of.size())) return fail_errno(errno, fmt::format("write '{}'", file));
  session.out << fmt::format("{} written; next: culprit rules test {}\n", file, file);
  return kAnswered;
}

Result<Exit> check(const Session& session, const Options& options) {
  if (options.schema) {
    session.out << rules::schema_of("rule");
    return kAnswered;
  }
  ASSIGN(const auto set, load_rule_files(session, options.path));
  Json notes = Json::array();
  for (const rules::Note& note : rules::lint(*set)) notes.push_back({{"rule", note.rule}, {"origin", note.origin}, {"text", note.what}});
  const bool doubtful = options.strict && !notes.empty();
  ASSIGN(const Exit shown, session.show_document({{"api", 1}, {"rules", rows_of(*set)}, {"notes", std::move(notes)}}, [](const Json& document, const Style& style) {
    std::string out;
    for (const Json& note : list(document, "notes")) out += fmt::format("{}: {}: {} [{}]\n", text(note, "origin"), paint(style, Paint::Yellow, "note"), text(note, "text"), text(note, "rule"));
    double cost = 0;
    std::string dearest;
    double most = -1;
    for (const Json& row : list(document, "rules")) {
      cost += number_or(row, "cost", 0);
      if (number_or(row, "cost", 0) <= most) continue;
      most = number_or(row, "cost", 0);
      dearest = text(row, "rule");
    }
    return out + fmt::format("{} rules are good (their own tests: culprit rules test); estimated {:.0f} comparisons for 1,000 events, most of them for '{}'\n", list(document, "rules").size(), cost, dearest);
  }));
  return doubtful ? kBadInput : shown;
}

Result<Exit> test(const Session& session, const Options& options) {
  ASSIGN(const auto set, load_rule_files(session, options.path));
  const std::vector<rules::TestResult> results = rules::run_tests(*set);
  Json rows = Json::array();
  std::size_t failed = 0;
  std::size_t todo = 0;
  for (const rules::TestResult& result : results) {
    failed += result.failed() ? 1 : 0;
    todo += !result.passed && !result.todo.empty() ? 1 : 0;
    rows.push_back({{"rule", result.rule}, {"test", result.test}, {"origin", result.origin}, {"passed", result.passed}, {"todo", result.todo.empty() ? Json(nullptr) : Json(result.todo)}, {"message", result.message}});
  }
  if (options.format == "junit") {
    session.out << rules::junit("culprit rules", results);
    return failed > 0 ? kBadInput : kAnswered;
  }
  ASSIGN(const Exit shown, session.show_document({{"api", 1}, {"failed", failed}, {"todo", todo}, {"tests", std::move(rows)}}, [](const Json& document, const Style&) {
    std::string out;
    for (const Json& row : list(document, "tests")) {
      const std::string known = text(row, "todo");
      if (!truth(row, "passed")) {
        out += fmt::format("{}: rule '{}', test '{}': {}{}\n", text(row, "origin"), text(row, "rule"), text(row, "test"), known.empty() ? "" : "known miss (" + known + "): ", text(row, "message"));
      } else if (!known.empty()) {
        out += fmt::format("{}: rule '{}', test '{}': passes now, though marked todo ({})\n", text(row, "origin"), text(row, "rule"), text(row, "test"), known);
      }
    }
    return out + fmt::format("{} tests, {} failed{}\n", list(document, "tests").size(), whole(document, "failed"), number_or(document, "todo", 0) > 0 ? fmt::format(", {} known misses", whole(document, "todo")) : "");
  }));
  return failed > 0 ? kBadInput : shown;
}

}  // namespace

void add_rules(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callbacks
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* summary, Result<Exit> (*run)(const Session&, const Options&)) {
    CLI::App* sub = app.add_subcommand(name, summary);
    sub->fallthrough()->group("Commands");
    sub->callback([&session, options, run] { session.run = [&session, options, run] { return run(session, *options); }; });
    return sub;
  };
  const char* path = "A file or folder; else the built-in rules and those of --state DIR";
  add("list", "All rules with their causes; of the daemon, if one answers", list_rules)->add_option("PATH", options->path, path);
  CLI::App* showing = add("show", "One rule in full", show_rule);
  showing->add_option("RULE", options->rule, "Its id")->required();
  showing->add_option("PATH", options->path, path);
  CLI::App* making = add("new", "Write a rule to begin with", new_rule);
  making->add_option("RULE", options->rule, "Its id")->required();
  making->add_option("FILE", options->path, "Where; else RULE.yaml");
  CLI::App* checking = add("check", "Read rules; report every mistake with file:line:column, and doubts", check);
  checking->add_option("PATH", options->path, path);
  checking->add_flag("--strict", options->strict, "Doubts count as mistakes");
  checking->add_flag("--schema", options->schema, "Print the JSON Schema of rules instead");
  CLI::App* testing = add("test", "Run the tests that rules carry", test);
  testing->add_option("PATH", options->path, path);
  testing->add_option("--format", options->format, "text or junit")->check(CLI::IsMember({"text", "junit"}));
  add_live_rules(app, session);
}

}  // namespace culprit::cli
