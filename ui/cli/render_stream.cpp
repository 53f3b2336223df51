// Documents of the event stream as text: events, differences, series, the store.
#include <fmt/format.h>

#include <cmath>

#include "daemon/base/text.h"
#include "ui/cli/render.h"

namespace culprit::cli {
namespace {

using Align = Table::Align;

std::string when(const Json& row, std::string_view name, const Style& style) {
  const auto time = wall_ns(row, std::string(name));
  return time ? fmt::format("{}.{:03}", local_time(*time, style.now_wall_ns), *time / 1'000'000 % 1000) : "-";
}

// Name, value, severity, text and attributes.
std::string what_of(const Json& row) {
  const std::string kind = text(row, "kind");
  std::string what = text(row, "name");
  const auto value = number(row, "value");
  if (kind == "span" && value)
    what += " " + format_seconds(*value);
  else if (value && (kind == "sample" || *value != 0))
    what += fmt::format(" {:.6g}", *value);
  if (const std::string severity = text(row, "severity"); severity == "error" || severity == "fatal" || severity == "warn")
    what += " " + severity;
  if (const std::string body = text(row, "body"); !body.empty()) what += ": " + body;
  const Json& attributes = field(row, "attributes");
  if (attributes.is_object()) {
    for (const auto& [key, content] : attributes.items()) what += fmt::format(" {}={}", one_line(key), scalar(content));
  }
  return what;
}

std::string short_number(const Json& row, const char* name) {
  const auto value = number(row, name);
  return value ? fmt::format("{:.4g}", *value) : "-";
}

// What is missing of an answer; nothing if it is whole.
std::string incomplete(const Json& complete) {
  std::string text_of;
  if (const auto lost = number(complete, "events_lost"); lost && *lost > 0)
    text_of += fmt::format("{} events of this time are in damaged blocks and missing here: culprit store verify\n", group_digits(static_cast<std::uint64_t>(*lost)));
  if (truth(complete, "time_was_up")) text_of += "the time for this question was up before all was read: narrow it\n";
  return text_of;
}

}  // namespace

std::string render_events(const Json& document, const Style& style) {
  const Json& rows = list(document, "events");
  if (rows.empty()) return "no event matches\n" + incomplete(field(document, "complete"));
  Table table({{"time"}, {"kind"}, {"entity"}, {"name, value, text"}});
  for (const Json& row : rows) table.add({when(row, "time", style), text(row, "kind"), text(row, "entity"), what_of(row)});
  return table.text(style, 0) +
         (truth(document, "truncated") ? "more events match: narrow the question or raise --limit\n" : "") +
         incomplete(field(document, "complete"));
}

std::string render_event_line(const Json& row, const Style& style) {
  return fmt::format("{}  {:<6}  {}  {}\n", when(row, "time", style), text(row, "kind"), text(row, "entity"), one_line(what_of(row)));
}

std::string render_diff(const Json& document, const Style& style) {
  const Json& rows = list(document, "changes");
  std::string end;
  if (const auto left = number(document, "left_out"); left && *left > 0) end += fmt::format("{} smaller differences are left out: raise --limit\n", *left);
  if (const Json& fields = list(document, "fields_left_out"); !fields.empty()) {
    end += "too many values to compare:";
    for (const Json& each : fields) end += " " + scalar(each);
    end += "\n";
  }
  const Json& complete = field(document, "complete");
  if (complete.is_object()) {
    for (const char* window : {"before", "now"}) {
      if (const std::string missing = incomplete(field(complete, window)); !missing.empty()) end += fmt::format("{}: {}", window, missing);
    }
  }
  if (rows.empty()) return "nothing differs\n" + end;
  Table table({{"effect", Align::Right}, {"before", Align::Right}, {"now", Align::Right}, {"what"}, {"value"}});
  for (const Json& row : rows) {
    const std::string what = text(row, "field");
    const bool mean = what == "series" || what == "duration";
    const auto amount = [&](const char* mean_name, const char* rate_name) {
      return mean ? short_number(row, mean_name) : short_number(row, rate_name) + "/s";
    };
    table.add({fmt::format("{:+.2f}", number(row, "effect").value_or(0)), amount("before_mean", "before_per_s"), amount("now_mean", "now_per_s"), what, text(row, "value")});
  }
  return table.text(style, 0) + end;
}

std::string render_series(const Json& document, const Style& style) {
  const Json& rows = list(document, "series");
  const std::string end = incomplete(field(document, "complete"));
  if (rows.empty()) return "no series matches\n" + end;
  Table table({{"entity"}, {"points", Align::Right}, {"min", Align::Right}, {"mean", Align::Right}, {"p99", Align::Right}, {"max", Align::Right},
               {"latest", Align::Right}, {"name"}});
  for (const Json& row : rows) {
    table.add({text(row, "entity"), short_number(row, "count"), short_number(row, "min"), short_number(row, "mean"), short_number(row, "p99"),
               short_number(row, "max"), short_number(row, "latest"), text(row, "name")});
  }
  const auto left = number(document, "left_out");
  return table.text(style, 0) + (left && *left > 0 ? fmt::format("{} more series match: narrow the question or raise --limit\n", *left) : "") + end;
}

std::string render_store(const Json& document, const Style& style) {
  const auto count = [&](const char* name) { return group_digits(static_cast<std::uint64_t>(number(document, name).value_or(0))); };
  const auto bytes = [&](const char* name) { return format_bytes(number(document, name).value_or(0)); };
  std::string out = fmt::format("{}\n", text(document, "folder"));
  Table table({{""}, {""}});
  const auto time = [&](const char* name) {
    const auto at = wall_ns(document, name);
    return at ? local_date_time(*at) : std::string("-");
  };
  table.add({"events", fmt::format("from {} to {}", time("oldest"), time("newest"))});
  table.add({"since the start", fmt::format("{} taken, {} stored, {} removed by retention", count("appended"), count("stored"), count("pruned"))});
  table.add({"on disk", bytes("on_disk_bytes")});
  table.add({"in memory", fmt::format("{} events, {}", count("in_memory"), bytes("in_memory_bytes"))});
  table.add({"not yet durable", count("pending")});
  table.add({"commits", fmt::format("{}, {} failed", count("commits"), count("commit_failures"))});
  table.add({"damage", fmt::format("{} blocks unreadable, {} files set aside", count("blocks_unreadable"), count("files_set_aside"))});
  const Json& dropped = field(document, "dropped");
  if (dropped.is_object()) {
    for (const auto& [reason, number_of] : dropped.items()) table.add({"lost", fmt::format("{} ({})", scalar(number_of), one_line(reason))});
  }
  return out + table.text(style, 1);
}

}  // namespace culprit::cli
