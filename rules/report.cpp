#include "rules/report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "daemon/base/text.h"

namespace culprit::rules {
namespace {

// XML 1.0 allows no other control characters than these, not even escaped.
std::string xml(std::string_view raw) {
  std::string out;
  for (const char c : sanitize_utf8(raw)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\n': out += "&#10;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 && c != '\t' ? ' ' : c;
    }
  }
  return out;
}

// "%", CR and LF as the workflow commands want them; a property also ':' and ','.
std::string command_text(std::string_view raw, bool property) {
  std::string out;
  for (const char c : raw) {
    if (c == '%') out += "%25";
    else if (c == '\r') out += "%0D";
    else if (c == '\n') out += "%0A";
    else if (property && c == ':') out += "%3A";
    else if (property && c == ',') out += "%2C";
    else out += c;
  }
  return out;
}

std::string_view level(std::string_view severity) { return severity == "info" ? "note" : severity; }

}  // namespace

std::string junit(std::string_view suite, std::span<const TestResult> results) {
  std::string cases;
  std::size_t failures = 0;
  std::size_t skipped = 0;
  for (const TestResult& result : results) {
    cases += fmt::format("    <testcase classname=\"{}\" name=\"{}\"", xml(result.rule), xml(result.test));
    if (result.passed) {
      cases += "/>\n";
    } else if (!result.todo.empty()) {
      ++skipped;
      cases += fmt::format("><skipped message=\"{}\"/></testcase>\n", xml("known miss: " + result.todo));
    } else {
      ++failures;
      cases += fmt::format("><failure message=\"{}\">{}</failure></testcase>\n", xml(result.message), xml(result.origin + ": " + result.message));
    }
  }
  return fmt::format("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n{}  </testsuite>\n</testsuites>\n",
                     xml(suite), results.size(), failures, skipped, cases);
}

std::string junit(std::string_view suite, std::span<const std::string> checked, std::span<const Issue> issues, std::span<const Unreadable> unreadable) {
  std::string cases;
  std::size_t failures = 0;
  for (const std::string& file : checked) {
    std::string text;
    for (const Issue& issue : issues) {
      if (issue.file == file) text += fmt::format("{}:{}: {}: {} [{}]\n", issue.file, issue.line, issue.severity, issue.message, issue.id);
    }
    failures += text.empty() ? 0 : 1;
    cases += fmt::format("    <testcase classname=\"{}\" name=\"{}\"", xml(suite), xml(file));
    cases += text.empty() ? "/>\n" : fmt::format("><failure message=\"violates policies\">{}</failure></testcase>\n", xml(text));
  }
  for (const Unreadable& file : unreadable) cases += fmt::format("    <testcase classname=\"{}\" name=\"{}\"><error message=\"{}\"/></testcase>\n", xml(suite), xml(file.file), xml(file.message));
  return fmt::format("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\">\n{}  </testsuite>\n</testsuites>\n", xml(suite),
                     checked.size() + unreadable.size(), failures, unreadable.size(), cases);
}

std::string github(std::span<const Issue> issues, std::span<const Unreadable> unreadable) {
  std::string out;
  for (const Issue& issue : issues) {
    const std::string_view kind = issue.severity == "info" ? "notice" : std::string_view(issue.severity);
    out += fmt::format("::{} file={},line={}{},title={}::{}\n", kind, command_text(issue.file, true), issue.line, issue.column > 0 ? fmt::format(",col={}", issue.column) : "", command_text(issue.id, true),
                       command_text(issue.advice.empty() ? issue.message : issue.message + "\n" + issue.advice, false));
  }
  for (const Unreadable& file : unreadable) out += fmt::format("::error file={},title=unreadable::{}\n", command_text(file.file, true), command_text(file.message, false));
  return out;
}

std::string sarif(std::string_view version, std::span<const IssueKind> kinds, std::span<const Issue> issues, std::span<const Unreadable> unreadable) {
  using nlohmann::json;
  json rules = json::array();
  json results = json::array();
  for (const IssueKind& kind : kinds) {
    rules.push_back({{"id", kind.id}, {"shortDescription", {{"text", kind.summary}}}, {"help", {{"text", kind.help}}}, {"defaultConfiguration", {{"level", level(kind.severity)}}}});
  }
  for (const Issue& issue : issues) {
    json region = {{"startLine", std::max(1, issue.line)}};
    if (issue.column > 0) region["startColumn"] = issue.column;
    results.push_back({{"ruleId", issue.id},
                       {"level", level(issue.severity)},
                       {"message", {{"text", issue.advice.empty() ? issue.message : issue.message + ". " + issue.advice}}},
                       {"locations", json::array({{{"physicalLocation", {{"artifactLocation", {{"uri", issue.file}}}, {"region", std::move(region)}}}}})}});
  }
  json notifications = json::array();
  for (const Unreadable& file : unreadable) {
    notifications.push_back({{"level", "error"}, {"message", {{"text", file.message}}}, {"locations", json::array({{{"physicalLocation", {{"artifactLocation", {{"uri", file.file}}}}}}})}});
  }
  const json invocation = {{"executionSuccessful", unreadable.empty()}, {"toolExecutionNotifications", std::move(notifications)}};
  const json document = {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
                         {"version", "2.1.0"},
                         {"runs", json::array({{{"tool", {{"driver", {{"name", "culprit"}, {"version", version}, {"rules", std::move(rules)}}}}}, {"invocations", json::array({invocation})}, {"results", std::move(results)}}})}};
  return document.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace culprit::rules
