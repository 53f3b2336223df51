#include "daemon/explain/evidence/complaints.h"

#include "daemon/stream/event.h"

namespace culprit::explain {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool in_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' || c == '_' || c == '.'; }

std::vector<ServiceId> complaints_in(const Names& names, const CaseTemplates& templates, const std::vector<RecordedLog>& lines, const std::vector<std::uint64_t>& ids) {
  std::vector<ServiceId> out(ids.size(), kNoService);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (templates.entries.at(ids[i]).severity >= stream::kError) out[i] = named_in(lines[i].text, names, lines[i].service);
  }
  return out;
}

}  // namespace

ServiceId named_in(std::string_view text, const Names& names, ServiceId self) {
  for (std::size_t at = 0; at < text.size();) {
    if (!in_name(text[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && in_name(text[end])) ++end;
    const std::string_view before = text.substr(0, at), after = text.substr(end);
    const bool address = before.ends_with("//") || before.ends_with('@') || (after.size() > 1 && after[0] == ':' && is_digit(after[1]));
    std::string_view word = text.substr(at, end - at);
    while (word.ends_with('.')) word.remove_suffix(1);
    for (const std::string_view name : {word, word.substr(0, word.find('.'))}) {
      const auto found = names.find(name);
      if (found == names.end() || found->second == self) continue;
      if (address || name.find_first_of("-_.") != std::string_view::npos) return found->second;
    }
    at = end;
  }
  return kNoService;
}

Complaints complaints_of(const RecordedCase& c, const CaseTemplates& templates) {
  Names names;
  for (const ServiceId candidate : c.candidates) names.emplace(c.name(candidate), candidate);
  return {complaints_in(names, templates, c.reference_logs, templates.reference), complaints_in(names, templates, c.logs, templates.now)};
}

}  // namespace culprit::explain
