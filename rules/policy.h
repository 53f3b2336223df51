// Policies: rules over configuration files, for `culprit policy check FILE...` and for CI.
//
// A file becomes settings: a flat list of (path, value, line), where the path shows the nesting:
// "http/server/location/limit_req" (nginx), "maxmemory" (redis), "shared_buffers" (postgresql),
// "mysqld/max_connections" (ini), "auth/jwt/secret" (yaml, json). A policy looks for settings that are there, or
// missing, or have a bad value, and says so with file:line.
//
//   policy: redis-maxmemory-without-policy
//   pack: redis                           # apisix envoy kubernetes nginx postgresql redis prometheus systemd mysql own
//   severity: warning                     # error | warning | info
//   summary: maxmemory without an eviction policy refuses writes when it is reached
//   files: {format: redis}                # nginx | postgresql | redis | ini | env | yaml | json, and/or name: glob
//   document: [{path: kind, value: Pod}]  # only documents of a YAML file for which these hold
//   scope: http/server                    # check each such block, or list item, on its own (its settings and those inside it), the
//                                         # innermost if they nest; or a list of globs; else the file, or each document of it
//   when: [{path: maxmemory, above: 0}]   # all must hold in the scope
//   unless: [{path: replicaof}]           # none may hold in the scope
//   require: [{path: maxmemory-policy}]   # each must hold in the scope or around it, or there is a finding
//   forbid: [{path: fsync, value: 'off'}] # each setting for which it holds is a finding
//   require_in_file: [{path: kind, value: PodDisruptionBudget}]   # somewhere in the file, in any document
//
// A condition has a path (glob, '*' also crosses '/', '|' between several) and any of: value (glob), not (glob), above, below (numbers with
// units: kb, mb, gb, ms, s, min), longer, shorter (bytes), regex; of `when`, `unless` and `document` also least: so many must fit. With `missing: <path>` a forbidden setting is only one if that
// path is missing too.
//
//   why: When the limit is reached, every write fails
//   advice: Set maxmemory-policy, for a cache allkeys-lru
//   fix: maxmemory-policy allkeys-lru     # lines to put in, shown by --fix-hint
//   source: Redis manual, key eviction
//   tests: [{name: …, text: "maxmemory 1gb\n", expect: 1}]
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "rules/loader.h"
#include "rules/rule.h"

namespace culprit::rules {

enum class Format : std::uint8_t { Nginx, Postgresql, Redis, Ini, Env, Yaml, Json };
std::string_view format_name(Format format);
// By file name, then by content; nothing if it is none that we know.
std::optional<Format> guess_format(const std::filesystem::path& file, std::string_view text);

struct Setting {
  std::string path{};   // lower case, '/' between levels
  std::string value{};  // arguments joined by one space, quotes removed
  int line = 0;
  std::size_t block = 0;  // the n-th block of the file that holds it; 0 = top level
};

inline constexpr std::size_t kConfigBytesMax = 4U << 20U;
inline constexpr std::size_t kSettingsMax = 100'000;

// Errors: Invalid "file:line: what" (unbalanced braces, broken yaml); Exhausted.
Result<std::vector<Setting>> parse_config(std::string_view name, std::string_view text, Format format);

enum class Severity : std::uint8_t { Info, Warning, Error };
std::string_view severity_name(Severity severity);

struct PolicyFinding {
  std::string policy{};
  Severity severity = Severity::Warning;
  std::string file{};
  int line = 0;         // 1 when something is missing from the whole file
  std::string message{};  // what is wrong
  std::string advice{};
  std::string why{};
  std::string fix{};
  bool operator==(const PolicyFinding&) const = default;
};

inline constexpr std::string_view kPacks[] = {"apisix", "envoy", "kubernetes", "nginx", "postgresql", "redis", "prometheus", "systemd", "mysql", "own"};

struct Policy;  // rules/policy.cpp

class PolicySet {
 public:
  // Errors as load_rules.
  static Result<std::shared_ptr<const PolicySet>> load(std::span<const RuleText> texts);
  static Result<std::shared_ptr<const PolicySet>> load(const std::filesystem::path& directory);  // plus built-in
  ~PolicySet();
  // Findings by line. Errors: Unsupported when no format fits, Invalid from parse_config.
  Result<std::vector<PolicyFinding>> check(std::string_view file, std::string_view text,
                                           std::optional<Format> format = std::nullopt, std::string_view pack = {}) const;
  std::vector<TestResult> run_tests() const;
  struct Info {
    std::string id{}, pack{}, summary{}, why{}, advice{}, source{};
    Severity severity;
    std::size_t good = 0, bad = 0;  // its cases
  };
  std::vector<Info> list() const;

 private:
  explicit PolicySet(std::vector<Policy> policies);
  std::vector<Policy> policies_;  // sorted by id
};

std::span<const RuleText> built_in_policies();
// Errors: those of check; NotFound, Denied, Io, Exhausted.
Result<std::vector<PolicyFinding>> check_file(const PolicySet& policies, const std::filesystem::path& file, std::string_view pack = {});
// The files below a folder whose format is one that policies know, sorted; a file is itself. Errors: as above.
Result<std::vector<std::filesystem::path>> config_files(const std::filesystem::path& file_or_folder);

}  // namespace culprit::rules
