#include "daemon/stream/grams.h"

#include <algorithm>
#include <cstring>

#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

// Upper-case ASCII letters of eight bytes to lower case, all at once: the sums carry into a byte's top bit where it is at
// least 'A', and beyond 'Z'; only bytes whose top bit was 0 count.
std::uint64_t lower(std::uint64_t word) {
  constexpr std::uint64_t kEach = 0x0101010101010101u;
  const std::uint64_t low = word & (kEach * 0x7f);
  const std::uint64_t from_a = low + kEach * (0x80 - 'A'), past_z = low + kEach * (0x7f - 'Z');
  return word | ((from_a ^ past_z) & ~word & (kEach * 0x80)) >> 2;
}

std::uint64_t load(const char* at) { return lower(load64(at)); }

std::uint32_t bit_of(std::uint64_t gram, unsigned log2_bits) { return (static_cast<std::uint32_t>(gram) * 0x9E3779B1u) >> (32 - log2_bits); }

void set(std::uint8_t* bits, std::uint32_t bit) { bits[bit / 8] = static_cast<std::uint8_t>(bits[bit / 8] | 1u << (bit % 8)); }

// The grams at even places. Eight bytes hold three; the last eight are looked at once more, so that none is left at the end.
template <typename Visit>
void each_gram(std::string_view text, unsigned log2_bits, Visit&& visit) {
  if (text.size() < kGramBytes) return;
  const char* const begin = text.data();
  const std::size_t last_gram = (text.size() - kGramBytes) & ~std::size_t{1};
  if (last_gram < 4) {
    char few[8] = {};
    std::memcpy(few, begin, std::min<std::size_t>(text.size(), sizeof few));
    const std::uint64_t word = __builtin_bswap64(load(few));  // a gram is a big-endian number
    visit(bit_of(word >> 32, log2_bits));
    if (last_gram == 2) visit(bit_of(word >> 16, log2_bits));
    return;
  }
  const char* const last = begin + last_gram - 4;
  for (const char* at = begin;; at = at + 6 < last ? at + 6 : last) {
    const std::uint64_t word = __builtin_bswap64(load(at));
    visit(bit_of(word >> 32, log2_bits));
    visit(bit_of(word >> 16, log2_bits));
    visit(bit_of(word, log2_bits));
    if (at == last) return;
  }
}

}  // namespace

void Grams::add(std::string_view body) {
  std::uint8_t* const bits = bits_.data();
  each_gram(body, kGramBitsMax, [bits](std::uint32_t bit) { set(bits, bit); });
}

// A short part is in three grams or in six, of which the last ones may not be asked for.
void Grams::add_part(std::string_view body, std::size_t begin, std::size_t bytes) {
  constexpr std::size_t kBefore = kGramBytes - 1, kThree = 8, kSix = 14;
  const std::size_t from = (std::max(begin, kBefore) - kBefore + 1) & ~std::size_t{1};
  if (bytes > 8 || body.size() < kSix) return add(body.substr(from, begin + bytes + kBefore - from));
  std::uint8_t* const bits = bits_.data();
  const auto add_three = [bits](const char* at) {
    const std::uint64_t word = __builtin_bswap64(load(at));
    for (const unsigned place : {32u, 16u, 0u}) set(bits, bit_of(word >> place, kGramBitsMax));
  };
  if (bytes <= 3) return add_three(body.data() + std::min(from, (body.size() - kThree) & ~std::size_t{1}));
  const char* const at = body.data() + std::min(from, (body.size() - kSix) & ~std::size_t{1});
  add_three(at);
  add_three(at + 6);
}

// A bit's number is the upper bits of a hash: with half as many bits, two neighbours become one.
void Grams::put(std::size_t body_bytes, std::string& out) const {
  unsigned log2_bits = kGramBitsMin;
  while (log2_bits < kGramBitsMax && (std::size_t{1} << log2_bits) < body_bytes) ++log2_bits;
  out.push_back(static_cast<char>(log2_bits));
  if (log2_bits == kGramBitsMax) {
    out.append(reinterpret_cast<const char*>(bits_.data()), bits_.size());
    return;
  }
  const std::size_t at = out.size();
  out.resize(at + (std::size_t{1} << log2_bits) / 8);
  const unsigned shift = kGramBitsMax - log2_bits;
  for (std::size_t i = 0; i < bits_.size(); ++i) {
    for (std::size_t bit = i * 8; bits_[i] != 0 && bit < i * 8 + 8; ++bit) {
      if ((bits_[i] >> (bit % 8) & 1u) == 0) continue;
      char& byte = out[at + (bit >> shift) / 8];
      byte = static_cast<char>(static_cast<unsigned char>(byte) | 1u << ((bit >> shift) % 8));
    }
  }
}

bool well_formed_grams(std::string_view column) {
  const unsigned log2_bits = column.empty() ? 0 : static_cast<unsigned char>(column[0]);
  return log2_bits >= kGramBitsMin && log2_bits <= kGramBitsMax && column.size() == 1 + (std::size_t{1} << log2_bits) / 8;
}

// The text may begin at an even place of a body or at an odd one: its own grams at even places are there, or those at odd ones.
bool may_hold_grams(std::string_view column, std::string_view text) {
  const auto all_there = [&](std::string_view from) {
    bool all = true;
    each_gram(from, static_cast<unsigned char>(column[0]), [&](std::uint32_t bit) { all = all && (static_cast<unsigned char>(column[1 + bit / 8]) >> (bit % 8) & 1u) != 0; });
    return all;
  };
  return all_there(text) || all_there(text.substr(std::min<std::size_t>(1, text.size())));
}

}  // namespace culprit::stream
