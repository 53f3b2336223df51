#include "daemon/explain/changes/words.h"

#include <algorithm>
#include <array>

namespace culprit::explain {

namespace {

constexpr std::size_t kWordMin = 3;
constexpr std::size_t kTextMax = 100'000;  // bytes of a text that are looked at

// Sorted. Words that say nothing about which change made which trouble.
constexpr std::array kCommon = std::to_array<std::string_view>({
    "above", "after", "and", "any", "are", "bool", "case", "class", "com", "const", "context", "ctx", "def", "else", "err",
    "error", "errorf", "exception", "failed", "false", "fmt", "for", "from", "func", "github", "has", "http", "import", "int",
    "int64", "into", "let", "main", "msg", "new", "nil", "not", "now", "null", "org", "package", "private", "public", "ratio",
    "request", "response", "return", "self", "service", "src", "string", "struct", "svc", "test", "that", "the", "this", "true",
    "type", "use", "var", "void", "was", "with"});

bool upper(char c) { return c >= 'A' && c <= 'Z'; }
bool lower(char c) { return c >= 'a' && c <= 'z'; }
bool digit(char c) { return c >= '0' && c <= '9'; }

// "retries" is "retry", "batches" is "batch", "caches" is "cache", and "status" stays what it is (the plurals of Porter's stemmer, step 1a:
// Program 14(3), 1980, with the e that he takes off later).
void singular(std::string& word) {
  if (word.size() <= 4 || !word.ends_with('s') || word.ends_with("ss") || word.ends_with("us") || word.ends_with("is")) return;
  word.pop_back();
  constexpr std::array kSibilants = std::to_array<std::string_view>({"xe", "tche", "nche", "rche", "she", "sse"});
  constexpr std::array kKeep = std::to_array<std::string_view>({"cookie", "serie", "zombie"});
  if (word.ends_with("ie") && std::ranges::find(kKeep, word) == kKeep.end()) {
    word.replace(word.size() - 2, 2, "y");
  } else if (std::ranges::any_of(kSibilants, [&](std::string_view ending) { return word.ends_with(ending); })) {
    word.pop_back();
  }
}

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
  text = text.substr(0, kTextMax);
  std::vector<std::string> out;
  std::string word;
  bool letters = false;
  const auto finish = [&] {
    singular(word);
    if (word.size() >= kWordMin && letters && !std::ranges::binary_search(kCommon, word)) out.push_back(word);
    word.clear();
    letters = false;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (!upper(c) && !lower(c) && !digit(c)) {
      finish();
      continue;
    }
    // "getItem" is two words, "HTTPClient" too; "OOMKilled" is "oom", "killed".
    const bool begins = upper(c) && i > 0 && (lower(text[i - 1]) || digit(text[i - 1]) || (upper(text[i - 1]) && i + 1 < text.size() && lower(text[i + 1])));
    if (begins) finish();
    letters = letters || !digit(c);
    word += upper(c) ? static_cast<char>(c + 32) : c;
  }
  finish();
  return out;
}

void add_words(Bag& bag, std::string_view text, double weight) {
  for (std::string& word : words_of(text)) {
    double& place = bag[std::move(word)];
    place = std::max(place, weight);
  }
}

}  // namespace culprit::explain
