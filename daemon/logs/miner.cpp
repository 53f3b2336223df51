#include "daemon/logs/miner.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "daemon/logs/mask.h"

namespace culprit::logs {
namespace {

constexpr std::size_t kCandidatesMax = 512;     // templates that one new line is compared with
constexpr std::size_t kEvidencePlaces = 24;     // words of a template whose neighbours are remembered
constexpr std::size_t kDistinctWords = 6;       // that many words at one place make it a variable
constexpr std::size_t kDistinctFirstWords = 24; // the first word says what happened
constexpr std::size_t kExampleBytes = 512;
constexpr std::size_t kBytesPerTemplate = 1024;  // on average; a flood of long lines ends in the overflow
constexpr std::string_view kOverflowText = "<overflow>";

std::uint64_t hash_text(std::string_view text, std::uint64_t seed = 0xcbf29ce484222325u) {  // FNV-1a
  std::uint64_t hash = seed;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// After these words comes a name.
bool names_follow(std::string_view word) {
  static constexpr std::string_view kWords[] = {"account", "database", "device", "domain", "host", "hostname", "node",
                                                "peer",    "role",     "server", "table",  "tenant", "unit", "user",
                                                "user:",   "username"};
  return std::binary_search(std::begin(kWords), std::end(kWords), word);
}

bool has_letters(std::string_view word) {
  return std::any_of(word.begin(), word.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
  });
}

}  // namespace

std::string template_name(std::uint64_t id) { return fmt::format("t:{:016x}", id); }

struct Miner::State {
  struct Entry {
    Template shown;
    std::vector<std::string> words;
    std::size_t merged_into = SIZE_MAX;
  };

  explicit State(MinerOptions options_of) : options(options_of) {}

  MinerOptions options;
  MinerStats stats;
  std::vector<Entry> entries;                                        // never shrinks; at most templates_max
  std::unordered_map<std::uint64_t, std::size_t> by_id;
  std::unordered_map<std::uint64_t, std::size_t> by_text;            // hash of a masked line -> its template
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> by_end;  // (length, first or last word) -> templates
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> siblings;  // all words but one -> templates
  std::size_t overflow = SIZE_MAX;
  std::size_t bytes = 0;  // of all templates' words when they were made
  Masked masked;
  std::string buffer;

  std::size_t live(std::size_t index) const {
    while (entries[index].merged_into != SIZE_MAX) index = entries[index].merged_into;
    return index;
  }
  bool matches(const Entry& entry) const;
  std::size_t find_similar() const;
  std::size_t create();
  void generalise(std::size_t index);
  void learn(std::size_t index);
  void merge_siblings(std::size_t index, std::size_t place, const std::vector<std::size_t>& group);
  void rewrite(Entry& entry);
  std::size_t overflow_entry();
  std::size_t place_line();
};

namespace {

std::uint64_t end_key(std::size_t words, std::string_view word, bool last) {
  return hash_text(word, 0x9e3779b97f4a7c15u * (words * 2 + (last ? 1 : 0) + 1));
}

std::uint64_t sibling_key(const std::vector<std::string>& words, std::size_t place) {
  std::uint64_t hash = 0x51ed270b0a1f39c1u + place * 0x9e3779b97f4a7c15u;
  for (std::size_t i = 0; i < words.size(); ++i) hash = hash_text(i == place ? "\x01" : words[i], hash_text(" ", hash));
  return hash;
}

}  // namespace

bool Miner::State::matches(const Entry& entry) const {
  if (entry.words.size() != masked.words.size()) return false;
  for (std::size_t i = 0; i < entry.words.size(); ++i) {
    if (entry.words[i] != kWildcard && entry.words[i] != masked.words[i]) return false;
  }
  return true;
}

// The template that agrees best, if all differences are words that look like values.
std::size_t Miner::State::find_similar() const {
  const auto& words = masked.words;
  std::size_t best = SIZE_MAX, best_equal = 0, compared = 0;
  for (const bool last : {false, true}) {
    const auto found = by_end.find(end_key(words.size(), last ? words.back() : words.front(), last));
    if (found == by_end.end()) continue;
    for (const std::size_t index : found->second) {
      const Entry& entry = entries[index];
      if (entry.merged_into != SIZE_MAX || ++compared > kCandidatesMax) continue;
      std::size_t equal = 0, soft = 0;
      bool hard = false;
      for (std::size_t i = 0; i < words.size() && !hard; ++i) {
        if (entry.words[i] == words[i]) {
          equal += has_letters(words[i]) ? 1 : 0;
        } else if (entry.words[i] != kWildcard) {
          ++soft;
          hard = !differ_in_values(words[i], entry.words[i]) && !(i > 0 && names_follow(words[i - 1]));
        }
      }
      if (hard || equal == 0 || equal < soft) continue;
      if (best == SIZE_MAX || equal > best_equal) {
        best = index;
        best_equal = equal;
      }
    }
  }
  return best;
}

void Miner::State::rewrite(Entry& entry) {
  entry.shown.text.clear();
  for (const std::string& word : entry.words) {
    if (!entry.shown.text.empty()) entry.shown.text += ' ';
    entry.shown.text += word;
  }
}

std::size_t Miner::State::overflow_entry() {
  ++stats.overflow;
  if (overflow == SIZE_MAX) {
    overflow = entries.size();
    Entry entry;
    entry.shown.text = kOverflowText;
    entry.shown.id = hash_text(kOverflowText);
    by_id.emplace(entry.shown.id, overflow);
    entries.push_back(std::move(entry));
  }
  return overflow;
}

std::size_t Miner::State::create() {
  if (entries.size() >= options.templates_max || bytes > options.templates_max * kBytesPerTemplate) {
    return overflow_entry();
  }
  bytes += masked.text.size() + masked.words.size() * sizeof(std::string);
  Entry entry;
  for (const std::string_view word : masked.words) entry.words.emplace_back(word);
  rewrite(entry);
  entry.shown.id = hash_text(entry.shown.text);
  while (by_id.contains(entry.shown.id)) ++entry.shown.id;
  const std::size_t index = entries.size();
  by_id.emplace(entry.shown.id, index);
  for (const bool last : {false, true}) {
    if (!entry.words.empty()) {
      by_end[end_key(entry.words.size(), last ? entry.words.back() : entry.words.front(), last)].push_back(index);
    }
  }
  entries.push_back(std::move(entry));
  learn(index);
  return index;
}

// Takes the words in which the line differs out of the template.
void Miner::State::generalise(std::size_t index) {
  Entry& entry = entries[index];
  bool changed = false;
  for (std::size_t i = 0; i < entry.words.size(); ++i) {
    if (entry.words[i] == kWildcard || entry.words[i] == masked.words[i]) continue;
    entry.words[i] = kWildcard;
    changed = true;
  }
  if (!changed) return;
  rewrite(entry);
  learn(index);
}

// Remembers what the template would be without each of its words; many templates that agree so become one.
void Miner::State::learn(std::size_t index) {
  const std::size_t places = std::min(entries[index].words.size(), kEvidencePlaces);
  for (std::size_t place = 0; place < places; ++place) {
    const std::vector<std::string>& words = entries[index].words;
    if (words[place] == kWildcard) continue;
    std::size_t constants = 0;
    for (std::size_t i = 0; i < words.size(); ++i) constants += i != place && has_letters(words[i]) ? 1 : 0;
    if (constants == 0) continue;
    std::vector<std::size_t>& group = siblings[sibling_key(words, place)];
    std::erase_if(group, [&](std::size_t other) {
      return other == index || entries[other].merged_into != SIZE_MAX || entries[other].words.size() != words.size() ||
             entries[other].words[place] == kWildcard;
    });
    group.push_back(index);
    const std::size_t needed = place == 0 ? kDistinctFirstWords : constants == 1 ? 2 * kDistinctWords : kDistinctWords;
    if (group.size() < needed) continue;
    merge_siblings(index, place, std::exchange(group, {}));
    return;  // the survivor was learnt anew
  }
}

void Miner::State::merge_siblings(std::size_t index, std::size_t place, const std::vector<std::size_t>& group) {
  const std::size_t survivor = std::min(index, *std::min_element(group.begin(), group.end()));
  for (const std::size_t other : group) {
    if (other == survivor) continue;
    entries[survivor].shown.lines += std::exchange(entries[other].shown.lines, 0);
    entries[other].merged_into = survivor;
    ++stats.merged;
  }
  entries[survivor].words[place] = kWildcard;
  rewrite(entries[survivor]);
  learn(survivor);
}

std::size_t Miner::State::place_line() {
  const std::uint64_t key = hash_text(masked.text);
  if (const auto known = by_text.find(key); known != by_text.end()) {
    const std::size_t index = live(known->second);
    known->second = index;
    if (index == overflow || matches(entries[index])) return index;
  }
  std::size_t index = masked.words.empty() ? SIZE_MAX : find_similar();
  if (index == SIZE_MAX) {
    index = create();
  } else {
    generalise(index);
  }
  index = live(index);
  if (by_text.size() >= 4 * options.templates_max) by_text.clear();
  if (index != overflow) by_text[key] = index;
  return index;
}

Miner::Miner(MinerOptions options) : state_(std::make_unique<State>(options)) {}
Miner::~Miner() = default;
Miner::Miner(Miner&&) noexcept = default;
Miner& Miner::operator=(Miner&&) noexcept = default;

namespace {

// What stands in `raw` where `word` has wildcards: the shortest that lets the rest match.
void read_parameters(std::string_view word, std::string_view raw, std::vector<std::string>& out) {
  std::size_t at = 0;
  for (std::size_t begin = 0;;) {
    const std::size_t wild = word.find(kWildcard, begin);
    if (wild == std::string_view::npos) return;
    at += wild - begin;  // the literal before
    begin = wild + kWildcard.size();
    const std::size_t next = word.find(kWildcard, begin);
    const std::string_view literal = word.substr(begin, next == std::string_view::npos ? next : next - begin);
    std::size_t end = raw.size();
    if (at > raw.size()) at = raw.size();
    if (next == std::string_view::npos && raw.substr(at).ends_with(literal)) {
      end = raw.size() - literal.size();
    } else if (!literal.empty() && raw.find(literal, at) != std::string_view::npos) {
      end = raw.find(literal, at);
    }
    out.emplace_back(raw.substr(at, end - at));
    at = end;
  }
}

}  // namespace

Match Miner::add(std::string_view line) {
  State& state = *state_;
  ++state.stats.lines;
  bool cut = line.size() > state.options.line_bytes_max;
  line = line.substr(0, state.options.line_bytes_max);
  Message message{.text = line};
  if (state.options.headers) message = split_header(line, state.buffer);
  mask(message.text, state.options.words_max, state.masked);
  cut = cut || state.masked.raw.size() == state.options.words_max;
  state.stats.cut += cut ? 1 : 0;
  const std::size_t before = state.entries.size();
  const std::size_t index = state.place_line();
  State::Entry& entry = state.entries[index];
  Match match{.template_id = entry.shown.id, .text = entry.shown.text};
  match.is_new = entry.shown.lines == 0 && index >= before;
  match.severity = message.severity != stream::kUnset ? message.severity : severity_of_words(message.text);
  if (entry.shown.lines++ == 0) {
    entry.shown.severity = match.severity;
    entry.shown.example = message.text.substr(0, kExampleBytes);
  }
  if (state.options.parameters && index != state.overflow) {
    const Masked& masked = state.masked;
    for (std::size_t i = 0; i < entry.words.size(); ++i) {
      const std::string_view first = masked.raw[masked.raw_begin[i]];
      const std::string_view last = masked.raw[masked.raw_begin[i + 1] - 1];
      read_parameters(entry.words[i], {first.data(), static_cast<std::size_t>(last.data() + last.size() - first.data())},
           match.parameters);
    }
  }
  return match;
}

std::vector<Template> Miner::templates() const {
  std::vector<Template> all;
  for (const State::Entry& entry : state_->entries) {
    if (entry.merged_into == SIZE_MAX) all.push_back(entry.shown);
  }
  std::sort(all.begin(), all.end(), [](const Template& a, const Template& b) {
    return a.lines != b.lines ? a.lines > b.lines : a.text < b.text;
  });
  return all;
}

MinerStats Miner::stats() const {
  MinerStats stats = state_->stats;
  stats.templates = state_->entries.size() - stats.merged;
  return stats;
}

std::uint64_t Miner::resolve(std::uint64_t id) const {
  const auto found = state_->by_id.find(id);
  return found == state_->by_id.end() ? id : state_->entries[state_->live(found->second)].shown.id;
}

Result<std::vector<Template>> mine_file(std::istream& in, const MinerOptions& options) {
  Miner miner(options);
  std::string line;
  std::streambuf& buffer = *in.rdbuf();
  for (int c = 0; c != EOF;) {
    line.clear();
    bool any = false;
    while ((c = buffer.sbumpc()) != EOF && c != '\n') {
      any = true;
      if (line.size() <= options.line_bytes_max) line.push_back(static_cast<char>(c));
    }
    if (c == EOF && !any) break;
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) (void)miner.add(line);
  }
  if (in.bad()) return fail(Code::Io, "read lines");
  return miner.templates();
}

}  // namespace culprit::logs
