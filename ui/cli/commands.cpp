#include <fmt/format.h>

#include <cerrno>

#include "daemon/base/text.h"
#include "ui/cli/command.h"
#include "ui/cli/csv.h"

namespace culprit::cli {
namespace {

constexpr const char* kDefaultSocket = "/run/culprit/api.sock";

constexpr Command kCommands[] = {
    {"why", "Why is this service slow, failing or gone?",
     "Answers with a ranked list of causes: for each its confidence (0 to 1), dated evidence, what was ruled "
     "out,\n"
     "and the command to run next; last, how complete the evidence was.\n\n"
     "Examples:\n"
     "  culprit why                             about the open incident\n"
     "  culprit why shop\n"
     "  culprit why shop --since 1h\n"
     "  culprit why shop -o json | jq '.candidates[0].failure_mode'\n",
     add_why},
    {"incidents", "Open and past incidents; show or export one",
     "Examples:\n"
     "  culprit incidents                       all of them, newest first\n"
     "  culprit incidents show 7                causes and evidence of incident 7\n"
     "  culprit incidents export 7 seven.jsonl  for `culprit replay seven.jsonl`, on any machine\n",
     add_incidents},
    {"events", "Search what was seen: samples, logs, requests, kernel events, changes",
     "FILTER is the filter language of docs/events.md. It and all options must match; options may be repeated or hold\n"
     "commas (any of them matches). Newest first; with -f oldest first, and then what comes.\n"
     "A TIME is 14:02:08, \"2026-11-23 14:02:08\", 2026-11-23T14:02:08Z, or how long ago: 5m, 1h30m.\n\n"
     "Examples:\n"
     "  culprit events 'service = shop and severity >= error' --since 10m\n"
     "  culprit events -f 'kind in (change, alert) or \"too many clients\"'\n"
     "  culprit events 'entity near service:shop/2 and kind = kernel' --around 14:02:08\n"
     "  culprit events --entity pid:4211 --kind change --since 1d -o csv\n",
     add_events},
    {"logs", "Kinds of log lines with counts, new ones first",
     "Examples:\n"
     "  culprit logs --service shop --since 15m\n"
     "  culprit logs templates /var/log/syslog\n"
     "  culprit logs templates app.log --format csv > clusters.csv\n",
     add_logs},
    {"trace", "One trace as a waterfall, with what each span waited for and its log lines", "", add_trace},
    {"sources", "Where events of other tools come from: OTLP, Prometheus, alerts, files, ...",
     "docs/sources.md has a working configuration for each.\n\n"
     "Examples:\n"
     "  culprit sources list\n"
     "  culprit sources test file path=/var/log/nginx/access.log format=nginx\n"
     "  culprit sources add scrape target=127.0.0.1:9100\n",
     add_sources},
    {"import", "Read what another tool exported: Jaeger, Zipkin, OTLP, Kubernetes events",
     "Examples:\n"
     "  culprit import traces.json\n"
     "  kubectl get events -A -o json | culprit import -\n",
     add_import},
    {"diff", "What was different between two windows of time",
     "Compares how often each entity, log template, operation and attribute value occurs (effect: Cohen's h)\n"
     "and the means of series and durations (Cohen's d); the largest effects first. A window is FROM..TO.\n\n"
     "Examples:\n"
     "  culprit diff 13:00..14:00 14:00..14:02\n"
     "  culprit diff 1h..5m 5m..now 'service = checkout'\n",
     add_diff},
    {"series", "Series: count, range and quantiles of each in a window",
     "Quantiles are within 1 % of the true ones.\n\n"
     "Examples:\n"
     "  culprit series 'service = shop and name = request.*' --since 1h\n"
     "  culprit series 'name = cpu.time' --since 1d --step 10m -o json\n",
     add_series},
    {"store", "The event store: info; * verify, repair, export, import, prune, backup",
     "`info` asks the daemon. The others work on files, events/ of --state DIR or --folder, else those of the daemon;\n"
     "verify, export and backup also while it runs, the rest needs it stopped.\n\n"
     "Examples:\n"
     "  culprit store info\n"
     "  culprit store verify\n"
     "  culprit store export 'kind != sample' --since 2h events.jsonl\n"
     "  culprit store backup /mnt/backup/culprit-events\n",
     add_store},
    {"services", "Services, their endpoints, and who calls whom", "", add_services},
    {"status", "The daemon itself: rates, losses by reason, channels, maps, overhead",
     "For every source, produced = stored + in flight + dropped. `culprit status channels` shows only the "
     "channels.\n",
     add_status},
    {"doctor", "What this kernel offers, what is attached and what is not, and why", "", add_doctor},
    {"confirm", "Say that a cause of an incident was the right one",
     "It becomes experience: the next ranking of the like weighs it more, and `culprit similar` finds it.\n\n"
     "Examples:\n"
     "  culprit confirm 7 1 --note 'a bigger pool fixed it'\n"
     "  culprit confirm 7 1 --undo\n",
     add_confirm},
    {"reject", "Say that a cause of an incident was not it",
     "Examples:\n"
     "  culprit reject 7 1 --cause 'it was the firewall'\n",
     add_reject},
    {"similar", "* Confirmed incidents that are like this one, with what fixed them",
     "Asks the daemon; with --state DIR it looks into that folder and needs none.\n\n"
     "Examples:\n"
     "  culprit similar 7\n"
     "  culprit similar 'checkout hangs since the import'\n",
     add_similar},
    {"feedback", "Tell whether an answer was right, so that the next one is better",
     "RANK is the cause's number in the answer; 0 judges the answer as a whole.\n\n"
     "Examples:\n"
     "  culprit feedback 7 1 right\n"
     "  culprit feedback 7 0 wrong --note 'it was the firewall'\n",
     add_feedback},
    {"config", "The effective configuration, each value with its origin",
     "Without --file it asks the running daemon; with --file it reads and checks that file, no daemon "
     "needed.\n",
     add_config},
    {"replay", "* Rank an exported or recorded incident again",
     "The same files give the same ranking on every machine. `culprit incidents export N FILE` writes such\n"
     "files; the layout of a recorded case is in docs/ranking.md. Several cases: one line of JSON each.\n\n"
     "Examples:\n"
     "  culprit replay seven.jsonl\n"
     "  culprit replay incidents/c1 -o json\n"
     "  culprit replay --cases incidents.jsonl.gz --weights weights.json\n",
     add_replay},
    {"learn", "* Fit the ranking's weights to labelled incidents",
     "Prints 5-fold cross-validation by incident: what the weights are worth on incidents they have not seen.\n\n"
     "Examples:\n"
     "  culprit learn --cases incidents/ --out weights.json\n"
     "  culprit replay --weights weights.json incidents/c1\n",
     add_learn},
    {"templates", "* The kinds of lines of a log file, most frequent first",
     "Examples:\n"
     "  culprit templates /var/log/syslog\n"
     "  journalctl -u shop | culprit templates -\n",
     add_templates},
    {"knowledge", "* What is known about how middleware fails",
     "Examples:\n"
     "  culprit knowledge list redis\n"
     "  culprit knowledge show postgresql/lock-wait\n"
     "  culprit knowledge search statements hang behind a migration\n"
     "  culprit knowledge match 'FATAL:  sorry, too many clients already'\n"
     "  culprit knowledge import /srv/wiki runbooks.jsonl\n",
     add_knowledge},
    {"rules", "* Rules: write, test, apply, and what they did",
     "Without PATH the built-in rules and those of --state DIR/rules count. stats, diff without files, and explain\n"
     "without --events ask the daemon; apply and disable tell it. docs/rules.md: your first rule in ten minutes.\n\n"
     "Examples:\n"
     "  culprit rules new my-rule && culprit rules test my-rule.yaml\n"
     "  culprit rules check --strict /etc/culprit/rules\n"
     "  culprit rules explain oom-kill --at 14:02:08\n",
     add_rules},
    {"policy", "* Check configuration files for known mistakes",
     "check exits with 0 if all is well, 7 if a policy is violated, 2 if a file cannot be read: for CI and\n"
     "pre-commit. docs/policies.md lists the format.\n\n"
     "Examples:\n"
     "  culprit policy check /etc/redis/redis.conf /etc/nginx\n"
     "  culprit policy check --format sarif --pack kubernetes deploy/ > policies.sarif\n",
     add_policy},
};

constexpr const char* kFooter =
    "Times are local; -o json prints the API's documents (docs/api.md) with times in UTC.\n"
    "Commands marked * need no daemon and no root.\n\n"
    "Examples:\n"
    "  culprit                          is anything wrong? what changed lately?\n"
    "  culprit why shop --since 5m      why is shop slow, failing or gone?\n"
    "  culprit incidents show 7         what happened, with its evidence\n"
    "  culprit doctor                   what culprit can see on this host\n\n"
    "Exit codes:\n"
    "  0 answered                       4 the daemon does not answer\n"
    "  1 something is wrong (only with  5 denied\n"
    "    --exit-code)                   6 bad input or configuration\n"
    "  2 wrong usage                    7 internal error\n"
    "  3 not found\n";

std::string suggestion(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  const std::vector<std::string> near = nearest(word, names);
  return near.empty() ? "" : fmt::format("; did you mean '{}'?", near.front());
}

// "no option '--from' of events; did you mean '--window'?"
std::string unknown_option(const CLI::App& command, const std::string& path, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::vector<std::string> near = nearest(word.substr(0, word.find('=')), names);
  return fmt::format("no option '{}'{}{}", one_line(word), command.get_parent() == nullptr ? "" : " of " + path, near.empty() ? "" : fmt::format("; did you mean '{}'?", near.front()));
}

// CLI11 reports by exceptions; this is the one place that catches them.
int usage_error(const CLI::App& app, const CLI::ParseError& error, std::ostream& out, std::ostream& err) {
  const CLI::App* shown = &app;
  while (true) {
    const auto chosen = shown->get_subcommands();
    if (chosen.empty()) break;
    shown = chosen.front();
  }
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    const auto mode =
        error.get_name() == "CallForAllHelp" ? CLI::AppFormatMode::All : CLI::AppFormatMode::Normal;
    if (error.get_name() == "CallForVersion")
      out << error.what() << "\n";
    else
      out << app.help("", mode);
    return kAnswered;
  }
  std::string path = shown->get_name();
  for (const CLI::App* parent = shown->get_parent(); parent != nullptr; parent = parent->get_parent())
    path.insert(0, parent->get_name() + " ");
  std::string message = one_line(error.what());
  const std::vector<std::string> rest = app.remaining(true);
  const std::string word = rest.empty() ? "" : rest.front();
  const bool of_commands = !shown->get_subcommands([](const CLI::App*) { return true; }).empty();
  const auto option = std::ranges::find_if(rest, [](const std::string& each) { return each.starts_with("--") && each.size() > 2; });
  if (option != rest.end()) {
    // What follows it was taken for something else; that complaint would name the wrong thing.
    message = unknown_option(*shown, path.substr(path.find(' ') + 1), *option);
  } else if (shown != &app && of_commands && !word.empty() && !word.starts_with('-') && dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    // A word that is no command leaves the group without one.
    message = fmt::format("no command '{}' of {}{}", one_line(word), shown->get_name(), suggestion(*shown, word));
  } else if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    if (shown == &app && !word.starts_with('-'))
      message = fmt::format("no command '{}'{}", one_line(word), suggestion(app, word));
    else
      message = fmt::format("'{}' was not expected here", one_line(word));
  }
  err << "culprit: " << message << "\n" << "run `" << path << " --help` to see how it is used\n";
  return kUsage;
}

// Help is worded the same by every CLI11: 2.4 writes defaults and the end of the text in another way than 2.3.
class Help : public CLI::Formatter {
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text;
    if (option->get_type_size() == 0) return text;  // a flag
    if (!option->get_type_name().empty()) text += " " + option->get_type_name();
    if (!option->get_default_str().empty()) text += "=" + option->get_default_str();
    if (option->get_expected_max() == CLI::detail::expected_max_vector_size) text += " ...";
    if (option->get_required()) text += " REQUIRED";
    return text;
  }

  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
    text.erase(text.find_last_not_of('\n') + 1);
    return text + "\n\n";
  }
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

Exit exit_of(Code code) {
  switch (code) {
    case Code::NotFound:
      return kNotFound;
    case Code::Invalid:
    case Code::Corrupt:
    case Code::Unsupported:  // of another version
    case Code::Exhausted:    // larger than any that is read
      return kBadInput;
    case Code::Denied:
      return kDenied;
    case Code::Busy:
      return kNoAnswer;
    case Code::Io:
      return kInternal;
  }
  return kInternal;
}

Result<Exit> Session::show(const Result<std::string>& answer,
                           const std::function<std::string(const Json&, const Style&)>& render,
                           const std::function<bool(const Json&)>& wrong) const {
  if (!answer) return std::unexpected(answer.error());
  if (csv()) return fail(Code::Invalid, "-o csv is there for events, diff and series");
  ASSIGN(const Json document, parse_document(*answer));
  if (json())
    out << *answer << (answer->ends_with('\n') ? "" : "\n");
  else
    out << render(document, style());
  return exit_code && wrong && wrong(document) ? kSomethingWrong : kAnswered;
}

Result<Exit> Session::show_table(const Result<std::string>& answer, std::string_view key, std::span<const std::string_view> columns,
                                 const std::function<std::string(const Json&, const Style&)>& render) const {
  if (!csv() || !answer) return show(answer, render);
  ASSIGN(const Json document, parse_document(*answer));
  out << csv_text(list(document, std::string(key)), columns);
  return kAnswered;
}

Result<Exit> Session::show_document(
    const Json& document, const std::function<std::string(const Json&, const Style&)>& render) const {
  if (json())
    out << document.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  else
    out << render(document, style());
  return kAnswered;
}

int run_cli(std::span<const std::string> arguments, const Environment& environment, const Clock& clock,
            std::ostream& out, std::ostream& err) {
  Session session(out, err, clock);
  session.socket_path = environment.socket.empty() ? kDefaultSocket : environment.socket;
  session.terminal = environment.terminal && !environment.no_color;

  CLI::App app("culprit: why is this service slow, failing or gone? With evidence, on one host.", "culprit");
  app.footer(kFooter);
  app.formatter(std::make_shared<Help>());
  app.get_formatter()->column_width(26);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  app.get_formatter()->label("SUBCOMMANDS", "COMMANDS");
  app.set_version_flag("--version", std::string("culprit " CULPRIT_VERSION), "Print the version");
  app.add_option("--socket", session.socket_path,
                 "The daemon's socket [$CULPRIT_SOCKET, else /run/culprit/api.sock]")
      ->type_name("PATH");
  app.add_option("-o,--output", session.output, "text for people, json for programs, csv for tables")
      ->type_name("FORM")
      ->check(CLI::IsMember({"text", "json", "csv"}))
      ->capture_default_str();
  app.add_option("--state", session.state_dir,
                 "Where commands marked * find and keep all that is yours; else /etc/culprit and the daemon's state")
      ->type_name("DIR");
  app.add_flag("--no-color", session.no_color, "No colour, also on a terminal; also $NO_COLOR");
  app.add_flag("--exit-code", session.exit_code, "Exit with 1 if an incident is open or a cause was found");
  app.require_subcommand(0, 1);
  session.run = [&session] { return summary(session); };
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    sub->footer(command.more)->group("Commands");
    sub->fallthrough();
    command.add(*sub, session);
  }

  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error, out, err);
  }
  const Result<Exit> result = session.run();
  out.flush();
  if (!result) {
    err << "culprit: " << result.error().message << "\n";
    return exit_of(result.error().code);
  }
  if (!out && errno == EPIPE) return kInternal;  // `culprit events | head` has what it wants
  if (!out) {
    err << "culprit: the answer could not be written to standard output\n";
    return kInternal;
  }
  return *result;
}

}  // namespace culprit::cli
