#include "daemon/ingest/relabel.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>

#include "daemon/base/text.h"

namespace culprit::ingest {
namespace {

constexpr std::size_t kRegexBytesMax = 1024;
constexpr std::int64_t kRegexMemoryMax = 1 << 20;
constexpr std::string_view kName = "__name__";

enum class Action : std::uint8_t { Replace, Keep, Drop, LabelMap, LabelDrop, LabelKeep, Lowercase, Uppercase };
const std::vector<std::string>& actions() {
  static const std::vector<std::string> kActions = {"replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"};
  return kActions;
}

bool is_label(std::string_view name) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  return !name.empty() && (name[0] < '0' || name[0] > '9') && std::ranges::all_of(name, plain);
}

// "$1-${2}-${name}" with the groups that matched; "$$" is one dollar, as in Go's regexp.Expand.
std::string expand(std::string_view text, const re2::RE2& regex, std::span<const re2::StringPiece> groups) {
  std::string out;
  while (!text.empty()) {
    const std::size_t dollar = text.find('$');
    out += text.substr(0, dollar);
    if (dollar == std::string_view::npos) break;
    text.remove_prefix(dollar + 1);
    if (text.starts_with('$')) {
      out += '$';
      text.remove_prefix(1);
      continue;
    }
    const bool braces = text.starts_with('{');
    std::size_t size = 0;
    if (braces) {
      const std::size_t end = text.find('}');
      if (end == std::string_view::npos) return out + '$' + std::string(text);
      size = end + 1;
    } else {
      while (size < text.size() && (std::isalnum(static_cast<unsigned char>(text[size])) != 0 || text[size] == '_')) ++size;
    }
    const std::string name(braces ? text.substr(1, size - 2) : text.substr(0, size));
    text.remove_prefix(size);
    std::size_t index = groups.size();
    if (!name.empty() && name.size() < 4 && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) {
      index = static_cast<std::size_t>(std::stoi(name));
    } else if (const auto found = regex.NamedCapturingGroups().find(name); found != regex.NamedCapturingGroups().end()) {
      index = static_cast<std::size_t>(found->second);
    }
    if (index < groups.size() && groups[index].data() != nullptr) out.append(groups[index].data(), groups[index].size());
  }
  return out;
}

std::string with_case(std::string text, bool upper) {
  for (char& c : text) c = static_cast<char>(upper ? std::toupper(static_cast<unsigned char>(c)) : std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::string* find(std::string& name, Labels& labels, std::string_view label) {
  if (label == kName) return &name;
  const auto found = std::ranges::find(labels, label, [](const auto& each) { return std::string_view(each.first); });
  return found == labels.end() ? nullptr : &found->second;
}

void put(std::string& name, Labels& labels, std::string_view label, std::string value) {
  if (std::string* have = find(name, labels, label)) {
    *have = std::move(value);
    if (have->empty() && label != kName) std::erase_if(labels, [&](const auto& each) { return each.first == label; });
  } else if (!value.empty()) {
    labels.emplace_back(label, std::move(value));
  }
}

}  // namespace

struct Relabel::Step {
  Action action = Action::Replace;
  std::vector<std::string> source_labels;
  std::string separator, target_label, replacement;
  std::unique_ptr<re2::RE2> regex;
};

Relabel::Relabel() = default;
Relabel::~Relabel() = default;
Relabel::Relabel(Relabel&&) noexcept = default;
Relabel& Relabel::operator=(Relabel&&) noexcept = default;

Result<Relabel> Relabel::create(const std::vector<RelabelStep>& steps) {
  if (steps.size() > kStepsMax) return fail(Code::Invalid, fmt::format("relabel: {} steps; at most {}", steps.size(), kStepsMax));
  Relabel relabel;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const RelabelStep& given = steps[i];
    const auto wrong = [&](const std::string& why) { return fail(Code::Invalid, fmt::format("relabel step {}: {}", i + 1, why)); };
    const auto action = std::ranges::find(actions(), given.action);
    if (action == actions().end()) {
      const auto near = nearest(given.action, actions(), 1);
      return wrong(fmt::format("unknown action '{}'{}; known are {}", sanitize_utf8(given.action), near.empty() ? "" : fmt::format(", did you mean '{}'?", near[0]), fmt::join(actions(), ", ")));
    }
    Step step;
    step.action = static_cast<Action>(action - actions().begin());
    step.source_labels = given.source_labels;
    step.separator = given.separator;
    step.target_label = given.target_label;
    step.replacement = given.replacement;
    if (given.regex.size() > kRegexBytesMax) return wrong(fmt::format("a regex of more than {} bytes", kRegexBytesMax));
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_dot_nl(true);
    options.set_max_mem(kRegexMemoryMax);
    step.regex = std::make_unique<re2::RE2>(given.regex, options);
    if (!step.regex->ok()) return wrong(fmt::format("regex '{}': {}", sanitize_utf8(given.regex), step.regex->error()));
    const bool needs_source = step.action == Action::Keep || step.action == Action::Drop || step.action == Action::Lowercase || step.action == Action::Uppercase;
    const bool needs_target = step.action == Action::Replace || step.action == Action::Lowercase || step.action == Action::Uppercase;
    if (needs_source && step.source_labels.empty()) return wrong(fmt::format("'{}' needs source_labels", given.action));
    if (needs_target && step.target_label.empty()) return wrong(fmt::format("'{}' needs target_label", given.action));
    if (needs_target && step.target_label.find('$') == std::string::npos && !is_label(step.target_label)) return wrong(fmt::format("target_label '{}' is no label's name", sanitize_utf8(step.target_label)));
    relabel.steps_.push_back(std::move(step));
  }
  return relabel;
}

bool Relabel::apply(std::string& name, Labels& labels) const {
  for (const Step& step : steps_) {
    const re2::RE2& regex = *step.regex;
    switch (step.action) {
      case Action::LabelDrop:
      case Action::LabelKeep:
        std::erase_if(labels, [&](const auto& label) { return re2::RE2::FullMatch(label.first, regex) == (step.action == Action::LabelDrop); });
        continue;
      case Action::LabelMap: {
        Labels mapped;
        for (const auto& [key, value] : labels) {
          std::vector<re2::StringPiece> groups(static_cast<std::size_t>(regex.NumberOfCapturingGroups()) + 1);
          if (!regex.Match(key, 0, key.size(), re2::RE2::ANCHOR_BOTH, groups.data(), static_cast<int>(groups.size()))) continue;
          mapped.emplace_back(expand(step.replacement, regex, groups), value);
        }
        for (auto& [key, value] : mapped) {
          if (is_label(key)) put(name, labels, key, std::move(value));
        }
        continue;
      }
      default: break;
    }
    std::string source;
    for (std::size_t i = 0; i < step.source_labels.size(); ++i) {
      if (i > 0) source += step.separator;
      if (const std::string* value = find(name, labels, step.source_labels[i])) source += *value;
    }
    if (step.action == Action::Lowercase || step.action == Action::Uppercase) {
      put(name, labels, step.target_label, with_case(std::move(source), step.action == Action::Uppercase));
      continue;
    }
    std::vector<re2::StringPiece> groups(static_cast<std::size_t>(regex.NumberOfCapturingGroups()) + 1);
    const bool matches = regex.Match(source, 0, source.size(), re2::RE2::ANCHOR_BOTH, groups.data(), static_cast<int>(groups.size()));
    if (step.action != Action::Replace) {
      if (matches != (step.action == Action::Keep)) return false;
      continue;
    }
    if (!matches) continue;
    const std::string target = expand(step.target_label, regex, groups);
    if (is_label(target)) put(name, labels, target, expand(step.replacement, regex, groups));
  }
  return !name.empty();
}

}  // namespace culprit::ingest
