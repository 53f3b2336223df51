// Parsing one rule file: inside of the loader.
#pragma once

#include <vector>

#include "graph/yaml.h"
#include "rules/loader.h"

namespace culprit::rules {

// The rules of a text; mistakes go to `findings`.
std::vector<Rule> parse_rules(const RuleText& source, const graph::Knowledge* knowledge, graph::Findings& findings);

// Reads texts of a file or of all *.yaml below a folder.
Result<std::vector<RuleText>> read_texts(const std::filesystem::path& file_or_directory);

}  // namespace culprit::rules
