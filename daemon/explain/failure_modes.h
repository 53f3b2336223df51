// Failure modes: every mode that explain can name, in one table: its id, the names it is also known by, what to do
// next, and the texts by which programs give it away. The knowledge graph knows more; this is what works without it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::explain {

struct FailureMode {
  std::string_view id;                  // "<middleware>/<mode>"
  std::vector<std::string_view> also;   // ids of the knowledge graph first, then common names
  std::string_view name;                // for titles without better words
  std::string_view hint;                // what to do first, one line
  double prior = 0;                     // log-odds before any evidence: how common it is; -1 for all that are not in the table
};

const FailureMode& failure_mode(std::string_view id);  // a mode that is not in the table is "unknown"
std::span<const FailureMode> failure_modes();
// The mode that has this id or one of these names; nullptr if none.
const FailureMode* find_mode(std::string_view id_or_name);

// A text in a log line that means a mode.
struct LogSign {
  std::string_view literal;  // case-sensitive
  std::string_view mode;     // id
  double weight;             // 0 to 1
};
std::span<const LogSign> log_signs();

// "postgresql" for a program or service named "postgres", "postgres-15"; empty if it is none that we know.
std::string_view middleware_of(std::string_view program);
// It answers from locks, tables and disk: silence without work means waiting for a lock.
bool is_database(std::string_view middleware);

}  // namespace culprit::explain
