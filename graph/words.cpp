#include "graph/words.h"

#include <set>

namespace culprit::graph {
namespace {

constexpr std::size_t kWordsMax = 64;  // of a question
constexpr std::size_t kSearchBytesMax = 8'192;

bool is_word(unsigned char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80; }

// Words that say nothing about a failure.
bool is_stop_word(std::string_view word) {
  static const std::set<std::string_view> kStop = {"a",  "an", "and", "are", "as",   "at",   "be",  "by",   "for", "from", "has", "have", "in",  "into",
                                                   "is", "it", "its", "of",  "on",   "or",   "so",  "that", "the", "then", "they", "this", "to", "was",
                                                   "we", "were", "which", "while", "with", "our", "their", "but", "after", "because", "since"};
  return kStop.contains(word);
}

}  // namespace

std::vector<std::string> question_words(std::string_view text) {
  text = text.substr(0, kSearchBytesMax);
  std::set<std::string> seen;
  std::vector<std::string> words;
  const auto add = [&](const std::string& word) {
    if (word.empty() || word.size() > 64 || seen.size() == kWordsMax || is_stop_word(word) || !seen.insert(word).second) return;
    words.push_back(word);
  };
  for (std::size_t at = 0; at < text.size() && seen.size() < kWordsMax;) {
    if (!is_word(static_cast<unsigned char>(text[at]))) {
      ++at;
      continue;
    }
    std::string word;
    std::string part;
    bool parted = false;
    for (; at < text.size() && is_word(static_cast<unsigned char>(text[at])); ++at) {
      const char c = text[at];
      const bool big = c >= 'A' && c <= 'Z';
      // "TooMany" and "OOMKilled" have two parts each.
      const bool after_small = !part.empty() && text[at - 1] >= 'a' && text[at - 1] <= 'z';
      const bool before_small = part.size() > 1 && at + 1 < text.size() && text[at + 1] >= 'a' && text[at + 1] <= 'z';
      if (big && (after_small || before_small)) {
        add(part);
        part.clear();
        parted = true;
      }
      const char small = big ? static_cast<char>(c + 32) : c;
      word += small;
      part += small;
    }
    if (parted) add(part);
    add(word);
  }
  return words;
}

std::string any_of(const std::vector<std::string>& words) {
  std::string query;
  for (const std::string& word : words) query += (query.empty() ? "\"" : " OR \"") + word + "\"";
  return query;
}

}  // namespace culprit::graph
