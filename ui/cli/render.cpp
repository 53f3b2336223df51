#include "ui/cli/render.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/text.h"

namespace culprit::cli {

std::string render_completeness(const Json& completeness, const Style& style);  // render_explanation.cpp

namespace {

using Align = Table::Align;

std::string time_of(const Json& row, const char* key, const Style& style) {
  const auto time = wall_ns(row, key);
  return time ? local_time(*time, style.now_wall_ns) : "-";
}

std::string seconds_of(const Json& row, const char* key) {
  const auto value = number(row, key);
  return value ? format_seconds(*value) : "-";
}

std::string share_of(const Json& row, const char* key) {
  const auto value = number(row, key);
  return value ? share_text(*value) : "-";
}

std::string rate_of(const Json& row, const char* key) {
  const auto value = number(row, key);
  return value ? rate_text(*value) : "-";
}

std::string bytes_of(const Json& row, const char* key) {
  const auto value = number(row, key);
  return value ? format_bytes(*value) : "-";
}

std::string count_of(const Json& row, const char* key) {
  const auto value = number(row, key);
  return value && *value >= 0 && *value < 1e18 ? group_digits(static_cast<std::uint64_t>(*value)) : "-";
}

std::string dropped_text(const Json& dropped) {
  std::string line;
  if (!dropped.is_object()) return "-";
  for (const auto& [reason, count] : dropped.items()) {
    if (!count.is_number() || !(count.get<double>() > 0) || count.get<double>() > 1e18) continue;
    line += fmt::format("{}{} {}", line.empty() ? "" : ", ",
                        group_digits(static_cast<std::uint64_t>(count.get<double>())), one_line(reason));
  }
  return line.empty() ? "0" : line;
}

std::string heading(const Style& style, std::string_view text) {
  return paint(style, Paint::Bold, text) + "\n";
}

// The top cause of an incident's row, in one line; empty if none was found.
std::string top_text(const Json& row) {
  const Json& top = field(row, "top");
  if (!top.is_object()) return text(row, "verdict") == "inconclusive" ? "inconclusive" : "";
  const auto confidence = number(top, "confidence");
  return text(top, "title") +
         (confidence ? fmt::format(" (confidence {:.2f})", std::clamp(*confidence, 0.0, 1.0)) : "");
}

Paint health_paint(std::string_view health) {
  return health == "ok" ? Paint::Green : health == "incident" ? Paint::Red : Paint::Yellow;
}

}  // namespace

std::string render_summary(const Json& document, const Style& style) {
  const std::string health = text(document, "health", "unknown");
  const std::string head =
      fmt::format("{}: {}", text(document, "host", "this host"), text(document, "text", health));
  const std::string right = fmt::format("culpritd {}, up {}", text(document, "version", "?"),
                                        span_text(number_or(document, "uptime_s", 0)));
  const std::string lines = both_ends(head, right, 0, style.width);
  const std::size_t first = std::min(lines.find('\n'), lines.size());
  std::string out = paint(style, health_paint(health), lines.substr(0, first)) + lines.substr(first);

  for (const Json& row : list(document, "incidents")) {
    const std::string label = fmt::format(" incident {}  ", whole(row, "incident"));
    const auto put = [&](const std::string& start, const std::string& content) {
      const std::vector<std::string> parts = wrap(content, style.width - label.size());
      for (std::size_t i = 0; i < parts.size(); ++i)
        out += (i == 0 ? start : std::string(label.size(), ' ')) + parts[i] + "\n";
    };
    put(label, text(row, "headline"));
    if (const std::string top = top_text(row); !top.empty()) put(std::string(label.size(), ' '), top);
    put(std::string(label.size(), ' '), "next: culprit incidents show " + whole(row, "incident"));
  }
  const Json& services = field(document, "services");
  out += fmt::format(" services: {} seen, {} watched, {} with a symptom\n", count_of(services, "seen"),
                     count_of(services, "watched"), count_of(services, "with_symptom"));
  Table changes({{""}, {""}});
  for (const Json& row : list(document, "changes"))
    changes.add({time_of(row, "time", style), text(row, "text", text(row, "name"))});
  if (!changes.empty()) out += " changed lately:\n" + changes.text(style, 3);
  for (const std::string& problem : texts(document, "problems")) {
    for (const std::string& part : wrap("problem: " + problem, style.width - 1))
      out += " " + paint(style, Paint::Yellow, part) + "\n";
  }
  return out + render_completeness(field(document, "completeness"), style);
}

std::string render_incidents(const Json& document, const Style& style) {
  const Json& rows = list(document, "incidents");
  if (rows.empty()) return "no incident was seen (a service's state now: culprit why SERVICE)\n";
  Table table(
      {{"#", Align::Right}, {"state"}, {"opened"}, {"lasted", Align::Right}, {"what, and the first cause"}});
  for (const Json& row : rows) {
    const auto opened = wall_ns(row, "opened");
    const auto closed = wall_ns(row, "closed");
    const std::int64_t end = closed.value_or(style.now_wall_ns);
    const std::string lasted =
        opened ? span_text(static_cast<double>(std::max<std::int64_t>(0, end - *opened)) / 1e9) : "-";
    std::string judged;
    for (const Json& feedback : list(row, "feedback"))
      judged = fmt::format(" [judged: {}]", text(feedback, "verdict"));
    table.add({whole(row, "incident"), text(row, "state"),
               opened ? local_time(*opened, style.now_wall_ns) : "-", lasted,
               text(row, "headline") + judged});
    if (const std::string top = top_text(row); !top.empty()) table.add({"", "", "", "", "-> " + top});
  }
  return table.text(style, 1) + " one of them in full: culprit incidents show N\n";
}

std::string render_services(const Json& document, const Style& style) {
  const Json& rows = list(document, "services");
  if (rows.empty()) return "no service was seen yet (what the daemon collects: culprit status)\n";
  Table table({{"service"},
               {"state"},
               {"watched"},
               {"requests", Align::Right},
               {"errors", Align::Right},
               {"p99", Align::Right},
               {"cpu", Align::Right},
               {"memory", Align::Right},
               {"listens"}});
  for (const Json& row : rows) {
    const auto cpu = number(row, "cpu_cores");
    table.add({text(row, "service"), text(row, "state"), truth(row, "watched") ? "yes" : "no",
               rate_of(row, "rate"), share_of(row, "error_share"), seconds_of(row, "p99_s"),
               cpu ? fmt::format("{:.2f}", std::clamp(*cpu, 0.0, 1e6)) : "-", bytes_of(row, "rss_bytes"),
               scalar(field(row, "listens"))});
    for (const Json& endpoint : list(row, "endpoints")) {
      table.add({"  " + text(endpoint, "endpoint"), "", "", rate_of(endpoint, "rate"),
                 share_of(endpoint, "error_share"), seconds_of(endpoint, "p99_s")});
    }
  }
  std::string out = table.text(style, 1);
  Table edges({{"calls"},
               {"requests", Align::Right},
               {"errors", Align::Right},
               {"mean", Align::Right},
               {"p99", Align::Right},
               {"share of caller's time", Align::Right}});
  for (const Json& edge : list(document, "edges")) {
    edges.add({text(edge, "from") + " -> " + text(edge, "to"), rate_of(edge, "rate"),
               share_of(edge, "error_share"), seconds_of(edge, "mean_s"), seconds_of(edge, "p99_s"),
               share_of(edge, "wait_share")});
  }
  return edges.empty() ? out : out + "\n" + edges.text(style, 1);
}

std::string render_channels(const Json& document, const Style& style) {
  Table table({{"channel"},
               {"length", Align::Right},
               {"capacity", Align::Right},
               {"high", Align::Right},
               {"index s/r", Align::Right},
               {"parked s/r", Align::Right},
               {"sent", Align::Right},
               {"received", Align::Right},
               {"blocked", Align::Right},
               {"dropped"}});
  for (const Json& row : list(document, "channels")) {
    table.add({text(row, "name"), count_of(row, "length"), count_of(row, "capacity"),
               count_of(row, "high_water"), count_of(row, "send_index") + "/" + count_of(row, "receive_index"),
               count_of(row, "parked_senders") + "/" + count_of(row, "parked_receivers"),
               count_of(row, "sent"), count_of(row, "received"), seconds_of(row, "blocked_s"),
               field(row, "dropped_by_reason").is_object() ? dropped_text(field(row, "dropped_by_reason")) : count_of(row, "dropped")});
  }
  return table.empty() ? "no channel\n" : table.text(style, 1);
}

std::string render_status(const Json& document, const Style& style) {
  std::string out = fmt::format("culpritd {}, pid {}, up {}\n", text(document, "version", "?"),
                                whole(document, "pid"), span_text(number_or(document, "uptime_s", 0)));
  Table processes({{"process"},
                   {"pid", Align::Right},
                   {"state"},
                   {"cpu", Align::Right},
                   {"memory", Align::Right},
                   {"restarts", Align::Right}});
  for (const Json& row : list(document, "processes")) {
    processes.add({text(row, "name"), whole(row, "pid"), text(row, "state"), share_of(row, "cpu_share"),
                   bytes_of(row, "rss_bytes"), count_of(row, "restarts")});
  }
  out += processes.text(style, 1);
  if (const Json& calls = field(document, "calls"); calls.is_object()) {
    out += fmt::format(" system calls were observed {} of the last second (their entry too: {})\n",
                       share_of(calls, "returns_observed_share"), share_of(calls, "entries_observed_share"));
    if (number_or(calls, "watched_rested_share", 0) > 0.01) {
      out += fmt::format(" those of the watched were left alone {} of it: more than payload_per_second\n", share_of(calls, "watched_rested_share"));
    }
  }
  Table sources({{"source"},
                 {"rate", Align::Right},
                 {"produced", Align::Right},
                 {"stored", Align::Right},
                 {"in flight", Align::Right},
                 {"dropped"}});
  for (const Json& row : list(document, "sources")) {
    sources.add({text(row, "source"), rate_of(row, "per_s"), count_of(row, "produced"),
                 count_of(row, "stored"), count_of(row, "in_flight"), dropped_text(field(row, "dropped"))});
  }
  out += "\n" + heading(style, "sources") + sources.text(style, 1);
  out += "\n" + heading(style, "channels") + render_channels(document, style);
  Table maps({{"map"},
              {"entries", Align::Right},
              {"segments", Align::Right},
              {"load", Align::Right},
              {"splits", Align::Right},
              {"tombstones", Align::Right},
              {"memory", Align::Right},
              {"longest insert", Align::Right},
              {"refused", Align::Right}});
  for (const Json& row : list(document, "maps")) {
    maps.add({text(row, "name"), count_of(row, "entries"), count_of(row, "segments"), share_of(row, "load"),
              count_of(row, "splits"), count_of(row, "tombstones"), bytes_of(row, "bytes"),
              seconds_of(row, "longest_insert_s"), count_of(row, "refused")});
  }
  if (!maps.empty()) out += "\n" + heading(style, "maps") + maps.text(style, 1);
  const Json& stream = field(document, "stream");
  if (stream.is_object()) {
    out += "\n" + heading(style, "stream") +
           fmt::format(" {} events since {}: {} in memory, {} not yet on disk, {} on disk\n",
                       count_of(stream, "events"), time_of(stream, "oldest", style),
                       count_of(stream, "in_memory"), count_of(stream, "pending"),
                       bytes_of(stream, "disk_bytes"));
  }
  return out + render_completeness(field(document, "completeness"), style);
}

std::string render_doctor(const Json& document, const Style& style) {
  Table checks({{"check"}, {""}, {"found"}});
  std::size_t bad = 0;
  for (const Json& row : list(document, "checks")) {
    const std::string state = text(row, "state");
    if (state == "fail" || state == "warn") ++bad;
    std::string found = text(row, "text");
    if (const std::string fix = text(row, "fix"); !fix.empty()) found += " -> " + fix;
    const std::string name = text(row, "group") + ": " + text(row, "name");
    checks.add({name,
                paint(style,
                      state == "fail"   ? Paint::Red
                      : state == "warn" ? Paint::Yellow
                                        : Paint::Dim,
                      state),
                found});
  }
  std::string out = checks.text(style, 1);
  Table programs({{"program"}, {""}, {"hook"}, {"reason"}});
  std::size_t attached = 0;
  std::size_t count = 0;
  for (const Json& row : list(document, "programs")) {
    const std::string state = text(row, "state");
    ++count;
    if (state == "attached") ++attached;
    programs.add({text(row, "program"), state, text(row, "hook"), text(row, "reason")});
  }
  if (count > 0)
    out += fmt::format("\n{} of {} programs attached\n", attached, count) + programs.text(style, 1);
  if (bad > 0) return out + fmt::format("\n{} finding{} to look at\n", bad, bad == 1 ? "" : "s");
  return out + "\nnothing to do\n";
}

std::string render_config(const Json& document, const Style& style) {
  Table table({{"key"}, {"value"}, {"from"}, {""}});
  for (const Json& row : list(document, "values")) {
    table.add({text(row, "key"), scalar(field(row, "value")), text(row, "origin"), text(row, "text")});
  }
  return table.text(style, 0);
}

}  // namespace culprit::cli
