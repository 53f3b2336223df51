#include "graph/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>
#include <unordered_map>
#include <variant>

#include "daemon/base/text.h"

namespace culprit::graph {
namespace {

std::size_t count_nodes(const Yaml& node) {
  std::size_t count = 1;
  for (const Yaml& item : node.items) count += count_nodes(item);
  return count;
}

// Builds trees from parser events. Once `problem` is set, later events are ignored.
class Builder final : public YAML::EventHandler {
 public:
  std::vector<Yaml> documents;
  std::string problem;
  int problem_line = 0;
  bool exhausted = false;

  void OnDocumentStart(const YAML::Mark&) override { anchors_.clear(); }
  void OnDocumentEnd() override {
    if (problem.empty()) documents.push_back(std::move(root_));
    root_ = {};
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Yaml node;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    finish(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto known = anchors_.find(anchor);
    if (known == anchors_.end()) return fail(mark.line + 1, "an alias inside its own anchor", false);
    // finish() counts one, the copy brings the rest.
    nodes_ += known->second.second - 1;
    if (nodes_ > kYamlNodesMax) return fail(mark.line + 1, fmt::format("more than {} nodes", kYamlNodesMax), true);
    finish(Yaml(known->second.first), 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    Yaml node;
    node.kind = Yaml::Kind::Scalar;
    node.quoted = tag == "!";
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    node.text = value;
    finish(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(Yaml::Kind::List, mark, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(Yaml::Kind::Map, mark, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Yaml node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;
  };

  void fail(int line, std::string what, bool limit) {
    if (!problem.empty()) return;
    problem = std::move(what);
    problem_line = line;
    exhausted = limit;
  }

  void open(Yaml::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (!problem.empty()) return;
    Open next;
    next.node.kind = kind;
    next.node.line = mark.line + 1;
    next.node.column = mark.column + 1;
    next.anchor = anchor;
    stack_.push_back(std::move(next));
  }

  void close() {
    if (!problem.empty() || stack_.empty()) return;
    Open done = std::move(stack_.back());
    stack_.pop_back();
    finish(std::move(done.node), done.anchor);
  }

  void finish(Yaml node, YAML::anchor_t anchor) {
    if (!problem.empty()) return;
    if (++nodes_ > kYamlNodesMax) return fail(node.line, fmt::format("more than {} nodes", kYamlNodesMax), true);
    if (anchor != 0) anchors_.insert_or_assign(anchor, std::pair(node, count_nodes(node)));
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind != Yaml::Kind::Map || parent.has_key) {
      parent.node.items.push_back(std::move(node));
      parent.has_key = false;
      return;
    }
    if (node.kind == Yaml::Kind::List || node.kind == Yaml::Kind::Map) return fail(node.line, "a key must be plain text", false);
    parent.node.keys.push_back({std::move(node.text), node.line, node.column});
    parent.has_key = true;
  }

  Yaml root_;
  std::vector<Open> stack_;
  std::unordered_map<YAML::anchor_t, std::pair<Yaml, std::size_t>> anchors_;
  std::size_t nodes_ = 0;
};

}  // namespace

const Yaml* Yaml::find(std::string_view key) const {
  if (kind != Kind::Map) return nullptr;
  for (std::size_t i = 0; i < keys.size() && i < items.size(); ++i) {
    if (keys[i].text == key) return &items[i];
  }
  return nullptr;
}

namespace {

struct Problem {
  Place at = 1;
  std::string what;
  bool limit = false;
};

// yaml-cpp says what is wrong; a person wants to know what to write.
std::string_view expected_instead(std::string_view said) {
  static constexpr std::pair<std::string_view, std::string_view> kExpected[] = {
      {"end of sequence flow not found", ": ',' or ']' is expected"},
      {"end of map flow not found", ": ',' or '}' is expected"},
      {"end of sequence not found", ": '- ' below the other items is expected, or less indentation"},
      {"end of map not found", ": 'key: value' below the other keys is expected, or less indentation"},
      {"illegal map value", ": a text with ': ' in it is expected in quotes"},
      {"illegal block entry", ": '- ' is expected on a line of its own"},
  };
  for (const auto& [what, instead] : kExpected) {
    if (said == what) return instead;
  }
  return {};
}

std::variant<std::vector<Yaml>, Problem> read_documents(std::string_view text) {
  Builder builder;
  // yaml-cpp throws on every mistake, and std::bad_alloc may come from anywhere inside it.
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
      if (!builder.problem.empty()) break;
    }
  } catch (const YAML::DeepRecursion& e) {
    return Problem{{e.mark.line + 1, e.mark.column + 1}, fmt::format("nested deeper than {}", e.depth())};
  } catch (const YAML::Exception& e) {
    if (e.mark.is_null()) return Problem{1, e.msg};
    return Problem{{e.mark.line + 1, e.mark.column + 1}, e.msg + std::string(expected_instead(e.msg))};
  } catch (const std::exception& e) {
    return Problem{1, e.what()};
  }
  if (!builder.problem.empty()) return Problem{builder.problem_line, std::move(builder.problem), builder.exhausted};
  return std::move(builder.documents);
}

}  // namespace

Result<std::vector<Yaml>> parse_yaml_all(std::string_view name, std::string_view text) {
  auto read = read_documents(text);
  if (auto* documents = std::get_if<std::vector<Yaml>>(&read)) return std::move(*documents);
  const Problem& problem = std::get<Problem>(read);
  return fail(problem.limit ? Code::Exhausted : Code::Invalid, fmt::format("{}:{}: {}", name, problem.at.line, problem.what));
}

std::optional<std::vector<Yaml>> parse_yaml_all(std::string_view text, Findings& findings) {
  auto read = read_documents(text);
  if (auto* documents = std::get_if<std::vector<Yaml>>(&read)) return std::move(*documents);
  const Problem& problem = std::get<Problem>(read);
  findings.add(problem.at, problem.what);
  return std::nullopt;
}

Result<Yaml> parse_yaml(std::string_view name, std::string_view text) {
  ASSIGN(std::vector<Yaml> documents, parse_yaml_all(name, text));
  if (documents.empty()) return fail(Code::Invalid, fmt::format("{}:1: the file is empty", name));
  if (documents.size() > 1) {
    return fail(Code::Invalid, fmt::format("{}:{}: more than one document", name, documents[1].line));
  }
  return std::move(documents.front());
}

std::optional<Yaml> parse_yaml(std::string_view text, Findings& findings) {
  auto documents = parse_yaml_all(text, findings);
  if (!documents) return std::nullopt;
  if (documents->empty()) findings.add(1, "the file is empty");
  if (documents->size() > 1) findings.add((*documents)[1].place(), "more than one document");
  if (documents->size() != 1) return std::nullopt;
  return std::move(documents->front());
}

std::optional<double> parse_number(std::string_view text) {
  if (text.empty()) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string Findings::where(int line) const { return fmt::format("{}:{}", file_, line); }

void Findings::add(Place at, std::string_view what) {
  if (at.column <= 0 || text_.empty()) return add_whole(fmt::format("{}:{}: {}", file_, at.line, what));
  // The line as it is written, cut around the caret when it is long.
  std::size_t begin = 0;
  for (int line = 1; line < at.line && begin != std::string_view::npos; ++line) {
    begin = text_.find('\n', begin);
    if (begin != std::string_view::npos) ++begin;
  }
  std::string shown;
  if (begin < text_.size()) {
    constexpr std::size_t kWidth = 120;
    std::string_view line = text_.substr(begin, text_.substr(begin).find('\n'));
    std::size_t caret = std::min(static_cast<std::size_t>(at.column - 1), line.size());
    const std::size_t cut = caret > kWidth - 20 ? caret - 60 : 0;
    line = line.substr(cut, kWidth);
    caret -= cut;
    std::string safe;
    for (const char c : line) safe += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;  // a tab is one column
    shown = fmt::format("\n    {}\n    {}^", sanitize_utf8(safe), std::string(caret, ' '));
  }
  add_whole(fmt::format("{}:{}:{}: {}{}", file_, at.line, at.column, what, shown));
}

void Findings::add_whole(std::string finding) {
  if (lines_.size() >= kFindingsMax) {
    ++held_back_;
    return;
  }
  lines_.push_back(std::move(finding));
}

Result<void> Findings::result() const {
  if (lines_.empty()) return {};
  std::string message = fmt::format("{}", fmt::join(lines_, "\n"));
  if (held_back_ > 0) message += fmt::format("\n{}: and {} more", file_, held_back_);
  return fail(Code::Invalid, std::move(message));
}

Fields::Fields(const Yaml& node, std::string_view what, Findings& findings)
    : node_(node), what_(what), findings_(findings) {
  if (node.kind != Yaml::Kind::Map) {
    findings_.add(node.place(), fmt::format("{} must be a map of keys", what_));
    return;
  }
  for (std::size_t i = 1; i < node.keys.size(); ++i) {
    for (std::size_t k = 0; k < i && i < 64; ++k) {  // a map of ours has a dozen keys
      if (node.keys[i].text == node.keys[k].text) {
        findings_.add(node.keys[i].place(), fmt::format("'{}' is given twice", node.keys[i].text));
        break;
      }
    }
  }
}

const Yaml* Fields::find(std::string_view key, Need need) {
  asked_.emplace_back(key);
  const Yaml* value = node_.find(key);
  if (value != nullptr && value->kind == Yaml::Kind::Null) value = nullptr;
  if (value == nullptr && need == Need::Required && node_.kind == Yaml::Kind::Map) {
    findings_.add(node_.place(), fmt::format("{} lacks '{}'", what_, key));
  }
  return value;
}

const Yaml* Fields::list(std::string_view key, Need need) {
  const Yaml* value = find(key, need);
  if (value == nullptr || value->kind == Yaml::Kind::List) return value;
  findings_.add(value->place(), fmt::format("'{}' must be a list", key));
  return nullptr;
}

const Yaml* Fields::map(std::string_view key, Need need) {
  const Yaml* value = find(key, need);
  if (value == nullptr || value->kind == Yaml::Kind::Map) return value;
  findings_.add(value->place(), fmt::format("'{}' must be a map of keys", key));
  return nullptr;
}

std::string Fields::text(std::string_view key, Need need) {
  const Yaml* value = find(key, need);
  if (value == nullptr) return {};
  if (value->kind != Yaml::Kind::Scalar) {
    findings_.add(value->place(), fmt::format("'{}' must be text", key));
    return {};
  }
  if (need == Need::Required && value->text.empty()) {
    findings_.add(value->place(), fmt::format("'{}' is empty", key));
  }
  return value->text;
}

std::vector<std::string> Fields::texts(std::string_view key) {
  std::vector<std::string> result;
  const Yaml* items = list(key);
  if (items == nullptr) return result;
  for (const Yaml& item : items->items) {
    if (item.kind != Yaml::Kind::Scalar || item.text.empty()) {
      findings_.add(item.place(), fmt::format("each item of '{}' must be text", key));
      continue;
    }
    result.push_back(item.text);
  }
  return result;
}

std::optional<double> Fields::number(std::string_view key, double least, double most, Need need) {
  const Yaml* value = find(key, need);
  if (value == nullptr) return std::nullopt;
  const auto parsed = value->kind == Yaml::Kind::Scalar ? parse_number(value->text) : std::nullopt;
  if (!parsed || *parsed < least || *parsed > most) {
    findings_.add(value->place(), fmt::format("'{}' must be a number from {} to {}", key, least, most));
    return std::nullopt;
  }
  return parsed;
}

std::optional<bool> Fields::flag(std::string_view key) {
  const Yaml* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->text == "true") return true;
  if (value->text == "false") return false;
  findings_.add(value->place(), fmt::format("'{}' must be true or false", key));
  return std::nullopt;
}

std::optional<std::size_t> Fields::choice(std::string_view key, std::span<const std::string_view> choices, Need need) {
  const Yaml* value = find(key, need);
  if (value == nullptr) return std::nullopt;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (value->kind == Yaml::Kind::Scalar && value->text == choices[i]) return i;
  }
  findings_.add(value->place(), fmt::format("'{}' must be one of {}, not '{}'", key, fmt::join(choices, ", "), value->text));
  return std::nullopt;
}

Place Fields::place_of(std::string_view key) const {
  for (const Yaml::Key& candidate : node_.keys) {
    if (candidate.text == key) return candidate.place();
  }
  return node_.place();
}

void Fields::done() {
  for (const Yaml::Key& key : node_.keys) {
    if (std::ranges::find(asked_, key.text) != asked_.end()) continue;
    findings_.add(key.place(), fmt::format("unknown key '{}' in {}{}", key.text, what_, did_you_mean(key.text, asked_)));
  }
}

std::string did_you_mean(std::string_view word, std::span<const std::string> candidates) {
  // Names are short; a long word near nothing is not worth its edit distances.
  if (word.size() > 128) return {};
  const auto near = nearest(word, candidates, 1);
  return near.empty() ? std::string() : fmt::format("; did you mean '{}'?", near.front());
}

std::string hash_texts(std::span<const std::string_view> texts) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  const auto mix = [&hash](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3ULL; };
  for (const std::string_view text : texts) {
    for (const char c : text) mix(static_cast<unsigned char>(c));
    mix(0xFF);  // no UTF-8 text holds it: texts do not run into each other
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace culprit::graph
