// Regex: a compiled RE2 with its named groups.
#pragma once

#include <re2/re2.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace culprit::rules {

class Regex {
 public:
  // Errors: Invalid with RE2's words.
  static Result<std::shared_ptr<const Regex>> compile(const std::string& pattern);
  bool matches(std::string_view text) const;
  // The named groups of the first match; empty if there is none.
  std::map<std::string, std::string> groups(std::string_view text) const;
  bool has_group(const std::string& name) const { return re_.NamedCapturingGroups().contains(name); }

 private:
  Regex(const std::string& pattern, const RE2::Options& options) : re_(pattern, options) {}
  RE2 re_;
};

}  // namespace culprit::rules
