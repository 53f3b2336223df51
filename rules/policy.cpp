#include "rules/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>

#include "daemon/base/text.h"
#include "graph/yaml.h"
#include "rules/config.h"
#include "rules/parse.h"
#include "rules/regex.h"

namespace culprit::rules {

namespace {
struct Condition {
  std::string path{}, value{}, unless{}, missing{};
  std::optional<double> above{}, below{};
  std::optional<std::size_t> longer{}, shorter{};
  std::size_t least = 1;  // so many settings must fit
  std::shared_ptr<const Regex> regex{};
};

struct PolicyTest {
  std::string name{}, text{}, file{};
  std::size_t expect = 0;
  int line = 0;
};
}  // namespace

struct Policy {
  std::string id{}, pack{}, summary{}, why{}, advice{}, fix{}, source{}, file_glob{}, origin{};
  std::vector<std::string> scopes{};
  Severity severity = Severity::Warning;
  std::optional<Format> format{};
  std::vector<Condition> document{}, when{}, unless{}, require{}, forbid{}, in_file{};
  std::vector<PolicyTest> tests{};
};

namespace {

using graph::Fields;
using graph::Findings;
using graph::Need;
using graph::Yaml;

constexpr std::string_view kSeverities[] = {"info", "warning", "error"};
constexpr std::string_view kSecrets[] = {"secret", "passw", "requirepass", "key"};
constexpr std::string_view kFormatNames[] = {"nginx", "postgresql", "redis", "ini", "env", "yaml", "json"};

// "64mb" -> 67108864, "200ms" -> 0.2, "5min" -> 300; nothing if it is no number.
std::optional<double> number_with_unit(std::string_view text) {
  static const std::map<std::string, double, std::less<>> kUnits = {
      {"", 1}, {"b", 1}, {"k", 1e3}, {"kb", 1024}, {"m", 1e6}, {"mb", 1048576}, {"g", 1e9}, {"gb", 1073741824}, {"tb", 1099511627776.0},
      {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
  std::size_t end = 0;
  while (end < text.size() && ((text[end] >= '0' && text[end] <= '9') || text[end] == '.' || (end == 0 && text[end] == '-'))) ++end;
  const auto number = graph::parse_number(text.substr(0, end));
  if (!number) return std::nullopt;
  std::string unit;
  for (const char c : text.substr(end)) {
    if (c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  const auto factor = kUnits.find(unit);
  return factor == kUnits.end() ? std::nullopt : std::optional(*number * factor->second);
}

std::string lower(std::string_view from) {
  std::string result(from);
  std::ranges::transform(result, result.begin(), [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return result;
}

bool same_glob(std::string_view glob, std::string_view text) { return glob_match(lower(glob), lower(text)); }

bool holds(const Condition& condition, const Setting& setting) {
  bool named = false;
  for (std::size_t at = 0; !named && at <= condition.path.size();) {
    const auto end = std::min(condition.path.find('|', at), condition.path.size());
    named = glob_match(std::string_view(condition.path).substr(at, end - at), setting.path);  // both are in lower case
    at = end + 1;
  }
  if (!named) return false;
  if (!condition.value.empty() && !same_glob(condition.value, setting.value)) return false;
  if (!condition.unless.empty() && same_glob(condition.unless, setting.value)) return false;
  if (condition.longer && setting.value.size() <= *condition.longer) return false;
  if (condition.shorter && setting.value.size() >= *condition.shorter) return false;
  if (condition.above || condition.below) {
    const auto number = number_with_unit(setting.value);
    if (!number || (condition.above && !(*number > *condition.above)) || (condition.below && !(*number < *condition.below))) return false;
  }
  return condition.regex == nullptr || condition.regex->matches(setting.value);
}

Condition read_condition(Fields& f) {
  Condition condition;
  condition.path = lower(f.text("path", Need::Required));
  condition.value = f.text("value");
  condition.unless = f.text("not");
  condition.missing = lower(f.text("missing"));
  condition.above = f.number("above", -1e300, 1e300);
  condition.below = f.number("below", -1e300, 1e300);
  condition.least = static_cast<std::size_t>(f.number("least", 1, 1e6).value_or(1));
  if (const auto longer = f.number("longer", 0, 1e6)) condition.longer = static_cast<std::size_t>(*longer);
  if (const auto shorter = f.number("shorter", 0, 1e6)) condition.shorter = static_cast<std::size_t>(*shorter);
  if (const std::string pattern = f.text("regex"); !pattern.empty()) {
    if (auto regex = Regex::compile(pattern)) condition.regex = std::move(*regex);
    else f.findings().add(f.place_of("regex"), fmt::format("regex: {}", regex.error().message));
  }
  return condition;
}

std::vector<Condition> read_conditions(Fields& f, std::string_view key) {
  std::vector<Condition> result;
  const Yaml* list = f.list(key);
  if (list == nullptr) return result;
  for (const Yaml& item : list->items) {
    Fields inner(item, "a condition", f.findings());
    if (item.kind != Yaml::Kind::Map) continue;
    result.push_back(read_condition(inner));
    inner.done();
  }
  return result;
}

Policy read_policy(const Yaml& root, const RuleText& source, Findings& findings) {
  Fields f(root, "a policy", findings);
  Policy policy;
  policy.origin = fmt::format("{}:{}", source.name, root.line);
  policy.id = f.text("policy", Need::Required);
  policy.pack = kPacks[f.choice("pack", kPacks).value_or(std::size(kPacks) - 1)];
  policy.severity = static_cast<Severity>(f.choice("severity", kSeverities).value_or(1));
  policy.summary = f.text("summary", Need::Required);
  policy.advice = f.text("advice", Need::Required);
  policy.source = f.text("source", Need::Required);
  policy.why = f.text("why");
  policy.fix = f.text("fix");
  if (const Yaml* scope = f.find("scope"); scope != nullptr && scope->kind == Yaml::Kind::List) {
    for (const Yaml& glob : scope->items) policy.scopes.push_back(glob.text);  // "" is a document itself
  } else if (const std::string glob = f.text("scope"); !glob.empty()) {
    policy.scopes = {glob};
  }
  policy.document = read_conditions(f, "document");
  if (const Yaml* files = f.map("files", Need::Required)) {
    Fields inner(*files, "'files'", findings);
    if (const auto format = inner.choice("format", kFormatNames)) policy.format = static_cast<Format>(*format);
    policy.file_glob = inner.text("name");
    inner.done();
  }
  policy.when = read_conditions(f, "when");
  policy.unless = read_conditions(f, "unless");
  policy.require = read_conditions(f, "require");
  policy.forbid = read_conditions(f, "forbid");
  policy.in_file = read_conditions(f, "require_in_file");
  if (policy.require.empty() && policy.forbid.empty() && policy.in_file.empty()) findings.add(root.place(), "a policy needs 'require', 'forbid' or 'require_in_file'");
  if (const Yaml* tests = f.list("tests", Need::Required)) {
    for (const Yaml& node : tests->items) {
      Fields inner(node, "a test", findings);
      if (node.kind != Yaml::Kind::Map) continue;
      PolicyTest test{.name = inner.text("name", Need::Required), .text = inner.text("text", Need::Required), .file = inner.text("file"), .line = node.line};
      test.expect = static_cast<std::size_t>(inner.number("expect", 0, 1000, Need::Required).value_or(0));
      inner.done();
      policy.tests.push_back(std::move(test));
    }
  }
  f.done();
  return policy;
}

bool is_inside(const Config& config, std::size_t block, std::size_t outer) {
  while (block != outer && block != 0) block = config.blocks[block].parent;
  return block == outer;
}

// The first setting of a block, or of what it holds, for which a condition holds.
const Setting* find_inside(const Config& config, std::size_t block, const Condition& condition) {
  for (std::size_t i = config.blocks[block].first; i < config.blocks[block].last; ++i) {
    if (holds(condition, config.settings[i])) return &config.settings[i];
  }
  return nullptr;
}

// Also in the blocks around it, of which only what stands directly in them counts.
const Setting* find_in_reach(const Config& config, std::size_t block, const Condition& condition) {
  if (const Setting* setting = find_inside(config, block, condition)) return setting;
  while (block != 0) {
    block = config.blocks[block].parent;
    for (const std::size_t i : config.blocks[block].own) {
      if (holds(condition, config.settings[i])) return &config.settings[i];
    }
  }
  return nullptr;
}

bool holds_in(const Config& config, std::size_t block, const Condition& condition) {
  std::size_t fitting = 0;
  for (std::size_t i = config.blocks[block].first; i < config.blocks[block].last; ++i) {
    if (holds(condition, config.settings[i]) && ++fitting == condition.least) return true;
  }
  return false;
}

// One scope of one policy: `block` and what is in it; requirements may also be met around it. `lacking` is what the whole file lacks.
void check_scope(const Policy& policy, const Config& config, std::size_t block, std::span<const Condition* const> lacking, std::string_view file, std::vector<PolicyFinding>& out) {
  int line = config.blocks[block].line;
  for (const Condition& condition : policy.when) {
    const Setting* setting = find_inside(config, block, condition);
    if (setting == nullptr) return;
    if (block == 0 || policy.scopes.empty()) line = setting->line;
  }
  const auto report = [&](int at, std::string message) {
    out.push_back({.policy = policy.id, .severity = policy.severity, .file = std::string(file), .line = at, .message = std::move(message), .advice = policy.advice, .why = policy.why, .fix = policy.fix});
  };
  for (const Condition& condition : policy.require) {
    if (find_in_reach(config, block, condition) != nullptr) continue;
    // Set, but to another value: point there rather than at the block.
    const Condition named{.path = condition.path};
    const Setting* other = find_in_reach(config, block, named);
    if (other != nullptr) report(other->line, fmt::format("{} ('{}' is '{}')", policy.summary, other->path, other->value));
    else report(line, fmt::format("{} ('{}' is not set)", policy.summary, condition.path));
  }
  for (const Condition* condition : lacking) report(line, fmt::format("{} (no '{}' in the file)", policy.summary, condition->value.empty() ? condition->path : condition->value));
  for (const Condition& condition : policy.forbid) {
    for (std::size_t i = config.blocks[block].first; i < config.blocks[block].last; ++i) {
      const Setting& setting = config.settings[i];
      if (!holds(condition, setting)) continue;
      if (!condition.missing.empty() && find_in_reach(config, setting.block, {.path = condition.missing}) != nullptr) continue;
      // A secret is not repeated.
      const bool secret = condition.shorter || condition.longer || std::ranges::any_of(kSecrets, [&](std::string_view word) { return setting.path.find(word) != std::string::npos; });
      report(setting.line, secret ? fmt::format("{} ('{}')", policy.summary, setting.path) : fmt::format("{} ('{}' is '{}')", policy.summary, setting.path, setting.value));
    }
  }
}

void check_policy(const Policy& policy, const Config& config, Format format, std::string_view file, std::vector<PolicyFinding>& out) {
  const Format same = format == Format::Json ? Format::Yaml : format;  // one reader, one kind of policy
  const auto wanted = policy.format == Format::Json ? std::optional(Format::Yaml) : policy.format;
  if (wanted && *wanted != same) return;
  if (!policy.file_glob.empty() && !glob_match(policy.file_glob, std::filesystem::path(file).filename().string())) return;
  std::size_t asked = SIZE_MAX;  // the document that was looked at last: its blocks stand side by side
  bool wanted_document = false;
  const bool documents = config.blocks.size() > 1 && config.blocks[1].document;
  std::vector<std::size_t> chosen;
  for (std::size_t block = 0; block < config.blocks.size(); ++block) {
    const Config::Block& it = config.blocks[block];
    if (it.list || (documents && block == 0)) continue;
    const bool whole = documents ? it.document : block == 0;
    const bool fits = policy.scopes.empty() ? whole : std::ranges::any_of(policy.scopes, [&](const std::string& scope) { return scope.empty() ? whole : block != 0 && same_glob(scope, it.path); });
    if (!fits) continue;
    std::size_t document = block;
    while (document != 0 && !config.blocks[document].document) document = config.blocks[document].parent;
    if (document != asked) {
      asked = document;
      wanted_document = std::ranges::all_of(policy.document, [&](const Condition& condition) { return holds_in(config, document, condition); });
    }
    if (!wanted_document) continue;
    if (!std::ranges::all_of(policy.when, [&](const Condition& condition) { return holds_in(config, block, condition); })) continue;
    if (std::ranges::any_of(policy.unless, [&](const Condition& condition) { return holds_in(config, block, condition); })) continue;
    chosen.push_back(block);
  }
  if (chosen.empty()) return;
  std::vector<const Condition*> lacking;
  for (const Condition& condition : policy.in_file) {
    if (find_inside(config, 0, condition) == nullptr) lacking.push_back(&condition);
  }
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    // Of nested ones the innermost is looked at, which is the one to mend: what a block holds follows it.
    if (i + 1 == chosen.size() || !is_inside(config, chosen[i + 1], chosen[i])) check_scope(policy, config, chosen[i], lacking, file, out);
  }
}

}  // namespace

std::string_view severity_name(Severity severity) { return kSeverities[static_cast<std::size_t>(severity)]; }

PolicySet::PolicySet(std::vector<Policy> policies) : policies_(std::move(policies)) {}
PolicySet::~PolicySet() = default;

Result<std::shared_ptr<const PolicySet>> PolicySet::load(std::span<const RuleText> texts) {
  std::map<std::string, Policy> policies;
  std::string problems;
  for (const RuleText& text : texts) {
    Findings findings(text.name, text.text);
    if (const auto documents = graph::parse_yaml_all(text.text, findings)) {
      for (const Yaml& document : *documents) {
        if (document.kind == Yaml::Kind::Null) continue;
        Policy policy = read_policy(document, text, findings);
        policies.insert_or_assign(policy.id, std::move(policy));
      }
    }
    if (auto result = findings.result(); !result) problems += (problems.empty() ? "" : "\n") + result.error().message;
  }
  if (!problems.empty()) return fail(Code::Invalid, std::move(problems));
  std::vector<Policy> sorted;
  for (auto& [id, policy] : policies) sorted.push_back(std::move(policy));
  return std::shared_ptr<const PolicySet>(new PolicySet(std::move(sorted)));
}

Result<std::shared_ptr<const PolicySet>> PolicySet::load(const std::filesystem::path& directory) {
  const auto built_in = built_in_policies();
  std::vector<RuleText> texts(built_in.begin(), built_in.end());
  ASSIGN(std::vector<RuleText> own, read_texts(directory));
  std::ranges::move(own, std::back_inserter(texts));
  return load(texts);
}

Result<std::vector<PolicyFinding>> PolicySet::check(std::string_view file, std::string_view text, std::optional<Format> format, std::string_view pack) const {
  if (!format) format = guess_format(std::filesystem::path(file), text);
  if (!format) return fail(Code::Unsupported, fmt::format("{}: no format that policies know (nginx, postgresql, redis, ini, env, yaml, json)", file));
  ASSIGN(const Config config, parse_blocks(file, text, *format));
  std::vector<PolicyFinding> findings;
  for (const Policy& policy : policies_) {
    if (pack.empty() || policy.pack == pack) check_policy(policy, config, *format, file, findings);
  }
  std::ranges::stable_sort(findings, {}, &PolicyFinding::line);
  return findings;
}

std::vector<TestResult> PolicySet::run_tests() const {
  std::vector<TestResult> results;
  for (const Policy& policy : policies_) {
    for (const PolicyTest& test : policy.tests) {
      TestResult result{.rule = policy.id, .test = test.name, .origin = fmt::format("{}:{}", policy.origin.substr(0, policy.origin.rfind(':')), test.line)};
      const std::string file = test.file.empty() ? "test" : test.file;
      const auto format = test.file.empty() && policy.format ? policy.format : guess_format(file, test.text);
      const auto config = format ? parse_blocks(file, test.text, *format) : Result<Config>(fail(Code::Unsupported, "no known format"));
      if (!config) {
        result.message = config.error().message;
      } else {
        std::vector<PolicyFinding> findings;
        check_policy(policy, *config, *format, file, findings);
        if (findings.size() != test.expect) result.message = fmt::format("expected {} findings, got {}", test.expect, findings.size());
      }
      result.passed = result.message.empty();
      results.push_back(std::move(result));
    }
  }
  return results;
}

std::vector<PolicySet::Info> PolicySet::list() const {
  std::vector<Info> result;
  for (const Policy& policy : policies_) {
    const auto bad = static_cast<std::size_t>(std::ranges::count_if(policy.tests, [](const PolicyTest& test) { return test.expect > 0; }));
    result.push_back({policy.id, policy.pack, policy.summary, policy.why, policy.advice, policy.source, policy.severity, policy.tests.size() - bad, bad});
  }
  return result;
}

Result<std::vector<std::filesystem::path>> config_files(const std::filesystem::path& file_or_folder) {
  constexpr std::size_t kFilesMax = 20'000;
  std::error_code error;
  if (!std::filesystem::is_directory(file_or_folder, error)) return std::vector{file_or_folder};
  std::vector<std::filesystem::path> files;
  std::filesystem::recursive_directory_iterator entries(file_or_folder, std::filesystem::directory_options::skip_permission_denied, error);
  if (error) return fail_errno(error.value(), "read '" + file_or_folder.string() + "'");
  for (const std::filesystem::recursive_directory_iterator end; entries != end; entries.increment(error)) {
    if (error) return fail_errno(error.value(), "read '" + file_or_folder.string() + "'");
    std::error_code ignored;  // what cannot be looked at is no file
    const std::string name = entries->path().filename().string();
    if (entries->is_directory(ignored)) {
      if (name == ".git" || name == "node_modules") entries.disable_recursion_pending();
      continue;
    }
    if (entries->is_regular_file(ignored) && guess_format(entries->path(), "")) files.push_back(entries->path());
    if (files.size() > kFilesMax) return fail(Code::Exhausted, fmt::format("more than {} configuration files in '{}'", kFilesMax, file_or_folder.string()));
  }
  std::ranges::sort(files);
  return files;
}

Result<std::vector<PolicyFinding>> check_file(const PolicySet& policies, const std::filesystem::path& file, std::string_view pack) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(file, error);
  if (error) return fail_errno(error.value(), "read '" + file.string() + "'");
  if (bytes > kConfigBytesMax) return fail(Code::Exhausted, fmt::format("'{}' has {} bytes, at most {}", file.string(), bytes, kConfigBytesMax));
  std::ifstream stream(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  if (!stream) return fail(Code::Io, "read '" + file.string() + "'");
  return policies.check(file.string(), text, std::nullopt, pack);
}

}  // namespace culprit::rules
