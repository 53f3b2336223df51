#include "rules/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <set>

#include "graph/yaml.h"
#include "rules/parse.h"

namespace culprit::rules {

RuleSet::RuleSet(std::vector<RulePtr> rules, std::map<std::string, std::string> disabled, std::string hash)
    : rules_(std::move(rules)), disabled_(disabled.begin(), disabled.end()), hash_(std::move(hash)), index_(rules_) {}

RulePtr RuleSet::find(std::string_view id) const {
  const auto at = std::ranges::lower_bound(rules_, id, {}, [](const RulePtr& rule) -> std::string_view { return rule->id; });
  return at != rules_.end() && (*at)->id == id ? *at : nullptr;
}

std::vector<std::string> RuleSet::ids() const {
  std::vector<std::string> ids;
  for (const RulePtr& rule : rules_) ids.push_back(rule->id);
  return ids;
}

std::string_view RuleSet::disabled(std::string_view id) const {
  const auto found = disabled_.find(id);
  return found == disabled_.end() ? std::string_view() : std::string_view(found->second);
}

Result<std::vector<RuleText>> read_texts(const std::filesystem::path& file_or_directory) {
  const auto io = [&](std::error_code error, const std::filesystem::path& path) { return fail_errno(error.value(), "read '" + path.string() + "'"); };
  std::error_code error;
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(file_or_directory, error)) {
    std::filesystem::recursive_directory_iterator entries(file_or_directory, error);
    if (error) return io(error, file_or_directory);
    for (const std::filesystem::recursive_directory_iterator end; entries != end; entries.increment(error)) {
      if (error) return io(error, file_or_directory);
      const auto extension = entries->path().extension();
      // An editor's unsaved files begin with a dot.
      if ((extension == ".yaml" || extension == ".yml") && !entries->path().filename().string().starts_with('.')) files.push_back(entries->path());
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

std::string_view schema_of(std::string_view kind) {
  for (const RuleText& schema : built_in_schemas()) {
    if (schema.name.starts_with(kind)) return schema.text;
  }
  return {};
}

Result<std::vector<RuleText>> read_rules(const std::filesystem::path& file_or_directory) { return read_texts(file_or_directory); }

namespace {

std::string key_of(const RuleText& text, const graph::Knowledge* knowledge) {
  const std::string_view parts[] = {text.name, text.text, knowledge == nullptr ? std::string_view() : knowledge->hash()};
  return graph::hash_texts(parts);
}

// A cheap look: could a text hold a list, macro or disable? What it takes for one is parsed.
bool may_be_library(std::string_view text) {
  for (const std::string_view key : {"list:", "macro:", "disable:"}) {
    for (auto at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
      if (at == 0 || text[at - 1] == '\n' || text[at - 1] == ' ' || text[at - 1] == '{' || text[at - 1] == '"' || text[at - 1] == '\'' || text[at - 1] == '\t') return true;
    }
  }
  return false;
}

class Loading {
 public:
  explicit Loading(const LoadOptions& options) : options_(options) {}

  // Lists before macros, which may use them; both before rules.
  void read_library(std::span<const RuleText> texts) {
    std::vector<std::pair<const RuleText*, graph::Yaml>> macros;
    std::vector<std::string_view> hashed;
    for (const RuleText& text : texts) {
      if (text.text.size() > kRuleFileBytesMax || !may_be_library(text.text)) continue;
      graph::Findings findings(text.name, text.text);
      const auto documents = graph::parse_yaml_all(text.text, findings);
      if (!documents) continue;  // read again with the rules, which report it
      bool any = false;
      for (const graph::Yaml& document : *documents) {
        any = any || is_library(document);
        if (document.find("list") != nullptr) read_list(document, library_, findings);
        else if (document.find("disable") != nullptr) read_disable(document, library_, findings);
        else if (document.find("macro") != nullptr) macros.emplace_back(&text, document);
      }
      if (any) hashed.push_back(text.text);
      add(findings);
    }
    for (const auto& [text, document] : macros) {
      graph::Findings findings(text->name, text->text);
      read_macro(document, library_, findings);
      add(findings);
    }
    library_hash_ = graph::hash_texts(hashed);
  }

  RuleCache::Parsed parse(const RuleText& text) {
    RuleCache::Parsed parsed;
    graph::Findings findings(text.name, text.text);
    if (text.text.size() > kRuleFileBytesMax) {
      findings.add(1, fmt::format("{} bytes, at most {}", text.text.size(), kRuleFileBytesMax));
      add(findings);
      return parsed;
    }
    const auto documents = graph::parse_yaml_all(text.text, findings);
    bool any = false;
    if (documents) {
      ParseContext context{text, options_.knowledge, library_};
      for (const graph::Yaml& document : *documents) {
        if (document.kind == graph::Yaml::Kind::Null) continue;  // an empty document between separators
        any = true;
        if (is_library(document)) continue;
        parsed.rules.push_back(std::make_shared<const Rule>(read_rule(document, context, findings)));
      }
      parsed.used_library = context.used_library;
      if (!any) findings.add(1, "no rule in this file");
    }
    if (!findings.empty()) parsed.rules.clear();
    add(findings);
    return parsed;
  }

  void add(const graph::Findings& findings) {
    if (auto result = findings.result(); !result) add(result.error().message);
  }
  void add(std::string_view problem) {
    if (problems_.size() > (1U << 20U)) return;  // nobody reads more
    problems_ += problems_.empty() ? "" : "\n";
    problems_ += problem;
  }

  Result<RuleSetPtr> load(std::span<const RuleText> texts) {
    read_library(texts);
    std::map<std::string, RulePtr> rules;  // by id
    std::vector<std::string> keys;
    RuleCache kept{.files = {}, .library = library_hash_};
    for (const RuleText& text : texts) {
      keys.push_back(key_of(text, options_.knowledge));
      RuleCache::Parsed parsed;
      const RuleCache::Parsed* known = nullptr;
      if (options_.cache != nullptr) {
        const auto found = options_.cache->files.find(keys.back());
        if (found != options_.cache->files.end() && (!found->second.used_library || options_.cache->library == library_hash_)) known = &found->second;
      }
      parsed = known != nullptr ? *known : parse(text);
      std::set<std::string_view> own;
      for (const RulePtr& rule : parsed.rules) {
        if (!own.insert(rule->id).second) add(fmt::format("{}: rule '{}' is given twice in this file", rule->origin, rule->id));
        if (options_.run_tests && !parsed.tested) {
          for (const TestResult& result : run_tests(*rule)) {
            if (result.failed()) add(fmt::format("{}: rule '{}', test '{}': {}", result.origin, result.rule, result.test, result.message));
          }
        }
        rules.insert_or_assign(rule->id, rule);
      }
      parsed.tested = parsed.tested || options_.run_tests;
      if (rules.size() > kRulesMax) return fail(Code::Exhausted, fmt::format("more than {} rules", kRulesMax));
      if (options_.cache != nullptr) kept.files.insert_or_assign(keys.back(), std::move(parsed));
    }
    for (const auto& [rule, reason] : library_.disabled) {
      if (rules.contains(rule)) continue;
      std::vector<std::string> ids;
      for (const auto& [id, unused] : rules) ids.push_back(id);
      add(fmt::format("'disable: {}' names no rule{}", rule, graph::did_you_mean(rule, ids)));
    }
    if (!problems_.empty()) return fail(Code::Invalid, std::move(problems_));
    if (options_.cache != nullptr) *options_.cache = std::move(kept);
    std::vector<RulePtr> sorted;
    sorted.reserve(rules.size());
    for (auto& [id, rule] : rules) sorted.push_back(std::move(rule));
    const std::vector<std::string_view> hashed(keys.begin(), keys.end());
    return std::make_shared<const RuleSet>(std::move(sorted), library_.disabled, graph::hash_texts(hashed));
  }

 private:
  const LoadOptions& options_;
  Library library_;
  std::string library_hash_;
  std::string problems_;
};

}  // namespace

Result<RuleSetPtr> load_rules(std::span<const RuleText> texts, const LoadOptions& options) { return Loading(options).load(texts); }

Result<RuleSetPtr> load_rules(const std::filesystem::path& directory, const LoadOptions& options) {
  const auto built_in = built_in_rules();
  std::vector<RuleText> texts(built_in.begin(), built_in.end());
  std::error_code error;
  if (!directory.empty() && std::filesystem::exists(directory, error)) {
    ASSIGN(std::vector<RuleText> own, read_texts(directory));
    std::ranges::move(own, std::back_inserter(texts));
  }
  return load_rules(texts, options);
}

RuleBook::RuleBook(std::filesystem::path directory, std::shared_ptr<const graph::Knowledge> knowledge, RuleSetPtr first)
    : directory_(std::move(directory)), knowledge_(std::move(knowledge)), current_(std::move(first)) {}

RuleSetPtr RuleBook::current() const {
  const MutexLock lock(mutex_);
  return current_;
}

RuleBook::State RuleBook::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

Result<void> RuleBook::reload(std::int64_t now_ns) {
  const MutexLock one_at_a_time(reload_mutex_);
  const auto started = std::chrono::steady_clock::now();
  auto fresh = load_rules(directory_, {.knowledge = knowledge_.get(), .cache = &cache_, .run_tests = true});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  const MutexLock lock(mutex_);
  if (!fresh) {
    ++state_.failures;
    state_.error = fresh.error().message;
    return std::unexpected(fresh.error());
  }
  ++state_.reloads;
  state_.error.clear();
  state_.reload_s = took.count();
  const bool changed = !current_ || current_->hash() != (*fresh)->hash();
  if (changed) {
    state_.changed_ns = now_ns;
    current_ = std::move(*fresh);
  }
  return {};
}

}  // namespace culprit::rules
