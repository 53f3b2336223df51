// culprit sources: where events of other tools come from. culprit import: a file of one. culprit trace: one trace as a
// waterfall.
#include <fmt/format.h>

#include <cstdlib>

#include "daemon/base/text.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

std::string count(const Json& row, std::string_view key) { return group_digits(static_cast<std::uint64_t>(number_or(row, key, 0))); }

std::string render_sources(const Json& document, const Style& style) {
  Table table({{"source"}, {"state"}, {"stored", Table::Align::Right}, {"in flight", Table::Align::Right}, {"dropped", Table::Align::Right}, {"malformed", Table::Align::Right}, {"target"}});
  std::string notes;
  for (const Json& row : list(document, "sources")) {
    std::uint64_t lost = 0;
    std::string reasons;
    for (const auto& [reason, value] : field(row, "dropped").items()) {
      const auto many = static_cast<std::uint64_t>(value.is_number() ? value.get<double>() : 0);
      lost += many;
      reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", group_digits(many), one_line(reason));
    }
    table.add({text(row, "source"), text(row, "state"), count(row, "stored"), count(row, "in_flight"), group_digits(lost), count(row, "malformed"), text(row, "target")});
    if (text(row, "state") == "failed") notes += fmt::format("{}: {}\n", text(row, "source"), text(row, "text"));
    if (lost > 0) notes += fmt::format("{}: dropped {}\n", text(row, "source"), reasons);
    if (const std::string error = text(row, "last_error"); !error.empty()) notes += fmt::format("{}: last error: {}\n", text(row, "source"), error);
  }
  return table.text(style, 0) + notes;
}

std::string render_import(const Json& document, const Style&) {
  std::string out = fmt::format("{} records, {} events stored", count(document, "records"), count(document, "events"));
  if (number_or(document, "events", 0) > 0) out += fmt::format(", from {} to {}", text(document, "first"), text(document, "last"));
  out += "\n";
  if (number_or(document, "rejected", 0) > 0) out += fmt::format("{} rejected: {}\n", count(document, "rejected"), text(document, "rejected_why"));
  return out;
}

std::string render_source(const Json& document, const Style&) {
  std::string out = text(document, "text") + "\n";
  for (const Json& row : list(document, "examples")) {
    out += fmt::format("  {}  {}  {}{}\n", text(row, "time"), text(row, "entity"), text(row, "name"), text(row, "body").empty() ? fmt::format(" {}", number_or(row, "value", 0)) : text(row, "body"));
  }
  for (const std::string& problem : texts(document, "problems")) out += "problem: " + one_line(problem) + "\n";
  if (const std::string name = text(document, "source"); !name.empty()) out += fmt::format("added as '{}'; culprit sources list shows how it goes\n", name);
  return out;
}

void add_source_command(CLI::App& app, Session& session, const char* verb, const char* summary) {
  struct Options {
    std::string type;
    std::vector<std::string> settings;
  };
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  CLI::App* command = app.add_subcommand(verb, summary);
  command->add_option("TYPE", options->type, "file, journald, kubernetes, scrape or syslog")->required();
  command->add_option("SETTING", options->settings, "Its options: path=/var/log/shop.log format=json service=shop")->type_name("KEY=VALUE");
  command->callback([&session, options, verb] {
    session.run = [&session, options, verb]() -> Result<Exit> {
      Json body = {{"type", options->type}};
      for (const std::string& setting : options->settings) {
        const std::size_t equals = setting.find('=');
        if (equals == std::string::npos || equals == 0) return fail(Code::Invalid, fmt::format("'{}' is not KEY=VALUE", setting));
        body[setting.substr(0, equals)] = setting.substr(equals + 1);
      }
      return session.show(session.client().post(fmt::format("/api/v1/sources/{}", verb), body), render_source,
                          [](const Json& document) { return !list(document, "problems").empty(); });
    };
  });
}

// A bar of where the span lies within the trace.
std::string bar(double offset, double duration, double whole_s, std::size_t width) {
  if (whole_s <= 0) return {};
  const auto column = [&](double seconds) { return std::min(width, static_cast<std::size_t>(std::max(0.0, seconds) / whole_s * static_cast<double>(width))); };
  const std::size_t begin = std::min(column(offset), width - 1), end = std::max(begin + 1, column(offset + duration));
  return std::string(begin, ' ') + std::string(end - begin, '=');
}

// What the kernel says of a span's own time; parts that nobody would feel are left out. "~" is before what is an estimate: a share of
// the sums that the kernel keeps of the process in a second.
std::string kernel_waits(const Json& kernel, double duration_s, bool first) {
  if (!kernel.is_object()) return {};
  static constexpr std::pair<const char*, const char*> kParts[] = {{"run_queue_s", "run queue"}, {"disk_s", "disk"}, {"lock_s", "lock or sleep"}, {"cpu_s", "CPU"}};
  std::string out;
  const auto add = [&](std::string_view what, double seconds, bool estimate) {
    if (seconds < std::max(1e-5, duration_s / 100)) return;
    out += fmt::format("{}{} {}{}", first && out.empty() ? "" : ", ", what, estimate ? "~" : "", format_seconds(seconds));
  };
  if (!truth(kernel, "estimated")) {
    add("network", number_or(kernel, "network_s", 0), false);
    return out;
  }
  const double timed_s = number_or(kernel, "disk_timed_s", 0);  // by the probe, in this request's thread
  for (const auto& [key, name] : kParts) {
    const double seconds = number_or(kernel, key, 0);
    if (std::string_view(key) == "disk_s" && timed_s > 0.95 * seconds) add(name, timed_s, false);
    else if (std::string_view(key) == "run_queue_s" && truth(kernel, "run_queue_exact")) add(name, seconds, false);
    else if (truth(kernel, "of_second")) add(name, seconds, true);
  }
  return out;
}

std::string render_trace(const Json& document, const Style& style) {
  const double whole_s = number_or(document, "duration_s", 0);
  std::string out = fmt::format("trace {}, {}, {} spans, {} log lines\n", text(document, "trace_id"), format_seconds(whole_s), list(document, "spans").size(), list(document, "logs").size());
  Table table({{"span"}, {"took", Table::Align::Right}, {"where"}, {"seen by"}, {"waits"}});
  bool estimates = false;
  for (const Json& row : list(document, "spans")) {
    std::string waits;
    for (const auto& [key, value] : field(row, "waits").items()) {
      const std::string seconds = scalar(value);
      if (key != "self") waits += fmt::format("{}{} {}", waits.empty() ? "" : ", ", one_line(key.starts_with("wait.") ? key.substr(5) : key), format_seconds(std::strtod(seconds.c_str(), nullptr)));
    }
    const std::string kernel = kernel_waits(field(row, "kernel"), number_or(row, "duration_s", 0), waits.empty());
    estimates = estimates || kernel.find('~') != std::string::npos;
    waits += kernel;
    table.add({std::string(std::min<std::size_t>(20, static_cast<std::size_t>(number_or(row, "depth", 0))) * 2, ' ') + text(row, "service") + ": " + text(row, "name") + (truth(row, "error") ? "  ERROR" : ""),
               format_seconds(number_or(row, "duration_s", 0)), bar(number_or(row, "offset_s", 0), number_or(row, "duration_s", 0), whole_s, 30), text(row, "seen_by"), waits});
  }
  out += table.text(style, 0);
  if (estimates) out += "~ estimated: a share of what the kernel summed up for the whole process in a second\n";
  for (const Json& row : list(document, "logs")) {
    out += fmt::format("{:>10}  {}: {}{}\n", "+" + format_seconds(std::max(0.0, number_or(row, "offset_s", 0))), text(row, "service"), text(row, "severity").empty() ? "" : text(row, "severity") + ": ", text(row, "body"));
  }
  if (truth(document, "truncated")) out += "... more than is shown here\n";
  return out;
}

}  // namespace

void add_sources(CLI::App& app, Session& session) {
  app.require_subcommand(1);
  CLI::App* all = app.add_subcommand("list", "Every source with its counters: produced = stored + in flight + dropped");
  all->callback([&session] {
    session.run = [&session] {
      return session.show(session.client().get("/api/v1/sources"), render_sources, [](const Json& document) {
        for (const Json& row : list(document, "sources")) {
          if (text(row, "state") == "failed") return true;
        }
        return false;
      });
    };
  });
  add_source_command(app, session, "test", "What a source would find, with the daemon's rights; nothing is kept");
  add_source_command(app, session, "add", "Start a source now and keep it (a test that fails adds nothing)");
}

void add_import(CLI::App& app, Session& session) {
  struct Options {
    std::string file, format = "auto";
  };
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  app.add_option("FILE", options->file, "What the other tool exported; - is standard input")->required();
  app.add_option("--format", options->format, "auto, jaeger, zipkin, otlp or kubernetes")->type_name("FORMAT")->capture_default_str();
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      ASSIGN(const std::string bytes, read_input(options->file));
      const std::string target = fmt::format("/api/v1/import?name={}&format={}", escape(options->file), escape(options->format));
      return session.show(session.client().post_bytes(target, bytes), render_import);
    };
  });
}

void add_trace(CLI::App& app, Session& session) {
  const auto id = std::make_shared<std::string>();
  app.add_option("ID", *id, "The trace's id, 32 hexadecimal digits")->required();
  app.callback([&session, id] {
    session.run = [&session, id] { return session.show(session.client().get("/api/v1/traces/" + escape(*id)), render_trace); };
  });
}

}  // namespace culprit::cli
