// Regex: a compiled RE2 with its named groups, and the literals without which it cannot match.
#pragma once

#include <re2/re2.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::rules {

class Regex {
 public:
  // Errors: Invalid with RE2's words.
  static Result<std::shared_ptr<const Regex>> compile(const std::string& pattern);
  bool matches(std::string_view text) const;
  // A named group of the first match: empty text if it took no part, nothing if there is no such group.
  std::optional<std::string> group(std::string_view text, const std::string& name) const;
  bool has_group(const std::string& name) const { return re_.NamedCapturingGroups().contains(name); }
  // Lower-case texts; what has none of them, case ignored, is no match. Empty: nothing can be said.
  const std::vector<std::string>& literals() const { return literals_; }

 private:
  Regex(const std::string& pattern, const RE2::Options& options) : re_(pattern, options) {}
  RE2 re_;
  std::vector<std::string> literals_;
};

}  // namespace culprit::rules
