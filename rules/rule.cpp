#include "rules/rule.h"

#include "rules/regex.h"

namespace culprit::rules {

std::string_view kind_key(Kind kind) {
  switch (kind) {
    case Kind::Sample: return "metric";
    case Kind::Log: return "log";
    case Kind::Span: return "span";
    case Kind::Kernel: return "kernel";
    case Kind::Change: return "change";
    case Kind::Alert: return "alert";
  }
  return "?";
}

std::string_view status_name(Status status) {
  switch (status) {
    case Status::Sandbox: return "sandbox";
    case Status::Incubating: return "incubating";
    case Status::Stable: return "stable";
    case Status::Deprecated: return "deprecated";
  }
  return "?";
}

Result<std::shared_ptr<const Regex>> Regex::compile(const std::string& pattern) {
  RE2::Options options(RE2::Quiet);
  options.set_max_mem(1 << 20);
  std::shared_ptr<const Regex> regex(new Regex(pattern, options));
  if (!regex->re_.ok()) return fail(Code::Invalid, regex->re_.error());
  return regex;
}

bool Regex::matches(std::string_view text) const { return RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), re_); }

std::map<std::string, std::string> Regex::groups(std::string_view text) const {
  std::map<std::string, std::string> result;
  const int count = re_.NumberOfCapturingGroups() + 1;
  std::vector<re2::StringPiece> found(static_cast<std::size_t>(count));
  const re2::StringPiece piece(text.data(), text.size());
  if (!re_.Match(piece, 0, text.size(), RE2::UNANCHORED, found.data(), count)) return result;
  for (const auto& [name, index] : re_.NamedCapturingGroups()) {
    const re2::StringPiece& group = found[static_cast<std::size_t>(index)];
    result[name] = std::string(group.data() == nullptr ? "" : group.data(), group.size());
  }
  return result;
}

}  // namespace culprit::rules
