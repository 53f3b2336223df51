#include "graph/words.h"

#include <algorithm>
#include <set>

namespace culprit::graph {
namespace {

constexpr std::size_t kWordsMax = 64;  // of a question
constexpr std::size_t kWordBytesMax = 64;
constexpr std::size_t kSearchBytesMax = 8'192;

bool is_word(unsigned char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80; }

// Words that say nothing about a failure.
bool is_stop_word(std::string_view word) {
  static const std::set<std::string_view> kStop = {"a",  "an", "and", "are", "as",   "at",   "be",  "by",   "for", "from", "has", "have", "in",  "into",
                                                   "is", "it", "its", "of",  "on",   "or",   "so",  "that", "the", "then", "they", "this", "to", "was",
                                                   "we", "were", "which", "while", "with", "our", "their", "but", "after", "because", "since"};
  return kStop.contains(word);
}

// Calls `use` with each word as it is written.
template <typename Use>
void each_word(std::string_view text, Use use) {
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && is_word(static_cast<unsigned char>(text[end]))) ++end;
    if (end > at && !use(text.substr(at, end - at))) return;
    at = std::max(end, at + 1);
  }
}

std::string lower_case(std::string_view word) {
  std::string small(word);
  for (char& c : small) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return small;
}

// "TooMany" and "OOMKilled" have two parts each, "timeout" none.
std::vector<std::string> parts_of(std::string_view word) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t at = 1; at < word.size(); ++at) {
    const auto is_small = [&](std::size_t i) { return i < word.size() && word[i] >= 'a' && word[i] <= 'z'; };
    const bool big = word[at] >= 'A' && word[at] <= 'Z';
    if (!big || (!is_small(at - 1) && (at - begin < 2 || !is_small(at + 1)))) continue;
    parts.push_back(lower_case(word.substr(begin, at - begin)));
    begin = at;
  }
  if (begin > 0) parts.push_back(lower_case(word.substr(begin)));
  return parts;
}

}  // namespace

std::vector<std::string> question_words(std::string_view text) {
  std::set<std::string> seen;
  std::vector<std::string> words;
  const auto add = [&](std::string word) {
    if (word.size() > kWordBytesMax || words.size() == kWordsMax || is_stop_word(word) || !seen.insert(word).second) return;
    words.push_back(std::move(word));
  };
  each_word(text.substr(0, kSearchBytesMax), [&](std::string_view word) {
    for (std::string& part : parts_of(word)) add(std::move(part));
    add(lower_case(word));
    return words.size() < kWordsMax;
  });
  return words;
}

std::string title_words(std::string_view title, std::span<const std::string_view> others) {
  std::vector<std::string> parts;
  each_word(title, [&](std::string_view word) {
    for (std::string& part : parts_of(word)) {
      if (parts.size() < kWordsMax && std::ranges::find(parts, part) == parts.end()) parts.push_back(std::move(part));
    }
    return parts.size() < kWordsMax;
  });
  std::string out(title);
  if (parts.empty()) return out;
  const auto drop = [&](std::string_view word) {
    std::erase(parts, lower_case(word));
    return !parts.empty();
  };
  each_word(title, drop);
  for (const std::string_view text : others) each_word(text, drop);
  for (const std::string& part : parts) out += " " + part;
  return out;
}

std::string any_of(const std::vector<std::string>& words) {
  std::string query;
  for (const std::string& word : words) query += (query.empty() ? "\"" : " OR \"") + word + "\"";
  return query;
}

}  // namespace culprit::graph
