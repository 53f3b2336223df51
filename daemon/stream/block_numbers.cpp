#include "daemon/stream/block_numbers.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

// Values of a run: all the same, decimal numbers as integers, or their bits.
constexpr std::uint8_t kSame = 0, kBits = 15;
constexpr double kScales[] = {1, 10, 100, 1e3, 1e4, 1e6, 1e9};  // mode 1 + index
constexpr double kExactMax = 9007199254740992.0;                // 2^53

// As std::nearbyint(), which is a call: below 2^51 the sum has no bits left for a fraction.
double rounded(double value) {
  constexpr double kNoFraction = 6755399441055744.0;  // 1.5 * 2^52
  return std::abs(value) < 2251799813685248.0 ? value + kNoFraction - kNoFraction : std::nearbyint(value);
}

bool fits(double value, double scale, std::int64_t& number) {
  const double scaled = rounded(value * scale);
  if (!(std::abs(scaled) <= kExactMax)) return false;
  number = static_cast<std::int64_t>(scaled);
  return std::bit_cast<std::uint64_t>(static_cast<double>(number) / scale) == std::bit_cast<std::uint64_t>(value);
}

}  // namespace

void encode_values(std::span<const double> values, std::string& out) {
  const auto bits = [&](std::size_t i) { return std::bit_cast<std::uint64_t>(values[i]); };
  if (std::all_of(values.begin(), values.end(), [&](const double& value) { return std::bit_cast<std::uint64_t>(value) == bits(0); })) {
    out.push_back(static_cast<char>(kSame));
    put_fixed64(out, bits(0));
    return;
  }
  const std::size_t begin = out.size();
  for (std::size_t mode = 0; mode < std::size(kScales); ++mode) {
    out.resize(begin);
    out.push_back(static_cast<char>(1 + mode));
    std::int64_t last = 0;
    std::size_t i = 0;
    for (std::int64_t number = 0; i < values.size() && fits(values[i], kScales[mode], number); ++i) {
      put_signed(out, number - last);
      last = number;
    }
    if (i == values.size()) return;
  }
  // XOR with the value before, then all first bytes, all second bytes, ...: equal bytes side by side for zstd.
  out.resize(begin);
  out.push_back(static_cast<char>(kBits));
  const std::size_t at = out.size();
  out.resize(at + values.size() * 8);
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint64_t changed = bits(i) ^ last;
    for (std::size_t plane = 0; plane < 8; ++plane) out[at + plane * values.size() + i] = static_cast<char>(changed >> (8 * plane));
    last = bits(i);
  }
}

bool decode_values(std::string_view bytes, std::size_t rows, std::vector<double>& values) {
  Reader in(bytes);
  const std::uint8_t mode = in.byte();
  if (mode == kSame) {
    values.insert(values.end(), rows, std::bit_cast<double>(in.fixed64()));
    return in.ok() && in.left() == 0;
  }
  if (mode == kBits) {
    const std::string_view planes = in.rest();
    if (planes.size() != rows * 8) return false;
    std::uint64_t last = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t plane = 0; plane < 8; ++plane) {
        last ^= static_cast<std::uint64_t>(static_cast<std::uint8_t>(planes[plane * rows + i])) << (8 * plane);
      }
      values.push_back(std::bit_cast<double>(last));
    }
    return true;
  }
  if (mode - 1u >= std::size(kScales)) return false;
  const double scale = kScales[mode - 1];
  std::int64_t last = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    last = wrapping_add(last, in.signed_varint());
    values.push_back(static_cast<double>(last) / scale);
  }
  return in.ok() && in.left() == 0;
}

void encode_times(std::span<const std::int64_t> times, std::int64_t base, bool plain, std::string& out) {
  put_signed(out, wrapping_sub(times.front(), base));
  append_with(out, (times.size() - 1) * kVarintBytesMax, [&](char* to) {
    std::int64_t step = 0;
    for (std::size_t i = 1; i < times.size(); ++i) {
      const std::int64_t next = wrapping_sub(times[i], times[i - 1]);
      to = write_varint(to, plain ? zigzag(wrapping_sub(next, step)) : static_cast<std::uint64_t>(next));
      step = next;
    }
    return to;
  });
}

bool decode_times(std::string_view bytes, std::size_t rows, std::int64_t base, bool plain, std::vector<std::int64_t>& times) {
  Reader in(bytes);
  std::int64_t last = wrapping_add(base, in.signed_varint()), step = 0;
  times.push_back(last);
  for (std::size_t i = 1; i < rows; ++i) {
    step = plain ? wrapping_add(step, in.signed_varint()) : static_cast<std::int64_t>(in.varint());
    last = wrapping_add(last, step);
    times.push_back(last);
  }
  return in.ok() && in.left() == 0;
}

}  // namespace culprit::stream
