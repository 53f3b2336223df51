// culprit events: the stream, filtered; diff: what two windows of it differ in; series: its numbers.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "daemon/base/text.h"
#include "daemon/stream/filter.h"
#include "ui/cli/command.h"
#include "ui/cli/csv.h"
#include "ui/cli/render.h"
#include "ui/cli/when.h"

namespace culprit::cli {
namespace {

constexpr std::string_view kEventColumns[] = {"time", "kind", "entity", "name", "value", "severity", "trace_id", "span_id", "attributes", "body"};
constexpr std::string_view kDiffColumns[] = {"field", "value", "effect", "before", "now", "before_per_s", "now_per_s", "before_mean", "now_mean"};
constexpr std::string_view kSeriesColumns[] = {"entity", "name", "count", "min", "mean", "p50", "p99", "max", "latest", "first", "last"};

struct Options {
  std::string filter;
  bool follow = false;
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
  if (!options.filter.empty()) result.emplace_back("filter", options.filter);
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
  TRY(check_order(options.since, options.until, now_wall_ns));
  if (!options.until.empty()) {
    ASSIGN(const std::int64_t until, parse_when(options.until, now_wall_ns));
    result.emplace_back("to", format_wall(until));
  }
  result.emplace_back("limit", std::to_string(options.limit));
  return result;
}

// Asks again twice a second; late events are found because each time a little of what was there is asked again.
Result<Exit> follow(const Session& session, Client::Parameters query) {
  constexpr std::int64_t kLateNs = 10 * kNsPerSecond;
  auto from = std::ranges::find(query, "from", &Client::Parameters::value_type::first);
  if (from == query.end()) from = query.insert(query.end(), {"from", format_wall(session.now_wall_ns() - kLateNs)});
  const std::int64_t begin = parse_wall(from->second).value_or(0);  // what is older was not asked for, late or not
  std::set<std::pair<std::int64_t, std::string>> shown;  // of the time that is asked for again
  bool truncated_told = false;
  const std::string header = csv_text(Json::array(), kEventColumns);
  if (session.csv()) session.out << header;
  while (session.out) {
    ASSIGN(const std::string answer, session.client().get("/api/v1/events", query));
    ASSIGN(const Json document, parse_document(answer));
    if (truth(document, "truncated") && !shown.empty() && !truncated_told) {
      session.err << "culprit: more events come than --limit shows; some are left out\n";
      truncated_told = true;
    }
    const Json& rows = list(document, "events");
    std::int64_t newest = 0;
    for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
      const std::int64_t time = wall_ns(*row, "time").value_or(0);
      newest = std::max(newest, time);
      if (!shown.emplace(time, row->dump(-1, ' ', false, Json::error_handler_t::replace)).second) continue;
      if (session.csv())
        session.out << csv_text(Json::array({*row}), kEventColumns).substr(header.size());
      else if (session.json())
        session.out << row->dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
      else
        session.out << render_event_line(*row, session.style());
    }
    session.out.flush();
    if (newest > kLateNs) {
      const std::int64_t again = std::max(newest - kLateNs, begin);
      from->second = format_wall(again);
      shown.erase(shown.begin(), shown.lower_bound({again / kNsPerMs * kNsPerMs, ""}));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  return kAnswered;
}

// "13:00..14:00"
Result<void> add_window(Client::Parameters& query, std::string_view name, const std::string& text, std::int64_t now_wall_ns) {
  const std::size_t dots = text.find("..");
  if (dots == std::string::npos) return fail(Code::Invalid, fmt::format("'{}' is no window: use 13:00..14:00 or 1h..5m", text));
  const auto from = parse_when(text.substr(0, dots), now_wall_ns);
  const auto to = parse_when(text.substr(dots + 2), now_wall_ns);
  for (const auto* time : {&from, &to}) {
    if (!*time) return std::unexpected(time->error().context(fmt::format("the window '{}'", text)));
  }
  if (*from >= *to) return fail(Code::Invalid, fmt::format("the window '{}' ends before it begins", text));
  query.emplace_back(fmt::format("{}_from", name), format_wall(*from));
  query.emplace_back(fmt::format("{}_to", name), format_wall(*to));
  return {};
}

}  // namespace

std::string check_filter(const std::string& text) {
  const auto filter = stream::parse_filter(text);
  return filter ? "" : filter.error().message;
}

void add_diff(CLI::App& app, Session& session) {
  struct DiffOptions {
    std::string before, now, filter;
    int limit = 30;
  };
  const auto options = std::make_shared<DiffOptions>();
  app.add_option("BEFORE", options->before, "The window to compare with: FROM..TO")->required();
  app.add_option("NOW", options->now, "The window in question: FROM..TO")->required();
  app.add_option("FILTER", options->filter, "Only these events")->check(check_filter);
  app.add_option("--limit", options->limit, "At most so many differences")->type_name("N")->check(CLI::Range(1, 1000))->capture_default_str();
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      Client::Parameters query;
      TRY(add_window(query, "before", options->before, session.now_wall_ns()));
      TRY(add_window(query, "now", options->now, session.now_wall_ns()));
      if (!options->filter.empty()) query.emplace_back("filter", options->filter);
      query.emplace_back("limit", std::to_string(options->limit));
      return session.show_table(session.client().get("/api/v1/diff", query), "changes", kDiffColumns, render_diff);
    };
  });
}

void add_series(CLI::App& app, Session& session) {
  struct SeriesOptions {
    std::string filter, since = "15m", until = "now", step;
    int limit = 100;
    bool minutes = false;
  };
  const auto options = std::make_shared<SeriesOptions>();
  app.add_option("FILTER", options->filter, "Only these")->check(check_filter);
  app.add_option("--since", options->since, "Not before")->type_name("TIME")->check(check_when)->capture_default_str();
  app.add_option("--until", options->until, "Before")->type_name("TIME")->check(check_when)->capture_default_str();
  app.add_flag("--minutes", options->minutes, "One-minute summaries of what retention removed: NAME:mean, :min, :max, :count");
  app.add_option("--step", options->step, "Points of this length too (with -o json)")->type_name("LENGTH")->check(check_window);
  app.add_option("--limit", options->limit, "At most so many series")->type_name("N")->check(CLI::Range(1, 1000))->capture_default_str();
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      ASSIGN(const std::int64_t from, parse_when(options->since, session.now_wall_ns()));
      ASSIGN(const std::int64_t to, parse_when(options->until, session.now_wall_ns()));
      TRY(check_order(options->since, options->until, session.now_wall_ns()));
      Client::Parameters query = {{"from", format_wall(from)}, {"to", format_wall(to)}, {"limit", std::to_string(options->limit)}};
      if (!options->filter.empty()) query.emplace_back("filter", options->filter);
      if (!options->step.empty()) query.emplace_back("step", options->step);
      if (options->minutes) query.emplace_back("minutes", "1");
      return session.show_table(session.client().get("/api/v1/series", query), "series", kSeriesColumns, render_series);
    };
  });
}

void add_events(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  app.add_option("FILTER", options->filter, "Which events; see docs/events.md")->check(check_filter);
  app.add_flag("-f,--follow", options->follow, "Go on with what comes, until interrupted");
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
      if (options->follow && !(options->until.empty() && options->around.empty())) {
        return fail(Code::Invalid, "-f goes on with what comes: say --since, not --until or --around");
      }
      ASSIGN(const Client::Parameters query, parameters(*options, session.now_wall_ns()));
      if (options->follow) return follow(session, query);
      return session.show_table(session.client().get("/api/v1/events", query), "events", kEventColumns, render_events);
    };
  });
}

}  // namespace culprit::cli
