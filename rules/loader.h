// Loading rules: YAML text -> an immutable RuleSet. Every mistake is reported with file:line and the
// nearest key; a set with mistakes is not put in force, the last good one stays.
#pragma once

#include <filesystem>
#include <memory>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "graph/knowledge.h"
#include "rules/rule.h"

namespace culprit::rules {

inline constexpr std::size_t kRuleFileBytesMax = 1U << 20U;
inline constexpr std::size_t kRulesMax = 20'000;
inline constexpr std::size_t kMatchItemsMax = 16;

struct RuleText {
  std::string name{};  // for messages
  std::string text{};
};

class RuleSet {
 public:
  RuleSet(std::vector<Rule> rules, std::string hash) : rules_(std::move(rules)), hash_(std::move(hash)) {}
  const std::vector<Rule>& rules() const { return rules_; }
  const Rule* find(std::string_view id) const;
  const std::string& hash() const { return hash_; }  // equal = same texts

 private:
  std::vector<Rule> rules_;  // sorted by id
  std::string hash_;
};

// The rules that are part of this program.
std::span<const RuleText> built_in_rules();

// A file, or all *.yaml below a folder, sorted by path. Errors: NotFound, Io, Exhausted.
Result<std::vector<RuleText>> read_rules(const std::filesystem::path& file_or_directory);

// Rules already parsed, by the hash of their file: what has not changed is not parsed again.
using RuleCache = std::map<std::string, std::vector<Rule>>;

// Errors: Invalid with every finding, one a line, each "file:line: what". With `knowledge`, causes must
// be known failure modes. A later rule with the same id replaces an earlier one of another file.
Result<std::shared_ptr<const RuleSet>> load_rules(std::span<const RuleText> texts,
                                                  const graph::Knowledge* knowledge = nullptr, RuleCache* cache = nullptr);

// Built-in rules plus those of the folder (if it exists), checked against the knowledge.
Result<std::shared_ptr<const RuleSet>> load_rules(const std::filesystem::path& directory,
                                                  const graph::Knowledge* knowledge, RuleCache* cache = nullptr);

struct TestResult {
  std::string rule{}, test{}, origin{};
  bool passed = false;
  std::string message{};  // why not
};

// Runs the tests inside the rules, whatever their status.
std::vector<TestResult> run_tests(const RuleSet& rules);

// The set in force. Threads: `current` from any thread, `reload` from one.
class RuleBook {
 public:
  explicit RuleBook(std::shared_ptr<const RuleSet> first) : current_(std::move(first)) {}
  std::shared_ptr<const RuleSet> current() const;  // shared with whoever evaluates while it is replaced
  // Puts a new set in force, or leaves the last good one and answers why.
  Result<void> reload(const std::filesystem::path& directory, const graph::Knowledge* knowledge);

 private:
  mutable std::mutex mutex_;  // held for a pointer copy
  std::shared_ptr<const RuleSet> current_;
  RuleCache cache_;  // of the reloading thread
};

}  // namespace culprit::rules
