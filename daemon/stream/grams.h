// Grams: the column that tells whether a block may hold a text. Each four bytes in a row at an even place of a body, ASCII
// letters in lower case, set one bit. Wherever a text begins, either its grams at even places or those at odd places are
// at even ones of the body: a block that lacks one of both does not hold the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::stream {

inline constexpr std::size_t kGramBytes = 4;  // texts of this and less have no gram in both sets: they may be anywhere
inline constexpr unsigned kGramBitsMin = 10, kGramBitsMax = 17;  // log2 of the number of bits

class Grams {
 public:
  void clear() { bits_.assign((std::size_t{1} << kGramBitsMax) / 8, 0); }
  void add(std::string_view body);  // after clear()
  // Only the grams of the body that [begin, begin + bytes) has a part in, or is between; perhaps some next to them too.
  void add_part(std::string_view body, std::size_t begin, std::size_t bytes);
  // Appends the column: log2 of the number of bits (one for each byte of body, within the limits), then the bits.
  void put(std::size_t body_bytes, std::string& out) const;

 private:
  std::vector<std::uint8_t> bits_;
};

bool well_formed_grams(std::string_view column);
bool may_hold_grams(std::string_view column, std::string_view text);  // needs it

}  // namespace culprit::stream
