#include "daemon/explain/evidence/templates.h"

#include <algorithm>

#include "daemon/logs/miner.h"

namespace culprit::explain {

namespace {

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '$' || c == '/' || c == '-'; }

// "f.m.s.BasicServiceImpl#405", "app.py:31", "server.go:88": where in the program the line was written. The miner takes the
// number for a value, but it is what tells one statement from the next. Only the first few words are looked at.
std::string_view code_place(std::string_view line) {
  line = line.substr(0, 120);
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '#' && line[i] != ':') continue;
    std::size_t begin = i, end = i + 1;
    while (begin > 0 && is_word(line[begin - 1])) --begin;
    while (end < line.size() && line[end] >= '0' && line[end] <= '9') ++end;
    const std::string_view name = line.substr(begin, i - begin);
    const bool ends = end == line.size() || line[end] == ' ' || line[end] == ']' || line[end] == ')' || line[end] == ':';
    if (name.size() >= 4 && name.find('.') != std::string_view::npos && end > i + 1 && end - i <= 6 && ends) return line.substr(begin, end - begin);
  }
  return {};
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t hash = (a ^ (b + 0x9e3779b97f4a7c15ULL + (a << 6U) + (a >> 2U))) * 0xbf58476d1ce4e5b9ULL;
  return hash ^ (hash >> 31U);
}

}  // namespace

CaseTemplates templates_of(const RecordedCase& c) {
  CaseTemplates out;
  // One miner a service: what one program prints does not make another's lines more general.
  std::vector<std::unique_ptr<logs::Miner>> miners(c.names.size());
  struct Seen {
    std::uint64_t id;
    std::string_view place;
    ServiceId service;
  };
  std::vector<Seen> seen;
  seen.reserve(c.reference_logs.size() + c.logs.size());
  for (const auto* lines : {&c.reference_logs, &c.logs}) {
    for (const RecordedLog& line : *lines) {
      auto& miner = miners[static_cast<std::size_t>(line.service)];
      if (!miner) miner = std::make_unique<logs::Miner>(logs::MinerOptions{.templates_max = 2000, .words_max = 48, .line_bytes_max = 600});
      seen.push_back({miner->add(line.text).template_id, code_place(line.text), line.service});
    }
  }
  // Templates merge while they are mined: the ids are final only now.
  std::unordered_map<std::uint64_t, std::uint64_t> key_of;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const Seen& one = seen[i];
    std::uint64_t place = 14695981039346656037ULL;
    for (const char ch : one.place) place = (place ^ static_cast<unsigned char>(ch)) * 0x100000001b3ULL;
    const std::uint64_t resolved = miners[static_cast<std::size_t>(one.service)]->resolve(one.id);
    const std::uint64_t key = mix(mix(one.place.empty() ? resolved : 0, place), static_cast<std::uint64_t>(one.service));
    const bool reference = i < c.reference_logs.size();
    (reference ? out.reference : out.now).push_back(key);
    if (!out.entries.contains(key)) {
      const RecordedLog& line = reference ? c.reference_logs[i] : c.logs[i - c.reference_logs.size()];
      std::uint8_t severity = line.level.empty() ? logs::severity_of(line.text) : logs::severity_of_level(line.level);
      if (severity == stream::kUnset) severity = 9;  // INFO
      out.entries[key] = {line.text.substr(0, 160), line.service, severity};
    }
  }
  return out;
}

}  // namespace culprit::explain
