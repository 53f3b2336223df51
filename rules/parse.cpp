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
constexpr std::size_t kListItemsMax = 1'000;
constexpr std::size_t kStableTestsMin = 3;

bool is_id(std::string_view text, char joiner) {
  return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [joiner](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == joiner;
  });
}

// An id that is asked for: required, and well formed.
std::string take_id(Fields& f, std::string_view key, char joiner) {
  const std::string id = f.text(key, Need::Required);
  if (!id.empty() && !is_id(id, joiner)) {
    f.findings().add(f.place_of(key), fmt::format("{} '{}' must be lower-case letters, digits and '{}'", key == "id" ? "match id" : fmt::format("{} id", key), id.substr(0, 80), joiner));
  }
  return id;
}

// A text, or a list of texts.
std::vector<std::string> take_texts(Fields& f, std::string_view key) {
  const Yaml* value = f.find(key);
  if (value == nullptr) return {};
  if (value->kind == Yaml::Kind::List) return f.texts(key);
  const std::string text = f.text(key);
  return text.empty() ? std::vector<std::string>() : std::vector{text};
}

// One value of `where`: a glob, or "$list".
void add_globs(const Yaml& value, Fields& f, const Library& library, bool& used_library, std::vector<std::string>& globs) {
  if (value.kind != Yaml::Kind::Scalar) return f.findings().add(value.place(), "a value of 'where' must be text or a list of texts");
  if (!value.text.starts_with('$')) {
    globs.push_back(value.text);
    return;
  }
  used_library = true;
  const auto list = library.lists.find(value.text.substr(1));
  if (list == library.lists.end()) {
    std::vector<std::string> names;
    for (const auto& [name, items] : library.lists) names.push_back("$" + name);
    return f.findings().add(value.place(), fmt::format("there is no list '{}'{}", value.text.substr(0, 80), graph::did_you_mean(value.text, names)));
  }
  globs.insert(globs.end(), list->second.begin(), list->second.end());
}

void take_where(Fields& f, MatchItem& item, const Library& library, bool& used_library) {
  const Yaml* map = f.map("where");
  if (map == nullptr) return;
  item.where.clear();
  for (std::size_t i = 0; i < map->keys.size() && i < map->items.size(); ++i) {
    AttributeMatch match{.attribute = map->keys[i].text};
    if (map->items[i].kind == Yaml::Kind::List) {
      for (const Yaml& value : map->items[i].items) add_globs(value, f, library, used_library, match.globs);
      if (map->items[i].items.empty()) f.findings().add(map->items[i].place(), fmt::format("'{}' allows no value: it can never match", match.attribute));
    } else {
      add_globs(map->items[i], f, library, used_library, match.globs);
    }
    item.where.push_back(std::move(match));
  }
}

struct Within {
  std::string of;
  graph::Place at = 0;
};

// "60s", "60s before kill", "5m around".
void take_within(Fields& f, MatchItem& item, Within& within) {
  const std::string text = f.text("within");
  if (text.empty()) return;
  within.at = f.place_of("within");
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
  if (!good) return f.findings().add(within.at, fmt::format("'within' must be '<duration> [before|after|around [<match id>]]', not '{}'", text.substr(0, 80)));
  if (*duration > kWindowNsMax) return f.findings().add(within.at, fmt::format("'within' is longer than {}, which is as far as events are kept for rules", format_seconds(static_cast<double>(kWindowNsMax) / 1e9)));
  item.within_ns = *duration;
  if (words.size() == 3) within.of = words[2];
}

// Lower-case literals of which any match of the item's text and regex has one.
void find_literals(MatchItem& item) {
  item.literals.clear();
  if (item.text.size() >= 3) {
    std::string lower = item.text;
    for (char& c : lower) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    item.literals.push_back(std::move(lower));
  } else if (item.compiled != nullptr) {
    item.literals = item.compiled->literals();
  }
  if (!item.literals.empty()) return;
  // Every match has all of these: one is enough to look for.
  for (const std::string& text : item.filter.bounds().texts) {
    if (text.size() >= 3 && (item.literals.empty() || text.size() > item.literals.front().size())) item.literals = {text};
  }
}

// Everything that says which events fit: of a match item, of `absent`, of a macro.
void read_conditions(Fields& f, MatchItem& item, const Library& library, bool& used_library) {
  if (const std::string name = f.text("use"); !name.empty()) {
    used_library = true;
    if (const auto macro = library.macros.find(name); macro != library.macros.end()) {
      const MatchItem own = std::move(item);
      item = macro->second;
      item.id = own.id;
      item.line = own.line;
    } else {
      std::vector<std::string> names;
      for (const auto& [known, unused] : library.macros) names.push_back(known);
      f.findings().add(f.place_of("use"), fmt::format("there is no macro '{}'{}", name.substr(0, 80), graph::did_you_mean(name, names)));
    }
  }
  if (const auto text = f.text("entity"); !text.empty()) item.entity = text;
  if (const auto text = f.text("text"); !text.empty()) item.text = text;
  if (const auto text = f.text("regex"); !text.empty()) {
    item.regex = text;
    if (auto regex = Regex::compile(item.regex)) item.compiled = std::move(*regex);
    else f.findings().add(f.place_of("regex"), fmt::format("regex of '{}': {}", item.id, regex.error().message));
  }
  if (const auto text = f.text("filter"); !text.empty()) {
    item.filter_text = text;
    auto filter = stream::parse_filter(text);
    if (!filter) f.findings().add(f.place_of("filter"), filter.error().message);
    else if (filter->needs_topology()) f.findings().add(f.place_of("filter"), "'near' is not for rules: use 'paths'");
    else item.filter = std::move(*filter);
  }
  take_where(f, item, library, used_library);
  if (const auto number = f.number("above", -1e300, 1e300)) item.above = number;
  if (const auto number = f.number("below", -1e300, 1e300)) item.below = number;
  if (item.above && item.below && *item.above >= *item.below) f.findings().add(f.place_of("below"), fmt::format("unreachable: no value is above {} and below {}", *item.above, *item.below));
  if (const auto number = f.number("times_normal", 1, 1e6)) item.times_normal = number;
  find_literals(item);
}

void check_normal(const MatchItem& item, graph::Place at, Findings& findings) {
  if (!item.times_normal) return;
  if (item.kind != Kind::Sample) findings.add(at, fmt::format("'times_normal' is of a metric: a {} has no normal value", kind_key(item.kind)));
  else if (!item.above) findings.add(at, fmt::format("'times_normal' of '{}' needs an 'above' beside it: many times almost nothing is still almost nothing", item.id));
}

void check_log(const MatchItem& item, graph::Place at, Findings& findings) {
  if (item.kind == Kind::Log && item.name.empty() && item.text.empty() && item.regex.empty() && item.filter.empty()) {
    findings.add(at, fmt::format("log item '{}' would fit every line: give it a text, regex or filter", item.id));
  }
}

void take_kind(Fields& f, MatchItem& item, std::string_view what) {
  const bool from_macro = !item.name.empty() || f.find("use") != nullptr;
  bool any = false;
  for (const Kind kind : kKinds) any = any || f.find(kind_key(kind)) != nullptr;
  if (!any && from_macro) return;
  if (const auto source = take_source(f, what)) {
    item.kind = source->first;
    item.name = source->second;
  }
}

MatchItem read_item(Fields& f, Within& within, const Library& library, bool& used_library) {
  MatchItem item;
  item.line = f.line();
  item.id = take_id(f, "id", '_');
  if (const Yaml* inner = f.map("absent")) {
    item.absent = true;
    Fields a(*inner, "'absent'", f.findings());
    read_conditions(a, item, library, used_library);
    take_kind(a, item, "'absent'");
    check_log(item, inner->place(), f.findings());
    check_normal(item, inner->place(), f.findings());
    a.done();
  } else {
    read_conditions(f, item, library, used_library);
    take_kind(f, item, "a match item");
    check_log(item, f.place(), f.findings());
    check_normal(item, f.place(), f.findings());
  }
  item.optional = f.flag("optional").value_or(false);
  item.same_entity = f.flag("same_entity").value_or(false);
  item.least = static_cast<std::size_t>(f.number("least", 1, 100'000).value_or(1));
  item.weight = f.number("weight", 0, 10).value_or(1.0);
  if (item.optional && item.absent) f.findings().add(f.place_of("optional"), fmt::format("'{}' is absent or not: it cannot be optional too", item.id));
  take_within(f, item, within);
  return item;
}

// A reference to a match item that is there when it is looked at.
void check_reference(const Rule& rule, std::string_view key, const Reference& reference, graph::Place at, Findings& findings) {
  std::vector<std::string> ids;
  for (const MatchItem& item : rule.match) ids.push_back(item.id);
  const auto item = std::ranges::find(rule.match, reference.id, &MatchItem::id);
  if (item == rule.match.end()) {
    findings.add(at, fmt::format("'{}' speaks of '{}', which no match item is called{}", key, reference.id, graph::did_you_mean(reference.id, ids)));
  } else if (item->absent) {
    findings.add(at, fmt::format("'{}' speaks of '{}', which must be absent", key, reference.id));
  }
}

void check_template(const Rule& rule, std::string_view key, std::string_view text, graph::Place at, Findings& findings) {
  const auto found = references(text);
  if (!found) return findings.add(at, fmt::format("'{}': {}", key, found.error().message));
  for (const Reference& reference : *found) check_reference(rule, key, reference, at, findings);
}

void read_matches(Fields& f, Rule& rule, ParseContext& context) {
  const Yaml* items = f.list("match", Need::Required);
  if (items == nullptr) return;
  if (items->items.empty() || items->items.size() > kMatchItemsMax) {
    f.findings().add(items->place(), fmt::format("'match' must have 1 to {} items", kMatchItemsMax));
    return;
  }
  std::vector<Within> withins;
  for (const Yaml& node : items->items) {
    Fields inner(node, "a match item", f.findings());
    if (node.kind != Yaml::Kind::Map) continue;
    Within within;
    MatchItem item = read_item(inner, within, context.library, context.used_library);
    inner.done();
    if (std::ranges::find(rule.match, item.id, &MatchItem::id) != rule.match.end()) f.findings().add(inner.place_of("id"), fmt::format("match id '{}' is given twice", item.id));
    rule.match.push_back(std::move(item));
    withins.push_back(std::move(within));
  }
  const auto anchor = std::ranges::find_if(rule.match, [](const MatchItem& item) { return !item.optional && !item.absent; });
  if (anchor == rule.match.end()) {
    if (!rule.match.empty()) f.findings().add(items->place(), "at least one match item must be neither optional nor absent");
    return;
  }
  rule.anchor = static_cast<std::size_t>(anchor - rule.match.begin());
  for (std::size_t i = 0; i < rule.match.size(); ++i) {
    rule.match[i].of = rule.anchor;
    if (i == rule.anchor && rule.match[i].when != When::Any) f.findings().add(withins[i].at, "the first required item is what the others are measured from: it takes no 'within'");
    if (withins[i].of.empty()) continue;
    const auto of = std::ranges::find(rule.match, withins[i].of, &MatchItem::id);
    const auto index = static_cast<std::size_t>(of - rule.match.begin());
    if (of == rule.match.end()) f.findings().add(withins[i].at, fmt::format("'within' speaks of '{}', which no match item is called", withins[i].of));
    else if (index != rule.anchor && (index >= i || of->absent)) f.findings().add(withins[i].at, fmt::format("'within' must speak of an earlier item that is present, not '{}'", withins[i].of));
    else rule.match[i].of = index;
  }
}

// What must be absent may be joined ("no such exit of the same service"), to an item that is bound before it.
void check_join(const Rule& rule, const Join& join, graph::Place at, Findings& findings) {
  const auto find = [&rule](const Reference& reference) { return std::ranges::find(rule.match, reference.id, &MatchItem::id); };
  const auto left = find(join.left);
  const auto right = find(join.right);
  const bool absent = left != rule.match.end() && right != rule.match.end() && (left->absent || right->absent);
  if (!absent) {
    check_reference(rule, "joins", join.left, at, findings);
    check_reference(rule, "joins", join.right, at, findings);
    return;
  }
  const auto none = left->absent ? left : right;
  const auto other = left->absent ? right : left;
  const auto anchor = rule.match.begin() + static_cast<std::ptrdiff_t>(rule.anchor);
  if (other->absent || other->optional || (other != anchor && other >= none)) {
    findings.add(at, fmt::format("'{}', which must be absent, can only be joined to an earlier item that is there, not to '{}'", none->id, other->id));
  }
}

void read_relations(Fields& f, Rule& rule) {
  const auto over = [&f](std::string_view key, const std::vector<std::string>& texts) {
    if (texts.size() <= kPathsMax) return false;
    f.findings().add(f.place_of(key), fmt::format("at most {} '{}'", kPathsMax, key));
    return true;
  };
  const auto joins = take_texts(f, "joins");
  for (std::size_t i = 0; i < joins.size() && !over("joins", joins); ++i) {
    auto join = parse_join(joins[i]);
    if (!join) {
      f.findings().add(f.place_of("joins"), join.error().message);
      continue;
    }
    check_join(rule, *join, f.place_of("joins"), f.findings());
    rule.joins.push_back(std::move(*join));
  }
  const auto paths = take_texts(f, "paths");
  for (std::size_t i = 0; i < paths.size() && !over("paths", paths); ++i) {
    auto path = parse_path(paths[i]);
    if (!path) {
      f.findings().add(f.place_of("paths"), path.error().message);
      continue;
    }
    for (const Path::Stop& stop : path->stops) {
      if (stop.reference) check_reference(rule, "paths", *stop.reference, f.place_of("paths"), f.findings());
    }
    rule.paths.push_back(std::move(*path));
  }
}

}  // namespace

std::optional<std::pair<Kind, std::string>> take_source(Fields& f, std::string_view what) {
  std::optional<std::pair<Kind, std::string>> source;
  for (const Kind kind : kKinds) {
    const std::string_view key = kind_key(kind);
    const Yaml* value = f.find(key);
    if (value == nullptr) continue;
    if (source) {
      f.findings().add(f.place_of(key), fmt::format("{} names two sources, '{}' and '{}'", what, kind_key(source->first), key));
      continue;
    }
    source = std::pair(kind, f.text(key));
  }
  if (!source) f.findings().add(f.place(), fmt::format("{} must name one of log, metric, kernel, change, span, alert", what));
  return source;
}

Result<Join> parse_join(std::string_view text) {
  const auto equals = text.find(" == ");
  if (equals == std::string_view::npos) return fail(Code::Invalid, fmt::format("a join is '<id>.<field> == <id>.<field>', not '{}'", text.substr(0, 80)));
  Join join;
  join.text = text;
  ASSIGN(join.left, parse_reference(text.substr(0, equals)));
  ASSIGN(join.right, parse_reference(text.substr(equals + 4)));
  return join;
}

Result<Path> parse_path(std::string_view text) {
  Path path;
  path.text = text;
  const auto wrong = [text] { return fail(Code::Invalid, fmt::format("a path is '<id>.<field> -<relation>-> <name or id.field> …' (or '<-<relation>-'), not '{}'", text.substr(0, 80))); };
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (words.size() < 3 || words.size() % 2 == 0) return wrong();
  if (words.size() > 2 * kPathStopsMax - 1) return fail(Code::Invalid, fmt::format("a path has at most {} stops", kPathStopsMax));
  std::size_t bound = 0;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    Path::Stop stop;
    if (words[i].find('.') != std::string_view::npos) {
      ASSIGN(stop.reference, parse_reference(words[i]));
      ++bound;
    } else if (!is_id(words[i], '_')) {
      return wrong();
    }
    if (i + 1 < words.size()) {
      std::string_view arrow = words[i + 1];
      if (arrow.size() > 3 && arrow.starts_with('-') && arrow.ends_with("->")) {
        stop.relation = arrow.substr(1, arrow.size() - 3);
      } else if (arrow.size() > 3 && arrow.starts_with("<-") && arrow.ends_with('-')) {
        stop.relation = arrow.substr(2, arrow.size() - 3);
        stop.backwards = true;
      } else {
        return wrong();
      }
    }
    path.stops.push_back(std::move(stop));
  }
  if (bound < 2 || !path.stops.front().reference) return fail(Code::Invalid, fmt::format("a path begins at a match item and reaches another: '{}'", text.substr(0, 80)));
  return path;
}

bool is_library(const Yaml& document) { return document.find("list") != nullptr || document.find("macro") != nullptr || document.find("disable") != nullptr; }

void read_list(const Yaml& document, Library& library, Findings& findings) {
  Fields f(document, "a list", findings);
  const std::string name = take_id(f, "list", '_');
  const Yaml* items = f.list("items", Need::Required);
  std::vector<std::string> texts = f.texts("items");
  if (items != nullptr && items->items.size() > kListItemsMax) findings.add(items->place(), fmt::format("more than {} items in a list", kListItemsMax));
  f.done();
  library.lists.insert_or_assign(name, std::move(texts));
}

void read_macro(const Yaml& document, Library& library, Findings& findings) {
  Fields f(document, "a macro", findings);
  MatchItem item;
  const std::string name = take_id(f, "macro", '_');
  if (const Yaml* match = f.map("match", Need::Required)) {
    Fields inner(*match, "a macro's 'match'", findings);
    bool ignored = false;
    read_conditions(inner, item, library, ignored);
    take_kind(inner, item, "a macro's 'match'");
    inner.done();
  }
  f.done();
  library.macros.insert_or_assign(name, std::move(item));
}

void read_disable(const Yaml& document, Library& library, Findings& findings) {
  Fields f(document, "a disable", findings);
  const std::string rule = take_id(f, "disable", '-');
  library.disabled.insert_or_assign(rule, f.text("reason", Need::Required));
  f.done();
}

Rule read_rule(const Yaml& root, ParseContext& context, Findings& findings) {
  Fields f(root, "a rule", findings);
  Rule rule;
  rule.origin = fmt::format("{}:{}", context.source.name, root.line);
  rule.id = take_id(f, "rule", '-');
  rule.status = static_cast<Status>(f.choice("status", kStatuses).value_or(0));
  rule.summary = f.text("summary", Need::Required);
  read_matches(f, rule, context);
  read_relations(f, rule);
  rule.blame = f.text("blame", Need::Required);
  if (!rule.blame.empty() && rule.blame.find('{') == std::string::npos) rule.blame = "{" + rule.blame + "}";
  rule.cause = f.text("cause", Need::Required);
  if (context.knowledge != nullptr && !rule.cause.empty()) {
    if (const graph::FailureMode* mode = context.knowledge->find(rule.cause)) {
      rule.cause = mode->id;
    } else {
      const auto near = context.knowledge->suggest(rule.cause);
      findings.add(f.place_of("cause"), fmt::format("unknown failure mode '{}'{}", rule.cause.substr(0, 80), near.empty() ? "" : fmt::format("; did you mean '{}'?", near.front())));
    }
  }
  rule.weight = f.number("weight", 0, 10).value_or(1.0);
  rule.pinned = f.flag("pinned").value_or(false);
  rule.explain = f.text("explain", Need::Required);
  rule.next = take_texts(f, "next");
  rule.false_positives = take_texts(f, "false_positives");
  rule.source = f.text("source", Need::Required);
  check_template(rule, "blame", rule.blame, f.place_of("blame"), findings);
  check_template(rule, "explain", rule.explain, f.place_of("explain"), findings);
  for (const std::string& next : rule.next) check_template(rule, "next", next, f.place_of("next"), findings);
  if (const Yaml* tests = f.list("tests")) {
    for (const Yaml& node : tests->items) {
      Fields inner(node, "a test", findings);
      if (node.kind != Yaml::Kind::Map) continue;
      rule.tests.push_back(read_test(inner, context.source));
      inner.done();
    }
  }
  if (rule.status == Status::Stable) {
    const auto counted = [&](bool fires) { return std::ranges::count_if(rule.tests, [fires](const RuleTest& test) { return test.todo.empty() && test.expect.fires == fires; }); };
    if (rule.tests.size() < kStableTestsMin || counted(true) == 0 || counted(false) == 0) {
      findings.add(root.place(), "a stable rule needs at least three tests: where it fires, where it nearly does, and one with noise around it");
    }
  }
  f.done();
  rule.matches = hash_of_matches(rule);
  return rule;
}

}  // namespace culprit::rules
