#include "daemon/stream/filter.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "daemon/base/text.h"
#include "daemon/stream/filter_program.h"

namespace culprit::stream {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string_view find_attribute(const void* attributes, std::string_view name) {
  return static_cast<const Attributes*>(attributes)->find(name);
}

// The texts that stand for "service": an entity names one or, for an edge, two.
template <typename Test>
bool any_service(const RowView& row, Test&& test) {
  const std::string_view entity = row.entity;
  if (entity.starts_with("service:") && test(entity.substr(8))) return true;
  if (entity.starts_with("endpoint:") && test(entity.substr(9, entity.find(' ', 9) - 9))) return true;
  if (entity.starts_with("edge:")) {
    const std::string_view ends = entity.substr(5);
    const std::size_t arrow = ends.find("->");
    if (arrow != std::string_view::npos && (test(ends.substr(0, arrow)) || test(ends.substr(arrow + 2)))) return true;
  }
  const std::string_view named = row.attribute("service");
  return named.data() != nullptr && test(named);
}

bool compare(double left, Op op, double right) {
  switch (op) {
    case Op::Equal: return left == right;
    case Op::Less: return left < right;
    case Op::LessEqual: return left <= right;
    case Op::More: return left > right;
    case Op::MoreEqual: return left >= right;
    default: return false;
  }
}

bool text_matches(const Node& node, std::string_view text) {
  switch (node.op) {
    case Op::Equal:
      return std::any_of(node.patterns.begin(), node.patterns.end(), [&](const Pattern& pattern) {
        return pattern.glob ? glob_match(pattern.text, text) : pattern.text == text;
      });
    case Op::Contains: return contains_lower(text, node.patterns.front().text);
    case Op::Regex: return RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *node.regex);
    case Op::Has: return !text.empty();
    default: {
      const auto number = parse_number(text);
      return number && compare(*number, node.op, node.number);
    }
  }
}

bool evaluate(const std::vector<Node>& nodes, std::size_t index, const RowView& row) {
  const Node& node = nodes[index];
  switch (node.type) {
    case Node::Type::And:
      return std::all_of(node.children.begin(), node.children.end(), [&](std::size_t child) { return evaluate(nodes, child, row); });
    case Node::Type::Or:
      return std::any_of(node.children.begin(), node.children.end(), [&](std::size_t child) { return evaluate(nodes, child, row); });
    case Node::Type::Not: return !evaluate(nodes, node.children.front(), row);
    case Node::Type::Test: break;
  }
  switch (node.field) {
    case Field::Kind: return (node.kinds >> static_cast<unsigned>(row.kind) & 1u) != 0;
    case Field::Severity:
      return node.op == Op::Has ? row.severity != kUnset : row.severity >= node.severity_from && row.severity <= node.severity_to;
    case Field::Value: return node.op == Op::Has ? !std::isnan(row.value) : compare(row.value, node.op, node.number);
    case Field::TraceId:
      if (node.op == Op::Has) return row.trace_id[0] != 0 || row.trace_id[1] != 0;
      return std::any_of(node.ids.begin(), node.ids.end(),
                         [&](const auto& id) { return id[0] == row.trace_id[0] && id[1] == row.trace_id[1]; });
    case Field::SpanId:
      if (node.op == Op::Has) return row.span_id != 0;
      return std::any_of(node.ids.begin(), node.ids.end(), [&](const auto& id) { return id[1] == row.span_id; });
    case Field::Entity: return node.op != Op::Near && text_matches(node, row.entity);
    case Field::Name: return text_matches(node, row.name);
    case Field::Body: return text_matches(node, row.body);
    case Field::Service: return any_service(row, [&](std::string_view service) { return text_matches(node, service); });
    case Field::Attribute: {
      const std::string_view text = row.attribute(node.attribute);
      return text.data() != nullptr && (node.op == Op::Has || text_matches(node, text));
    }
  }
  return false;
}

// A pattern as Query's lists have it: exact, or a prefix. Nothing if it is another glob.
std::optional<std::string> simple(const Pattern& pattern) {
  if (!pattern.glob) return pattern.text;
  const std::size_t special = pattern.text.find_first_of("*?");
  return special == pattern.text.size() - 1 && pattern.text.back() == '*' ? std::optional(pattern.text) : std::nullopt;
}

void narrow(Filter::Bounds& bounds, const Node& node) {
  const auto narrow_texts = [&](std::vector<std::string>& texts) {
    if (node.op != Op::Equal || !texts.empty()) return;
    for (const Pattern& pattern : node.patterns) {
      auto text = simple(pattern);
      if (!text) return texts.clear();
      texts.push_back(std::move(*text));
    }
  };
  switch (node.field) {
    case Field::Kind: bounds.kinds &= node.kinds; break;
    case Field::Severity:
      if (node.op != Op::Has) bounds.severity_min = std::max(bounds.severity_min, node.severity_from);
      break;
    case Field::Entity: narrow_texts(bounds.entities); break;
    case Field::Name: narrow_texts(bounds.names); break;
    case Field::Attribute:
      if (node.op == Op::Equal && node.patterns.size() == 1 && !node.patterns.front().glob) {
        bounds.attributes.emplace_back(node.attribute, node.patterns.front().text);
      }
      break;
    case Field::Body:
      if (node.op == Op::Contains) bounds.texts.push_back(node.patterns.front().text);
      break;
    default: break;
  }
}

}  // namespace

std::optional<double> parse_number(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},        {"ns", 1e-9},     {"us", 1e-6},        {"ms", 1e-3},           {"s", 1},     {"m", 60},    {"h", 3600},
      {"d", 86400},   {"KiB", 1024},    {"MiB", 1048576},    {"GiB", 1073741824},    {"%", 0.01},  {"kB", 1e3},  {"MB", 1e6},
      {"GB", 1e9},    {"B", 1}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number)) return std::nullopt;
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  for (const auto& [name, factor] : kUnits) {
    if (unit == name) return number * factor;
  }
  return std::nullopt;
}

bool contains_lower(std::string_view text, std::string_view wanted) {
  if (wanted.empty()) return true;
  if (wanted.size() > text.size()) return false;
  const char first = wanted.front();
  const char other = first >= 'a' && first <= 'z' ? static_cast<char>(first - 'a' + 'A') : first;
  const std::size_t last = text.size() - wanted.size();
  for (std::size_t i = 0; i <= last; ++i) {
    if (text[i] != first && text[i] != other) continue;
    std::size_t j = 1;
    while (j < wanted.size() && lower(text[i + j]) == wanted[j]) ++j;
    if (j == wanted.size()) return true;
  }
  return false;
}

LowerText::LowerText(std::string lower_of) : lower_(std::move(lower_of)) {
  // Letters of English text from frequent to rare; digits and signs are frequent in logs.
  constexpr std::string_view kFrequent = " 0123456789-:/.=_etaoinsrhldcumfpgwybvkxjqz";
  std::size_t best = 0;
  for (std::size_t i = 0; i < lower_.size(); ++i) {
    const std::size_t found = kFrequent.find(lower_[i]);
    const std::size_t rarity = found == std::string_view::npos ? 20 : found;
    if (i == 0 || rarity > best) {
      best = rarity;
      pivot_ = i;
    }
  }
}

bool LowerText::in(std::string_view text) const {
  const std::size_t size = lower_.size();
  if (size == 0) return true;
  if (size > text.size()) return false;
  const char pivot = lower_[pivot_];
  const char other = pivot >= 'a' && pivot <= 'z' ? static_cast<char>(pivot - 'a' + 'A') : pivot;
  const char* const data = text.data();
  for (const char wanted : {pivot, other}) {
    const char* at = data + pivot_;
    const char* const end = data + text.size() - (size - pivot_) + 1;  // the last place where it fits
    while (at < end) {
      at = static_cast<const char*>(std::memchr(at, wanted, static_cast<std::size_t>(end - at)));
      if (at == nullptr) break;
      const char* begin = at - pivot_;
      std::size_t j = 0;
      while (j < size && lower(begin[j]) == lower_[j]) ++j;
      if (j == size) return true;
      ++at;
    }
    if (pivot == other) break;
  }
  return false;
}

RowView view_of(const Event& event) {
  return {.time_ns = event.time_ns,
          .kind = event.kind,
          .severity = event.severity,
          .value = event.value,
          .entity = event.entity,
          .name = event.name,
          .body = event.body,
          .trace_id = {event.trace_id[0], event.trace_id[1]},
          .span_id = event.span_id,
          .attributes = &event.attributes,
          .find = find_attribute};
}

void Filter::Program::finish() {
  const auto top = [&](const Node& node) {
    if (node.type == Node::Type::Test) narrow(bounds, node);
  };
  top(nodes[root]);
  if (nodes[root].type == Node::Type::And) {
    for (const std::size_t child : nodes[root].children) top(nodes[child]);
  }
  for (const Node& node : nodes) {
    if (node.type != Node::Type::Test) continue;
    reads_attributes |= node.field == Field::Attribute || node.field == Field::Service;
    reads_body |= node.field == Field::Body;
    reads_ids |= node.field == Field::TraceId || node.field == Field::SpanId;
    needs_topology |= node.op == Op::Near;
  }
}

bool Filter::matches(const RowView& row) const { return empty() || evaluate(program_->nodes, program_->root, row); }

const Filter::Bounds& Filter::bounds() const {
  static const Bounds kNone;
  return empty() ? kNone : program_->bounds;
}

bool Filter::reads_attributes() const { return !empty() && program_->reads_attributes; }
bool Filter::reads_body() const { return !empty() && program_->reads_body; }
bool Filter::reads_ids() const { return !empty() && program_->reads_ids; }
bool Filter::needs_topology() const { return !empty() && program_->needs_topology; }

Result<Filter> Filter::resolve(const Topology& topology) const {
  if (!needs_topology()) return *this;
  auto resolved = std::make_shared<Program>();
  resolved->nodes = program_->nodes;
  resolved->root = program_->root;
  for (Node& node : resolved->nodes) {
    if (node.op != Op::Near) continue;
    auto entities = topology.within(node.patterns.front().text, node.hops);
    if (!entities) return std::unexpected(entities.error().context(fmt::format("filter, column {}", node.column)));
    node.op = Op::Equal;
    node.patterns.clear();
    for (std::string& entity : *entities) node.patterns.push_back({std::move(entity), false});
  }
  resolved->finish();
  return Filter(std::move(resolved));
}

}  // namespace culprit::stream
