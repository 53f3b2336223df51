#include "embed/features.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace culprit::embed {
namespace {

// Weights of the kinds of feature, measured with tests/bench/retrieval on its development half.
constexpr float kWordWeight = 1.0F;
constexpr float kPairWeight = 0.3F;
constexpr float kGramWeight = 0.3F;
constexpr std::size_t kGramLeast = 3;
constexpr std::size_t kGramMost = 5;
constexpr std::size_t kWordBytesMax = 32;  // longer words are ids or blobs: their start is enough
constexpr std::uint64_t kSeed = 0x9E3779B97F4A7C15ULL;
constexpr std::uint64_t kPrime = 0x100000001b3ULL;

std::uint64_t hash_bytes(const char* bytes, std::size_t size, std::uint64_t seed) {
  std::uint64_t hash = seed;
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<unsigned char>(bytes[i])) * kPrime;
  return mix(hash);
}

bool is_small(unsigned char c) { return (c >= 'a' && c <= 'z') || c >= 0x80; }
bool is_big(unsigned char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

class Extractor {
 public:
  explicit Extractor(std::vector<Feature>& features) : features_(features) {}

  // Words are lower case, a run of digits is one '0' (numbers differ, their presence does not), "CamelCase" counts
  // also in its parts, a plural loses its s.
  void run(std::string_view text) {
    for (std::size_t at = 0; at < text.size() && words_ < kWordsMax;) {
      const auto first = static_cast<unsigned char>(text[at]);
      if (is_digit(first)) {
        while (at < text.size() && is_digit(static_cast<unsigned char>(text[at]))) ++at;
        add_word("0");
      } else if (is_small(first) || is_big(first)) {
        at = add_letters(text, at);
      } else {
        ++at;
      }
    }
  }

 private:
  std::size_t add_letters(std::string_view text, std::size_t at) {
    std::array<char, kWordBytesMax> whole{};
    std::size_t size = 0;
    std::size_t part = 0;  // where the current part of a camel-case word begins
    bool parted = false;
    bool after_small = false;
    for (; at < text.size(); ++at) {
      const auto c = static_cast<unsigned char>(text[at]);
      if (!is_small(c) && !is_big(c)) break;
      if (size == kWordBytesMax) continue;
      // "TooMany" and "OOMKilled" have two parts each.
      const bool before_small = size - part > 1 && at + 1 < text.size() && is_small(static_cast<unsigned char>(text[at + 1]));
      if (is_big(c) && (after_small || before_small)) {
        add_word({whole.data() + part, size - part});
        part = size;
        parted = true;
      }
      after_small = is_small(c);
      whole[size++] = static_cast<char>(is_big(c) ? c + 32 : c);
    }
    if (parted) add_word({whole.data() + part, size - part});
    add_word({whole.data(), size});
    return at;
  }

  void add_word(std::string_view word) {
    if (word.size() > 3 && word.back() == 's' && word[word.size() - 2] != 's') word.remove_suffix(1);
    if (word.empty() || words_ == kWordsMax) return;
    ++words_;
    const std::uint64_t hash = hash_bytes(word.data(), word.size(), kSeed);
    add(hash, kWordWeight);
    if (previous_ != 0) add(mix(previous_ * 3 + hash), kPairWeight);
    previous_ = hash;
    if (word.size() + 2 < kGramLeast + 1) return;
    std::array<char, kWordBytesMax + 2> framed{};
    framed[0] = '^';
    std::ranges::copy(word, framed.begin() + 1);
    framed[word.size() + 1] = '$';
    const std::size_t size = word.size() + 2;
    // The grams of one word weigh as much together as a few, however long it is.
    const float weight = kGramWeight * std::sqrt(3.0F / static_cast<float>(std::max<std::size_t>(size - 2, 3)));
    for (std::size_t length = kGramLeast; length <= kGramMost; ++length) {
      for (std::size_t i = 0; i + length <= size; ++i) add(hash_bytes(framed.data() + i, length, kSeed + length), weight);
    }
  }

  void add(std::uint64_t hash, float weight) {
    if (features_.size() < kFeaturesMax) features_.push_back({static_cast<std::uint32_t>(hash >> 32U), weight});
  }

  std::vector<Feature>& features_;
  std::size_t words_ = 0;
  std::uint64_t previous_ = 0;
};

}  // namespace

void extract_features(std::string_view text, std::vector<Feature>& features) {
  features.clear();
  Extractor(features).run(text.substr(0, kTextBytesMax));
  std::ranges::sort(features, [](const Feature& a, const Feature& b) { return a.hash != b.hash ? a.hash < b.hash : a.weight > b.weight; });
  // The second sighting of a feature says less than the first: sqrt of the count.
  std::size_t kept = 0;
  for (std::size_t i = 0; i < features.size();) {
    std::size_t end = i;
    while (end < features.size() && features[end].hash == features[i].hash) ++end;
    features[kept++] = {features[i].hash, features[i].weight * std::sqrt(static_cast<float>(end - i))};
    i = end;
  }
  features.resize(kept);
}

}  // namespace culprit::embed
