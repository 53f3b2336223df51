// Seeded hashes for map keys: fast, well mixed, not guessable without the seed.
//
// The mixer is the multiply-and-fold of wyhash (Wang Yi, public domain): 64x64 -> 128 bits, halves XORed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>

namespace culprit::concurrent {

inline std::uint64_t hash_mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline std::uint64_t hash_bytes(const void* data, std::size_t size, std::uint64_t seed) {
  constexpr std::uint64_t kA = 0xa0761d6478bd642fULL, kB = 0xe7037ed1a0b428dbULL, kC = 0x8ebc6af09c88c6e3ULL;
  const auto* bytes = static_cast<const unsigned char*>(data);
  auto word = [&](std::size_t at, std::size_t n) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes + at, n);
    return value;
  };
  std::uint64_t hash = seed ^ kA;
  std::size_t at = 0;
  for (; at + 16 <= size; at += 16) hash = hash_mix(word(at, 8) ^ kB, word(at + 8, 8) ^ hash);
  if (size - at >= 8) {
    hash = hash_mix(word(at, 8) ^ kC, hash ^ kB);
    at += 8;
  }
  if (at < size) hash = hash_mix(word(at, size - at) ^ kA, hash ^ kC);
  return hash_mix(hash ^ size, kB ^ seed);
}

// hash(key, seed). Specialise it, or give Map another, for keys that are none of these.
template <typename Key, typename = void>
struct KeyHash;

// Keys without padding are hashed as their bytes.
template <typename Key>
struct KeyHash<Key, std::enable_if_t<std::is_trivially_copyable_v<Key> && std::has_unique_object_representations_v<Key>>> {
  std::uint64_t operator()(const Key& key, std::uint64_t seed) const { return hash_bytes(&key, sizeof key, seed); }
};

template <>
struct KeyHash<std::string> {
  std::uint64_t operator()(std::string_view key, std::uint64_t seed) const {
    return hash_bytes(key.data(), key.size(), seed);
  }
};

}  // namespace culprit::concurrent
