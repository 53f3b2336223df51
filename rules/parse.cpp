#include "rules/parse.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/text.h"
#include "rules/regex.h"
#include "rules/template.h"

namespace culprit::rules {
namespace {

using graph::Fields;
using graph::Findings;
using graph::Need;
using graph::Yaml;

constexpr std::string_view kStatuses[] = {"sandbox", "incubating", "stable", "deprecated"};
constexpr Kind kKinds[] = {Kind::Log, Kind::Sample, Kind::Kernel, Kind::Change, Kind::Span, Kind::Alert};
constexpr std::size_t kTestEventsMax = 10'000;
constexpr std::int64_t kTestStartNs = 1'000'000'000'000;

bool is_id(std::string_view text, char joiner) {
  return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [joiner](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == joiner;
  });
}

// Exactly one of log, metric, kernel, change, span, alert: its kind and name.
std::optional<std::pair<Kind, std::string>> take_source(Fields& f, std::string_view what) {
  std::optional<std::pair<Kind, std::string>> source;
  for (const Kind kind : kKinds) {
    const std::string_view key = kind_key(kind);
    const Yaml* value = f.find(key);
    if (value == nullptr) continue;
    if (source) {
      f.findings().add(f.line_of(key), fmt::format("{} names two sources, '{}' and '{}'", what, kind_key(source->first), key));
      continue;
    }
    source = std::pair(kind, f.text(key));
  }
  if (!source) f.findings().add(f.line(), fmt::format("{} must name one of log, metric, kernel, change, span, alert", what));
  return source;
}

std::vector<std::pair<std::string, std::string>> take_pairs(Fields& f, std::string_view key) {
  std::vector<std::pair<std::string, std::string>> result;
  const Yaml* map = f.map(key);
  if (map == nullptr) return result;
  for (std::size_t i = 0; i < map->keys.size() && i < map->items.size(); ++i) {
    if (map->items[i].kind != Yaml::Kind::Scalar) {
      f.findings().add(map->items[i].line, fmt::format("'{}.{}' must be text", key, map->keys[i].text));
      continue;
    }
    result.emplace_back(map->keys[i].text, map->items[i].text);
  }
  return result;
}

struct Within {
  std::string of;
  int line = 0;
};

// "60s", "60s before kill", "5m around".
void take_within(Fields& f, MatchItem& item, Within& within) {
  const std::string text = f.text("within");
  if (text.empty()) return;
  within.line = f.line_of("within");
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  const auto duration = words.empty() ? std::nullopt : parse_duration_ns(words[0]);
  item.when = When::Around;
  bool good = duration.has_value() && words.size() <= 3;
  if (good && words.size() > 1) {
    if (words[1] == "before") item.when = When::Before;
    else if (words[1] == "after") item.when = When::After;
    else if (words[1] != "around") good = false;
  }
  if (!good) {
    f.findings().add(within.line, fmt::format("'within' must be '<duration> [before|after|around [<match id>]]', not '{}'", text.substr(0, 80)));
    return;
  }
  item.within_ns = *duration;
  if (words.size() == 3) within.of = words[2];
}

MatchItem read_item(Fields& f, Within& within) {
  MatchItem item;
  item.id = f.text("id", Need::Required);
  if (!item.id.empty() && !is_id(item.id, '_')) f.findings().add(f.line_of("id"), fmt::format("match id '{}' must be lower-case letters, digits and '_'", item.id.substr(0, 80)));
  if (const auto source = take_source(f, "a match item")) {
    item.kind = source->first;
    item.name = source->second;
  }
  item.entity = f.text("entity");
  item.text = f.text("text");
  item.regex = f.text("regex");
  if (!item.regex.empty()) {
    if (auto regex = Regex::compile(item.regex)) item.compiled = std::move(*regex);
    else f.findings().add(f.line_of("regex"), fmt::format("regex of '{}': {}", item.id, regex.error().message));
  }
  item.where = take_pairs(f, "where");
  item.above = f.number("above", -1e300, 1e300);
  item.below = f.number("below", -1e300, 1e300);
  item.optional = f.flag("optional").value_or(false);
  item.negated = f.flag("not").value_or(false);
  item.same_entity = f.flag("same_entity").value_or(false);
  item.least = static_cast<std::size_t>(f.number("least", 1, 100'000).value_or(1));
  item.weight = f.number("weight", 0, 10).value_or(1.0);
  take_within(f, item, within);
  if (item.kind == Kind::Log && item.name.empty() && item.text.empty() && item.regex.empty()) {
    f.findings().add(f.line(), fmt::format("log item '{}' would fit every line: give it a text or regex", item.id));
  }
  return item;
}

// Checks that every reference of the template names a match item that is always there when it is rendered.
void check_template(const Rule& rule, std::string_view key, std::string_view text, int line, Findings& findings) {
  const auto found = references(text);
  if (!found) return findings.add(line, fmt::format("'{}': {}", key, found.error().message));
  std::vector<std::string> ids;
  for (const MatchItem& item : rule.match) ids.push_back(item.id);
  for (const Reference& reference : *found) {
    const auto item = std::ranges::find(rule.match, reference.id, &MatchItem::id);
    if (item == rule.match.end()) {
      findings.add(line, fmt::format("'{}' speaks of '{}', which no match item is called{}", key, reference.id, graph::did_you_mean(reference.id, ids)));
    } else if (item->negated) {
      findings.add(line, fmt::format("'{}' speaks of '{}', which must be absent", key, reference.id));
    }
  }
}

std::vector<Observation> read_events(Fields& test) {
  std::vector<Observation> events;
  const Yaml* list = test.list("events", Need::Required);
  if (list == nullptr) return events;
  if (list->items.size() > kTestEventsMax) {
    test.findings().add(list->line, fmt::format("more than {} events in a test", kTestEventsMax));
    return events;
  }
  for (const Yaml& node : list->items) {
    Fields f(node, "a test event", test.findings());
    if (node.kind != Yaml::Kind::Map) continue;
    Observation event;
    const std::string at = f.text("at");
    const auto at_ns = at.empty() ? std::optional<std::int64_t>(0) : parse_duration_ns(at);
    if (!at_ns) f.findings().add(f.line_of("at"), fmt::format("'at' must be a duration, not '{}'", at.substr(0, 80)));
    event.time_ns = kTestStartNs + at_ns.value_or(0);
    if (const auto source = take_source(f, "a test event")) {
      event.kind = source->first;
      event.name = source->second;
    }
    event.entity = f.text("entity");
    event.body = f.text("body");
    event.value = f.number("value", -1e300, 1e300).value_or(0);
    event.attributes = take_pairs(f, "attributes");
    event.ref = events.size();
    f.done();
    events.push_back(std::move(event));
  }
  return events;
}

RuleTest read_test(Fields& f) {
  RuleTest test;
  test.line = f.line();
  test.name = f.text("name", Need::Required);
  test.events = read_events(f);
  const Yaml* expect = f.find("expect", Need::Required);
  if (expect != nullptr && expect->kind == Yaml::Kind::Map) {
    Fields e(*expect, "an expectation", f.findings());
    test.expect = {.fires = true, .cause = e.text("cause"), .blame = e.text("blame"), .explain = e.text("explain")};
    e.done();
  } else if (expect != nullptr && expect->text == "fires") {
    test.expect.fires = true;
  } else if (expect != nullptr && expect->text != "none") {
    f.findings().add(expect->line, "'expect' must be none, fires, or a map of cause, blame, explain");
  }
  return test;
}

void read_matches(Fields& f, Rule& rule) {
  const Yaml* items = f.list("match", Need::Required);
  if (items == nullptr) return;
  if (items->items.empty() || items->items.size() > kMatchItemsMax) {
    f.findings().add(items->line, fmt::format("'match' must have 1 to {} items", kMatchItemsMax));
    return;
  }
  std::vector<Within> withins;
  for (const Yaml& node : items->items) {
    Fields inner(node, "a match item", f.findings());
    if (node.kind != Yaml::Kind::Map) continue;
    Within within;
    MatchItem item = read_item(inner, within);
    inner.done();
    if (std::ranges::find(rule.match, item.id, &MatchItem::id) != rule.match.end()) f.findings().add(node.line, fmt::format("match id '{}' is given twice", item.id));
    rule.match.push_back(std::move(item));
    withins.push_back(std::move(within));
  }
  const auto anchor = std::ranges::find_if(rule.match, [](const MatchItem& item) { return !item.optional && !item.negated; });
  if (anchor == rule.match.end()) {
    if (!rule.match.empty()) f.findings().add(items->line, "at least one match item must be neither optional nor 'not'");
    return;
  }
  rule.anchor = static_cast<std::size_t>(anchor - rule.match.begin());
  for (std::size_t i = 0; i < rule.match.size(); ++i) {
    rule.match[i].of = rule.anchor;
    if (i == rule.anchor && rule.match[i].when != When::Any) f.findings().add(withins[i].line, "the first required item is what the others are measured from: it takes no 'within'");
    if (withins[i].of.empty()) continue;
    const auto of = std::ranges::find(rule.match, withins[i].of, &MatchItem::id);
    const auto index = static_cast<std::size_t>(of - rule.match.begin());
    if (of == rule.match.end()) f.findings().add(withins[i].line, fmt::format("'within' speaks of '{}', which no match item is called", withins[i].of));
    else if (index != rule.anchor && (index >= i || of->negated)) f.findings().add(withins[i].line, fmt::format("'within' must speak of an earlier item that is present, not '{}'", withins[i].of));
    else rule.match[i].of = index;
  }
}

Rule read_rule(const Yaml& root, const RuleText& source, const graph::Knowledge* knowledge, Findings& findings) {
  Fields f(root, "a rule", findings);
  Rule rule;
  rule.origin = fmt::format("{}:{}", source.name, root.line);
  rule.id = f.text("rule", Need::Required);
  if (!rule.id.empty() && !is_id(rule.id, '-')) findings.add(f.line_of("rule"), fmt::format("rule id '{}' must be lower-case letters, digits and '-'", rule.id.substr(0, 80)));
  rule.status = static_cast<Status>(f.choice("status", kStatuses).value_or(0));
  rule.summary = f.text("summary", Need::Required);
  read_matches(f, rule);
  rule.blame = f.text("blame", Need::Required);
  if (!rule.blame.empty() && rule.blame.find('{') == std::string::npos) rule.blame = "{" + rule.blame + "}";
  rule.cause = f.text("cause", Need::Required);
  if (knowledge != nullptr && !rule.cause.empty()) {
    if (const graph::FailureMode* mode = knowledge->find(rule.cause)) {
      rule.cause = mode->id;
    } else {
      const auto near = knowledge->suggest(rule.cause);
      findings.add(f.line_of("cause"), fmt::format("unknown failure mode '{}'{}", rule.cause.substr(0, 80), near.empty() ? "" : fmt::format("; did you mean '{}'?", near.front())));
    }
  }
  rule.weight = f.number("weight", 0, 10).value_or(1.0);
  rule.explain = f.text("explain", Need::Required);
  rule.next = f.text("next");
  rule.source = f.text("source", Need::Required);
  check_template(rule, "blame", rule.blame, f.line_of("blame"), findings);
  check_template(rule, "explain", rule.explain, f.line_of("explain"), findings);
  check_template(rule, "next", rule.next, f.line_of("next"), findings);
  if (const Yaml* tests = f.list("tests")) {
    for (const Yaml& node : tests->items) {
      Fields inner(node, "a test", findings);
      if (node.kind != Yaml::Kind::Map) continue;
      rule.tests.push_back(read_test(inner));
      inner.done();
    }
  }
  if (rule.status == Status::Stable && rule.tests.size() < 2) findings.add(root.line, "a stable rule needs at least two tests, one where it fires and one where it does not");
  f.done();
  return rule;
}

}  // namespace

std::vector<Rule> parse_rules(const RuleText& source, const graph::Knowledge* knowledge, Findings& findings) {
  std::vector<Rule> rules;
  if (source.text.size() > kRuleFileBytesMax) {
    findings.add(1, fmt::format("{} bytes, at most {}", source.text.size(), kRuleFileBytesMax));
    return rules;
  }
  const auto documents = graph::parse_yaml_all(source.name, source.text);
  if (!documents) {
    findings.add_whole(documents.error().message);
    return rules;
  }
  for (const Yaml& document : *documents) {
    if (document.kind == Yaml::Kind::Null) continue;  // an empty document between separators
    rules.push_back(read_rule(document, source, knowledge, findings));
  }
  if (rules.empty()) findings.add(1, "no rule in this file");
  return rules;
}

}  // namespace culprit::rules
