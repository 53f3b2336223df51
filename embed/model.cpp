#include "embed/model.h"

#include <algorithm>
#include <cmath>

namespace culprit::embed {
namespace {

// Weights of the kinds of feature, measured with tests/bench/retrieval on its development half.
constexpr float kWordWeight = 1.0F;
constexpr float kPairWeight = 0.3F;
constexpr float kGramWeight = 0.3F;
constexpr std::size_t kGramLeast = 4;
constexpr std::size_t kGramMost = 5;
constexpr std::size_t kWordBytesMax = 32;   // longer words are ids or blobs: their start is enough
constexpr std::size_t kWordsMax = 512;      // of a text
constexpr std::size_t kSums = 4;            // that one feature is added to
constexpr std::uint32_t kBuckets = 1U << 18U;  // of the document counts
constexpr std::uint64_t kSeed = 0x9E3779B97F4A7C15ULL;

// SplitMix64's finaliser (Steele, Lea and Flood, 2014): every input bit reaches every output bit.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t hash = seed;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix(hash);
}

// Words as the model sees them: lower case, digits as one '0' (numbers differ, their presence does not),
// "CamelCase" also in its parts, a plural without its s.
struct Words {
  std::vector<std::string> all;  // in order
};

bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80; }
bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

void add_word(Words& words, std::string word) {
  if (word.size() > kWordBytesMax) word.resize(kWordBytesMax);
  if (word.size() > 3 && word.ends_with('s') && !word.ends_with("ss")) word.pop_back();
  if (words.all.size() < kWordsMax) words.all.push_back(std::move(word));
}

Words split(std::string_view text) {
  Words words;
  text = text.substr(0, kTextBytesMax);
  for (std::size_t at = 0; at < text.size();) {
    const auto first = static_cast<unsigned char>(text[at]);
    if (is_digit(first)) {
      while (at < text.size() && is_digit(static_cast<unsigned char>(text[at]))) ++at;
      add_word(words, "0");
      continue;
    }
    if (!is_letter(first)) {
      ++at;
      continue;
    }
    std::string whole;
    std::string part;
    std::size_t parts = 0;
    bool after_small = false;
    while (at < text.size() && is_letter(static_cast<unsigned char>(text[at]))) {
      const char c = text[at++];
      const bool big = c >= 'A' && c <= 'Z';
      if (big && after_small && !part.empty()) {
        add_word(words, part);
        part.clear();
        ++parts;
      }
      after_small = !big;
      const char small = big ? static_cast<char>(c + 32) : c;
      whole += small;
      part += small;
    }
    if (parts > 0) add_word(words, part);
    add_word(words, std::move(whole));
  }
  return words;
}

// Calls use(hash, weight) for each distinct feature of the text.
template <typename Use>
void features(std::string_view text, Use use) {
  const Words words = split(text);
  std::vector<std::uint64_t> seen;
  const auto once = [&seen](std::uint64_t hash) {
    const auto at = std::ranges::lower_bound(seen, hash);
    if (at != seen.end() && *at == hash) return false;
    seen.insert(at, hash);
    return true;
  };
  std::uint64_t previous = 0;
  for (const std::string& word : words.all) {
    const std::uint64_t hash = hash_bytes(word, kSeed);
    if (previous != 0) {
      const std::uint64_t pair = mix(previous * 3 + hash);
      if (once(pair)) use(pair, kPairWeight);
    }
    previous = hash;
    if (!once(hash)) continue;
    use(hash, kWordWeight);
    if (word.size() + 2 < kGramLeast) continue;
    const std::string framed = "^" + word + "$";
    // The grams of one word weigh as much together as a few, however long it is.
    const std::size_t count = std::max<std::size_t>(framed.size() - 2, 3);
    const float weight = kGramWeight * std::sqrt(3.0F / static_cast<float>(count));
    for (std::size_t length = kGramLeast; length <= kGramMost; ++length) {
      for (std::size_t i = 0; i + length <= framed.size(); ++i) use(hash_bytes(std::string_view(framed).substr(i, length), kSeed + length), weight);
    }
  }
}

std::uint32_t bucket(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 20U) % kBuckets; }

}  // namespace

void Model::learn(std::span<const std::string_view> texts) {
  document_counts_.assign(kBuckets, 0);
  documents_ = 0;
  std::vector<std::uint32_t> buckets;
  for (const std::string_view text : texts) {
    if (documents_ == UINT16_MAX) break;  // counts would overflow, and more documents change little
    buckets.clear();
    features(text, [&buckets](std::uint64_t hash, float) { buckets.push_back(bucket(hash)); });
    std::ranges::sort(buckets);
    const auto rest = std::ranges::unique(buckets);
    for (auto at = buckets.begin(); at != rest.begin(); ++at) ++document_counts_[*at];
    ++documents_;
  }
}

Vector Model::vector(std::string_view text) const {
  Vector sums{};
  const float documents = static_cast<float>(documents_);
  const float rarest = std::log1p(documents);
  features(text, [&](std::uint64_t hash, float weight) {
    if (documents_ > 0) {
      // log((1 + N) / (1 + n)) over its largest value: 1 for an unseen feature, 0 for one in every text.
      const float known = static_cast<float>(document_counts_[bucket(hash)]);
      weight *= (rarest - std::log1p(known)) / rarest;
    }
    std::uint64_t bits = mix(hash + kSeed);
    for (std::size_t i = 0; i < kSums; ++i) {
      const std::size_t dimension = bits % kDimensions;
      sums[dimension] += (bits & 0x100U) != 0 ? weight : -weight;
      bits >>= 9U;
    }
  });
  float square = 0;
  for (const float value : sums) square += value * value;
  if (square > 0) {
    const float scale = 1.0F / std::sqrt(square);
    for (float& value : sums) value *= scale;
  }
  return sums;
}

float dot(const Vector& a, const Vector& b) {
  float sum = 0;
  for (std::size_t i = 0; i < kDimensions; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace culprit::embed
