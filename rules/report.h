// Reports for other programs: JUnit XML, SARIF 2.1.0, and GitHub's workflow commands.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rules/loader.h"

namespace culprit::rules {

// One thing to report at a place of a file.
struct Issue {
  std::string id{};        // of the policy or rule
  std::string severity{};  // "error", "warning", "info"
  std::string file{};
  int line = 1;
  int column = 0;  // 0 = unknown
  std::string message{};
  std::string advice{};
};
// What the ids mean, for SARIF's table of rules.
struct IssueKind {
  std::string id{}, summary{}, help{}, severity{};
};

std::string junit(std::string_view suite, std::span<const TestResult> results);
// A file that could not be read or parsed: nobody knows what it violates.
struct Unreadable {
  std::string file{};
  std::string message{};
};

std::string junit(std::string_view suite, std::span<const std::string> checked, std::span<const Issue> issues, std::span<const Unreadable> unreadable = {});
std::string github(std::span<const Issue> issues, std::span<const Unreadable> unreadable = {});
std::string sarif(std::string_view version, std::span<const IssueKind> kinds, std::span<const Issue> issues, std::span<const Unreadable> unreadable = {});

}  // namespace culprit::rules
