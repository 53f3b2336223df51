// culprit logs: kinds of log lines of the stream, new ones first. culprit logs templates: of a file, or of the stream.
#include <fmt/format.h>

#include <map>

#include "daemon/base/text.h"
#include "daemon/logs/miner.h"
#include "ui/cli/offline.h"
#include "ui/cli/when.h"

namespace culprit::cli {
namespace {

struct Options {
  std::string file, format = "text", service, since = "1h";
  std::size_t limit = 50;
};

std::string csv(std::string_view text) {
  std::string out = "\"";
  for (const char c : sanitize_utf8(text)) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

// line_id,cluster,template: a cluster keeps its name when its template becomes more general later on.
Result<Exit> file_csv(const Session& session, const std::string& bytes) {
  logs::Miner miner;
  std::vector<std::uint64_t> ids;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    std::string_view line = std::string_view(bytes).substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ids.push_back(miner.add(line).template_id);
    at = end + 1;
  }
  std::map<std::uint64_t, std::string> texts;
  for (const logs::Template& each : miner.templates()) texts[each.id] = csv(each.text);
  session.out << "line_id,cluster,template\n";
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::uint64_t id = miner.resolve(ids[i]);
    session.out << i + 1 << ',' << logs::template_name(id) << ',' << texts[id] << '\n';
  }
  return kAnswered;
}

std::string render_patterns(const Json& document, const Style& style) {
  Table table({{"lines", Table::Align::Right}, {"level"}, {"service"}, {"first"}, {"last"}, {""}, {"pattern"}});
  for (const Json& row : list(document, "patterns")) {
    const auto clock = [&](const char* key) {
      const auto ns = wall_ns(row, key);
      return ns ? format_wall_time(*ns) : std::string("-");
    };
    table.add({group_digits(static_cast<std::uint64_t>(number_or(row, "lines", 0))), text(row, "severity", "-"), text(row, "service"), clock("first"), clock("last"),
               truth(row, "new") ? "new" : "", text(row, "pattern")});
  }
  if (list(document, "patterns").empty()) return "no log line in that time\n";
  return table.text(style, 0);
}

Result<Exit> patterns(const Session& session, const Options& options) {
  ASSIGN(const std::int64_t since, parse_window(options.since));
  Client::Parameters query = {{"since_s", fmt::to_string(static_cast<double>(since) / 1e9)}, {"limit", fmt::to_string(options.limit)}};
  if (!options.service.empty()) query.emplace_back("service", options.service);
  return session.show(session.client().get("/api/v1/logs", query), render_patterns);
}

void common(CLI::App& app, const std::shared_ptr<Options>& options) {
  app.add_option("--service", options->service, "Only of this service")->type_name("NAME");
  app.add_option("--since", options->since, "How far back")->type_name("LENGTH")->check(check_window)->capture_default_str();
  app.add_option("--limit", options->limit, "Show at most so many")->type_name("N")->check(CLI::Range(1, 1000))->capture_default_str();
}

}  // namespace

void add_logs(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callbacks
  app.require_subcommand(0, 1);
  common(app, options);
  app.callback([&session, options, &app] {
    if (app.get_subcommands().empty()) session.run = [&session, options] { return patterns(session, *options); };
  });
  CLI::App* of_file = app.add_subcommand("templates", "The kinds of lines of a file (no daemon needed), or of the stream");
  of_file->add_option("FILE", options->file, "A log file; - is standard input; without one, the stream");
  of_file->add_option("--format", options->format, "text, or csv: line_id,cluster,template for each line of FILE")->type_name("FORM")->check(CLI::IsMember({"text", "csv"}))->capture_default_str();
  of_file->callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      if (options->file.empty()) {
        if (options->format == "csv") return fail(Code::Invalid, "--format csv numbers the lines of a file: say which FILE");
        return patterns(session, *options);
      }
      ASSIGN(const std::string bytes, read_input(options->file));
      if (options->format == "csv") return file_csv(session, bytes);
      return show_templates(session, bytes, options->limit);
    };
  });
}

}  // namespace culprit::cli
