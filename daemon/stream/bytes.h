// Bytes: the small integers and strings that every stored format here is made of. Integers are LEB128
// varints, signed ones zigzag; strings are a varint length and the bytes. A Reader never reads past its end:
// after the first failure it stays failed and gives zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace culprit::stream {

inline std::uint64_t zigzag(std::int64_t value) {
  return (static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63);
}
inline std::int64_t unzigzag(std::uint64_t value) {
  return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
}
// Differences of times may wrap around; they are defined modulo 2^64.
inline std::int64_t wrapping_sub(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
inline std::int64_t wrapping_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

inline std::uint64_t load64(const char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);  // little-endian, like every machine that we build for
  return word;
}

inline void put_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}
// Appends what write(to) writes, at most `bytes_max`; it gives the end. Faster than byte by byte where there is much.
template <typename Write>
void append_with(std::string& out, std::size_t bytes_max, Write&& write) {
  const std::size_t before = out.size();
  if (out.capacity() < before + bytes_max) out.reserve(std::max(out.capacity() * 2, before + bytes_max));
  out.resize_and_overwrite(before + bytes_max, [&](char* begin, std::size_t) { return static_cast<std::size_t>(write(begin + before) - begin); });
}
inline constexpr std::size_t kVarintBytesMax = 10;
inline char* write_varint(char* to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) *to++ = static_cast<char>(value | 0x80);
  *to++ = static_cast<char>(value);
  return to;
}
// Copies a text that probably is short: two copies that may overlap, of a size the compiler knows, take less than a call. Gives the end.
inline char* write_text(char* to, std::string_view text) {
  const std::size_t size = text.size();
  const auto ends = [&]<std::size_t N>() {
    char begin[N], end[N];
    std::memcpy(begin, text.data(), N);
    std::memcpy(end, text.data() + size - N, N);
    std::memcpy(to, begin, N);
    std::memcpy(to + size - N, end, N);
  };
  if (size > 32) {
    std::memcpy(to, text.data(), size);
  } else if (size >= 16) {
    ends.template operator()<16>();
  } else if (size >= 8) {
    ends.template operator()<8>();
  } else if (size >= 4) {
    ends.template operator()<4>();
  } else {
    for (std::size_t i = 0; i < size; ++i) to[i] = text[i];
  }
  return to + size;
}
inline void put_signed(std::string& out, std::int64_t value) { put_varint(out, zigzag(value)); }
inline void put_fixed64(std::string& out, std::uint64_t value) {
  char bytes[8];
  std::memcpy(bytes, &value, sizeof bytes);  // little-endian, like every machine that we build for
  out.append(bytes, sizeof bytes);
}
inline void put_string(std::string& out, std::string_view text) {
  put_varint(out, text.size());
  out.append(text);
}

// Multiplied and folded: the one step of the hashes.
inline std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const auto product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// A hash for tables in memory and for filters: eight bytes at a time, multiplied and folded. Tables give a
// random seed, so that nobody outside can choose texts that collide; filters on disk give a fixed one.
inline std::uint64_t hash_bytes(std::string_view text, std::uint64_t seed) {
  std::uint64_t hash = (seed + 0x9e3779b97f4a7c15u) ^ (text.size() * 0xff51afd7ed558ccdu);
  const auto mix = [&hash](std::uint64_t word) { hash = fold(hash ^ word, 0xd6e8feb86659fd93u); };
  const char* at = text.data();
  std::size_t left = text.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    mix(word);
  }
  if (left > 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, left);
    mix(word);
  }
  mix(0x9fb21c651e98df25u);
  return hash;
}

// The same for tables in memory alone, 32 bytes at a time in two chains that do not wait for each other: nothing may store it.
inline std::uint64_t table_hash(std::string_view text, std::uint64_t seed) {
  std::uint64_t hash = fold(seed ^ 0x9e3779b97f4a7c15u, text.size() ^ 0xd6e8feb86659fd93u);
  const char* at = text.data();
  std::size_t left = text.size();
  if (left > 32) {
    std::uint64_t other = hash ^ 0xa0761d6478bd642fu;
    for (; left > 32; at += 32, left -= 32) {
      hash = fold(load64(at) ^ 0xff51afd7ed558ccdu, load64(at + 8) ^ hash);
      other = fold(load64(at + 16) ^ 0xe7037ed1a0b428dbu, load64(at + 24) ^ other);
    }
    hash ^= other;
  }
  if (left > 16) {
    hash = fold(load64(at) ^ 0xff51afd7ed558ccdu, load64(at + 8) ^ hash);
    at += 16;
    left -= 16;
  }
  std::uint64_t low = 0, high = 0;
  if (left >= 8) {  // the two may overlap
    low = load64(at);
    high = load64(at + left - 8);
  } else if (left > 0) {
    std::memcpy(&low, at, left);
  }
  return fold(low ^ 0x9fb21c651e98df25u, high ^ hash);
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  std::size_t position() const { return position_; }
  std::size_t left() const { return bytes_.size() - position_; }
  std::string_view rest() const { return bytes_.substr(position_); }

  std::uint8_t byte() {
    if (!ok_ || left() < 1) return fail();
    return static_cast<std::uint8_t>(bytes_[position_++]);
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t next = byte();
      if (!ok_) return 0;
      if (shift == 63 && next > 1) return fail();
      value |= static_cast<std::uint64_t>(next & 0x7f) << shift;
      if (next < 0x80) return value;
    }
    return fail();
  }
  std::int64_t signed_varint() { return unzigzag(varint()); }
  std::uint64_t fixed64() {
    if (!ok_ || left() < 8) return fail();
    std::uint64_t value = 0;
    std::memcpy(&value, bytes_.data() + position_, 8);
    position_ += 8;
    return value;
  }
  // Borrows from the bytes.
  std::string_view string() {
    const std::uint64_t size = varint();
    if (!ok_ || size > left()) {
      fail();
      return {};
    }
    const std::string_view text = bytes_.substr(position_, size);
    position_ += size;
    return text;
  }

 private:
  std::uint8_t fail() {
    ok_ = false;
    return 0;
  }

  std::string_view bytes_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace culprit::stream
