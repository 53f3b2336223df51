// Parsing one rule file: inside of the loader.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/yaml.h"
#include "rules/loader.h"

namespace culprit::rules {

// What rules share: lists, macros, and which rules are switched off. A later document replaces an earlier one.
struct Library {
  std::map<std::string, std::vector<std::string>> lists{};
  std::map<std::string, MatchItem> macros{};
  std::map<std::string, std::string> disabled{};  // rule -> reason
};

// Is the document a list, a macro or a disable, rather than a rule?
bool is_library(const graph::Yaml& document);
void read_list(const graph::Yaml& document, Library& library, graph::Findings& findings);
void read_macro(const graph::Yaml& document, Library& library, graph::Findings& findings);
void read_disable(const graph::Yaml& document, Library& library, graph::Findings& findings);

struct ParseContext {
  const RuleText& source;
  const graph::Knowledge* knowledge;  // optional: causes must be known failure modes
  const Library& library;
  bool used_library = false;  // out: some rule speaks of a list or macro
};

// The rule of one document; mistakes go to `findings`.
Rule read_rule(const graph::Yaml& document, ParseContext& context, graph::Findings& findings);

// Exactly one of log, metric, kernel, change, span, alert: its kind and name.
std::optional<std::pair<Kind, std::string>> take_source(graph::Fields& f, std::string_view what);

// rules/parse_test.cpp: one of a rule's test cases. Recorded files are looked for beside the rule's own file.
RuleTest read_test(graph::Fields& f, const RuleText& source);

inline constexpr std::size_t kTestEventsMax = 10'000;
inline constexpr std::size_t kPathsMax = 8;      // and joins
inline constexpr std::size_t kPathStopsMax = 6;  // of one path

// "a.entity -calls-> b.entity". Errors: Invalid.
Result<Path> parse_path(std::string_view text);
// "a.x == b.y". Errors: Invalid.
Result<Join> parse_join(std::string_view text);

// Reads texts of a file or of all *.yaml below a folder.
Result<std::vector<RuleText>> read_texts(const std::filesystem::path& file_or_directory);

}  // namespace culprit::rules
