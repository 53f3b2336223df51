// culprit events: the stream, filtered.
#include "ui/cli/command.h"
#include "ui/cli/render.h"
#include "ui/cli/when.h"

namespace culprit::cli {
namespace {

struct Options {
  std::vector<std::string> entities, kinds, names;
  std::string text, severity, around, since, until, window = "30s";
  int limit = 100;
};

// "shop" -> "service:shop"; what has a type already, or is the host, stays.
std::string entity_of(const std::string& word) {
  return word.find(':') != std::string::npos || word == "host" || word == "*" ? word : "service:" + word;
}

Result<Client::Parameters> parameters(const Options& options, std::int64_t now_wall_ns) {
  Client::Parameters result;
  for (const std::string& entity : options.entities) result.emplace_back("entity", entity_of(entity));
  for (const std::string& kind : options.kinds) result.emplace_back("kind", kind);
  for (const std::string& name : options.names) result.emplace_back("name", name);
  if (!options.text.empty()) result.emplace_back("text", options.text);
  if (!options.severity.empty()) result.emplace_back("severity", options.severity);
  if (!options.around.empty()) {
    if (!options.since.empty() || !options.until.empty())
      return fail(Code::Invalid, "--around already says since when and until when");
    ASSIGN(const std::int64_t middle, parse_when(options.around, now_wall_ns));
    ASSIGN(const std::int64_t window, parse_window(options.window));
    result.emplace_back("from", format_wall(middle - window));
    result.emplace_back("to", format_wall(middle + window));
  }
  if (!options.since.empty()) {
    ASSIGN(const std::int64_t since, parse_when(options.since, now_wall_ns));
    result.emplace_back("from", format_wall(since));
  }
  if (!options.until.empty()) {
    ASSIGN(const std::int64_t until, parse_when(options.until, now_wall_ns));
    result.emplace_back("to", format_wall(until));
  }
  result.emplace_back("limit", std::to_string(options.limit));
  return result;
}

}  // namespace

void add_events(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  app.add_option("--entity", options->entities,
                 "A service's name, pid:4211, host, device:vda, 'edge:shop->*'")
      ->type_name("NAME")
      ->allow_extra_args(false);
  app.add_option("--kind", options->kinds, "sample, log, span, kernel, change or alert")
      ->type_name("KIND")
      ->allow_extra_args(false);
  app.add_option("--name", options->names, "Series, template, operation, ...; may end in *")
      ->type_name("NAME")
      ->allow_extra_args(false);
  app.add_option("--text", options->text, "Part of the text, in any case")->type_name("TEXT");
  app.add_option("--severity", options->severity, "At least: debug, info, warn, error, fatal")
      ->type_name("LEVEL");
  app.add_option("--around", options->around, "From --window before to --window after this")
      ->type_name("TIME")
      ->check(check_when);
  app.add_option("--window", options->window, "See --around")
      ->type_name("LENGTH")
      ->check(check_window)
      ->capture_default_str();
  app.add_option("--since", options->since, "Not before")->type_name("TIME")->check(check_when);
  app.add_option("--until", options->until, "Before")->type_name("TIME")->check(check_when);
  app.add_option("--limit", options->limit, "At most so many, the newest")
      ->type_name("N")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      ASSIGN(const Client::Parameters query, parameters(*options, session.now_wall_ns()));
      return session.show(session.client().get("/api/v1/events", query), render_events);
    };
  });
}

}  // namespace culprit::cli
