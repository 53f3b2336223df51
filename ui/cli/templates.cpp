// culprit templates FILE: the kinds of lines of a log, most frequent first.
#include <fmt/format.h>

#include <sstream>

#include "daemon/base/text.h"
#include "daemon/logs/miner.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

Json severity_of(std::uint8_t severity) {
  if (severity == stream::kUnset) return nullptr;
  static constexpr const char* kNames[] = {"trace", "debug", "info", "warn", "error", "fatal"};
  return kNames[std::min<std::size_t>((severity - 1U) / 4U, 5)];
}

std::string render(const Json& document, const Style& style) {
  Table table({{"lines", Table::Align::Right}, {"level"}, {"template"}});
  for (const Json& row : list(document, "templates")) {
    table.add({group_digits(static_cast<std::uint64_t>(number_or(row, "lines", 0))),
               text(row, "severity", "-"), text(row, "text")});
  }
  const Json& all = list(document, "templates");
  const std::string head = fmt::format(
      "{} lines, {} templates\n", group_digits(static_cast<std::uint64_t>(number_or(document, "lines", 0))),
      whole(document, "count"));
  const std::string rest =
      number_or(document, "count", 0) > static_cast<double>(all.size())
          ? fmt::format(" ... {} more (--limit)\n",
                        static_cast<std::size_t>(number_or(document, "count", 0)) - all.size())
          : "";
  return head + table.text(style, 0) + rest;
}

}  // namespace

Result<Exit> show_templates(const Session& session, const std::string& bytes, std::size_t limit) {
  std::istringstream in(bytes);
  ASSIGN(const std::vector<logs::Template> templates, logs::mine_file(in));
  Json rows = Json::array();
  std::uint64_t lines = 0;
  for (const logs::Template& one : templates) {
    lines += one.lines;
    if (rows.size() >= limit) continue;
    rows.push_back({{"name", logs::template_name(one.id)},
                    {"lines", one.lines},
                    {"severity", severity_of(one.severity)},
                    {"text", sanitize_utf8(one.text)},
                    {"example", sanitize_utf8(one.example)}});
  }
  return session.show_document(
      {{"api", 1}, {"lines", lines}, {"count", templates.size()}, {"templates", std::move(rows)}}, render);
}

void add_templates(CLI::App& app, Session& session) {
  struct Options {
    std::string file;
    std::size_t limit = 50;
  };
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  app.add_option("FILE", options->file, "A log file; - is standard input")->required();
  app.add_option("--limit", options->limit, "Show at most so many, the most frequent")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      ASSIGN(const std::string bytes, read_input(options->file));
      return show_templates(session, bytes, options->limit);
    };
  });
}

}  // namespace culprit::cli
