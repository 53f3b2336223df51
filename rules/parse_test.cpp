// Test cases of rules: events one by one, series in short form ("3ms x60, 400ms x30"), or a recorded file.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/stream/codec.h"
#include "rules/parse.h"

namespace culprit::rules {
namespace {

using graph::Fields;
using graph::Need;
using graph::Yaml;

constexpr std::int64_t kTestStartNs = 1'000 * kNsPerSecond;
constexpr std::uintmax_t kReplayBytesMax = 8U << 20U;

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// "400ms" -> 0.4, "95%" -> 0.95, "64MiB" -> 67108864, "3" -> 3.
std::optional<double> number_of(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"us", 1e-6}, {"ms", 1e-3}, {"min", 60}, {"%", 0.01}, {"s", 1}};
  for (const auto& [unit, factor] : kUnits) {
    if (!text.ends_with(unit)) continue;
    const auto number = graph::parse_number(trim(text.substr(0, text.size() - unit.size())));
    return number ? std::optional(*number * factor) : std::nullopt;
  }
  return graph::parse_number(text);
}

// One event of each value, `every` apart from the event's own time on. "-" is a second without a sample.
Result<void> add_series(std::string_view text, const stream::Event& first, std::int64_t every_ns, std::vector<stream::Event>& events) {
  std::int64_t time_ns = first.time_ns;
  while (true) {
    const auto comma = text.find(',');
    const std::string_view part = trim(text.substr(0, comma));
    const auto x = part.rfind(" x");
    const std::string_view value_text = trim(part.substr(0, x));
    const auto value = number_of(value_text);
    const auto times = x == std::string_view::npos ? std::optional<double>(1) : graph::parse_number(trim(part.substr(x + 2)));
    if ((!value && value_text != "-") || !times || *times < 1 || *times != std::trunc(*times)) {
      return fail(Code::Invalid, fmt::format("a series is 'VALUE xCOUNT, …' such as '3ms x60, 400ms x30', not '{}'", part.substr(0, 80)));
    }
    if (static_cast<double>(events.size()) + *times > static_cast<double>(kTestEventsMax)) return fail(Code::Invalid, fmt::format("more than {} events in a test", kTestEventsMax));
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(*times); ++i, time_ns += every_ns) {
      if (!value) continue;
      events.push_back(first);
      events.back().time_ns = time_ns;
      events.back().value = *value;
    }
    if (comma == std::string_view::npos) return {};
    text.remove_prefix(comma + 1);
  }
}

std::int64_t take_duration(Fields& f, std::string_view key, std::int64_t otherwise) {
  const std::string text = f.text(key);
  if (text.empty()) return otherwise;
  const auto parsed = parse_duration_ns(text);
  if (!parsed) f.findings().add(f.place_of(key), fmt::format("'{}' must be a duration, not '{}'", key, text.substr(0, 80)));
  return parsed.value_or(otherwise);
}

void read_event(const Yaml& node, graph::Findings& findings, std::vector<stream::Event>& events) {
  Fields f(node, "a test event", findings);
  if (node.kind != Yaml::Kind::Map) return;
  stream::Event event;
  event.time_ns = kTestStartNs + take_duration(f, "at", 0);
  if (const auto source = take_source(f, "a test event")) {
    event.kind = source->first;
    event.name = source->second;
  }
  event.entity = f.text("entity");
  event.body = f.text("body");
  event.value = f.number("value", -1e300, 1e300).value_or(0);
  if (const Yaml* attributes = f.map("attributes")) {
    for (std::size_t i = 0; i < attributes->keys.size() && i < attributes->items.size(); ++i) {
      if (attributes->items[i].kind != Yaml::Kind::Scalar) findings.add(attributes->items[i].place(), fmt::format("'attributes.{}' must be text", attributes->keys[i].text));
      else event.attributes.emplace_back(attributes->keys[i].text, attributes->items[i].text);
    }
  }
  const std::string series = f.text("series");
  const std::int64_t every_ns = take_duration(f, "every", kNsPerSecond);
  const auto repeat = f.number("repeat", 1, 10'000);
  if (!series.empty()) {
    if (auto added = add_series(series, event, every_ns, events); !added) findings.add(f.place_of("series"), added.error().message);
  } else {
    for (std::size_t i = 0; i < static_cast<std::size_t>(repeat.value_or(1)); ++i) {
      events.push_back(event);
      events.back().time_ns += static_cast<std::int64_t>(i) * every_ns;
    }
  }
  f.done();
}

// Events as `culprit incidents export` writes them; its header line is passed over.
Result<std::vector<stream::Event>> read_recording(const std::string& name, const RuleText& source) {
  const std::filesystem::path relative = name;
  for (const auto& part : relative) {
    if (part == "..") return fail(Code::Invalid, fmt::format("'{}' leaves the folder of the rule", name));
  }
  if (relative.is_absolute()) return fail(Code::Invalid, fmt::format("'{}' must be beside the rule's file", name));
  const std::filesystem::path file = std::filesystem::path(source.name).parent_path() / relative;
  std::error_code error;
  const auto bytes = std::filesystem::file_size(file, error);
  if (error) return fail_errno(error.value(), "read '" + file.string() + "'");
  if (bytes > kReplayBytesMax) return fail(Code::Exhausted, fmt::format("'{}' has {} bytes, at most {}", file.string(), bytes, kReplayBytesMax));
  std::ifstream stream(file, std::ios::binary);
  std::string line;
  std::vector<stream::Event> events;
  for (std::size_t number = 1; std::getline(stream, line); ++number) {
    if (line.empty() || (number == 1 && line.find("\"culprit_export\"") != std::string::npos)) continue;
    auto event = stream::decode_json(line);
    if (!event) return std::unexpected(event.error().context(fmt::format("{}:{}", file.string(), number)));
    if (events.size() == kTestEventsMax) return fail(Code::Exhausted, fmt::format("{}:{}: more than {} events", file.string(), number, kTestEventsMax));
    events.push_back(std::move(*event));
  }
  return events;
}

}  // namespace

RuleTest read_test(Fields& f, const RuleText& source) {
  RuleTest test;
  test.line = f.line();
  test.name = f.text("name", Need::Required);
  test.todo = f.text("todo");
  const Yaml* events = f.list("events");
  const std::string replay = f.text("replay");
  if ((events == nullptr) == replay.empty()) f.findings().add(f.place(), "a test has either 'events' or 'replay'");
  if (!replay.empty()) {
    if (auto recorded = read_recording(replay, source)) test.events = std::move(*recorded);
    else f.findings().add(f.place_of("replay"), recorded.error().message);
  } else if (events != nullptr) {
    for (const Yaml& node : events->items) {
      read_event(node, f.findings(), test.events);
      if (test.events.size() > kTestEventsMax) {
        f.findings().add(events->place(), fmt::format("more than {} events in a test", kTestEventsMax));
        test.events.clear();
        break;
      }
    }
  }
  for (const std::string& edge : f.texts("topology")) {
    const auto path = edge.find("<-") == std::string::npos ? std::count(edge.begin(), edge.end(), ' ') : 0;
    if (path != 2 || edge.find(" -") == std::string::npos || edge.find("-> ") == std::string::npos) {
      f.findings().add(f.place_of("topology"), fmt::format("an edge is '<entity> -<relation>-> <entity>', not '{}'", edge.substr(0, 80)));
    } else {
      test.topology.push_back(edge);
    }
  }
  const Yaml* expect = f.find("expect", Need::Required);
  if (expect != nullptr && expect->kind == Yaml::Kind::Map) {
    Fields e(*expect, "an expectation", f.findings());
    test.expect = {.fires = true, .cause = e.text("cause"), .explain = e.text("explain")};
    if (const Yaml* blame = e.find("blame"); blame != nullptr && blame->kind == Yaml::Kind::List) {
      test.expect.blame = e.texts("blame");
    } else if (std::string one = e.text("blame"); !one.empty()) {
      test.expect.blame = {std::move(one)};
    }
    std::ranges::sort(test.expect.blame);
    test.expect.weight = e.number("weight", 0, 200);
    e.done();
  } else if (expect != nullptr && expect->text == "fires") {
    test.expect.fires = true;
  } else if (expect != nullptr && expect->text != "none") {
    f.findings().add(expect->place(), "'expect' must be none, fires, or a map of cause, blame, explain, weight");
  }
  return test;
}

}  // namespace culprit::rules
