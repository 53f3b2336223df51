// What the rules commands share: which rules they speak of.
#pragma once

#include <string>

#include "rules/loader.h"
#include "ui/cli/offline.h"

namespace culprit::cli {

// The rules of `path`, or without one the built-in rules and those of --state DIR, checked against the knowledge.
Result<rules::RuleSetPtr> load_rule_files(const Session& session, const std::string& path);
// NotFound with the nearest ids.
Result<rules::RulePtr> find_rule(const rules::RuleSet& set, const std::string& id);

// rules_live.cpp: explain, apply, disable, diff, stats, coverage.
void add_live_rules(CLI::App& app, Session& session);

}  // namespace culprit::cli
