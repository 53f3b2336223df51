#include "rules/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "graph/yaml.h"
#include "rules/parse.h"

namespace culprit::rules {

const Rule* RuleSet::find(std::string_view id) const {
  const auto at = std::ranges::lower_bound(rules_, id, {}, &Rule::id);
  return at != rules_.end() && at->id == id ? &*at : nullptr;
}

Result<std::vector<RuleText>> read_texts(const std::filesystem::path& file_or_directory) {
  const auto io = [&](std::error_code error, const std::filesystem::path& path) { return fail_errno(error.value(), "read '" + path.string() + "'"); };
  std::error_code error;
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(file_or_directory, error)) {
    std::filesystem::recursive_directory_iterator entries(file_or_directory, error);
    if (error) return io(error, file_or_directory);
    for (; entries != std::filesystem::recursive_directory_iterator(); entries.increment(error)) {
      if (error) return io(error, file_or_directory);
      const auto extension = entries->path().extension();
      if (extension == ".yaml" || extension == ".yml") files.push_back(entries->path());
      if (files.size() > kRulesMax) return fail(Code::Exhausted, fmt::format("more than {} files in '{}'", kRulesMax, file_or_directory.string()));
    }
    if (error) return io(error, file_or_directory);
    std::ranges::sort(files);
  } else {
    files.push_back(file_or_directory);
  }
  std::vector<RuleText> texts;
  for (const auto& file : files) {
    const auto bytes = std::filesystem::file_size(file, error);
    if (error) return io(error, file);
    if (bytes > kRuleFileBytesMax) return fail(Code::Exhausted, fmt::format("'{}' has {} bytes, at most {}", file.string(), bytes, kRuleFileBytesMax));
    std::ifstream stream(file, std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(stream)), {});
    if (!stream) return fail(Code::Io, "read '" + file.string() + "'");
    texts.push_back({file.string(), std::move(text)});
  }
  return texts;
}

Result<std::vector<RuleText>> read_rules(const std::filesystem::path& file_or_directory) { return read_texts(file_or_directory); }

Result<std::shared_ptr<const RuleSet>> load_rules(std::span<const RuleText> texts, const graph::Knowledge* knowledge, RuleCache* cache) {
  std::map<std::string, Rule> rules;  // by id
  std::map<std::string, std::string> files;
  std::string problems;
  std::vector<std::string_view> hashed;
  RuleCache kept;
  for (const RuleText& text : texts) {
    hashed.push_back(text.text);
    const std::string_view parts[] = {text.name, text.text, knowledge == nullptr ? std::string_view() : knowledge->hash()};
    const std::string key = graph::hash_texts(parts);
    std::vector<Rule> parsed;
    const auto cached = cache == nullptr ? RuleCache::iterator() : cache->find(key);
    if (cache != nullptr && cached != cache->end()) {
      parsed = cached->second;
    } else {
      graph::Findings findings(text.name);
      parsed = parse_rules(text, knowledge, findings);
      if (auto result = findings.result(); !result) {
        problems += (problems.empty() ? "" : "\n") + result.error().message;
        continue;
      }
    }
    for (const Rule& rule : parsed) {
      if (const auto at = files.find(rule.id); at != files.end() && at->second == text.name) {
        problems += fmt::format("{}{}: rule '{}' is given twice in this file", problems.empty() ? "" : "\n", rule.origin, rule.id);
      }
      files[rule.id] = text.name;
      rules.insert_or_assign(rule.id, rule);
    }
    if (rules.size() > kRulesMax) return fail(Code::Exhausted, fmt::format("more than {} rules", kRulesMax));
    if (cache != nullptr) kept.insert_or_assign(key, std::move(parsed));
  }
  if (!problems.empty()) return fail(Code::Invalid, std::move(problems));
  if (cache != nullptr) *cache = std::move(kept);
  std::vector<Rule> sorted;
  sorted.reserve(rules.size());
  for (auto& [id, rule] : rules) sorted.push_back(std::move(rule));
  return std::make_shared<const RuleSet>(std::move(sorted), graph::hash_texts(hashed));
}

Result<std::shared_ptr<const RuleSet>> load_rules(const std::filesystem::path& directory, const graph::Knowledge* knowledge, RuleCache* cache) {
  const auto built_in = built_in_rules();
  std::vector<RuleText> texts(built_in.begin(), built_in.end());
  std::error_code error;
  if (!directory.empty() && std::filesystem::exists(directory, error)) {
    ASSIGN(std::vector<RuleText> own, read_texts(directory));
    std::ranges::move(own, std::back_inserter(texts));
  }
  return load_rules(texts, knowledge, cache);
}

std::shared_ptr<const RuleSet> RuleBook::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

Result<void> RuleBook::reload(const std::filesystem::path& directory, const graph::Knowledge* knowledge) {
  ASSIGN(auto fresh, load_rules(directory, knowledge, &cache_));
  const std::lock_guard lock(mutex_);
  current_ = std::move(fresh);
  return {};
}

}  // namespace culprit::rules
