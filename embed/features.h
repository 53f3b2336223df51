// Features: what the model sees of a text, as hashes with weights: words, pairs of neighbouring words, and 3- to
// 5-grams of the characters of each word, so that "fsyncing" and "fsync" share most of theirs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace culprit::embed {

inline constexpr std::size_t kTextBytesMax = 8'192;     // the rest is not looked at
inline constexpr std::size_t kWordsMax = 512;           // of a text
inline constexpr std::size_t kFeaturesMax = 8'192;      // of a text

struct Feature {
  std::uint32_t hash = 0;
  float weight = 0;  // of one text: how often and what kind
};

// Distinct features by hash, in ascending order. Reuses the memory of `features`.
void extract_features(std::string_view text, std::vector<Feature>& features);

// SplitMix64's finaliser (Steele, Lea and Flood, 2014): every input bit reaches every output bit.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31U);
}

}  // namespace culprit::embed
