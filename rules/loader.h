// Loading rules: YAML text -> an immutable RuleSet. Every mistake is reported with file:line:column and a caret, and the
// nearest key; a set with mistakes is not put in force, the last good one stays.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/mutex.h"
#include "daemon/base/result.h"
#include "graph/knowledge.h"
#include "rules/index.h"
#include "rules/rule.h"

namespace culprit::rules {

inline constexpr std::size_t kRuleFileBytesMax = 1U << 20U;
inline constexpr std::size_t kRulesMax = 20'000;
inline constexpr std::size_t kMatchItemsMax = 16;
inline constexpr std::int64_t kWindowNsMax = 900LL * 1'000'000'000;  // how far apart evidence may be

struct RuleText {
  std::string name{};  // for messages
  std::string text{};
};

using RulePtr = std::shared_ptr<const Rule>;  // shared by the sets that have it and by evaluations that go on

class RuleSet {
 public:
  RuleSet(std::vector<RulePtr> rules, std::map<std::string, std::string> disabled, std::string hash);
  const std::vector<RulePtr>& rules() const { return rules_; }  // sorted by id
  RulePtr find(std::string_view id) const;                      // null if there is none
  std::vector<std::string> ids() const;
  // Why a person switched it off; empty if nobody did.
  std::string_view disabled(std::string_view id) const;
  const std::string& hash() const { return hash_; }  // equal = same texts
  const Index& index() const { return index_; }

 private:
  std::vector<RulePtr> rules_;
  std::map<std::string, std::string, std::less<>> disabled_;
  std::string hash_;
  Index index_;
};
using RuleSetPtr = std::shared_ptr<const RuleSet>;  // shared with whoever evaluates while it is replaced

// The rules that are part of this program.
std::span<const RuleText> built_in_rules();

// JSON Schemas, for editors: rule.schema.json and policy.schema.json.
std::span<const RuleText> built_in_schemas();
std::string_view schema_of(std::string_view kind);  // "rule" or "policy"

// A file, or all *.yaml below a folder, sorted by path. Errors: NotFound, Io, Exhausted.
Result<std::vector<RuleText>> read_rules(const std::filesystem::path& file_or_directory);

// Rules already parsed and tested, by the hash of their file: what has not changed is not read again.
struct RuleCache {
  struct Parsed {
    std::vector<RulePtr> rules{};
    bool used_library = false;
    bool tested = false;
  };
  std::map<std::string, Parsed> files{};
  std::string library{};  // hash of all lists and macros that `files` was read with
};

struct LoadOptions {
  const graph::Knowledge* knowledge = nullptr;  // causes must be known failure modes
  RuleCache* cache = nullptr;
  bool run_tests = false;  // a failing test is a mistake too
};

// Errors: Invalid with every finding, one after the other. A later rule with the same id replaces an earlier one of
// another file.
Result<RuleSetPtr> load_rules(std::span<const RuleText> texts, const LoadOptions& options = {});
// Built-in rules plus those of the folder (if it exists).
Result<RuleSetPtr> load_rules(const std::filesystem::path& directory, const LoadOptions& options = {});

struct TestResult {
  std::string rule{}, test{}, origin{};
  bool passed = false;
  std::string todo{};     // a known miss: does not count when it fails
  std::string message{};  // why not
  bool failed() const { return !passed && todo.empty(); }
};

// Runs the tests inside the rules, whatever their status.
std::vector<TestResult> run_tests(const RuleSet& rules);
std::vector<TestResult> run_tests(const Rule& rule);
struct CaseRun {
  TestResult result{};
  std::vector<std::string> blamed{};  // sorted
};
CaseRun run_case(const Rule& rule, const RuleTest& test);

// The set in force. Threads: `current` and `state` from any thread, `reload` from any, one at a time.
class RuleBook {
 public:
  struct State {
    std::uint64_t reloads = 0, failures = 0;  // tries that put a set in force, and that did not
    std::string error{};                      // of the last try; empty = it worked
    double reload_s = 0;                      // how long the last good one took
    std::int64_t changed_ns = 0;              // when it was put in force
  };
  RuleBook(std::filesystem::path directory, std::shared_ptr<const graph::Knowledge> knowledge, RuleSetPtr first);
  RuleSetPtr current() const;
  State state() const;
  const std::filesystem::path& directory() const { return directory_; }
  // Parses, checks and tests the folder; then puts the new set in force, or leaves the last good one and says why.
  Result<void> reload(std::int64_t now_ns);

 private:
  const std::filesystem::path directory_;
  const std::shared_ptr<const graph::Knowledge> knowledge_;  // shared with the daemon's other readers
  Mutex reload_mutex_;
  RuleCache cache_ GUARDED_BY(reload_mutex_);
  mutable Mutex mutex_;  // held for a pointer copy
  RuleSetPtr current_ GUARDED_BY(mutex_);
  State state_ GUARDED_BY(mutex_);
};

}  // namespace culprit::rules
