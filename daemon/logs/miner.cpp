#include "daemon/logs/miner.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "daemon/logs/groups.h"
#include "daemon/logs/mask.h"
#include "daemon/stream/bytes.h"

namespace culprit::logs {
namespace {

constexpr std::size_t kCandidatesMax = 512;     // templates that one new line is compared with
constexpr std::size_t kEvidencePlaces = 24;     // words of a template whose neighbours are remembered
constexpr std::size_t kDistinctWords = 6;       // that many words at one place make it a variable
constexpr std::size_t kDistinctFirstWords = 24; // the first word says what happened
constexpr std::size_t kExampleBytes = 160;
constexpr std::size_t kBytesPerTemplate = 256;  // of its text, on average: long ones push out more than one
constexpr std::string_view kSavedAs = "culprit templates 1\n";

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

namespace {

constexpr std::uint32_t kNone = UINT32_MAX;

// Splits a template's text into its words, as mask() had joined them.
void split(std::string_view text, std::vector<std::string_view>& words) {
  words.clear();
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::uint64_t end_key(std::size_t words, std::string_view word, bool last) {
  return hash_text(word, 0x9e3779b97f4a7c15u * (words * 2 + (last ? 1 : 0) + 1));
}

std::uint64_t sibling_key(const std::vector<std::string_view>& words, std::size_t place) {
  std::uint64_t hash = 0x51ed270b0a1f39c1u + place * 0x9e3779b97f4a7c15u;
  for (std::size_t i = 0; i < words.size(); ++i) hash = hash_text(i == place ? "\x01" : words[i], hash_text(" ", hash));
  return hash;
}

}  // namespace

struct Miner::State {
  struct Entry {
    std::uint64_t id = 0, lines = 0, made = 0;  // made: order of making
    std::string text, example;
    std::uint64_t end_keys[2] = {0, 0};
    std::uint32_t words = 0;
    std::uint32_t newer = kNone, older = kNone;  // in order of use
    std::uint32_t merged_into = kNone;
    std::uint8_t severity = stream::kUnset;
    bool live = false;
  };

  explicit State(MinerOptions options_of) : options(options_of) { options.templates_max = std::max<std::size_t>(1, options.templates_max); }

  MinerOptions options;
  MinerStats stats;
  std::vector<Entry> entries;   // at most templates_max; of those that are not live some point to what they were merged into
  std::deque<std::uint32_t> free;  // not live, the oldest first
  std::uint32_t newest = kNone, oldest = kNone;
  std::uint64_t made = 0;
  std::size_t live_entries = 0, bytes = 0;                           // bytes: of the texts of live ones
  std::unordered_map<std::uint64_t, std::uint32_t> by_id;            // live
  std::unordered_map<std::uint64_t, std::uint64_t> aliases;          // ids of merged templates -> what they became part of
  std::deque<std::uint64_t> alias_order;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> merges;
  std::unordered_map<std::uint64_t, std::uint32_t> by_text;          // hash of a masked line -> its template, if it still fits
  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> by_end;  // (length, first or last word) -> templates
  Groups siblings;                                                   // all words but one -> templates
  Masked masked;
  std::string buffer;
  std::vector<std::string_view> words_a, words_b;                    // scratch
  std::vector<std::uint32_t> group;

  std::uint32_t live(std::uint32_t index) const {
    // A slot may have been used again: then it fits the line, or the caller looks elsewhere.
    for (int steps = 0; !entries[index].live && entries[index].merged_into != kNone && steps < 64; ++steps) index = entries[index].merged_into;
    return index;
  }
  void unlink(std::uint32_t index);
  void link(std::uint32_t index);
  void touch(std::uint32_t index) {
    if (newest == index) return;
    unlink(index);
    link(index);
  }
  bool matches(const Entry& entry) const;
  std::uint32_t find_similar();
  std::uint32_t take_slot();
  std::uint32_t create(std::string text, std::uint64_t id);
  void drop(std::uint32_t index, std::uint32_t into);
  void alias(std::uint64_t id, std::uint64_t into);
  void set_text(std::uint32_t index, std::string text);
  void generalise(std::uint32_t index);
  void learn(std::uint32_t index);
  void unlearn(std::uint32_t index);
  template <typename Take>
  void each_place(const std::vector<std::string_view>& words, Take take) const;
  std::uint32_t place_line();
};

void Miner::State::unlink(std::uint32_t index) {
  Entry& entry = entries[index];
  (entry.newer == kNone ? newest : entries[entry.newer].older) = entry.older;
  (entry.older == kNone ? oldest : entries[entry.older].newer) = entry.newer;
  entry.newer = entry.older = kNone;
}

void Miner::State::link(std::uint32_t index) {
  Entry& entry = entries[index];
  entry.older = newest;
  if (newest != kNone) entries[newest].newer = index;
  newest = index;
  if (oldest == kNone) oldest = index;
}

bool Miner::State::matches(const Entry& entry) const {
  if (!entry.live || entry.words != masked.words.size()) return false;
  if (entry.text == masked.text) return true;
  std::string_view rest = entry.text;
  for (const std::string_view word : masked.words) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    const std::string_view own = rest.substr(0, end);
    if (own != kWildcard && own != word) return false;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return true;
}

// The template that agrees best, if all differences are words that look like values.
std::uint32_t Miner::State::find_similar() {
  const auto& words = masked.words;
  std::uint32_t best = kNone;
  std::size_t best_equal = 0, compared = 0;
  for (const bool last : {false, true}) {
    const auto found = by_end.find(end_key(words.size(), last ? words.back() : words.front(), last));
    if (found == by_end.end()) continue;
    for (const std::uint32_t index : found->second) {
      if (++compared > kCandidatesMax) break;
      split(entries[index].text, words_b);
      if (words_b.size() != words.size()) continue;  // another key of the same hash
      std::size_t equal = 0, soft = 0;
      bool hard = false;
      for (std::size_t i = 0; i < words.size() && !hard; ++i) {
        if (words_b[i] == words[i]) {
          equal += has_letters(words[i]) ? 1 : 0;
        } else if (words_b[i] != kWildcard) {
          ++soft;
          hard = !differ_in_values(words[i], words_b[i]) && !(i > 0 && names_follow(words[i - 1]));
        }
      }
      if (hard || equal == 0 || equal < soft) continue;
      if (best == kNone || equal > best_equal) {
        best = index;
        best_equal = equal;
      }
    }
  }
  return best;
}

// A place for one more: a new one, that of a merged template, or that of the template that was used longest ago.
std::uint32_t Miner::State::take_slot() {
  while (live_entries > 0 && (live_entries >= options.templates_max || bytes > options.templates_max * kBytesPerTemplate)) {
    const std::uint32_t index = oldest;
    ++stats.evicted;
    stats.evicted_lines += entries[index].lines;
    drop(index, kNone);
  }
  if (entries.size() < options.templates_max) {
    entries.emplace_back();
    return static_cast<std::uint32_t>(entries.size() - 1);
  }
  const std::uint32_t index = free.front();
  free.pop_front();
  entries[index] = {};
  return index;
}

// Places at which a template's word may turn out to be a variable.
template <typename Take>
void Miner::State::each_place(const std::vector<std::string_view>& words, Take take) const {
  std::size_t constants_all = 0;
  for (const std::string_view word : words) constants_all += has_letters(word) ? 1 : 0;
  for (std::size_t place = 0; place < std::min(words.size(), kEvidencePlaces); ++place) {
    if (words[place] == kWildcard) continue;
    const std::size_t constants = constants_all - (has_letters(words[place]) ? 1 : 0);
    if (constants > 0 && !take(place, constants)) return;
  }
}

void Miner::State::unlearn(std::uint32_t index) {
  split(entries[index].text, words_a);
  each_place(words_a, [&](std::size_t place, std::size_t) {
    siblings.erase(sibling_key(words_a, place), index);
    return true;
  });
}

void Miner::State::set_text(std::uint32_t index, std::string text) {
  Entry& entry = entries[index];
  bytes = bytes - entry.text.size() + text.size();
  entry.text = std::move(text);
}

// `text` is a masked line's, or one that was saved.
std::uint32_t Miner::State::create(std::string text, std::uint64_t id) {
  const std::uint32_t index = take_slot();
  Entry& entry = entries[index];
  while (by_id.contains(id) || aliases.contains(id)) ++id;
  entry.id = id;
  entry.made = made++;
  entry.live = true;
  ++live_entries;
  set_text(index, std::move(text));
  by_id.emplace(id, index);
  link(index);
  split(entry.text, words_a);
  entry.words = static_cast<std::uint32_t>(words_a.size());
  for (const bool last : {false, true}) {
    if (words_a.empty()) break;
    entry.end_keys[last] = end_key(words_a.size(), last ? words_a.back() : words_a.front(), last);
    by_end[entry.end_keys[last]].push_back(index);
  }
  learn(index);
  return index;
}

void Miner::State::alias(std::uint64_t id, std::uint64_t into) {
  aliases[id] = into;
  merges.emplace_back(id, into);
  if (merges.size() > 2 * options.templates_max) merges.clear();  // nobody asks
  alias_order.push_back(id);
  if (alias_order.size() <= 2 * options.templates_max) return;
  aliases.erase(alias_order.front());
  alias_order.pop_front();
}

// Takes a template out of all indexes: it was merged into another, or is forgotten.
void Miner::State::drop(std::uint32_t index, std::uint32_t into) {
  unlearn(index);
  Entry& entry = entries[index];
  for (const std::uint64_t key : entry.end_keys) {
    const auto found = by_end.find(key);
    if (found == by_end.end()) continue;
    std::erase(found->second, index);
    if (found->second.empty()) by_end.erase(found);
  }
  by_id.erase(entry.id);
  if (into != kNone) alias(entry.id, entries[into].id);
  unlink(index);
  bytes -= entry.text.size();
  entry.text = std::string();
  entry.example = std::string();
  entry.live = false;
  entry.merged_into = into;
  --live_entries;
  free.push_back(index);
}

// Takes the words in which the line differs out of the template.
void Miner::State::generalise(std::uint32_t index) {
  split(entries[index].text, words_b);
  std::string text;
  bool changed = false;
  for (std::size_t i = 0; i < words_b.size(); ++i) {
    const bool same = words_b[i] == kWildcard || words_b[i] == masked.words[i];
    changed = changed || !same;
    if (i > 0) text += ' ';
    text += same ? words_b[i] : kWildcard;
  }
  if (!changed) return;
  unlearn(index);
  set_text(index, std::move(text));
  learn(index);
}

// Remembers what the template would be without each of its words; many templates that agree so become one.
void Miner::State::learn(std::uint32_t index) {
  while (true) {
    split(entries[index].text, words_a);
    std::size_t merge_at = SIZE_MAX;
    each_place(words_a, [&](std::size_t place, std::size_t constants) {
      const std::uint64_t key = sibling_key(words_a, place);
      siblings.insert(key, index);
      if (merge_at != SIZE_MAX) return true;
      siblings.find(key, group);
      const std::size_t needed = place == 0 ? kDistinctFirstWords : constants == 1 ? 2 * kDistinctWords : kDistinctWords;
      if (group.size() >= needed) merge_at = place;
      return true;
    });
    if (merge_at == SIZE_MAX) return;
    siblings.find(sibling_key(words_a, merge_at), group);
    // Only those that really differ at that place alone.
    std::erase_if(group, [&](std::uint32_t other) {
      split(entries[other].text, words_b);
      if (words_b.size() != words_a.size()) return true;
      for (std::size_t i = 0; i < words_a.size(); ++i) {
        if (i != merge_at && words_a[i] != words_b[i]) return true;
      }
      return false;
    });
    const std::uint32_t survivor = *std::ranges::min_element(group, {}, [&](std::uint32_t other) { return entries[other].made; });
    std::string text;
    for (std::size_t i = 0; i < words_a.size(); ++i) {
      if (i > 0) text += ' ';
      text += i == merge_at ? kWildcard : words_a[i];
    }
    const std::vector<std::uint32_t> members = group;
    for (const std::uint32_t other : members) {
      if (other == survivor) continue;
      entries[survivor].lines += entries[other].lines;
      drop(other, survivor);
      ++stats.merged;
    }
    unlearn(survivor);
    set_text(survivor, std::move(text));
    index = survivor;
  }
}

std::uint32_t Miner::State::place_line() {
  const std::uint64_t key = hash_text(masked.text);
  if (const auto known = by_text.find(key); known != by_text.end()) {
    const std::uint32_t index = live(known->second);
    known->second = index;
    if (matches(entries[index])) return index;
  }
  std::uint32_t index = masked.words.empty() ? kNone : find_similar();
  if (index == kNone) {
    index = create(masked.text, hash_text(masked.text));
  } else {
    generalise(index);
  }
  index = live(index);
  if (by_text.size() >= 2 * options.templates_max) by_text.clear();
  by_text[key] = index;
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
  const std::uint64_t made = state.made;
  const std::uint32_t index = state.place_line();
  State::Entry& entry = state.entries[index];
  state.touch(index);
  Match match{.template_id = entry.id, .text = entry.text};
  match.is_new = entry.lines == 0 && entry.made >= made;
  match.severity = message.severity != stream::kUnset ? message.severity : severity_of_words(message.text);
  if (entry.lines++ == 0) {
    entry.severity = match.severity;
    entry.example = message.text.substr(0, kExampleBytes);
  }
  if (state.options.parameters) {
    const Masked& masked = state.masked;
    split(entry.text, state.words_a);
    for (std::size_t i = 0; i < state.words_a.size() && i + 1 < masked.raw_begin.size(); ++i) {
      const std::string_view first = masked.raw[masked.raw_begin[i]];
      const std::string_view last = masked.raw[masked.raw_begin[i + 1] - 1];
      read_parameters(state.words_a[i], {first.data(), static_cast<std::size_t>(last.data() + last.size() - first.data())},
           match.parameters);
    }
  }
  return match;
}

std::vector<Template> Miner::templates() const {
  std::vector<Template> all;
  for (const State::Entry& entry : state_->entries) {
    if (entry.live) all.push_back({entry.id, entry.text, entry.lines, entry.severity, entry.example});
  }
  std::sort(all.begin(), all.end(), [](const Template& a, const Template& b) {
    return a.lines != b.lines ? a.lines > b.lines : a.text < b.text;
  });
  return all;
}

MinerStats Miner::stats() const {
  MinerStats stats = state_->stats;
  stats.templates = state_->live_entries;
  return stats;
}

std::uint64_t Miner::resolve(std::uint64_t id) const {
  for (int steps = 0; steps < 64; ++steps) {
    const auto found = state_->aliases.find(id);
    if (found == state_->aliases.end()) break;
    id = found->second;
  }
  return id;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> Miner::take_merges() { return std::exchange(state_->merges, {}); }

std::string_view Miner::text(std::uint64_t id) const {
  const auto found = state_->by_id.find(resolve(id));
  return found == state_->by_id.end() ? std::string_view() : std::string_view(state_->entries[found->second].text);
}

// "culprit templates 1\n"; varint live templates, each, the one used longest ago first: id (8), string text, varint lines, severity (1),
// string example; varint aliases, each, the oldest first: id (8), what it became part of (8).
std::string Miner::save() const {
  const State& state = *state_;
  std::string out(kSavedAs);
  stream::put_varint(out, state.live_entries);
  for (std::uint32_t index = state.oldest; index != kNone; index = state.entries[index].newer) {
    const State::Entry& entry = state.entries[index];
    stream::put_fixed64(out, entry.id);
    stream::put_string(out, entry.text);
    stream::put_varint(out, entry.lines);
    out.push_back(static_cast<char>(entry.severity));
    stream::put_string(out, entry.example);
  }
  stream::put_varint(out, state.alias_order.size());
  for (const std::uint64_t id : state.alias_order) {
    stream::put_fixed64(out, id);
    const auto found = state.aliases.find(id);
    stream::put_fixed64(out, found == state.aliases.end() ? id : found->second);
  }
  return out;
}

Result<Miner> Miner::load(std::string_view saved, MinerOptions options) {
  Miner miner(options);
  State& state = *miner.state_;
  if (!saved.starts_with(kSavedAs)) return fail(Code::Corrupt, "no saved templates: they begin otherwise");
  stream::Reader reader(saved.substr(kSavedAs.size()));
  const auto broken = [&] { return fail(Code::Corrupt, fmt::format("saved templates: wrong at offset {}", kSavedAs.size() + reader.position())); };
  for (std::uint64_t left = reader.varint(); left > 0; --left) {
    const std::uint64_t id = reader.fixed64();
    const std::string_view text = reader.string();
    const std::uint64_t lines = reader.varint();
    const std::uint8_t severity = reader.byte();
    const std::string_view example = reader.string();
    if (!reader.ok() || severity > 24 || text.size() > 4 * options.line_bytes_max || state.by_id.contains(id)) return broken();
    std::vector<std::string_view> words;
    split(text, words);
    if (words.size() > options.words_max + 1) return broken();
    const std::uint32_t index = state.create(std::string(text), id);
    State::Entry& entry = state.entries[state.live(index)];
    entry.lines += lines;
    entry.severity = severity;
    if (entry.example.empty()) entry.example = example.substr(0, kExampleBytes);
  }
  for (std::uint64_t left = reader.varint(); left > 0; --left) {
    const std::uint64_t id = reader.fixed64(), into = reader.fixed64();
    if (!reader.ok()) return broken();
    if (id != into && !state.by_id.contains(id)) state.alias(id, into);
  }
  if (!reader.ok() || reader.left() > 0) return broken();
  state.stats = {};
  state.merges.clear();
  return miner;
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
