#include "rules/rule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <re2/filtered_re2.h>

#include "daemon/stream/codec.h"
#include "graph/yaml.h"
#include "rules/regex.h"

namespace culprit::rules {
namespace {

constexpr int kLiteralBytesMin = 3;  // shorter ones are in every other line
constexpr std::int64_t kRegexBytesMax = 1 << 20;

}  // namespace

std::string_view kind_key(Kind kind) { return kind == Kind::Sample ? "metric" : stream::kind_name(kind); }

std::string_view status_name(Status status) {
  switch (status) {
    case Status::Sandbox: return "sandbox";
    case Status::Incubating: return "incubating";
    case Status::Stable: return "stable";
    case Status::Deprecated: return "deprecated";
  }
  return "?";
}

std::string hash_of_matches(const Rule& rule) {
  std::vector<std::string> parts;  // hash_texts keeps them apart, whatever they hold
  for (const MatchItem& item : rule.match) {
    for (const std::string* text : {&item.name, &item.entity, &item.text, &item.regex, &item.filter_text}) parts.push_back(*text);
    parts.push_back(fmt::format("{} {} {} {} {} {} {} {} {} {} {} {}", static_cast<int>(item.kind), item.above.value_or(-1e308), item.below.value_or(1e308), item.times_normal.value_or(0), static_cast<int>(item.when), item.within_ns,
                                item.of, item.optional, item.absent, item.same_entity, item.least, item.where.size()));
    for (const AttributeMatch& match : item.where) {
      parts.push_back(match.attribute);
      parts.push_back(fmt::format("{}", match.globs));
    }
  }
  for (const Join& join : rule.joins) parts.push_back("join " + join.text);
  for (const Path& path : rule.paths) parts.push_back("path " + path.text);
  parts.push_back(rule.blame);
  const std::vector<std::string_view> views(parts.begin(), parts.end());
  return graph::hash_texts(views);
}

Result<std::shared_ptr<const Regex>> Regex::compile(const std::string& pattern) {
  RE2::Options options(RE2::Quiet);
  options.set_max_mem(kRegexBytesMax);
  std::shared_ptr<Regex> regex(new Regex(pattern, options));
  if (!regex->re_.ok()) return fail(Code::Invalid, regex->re_.error());
  // FilteredRE2 finds which literals a match needs. One expression at a time, so that what did not change between two
  // sets is not worked out again.
  re2::FilteredRE2 filter(kLiteralBytesMin);
  int id = 0;
  if (filter.Add(pattern, options, &id) == RE2::NoError) filter.Compile(&regex->literals_);
  return std::shared_ptr<const Regex>(std::move(regex));
}

bool Regex::matches(std::string_view text) const { return RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), re_); }

std::optional<std::string> Regex::group(std::string_view text, const std::string& name) const {
  const auto& names = re_.NamedCapturingGroups();
  const auto named = names.find(name);
  if (named == names.end()) return std::nullopt;
  std::vector<re2::StringPiece> found(static_cast<std::size_t>(named->second) + 1);
  const re2::StringPiece piece(text.data(), text.size());
  if (!re_.Match(piece, 0, text.size(), RE2::UNANCHORED, found.data(), static_cast<int>(found.size()))) return std::string();
  const re2::StringPiece& group = found.back();
  return std::string(group.data() == nullptr ? "" : group.data(), group.size());
}

}  // namespace culprit::rules
