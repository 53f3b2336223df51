// culprit rules explain|apply|disable|diff|stats|coverage: rules against what happened, and against the daemon.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "daemon/base/fd.h"
#include "daemon/base/text.h"
#include "daemon/explain/replay.h"
#include "daemon/stream/codec.h"
#include "rules/clauses.h"
#include "rules/lint.h"
#include "ui/cli/graph_knowledge.h"
#include "ui/cli/knowledge_library.h"
#include "ui/cli/rules_files.h"
#include "ui/cli/when.h"

namespace culprit::cli {
namespace {

constexpr std::size_t kEventsAsked = 10'000;  // of the daemon, for `explain`
constexpr std::int64_t kRuleWindowNs = 60 * kNsPerSecond;  // before an onset, as the daemon asks its rules

struct Options {
  std::string rule, path, at = "now", events, reason;
  std::vector<std::string> files;
  bool undo = false;
};

// Writes beside the target and renames: who reads sees the old file or the new one.
Result<void> write_whole(const std::filesystem::path& file, const std::string& bytes) {
  std::error_code error;
  std::filesystem::create_directories(file.parent_path(), error);
  if (error) return fail_errno(error.value(), fmt::format("create '{}'", file.parent_path().string()));
  const std::string fresh = (file.parent_path() / ("." + file.filename().string() + ".new")).string();
  {
    const Fd out(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!out) return fail_errno(errno, fmt::format("write '{}'", fresh));
    std::string_view rest = bytes;
    while (!rest.empty()) {
      const ssize_t wrote = ::write(out.get(), rest.data(), rest.size());
      if (wrote < 0) return fail_errno(errno, fmt::format("write '{}'", fresh));
      rest.remove_prefix(static_cast<std::size_t>(wrote));
    }
    if (::fsync(out.get()) != 0) return fail_errno(errno, fmt::format("write '{}'", fresh));
  }
  if (::rename(fresh.c_str(), file.c_str()) != 0) return fail_errno(errno, fmt::format("rename to '{}'", file.string()));
  return {};
}

// What the daemon says to the rules folder as it is now.
Result<Exit> reload(const Session& session, const std::string& done) {
  const auto answer = session.client().post("/api/v1/rules/reload", Json::object());
  if (!answer && answer.error().code == Code::Busy) {
    session.out << done << "; no daemon answers: it takes effect at its next start\n";
    return kAnswered;
  }
  if (!answer) return std::unexpected(answer.error());
  ASSIGN(const Json document, parse_document(*answer));
  return session.show_document(document, [&done](const Json& shown, const Style&) {
    return fmt::format("{}; in force: {} rules, hash {}\n", done, list(shown, "rules").size(), text(shown, "hash"));
  });
}

Result<Exit> apply(const Session& session, const Options& options) {
  ASSIGN(const auto known, load_knowledge(session));
  ASSIGN(const std::vector<rules::RuleText> given, rules::read_rules(options.path));
  // As the daemon will see them: after the built-in ones and those that are there.
  const auto built_in = rules::built_in_rules();
  std::vector<rules::RuleText> all(built_in.begin(), built_in.end());
  const std::filesystem::path folder = own_folder(session) / "rules";
  std::error_code ignored;  // a folder that is not there yet is made
  std::set<std::string> replaced;
  for (const rules::RuleText& text : given) replaced.insert(std::filesystem::path(text.name).filename().string());
  if (std::filesystem::is_directory(folder, ignored)) {
    ASSIGN(std::vector<rules::RuleText> own, rules::read_rules(folder));
    for (rules::RuleText& text : own) {
      if (!replaced.contains(std::filesystem::path(text.name).filename().string())) all.push_back(std::move(text));
    }
  }
  all.insert(all.end(), given.begin(), given.end());
  TRY(rules::load_rules(all, {.knowledge = known.get(), .run_tests = true}));
  for (const rules::RuleText& text : given) TRY(write_whole(folder / std::filesystem::path(text.name).filename(), text.text));
  return reload(session, fmt::format("{} file{} checked, tested and put into '{}'", given.size(), given.size() == 1 ? "" : "s", folder.string()));
}

Result<Exit> disable(const Session& session, const Options& options) {
  ASSIGN(const auto set, load_rule_files(session, ""));
  ASSIGN(const auto rule, find_rule(*set, options.rule));
  const std::filesystem::path file = own_folder(session) / "rules" / ("disabled-" + rule->id + ".yaml");
  if (options.undo) {
    std::error_code error;
    if (!std::filesystem::remove(file, error)) return fail(Code::NotFound, fmt::format("'{}' is not there: rule '{}' was not switched off here", file.string(), rule->id));
    return reload(session, fmt::format("rule '{}' is on again", rule->id));
  }
  // JSON's strings are YAML's.
  const std::string reason = Json(options.reason.empty() ? "switched off by hand" : options.reason).dump(-1, ' ', false, Json::error_handler_t::replace);
  TRY(write_whole(file, fmt::format("disable: {}\nreason: {}\n", rule->id, reason)));
  return reload(session, fmt::format("rule '{}' is switched off", rule->id));
}

// Events of a file: an incident's export, or JSON lines as they are in one.
Result<std::vector<stream::Event>> events_of(const std::string& file, std::int64_t& wall_offset_ns) {
  ASSIGN(const std::string bytes, read_input(file));
  std::vector<stream::Event> events;
  const auto take = [&events](const stream::Event& event) {
    events.push_back(event);
    return true;
  };
  if (bytes.starts_with("{\"culprit_export\"")) {
    auto replayable = explain::import_incident(bytes);
    if (!replayable) return std::unexpected(replayable.error().context(fmt::format("'{}'", file)));
    wall_offset_ns = replayable->options.wall_offset_ns;
    TRY(replayable->store->scan({}, take));
    return events;
  }
  std::istringstream in(bytes);
  auto read = stream::read_json_lines(in);
  if (!read) return std::unexpected(read.error().context(fmt::format("'{}'", file)));
  return *read;
}

// One question to the daemon; times become wall times.
Result<void> ask_events(const Session& session, const Client::Parameters& query, std::set<std::string>& seen, std::vector<stream::Event>& events) {
  ASSIGN(const std::string answer, session.client().get("/api/v1/events", query));
  ASSIGN(const Json document, parse_document(answer));
  if (truth(document, "truncated")) session.err << fmt::format("culprit: of some clause only the newest {} events of the window were looked at\n", kEventsAsked);
  for (const Json& row : list(document, "events")) {
    if (!seen.insert(row.dump(-1, ' ', false, Json::error_handler_t::replace)).second) continue;  // told to another clause
    stream::Event event;
    event.time_ns = wall_ns(row, "time").value_or(0);
    if (const auto kind = stream::parse_kind(text(row, "kind"))) event.kind = *kind;
    event.entity = text(row, "entity");
    event.name = text(row, "name");
    event.value = number_or(row, "value", 0);
    event.body = text(row, "body");
    if (const Json& attributes = field(row, "attributes"); attributes.is_object()) {
      for (const auto& [key, value] : attributes.items()) {
        if (value.is_string()) event.attributes.emplace_back(key, value.get<std::string>());
      }
    }
    events.push_back(std::move(event));
  }
  return {};
}

// The daemon's events that a rule could speak of, around a moment: each clause asks for those of its own name, so that a busy host
// does not hide them behind others; paths ask for the edges.
Result<std::vector<stream::Event>> events_around(const Session& session, const rules::Rule& rule, std::int64_t from_ns, std::int64_t to_ns) {
  std::vector<Client::Parameters> questions;
  const auto add = [&](rules::Kind kind, const std::string& name, const std::string& entity, std::int64_t before_ns = 0) {
    Client::Parameters& query = questions.emplace_back(Client::Parameters{{"from", format_wall(from_ns - before_ns)}, {"to", format_wall(to_ns)}, {"limit", std::to_string(kEventsAsked)}, {"kind", std::string(stream::kind_name(kind))}});
    // The API takes exact names and prefixes, with commas between several.
    const auto end = name.find_first_of(",*?");
    if (end != 0 && !name.empty()) query.emplace_back("name", end == std::string::npos ? name : name.substr(0, end) + "*");
    if (!entity.empty()) query.emplace_back("entity", entity);
  };
  for (const rules::MatchItem& item : rule.match) {
    add(item.kind, item.name, "", item.times_normal ? rules::kNormalNs : 0);
    if (!item.text.empty()) questions.back().emplace_back("text", item.text);
  }
  if (!rule.paths.empty()) {
    add(rules::Kind::Sample, "client.rate", "edge:*");
    add(rules::Kind::Sample, "client.inflight", "edge:*");
    add(rules::Kind::Kernel, "", "");
  }
  std::vector<stream::Event> events;
  std::set<std::string> seen;
  for (const Client::Parameters& query : questions) TRY(ask_events(session, query, seen, events));
  return events;
}

Result<Exit> explain_at(const Session& session, const Options& options) {
  ASSIGN(const auto set, load_rule_files(session, options.path));
  ASSIGN(const auto rule, find_rule(*set, options.rule));
  ASSIGN(std::int64_t at, parse_when(options.at, session.now_wall_ns()));
  std::vector<stream::Event> events;
  std::int64_t offset = 0;
  if (options.events.empty()) {
    const std::int64_t span = rules::span_of(*rule);
    ASSIGN(events, events_around(session, *rule, at - span, at + span));
  } else {
    ASSIGN(events, events_of(options.events, offset));
  }
  const rules::RuleReport report = rules::explain_rule(rule, events, at - offset);
  Json clauses = Json::array();
  const auto conditions = [](const std::vector<rules::Condition>& list_of) {
    Json rows = Json::array();
    for (const rules::Condition& condition : list_of) rows.push_back({{"text", condition.text}, {"got", condition.got}, {"holds", condition.holds}});
    return rows;
  };
  for (const rules::ClauseReport& clause : report.clauses) {
    clauses.push_back({{"id", clause.id}, {"text", clause.text}, {"holds", clause.holds}, {"optional", clause.optional}, {"fitting", clause.fitting},
                       {"nearest", clause.nearest.empty() ? Json(nullptr) : Json({{"time", format_wall(clause.nearest_ns + offset)}, {"text", clause.nearest}})},
                       {"conditions", conditions(clause.conditions)}});
  }
  Json findings = Json::array();
  for (const rules::Finding& finding : report.findings) {
    findings.push_back({{"time", format_wall(finding.time_ns + offset)}, {"entity", finding.entity}, {"cause", finding.cause}, {"weight", finding.weight}, {"text", finding.explanation}, {"next", finding.next}});
  }
  const Json document = {{"api", 1}, {"rule", rule->id}, {"at", format_wall(at)}, {"events", events.size()}, {"fires", !findings.empty()}, {"clauses", std::move(clauses)},
                         {"relations", conditions(report.relations)}, {"findings", std::move(findings)}};
  return session.show_document(document, [](const Json& shown, const Style& style) {
    const auto mark = [&style](bool holds) { return holds ? paint(style, Paint::Green, "true ") : paint(style, Paint::Red, "false"); };
    std::string out = fmt::format("{} {} ({} events around it)\n", text(shown, "rule"), truth(shown, "fires") ? "fires" : "does not fire", whole(shown, "events"));
    for (const Json& clause : list(shown, "clauses")) {
      out += fmt::format(" {} {}: {} ({} events fit)\n", mark(truth(clause, "holds")), text(clause, "id"), text(clause, "text"), whole(clause, "fitting"));
      if (const Json& nearest = field(clause, "nearest"); nearest.is_object()) out += fmt::format("         nearest: {}\n", text(nearest, "text"));
      else out += "         no event of this name in the window\n";
      for (const Json& condition : list(clause, "conditions")) out += fmt::format("         {} {}: {}\n", mark(truth(condition, "holds")), text(condition, "text"), text(condition, "got"));
    }
    for (const Json& relation : list(shown, "relations")) out += fmt::format(" {} {} {}\n", mark(truth(relation, "holds")), text(relation, "text") + ":", text(relation, "got"));
    for (const Json& finding : list(shown, "findings")) out += fmt::format(" blames {} for {}: {}\n", text(finding, "entity"), text(finding, "cause"), text(finding, "text"));
    return out;
  });
}

struct Past {
  std::string name;
  explain::Replayable replayable;
};

Result<std::vector<std::string>> ranking_with(const Past& past, const rules::RuleSetPtr& set, const GraphKnowledge& knowledge) {
  explain::ExplainOptions options = past.replayable.options;
  options.knowledge = &knowledge;
  options.rule_hits.clear();
  const std::int64_t from = past.replayable.incident.onset_ns - kRuleWindowNs;
  ASSIGN(const rules::Evaluation evaluation, rules::evaluate_stored(set, *past.replayable.store, from, options.now_ns, options.now_ns));
  for (const rules::Finding& finding : evaluation.findings) {
    options.rule_hits.push_back({finding.time_ns, finding.rule->id, finding.entity, finding.cause, finding.explanation, finding.weight});
  }
  options.rules_hash = set->hash();
  ASSIGN(const explain::Explanation explanation, explain::explain(*past.replayable.store, past.replayable.incident, options));
  std::vector<std::string> ranking;
  for (const explain::RankedCause& cause : explanation.candidates) ranking.push_back(fmt::format("{} {}", cause.failure_mode, cause.entity));
  return ranking;
}

// Which past incidents would rank differently with the rules of PATH in force?
Result<Exit> diff(const Session& session, const Options& options) {
  ASSIGN(const auto modes, load_modes(session));
  const GraphKnowledge knowledge(*modes);
  ASSIGN(const auto before, load_rule_files(session, ""));
  const auto built_in = rules::built_in_rules();
  std::vector<rules::RuleText> all(built_in.begin(), built_in.end());
  std::error_code ignored;
  if (const auto own = own_folder(session) / "rules"; std::filesystem::is_directory(own, ignored)) {
    ASSIGN(std::vector<rules::RuleText> there, rules::read_rules(own));
    std::ranges::move(there, std::back_inserter(all));
  }
  ASSIGN(std::vector<rules::RuleText> fresh, rules::read_rules(options.path));
  std::ranges::move(fresh, std::back_inserter(all));
  ASSIGN(const auto after, rules::load_rules(all, {.knowledge = &modes->known()}));

  Json rule_rows = Json::array();
  for (const auto& rule : after->rules()) {
    const auto earlier = before->find(rule->id);
    if (!earlier) rule_rows.push_back({{"rule", rule->id}, {"change", "new"}});
    else if (earlier->origin != rule->origin) rule_rows.push_back({{"rule", rule->id}, {"change", "replaced"}});
  }
  Json rows = Json::array();
  std::size_t compared = 0;
  const auto compare = [&](const std::string& name, const std::string& bytes) -> Result<void> {
    auto replayable = explain::import_incident(bytes);
    if (!replayable) return std::unexpected(replayable.error().context(fmt::format("'{}'", name)));
    const Past past{name, std::move(*replayable)};
    ASSIGN(const auto then, ranking_with(past, before, knowledge));
    ASSIGN(const auto now, ranking_with(past, after, knowledge));
    ++compared;
    if (then != now) rows.push_back({{"incident", name}, {"service", past.replayable.incident.service}, {"before", then}, {"after", now}});
    return {};
  };
  for (const std::string& file : options.files) {
    ASSIGN(const std::string bytes, read_input(file));
    TRY(compare(file, bytes));
  }
  if (options.files.empty()) {
    ASSIGN(const std::string answer, session.client().get("/api/v1/incidents"));
    ASSIGN(const Json incidents, parse_document(answer));
    for (const Json& incident : list(incidents, "incidents")) {
      const std::string id = whole(incident, "incident");
      const auto bytes = session.client().get("/api/v1/incidents/" + id + "/export");
      if (!bytes) {
        session.err << fmt::format("culprit: incident {}: {}; left out\n", id, bytes.error().message);
        continue;
      }
      TRY(compare(id, *bytes));
    }
  }
  return session.show_document({{"api", 1}, {"compared", compared}, {"rules", std::move(rule_rows)}, {"incidents", std::move(rows)}}, [](const Json& document, const Style&) {
    std::string out;
    for (const Json& rule : list(document, "rules")) out += fmt::format("{} rule '{}'\n", text(rule, "change"), text(rule, "rule"));
    for (const Json& incident : list(document, "incidents")) {
      out += fmt::format("incident {} ({}) ranks differently:\n", text(incident, "incident"), text(incident, "service"));
      const auto then = texts(incident, "before");
      const auto now = texts(incident, "after");
      for (std::size_t i = 0; i < std::max(then.size(), now.size()); ++i) {
        const std::string was = i < then.size() ? then[i] : "-";
        const std::string is = i < now.size() ? now[i] : "-";
        if (was != is) out += fmt::format("  {}. {} -> {}\n", i + 1, was, is);
      }
    }
    return out + fmt::format("{} incidents compared, {} rank differently\n", whole(document, "compared"), list(document, "incidents").size());
  });
}

Result<Exit> stats(const Session& session, const Options&) {
  return session.show(session.client().get("/api/v1/rules"), [](const Json& document, const Style& style) {
    Table table({{"rule"}, {"matched", Table::Align::Right}, {"fired", Table::Align::Right}, {"last"}, {"steps", Table::Align::Right}, {"off"}});
    for (const Json& row : list(document, "rules")) {
      const auto last = wall_ns(row, "fired_last");
      table.add({text(row, "rule"), whole(row, "matched"), whole(row, "fired"), last ? local_time(*last, style.now_wall_ns) : "-", whole(row, "steps"), text(row, "off")});
    }
    const Json& engine = field(document, "engine");
    return table.text(style, 0) + fmt::format("{} events seen, {} fitted some clause, {} kept, {} left out for want of room\n", whole(engine, "events"), whole(engine, "matched"), whole(engine, "kept"), whole(engine, "left_out"));
  });
}

// Which failure modes have a rule, and which of culprit's own signals no rule looks at.
Result<Exit> coverage(const Session& session, const Options& options) {
  ASSIGN(const auto known, load_knowledge(session));
  ASSIGN(const auto set, load_rule_files(session, options.path));
  std::map<std::string, std::vector<std::string>> by_cause;
  for (const auto& rule : set->rules()) {
    if (rule->status == rules::Status::Stable) by_cause[rule->cause].push_back(rule->id);
  }
  Json rows = Json::array();
  std::size_t modes = 0;
  std::size_t covered = 0;
  for (const graph::Pack& pack : known->packs()) {
    Json without = Json::array();
    std::size_t with = 0;
    for (const graph::FailureMode& mode : pack.modes) {
      if (by_cause.contains(mode.id)) ++with;
      else without.push_back(mode.id);
    }
    modes += pack.modes.size();
    covered += with;
    rows.push_back({{"middleware", pack.middleware}, {"modes", pack.modes.size()}, {"covered", with}, {"without", std::move(without)}});
  }
  Json unused = Json::array();
  for (const rules::Kind kind : {rules::Kind::Sample, rules::Kind::Kernel, rules::Kind::Change}) {
    for (const std::string_view name : rules::known_names(kind)) {
      const bool used = std::ranges::any_of(set->rules(), [&](const auto& rule) {
        return std::ranges::any_of(rule->match, [&](const rules::MatchItem& item) { return item.kind == kind && (item.name.starts_with(name) || glob_match(item.name, name)); });
      });
      if (!used) unused.push_back(name);
    }
  }
  return session.show_document({{"api", 1}, {"modes", modes}, {"covered", covered}, {"middleware", std::move(rows)}, {"signals_unused", std::move(unused)}}, [](const Json& document, const Style& style) {
    Table table({{"middleware"}, {"covered", Table::Align::Right}, {"without a rule"}});
    for (const Json& row : list(document, "middleware")) {
      std::string without;
      for (const std::string& mode : texts(row, "without")) without += (without.empty() ? "" : " ") + mode.substr(mode.find('/') + 1);
      table.add({text(row, "middleware"), fmt::format("{}/{}", whole(row, "covered"), whole(row, "modes")), without});
    }
    std::string names;
    for (const std::string& name : texts(document, "signals_unused")) names += " " + name;
    return table.text(style, 0) + fmt::format("{} of {} failure modes have a stable rule; the others are known by their log lines and by the ranking alone\nsignals that no rule looks at:{}\n", whole(document, "covered"), whole(document, "modes"), names);
  });
}

}  // namespace

void add_live_rules(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callbacks
  const auto add = [&](const char* name, const char* summary, Result<Exit> (*run)(const Session&, const Options&)) {
    CLI::App* sub = app.add_subcommand(name, summary);
    sub->fallthrough()->group("Commands");
    sub->callback([&session, options, run] { session.run = [&session, options, run] { return run(session, *options); }; });
    return sub;
  };
  CLI::App* explaining = add("explain", "A rule at one moment, clause by clause, with the values", explain_at);
  explaining->add_option("RULE", options->rule, "Its id")->required();
  explaining->add_option("--at", options->at, "The moment: 14:02:08, 5m (ago), RFC 3339")->check(check_when)->capture_default_str();
  explaining->add_option("--events", options->events, "An incident's export or JSON lines, instead of the daemon's events");
  explaining->add_option("--rules", options->path, "A file or folder with the rule");
  add("apply", "Check and test rules, put them into --state DIR/rules, reload", apply)->add_option("PATH", options->path, "A file or folder")->required();
  CLI::App* disabling = add("disable", "Switch a rule off, for good", disable);
  disabling->add_option("RULE", options->rule, "Its id")->required();
  disabling->add_option("--reason", options->reason, "Why; shown by rules list");
  disabling->add_flag("--undo", options->undo, "Switch it on again");
  CLI::App* comparing = add("diff", "Which past incidents would rank differently", diff);
  comparing->add_option("PATH", options->path, "Rules to try: a file or folder")->required();
  comparing->add_option("FILE", options->files, "Exports of incidents; else those of the daemon");
  add("stats", "What each rule of the daemon saw, fired and cost", stats);
  add("coverage", "Failure modes with and without a rule; signals that no rule uses", coverage)->add_option("PATH", options->path, "A file or folder");
}

}  // namespace culprit::cli
