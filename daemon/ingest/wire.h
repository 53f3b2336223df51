// Protobuf's wire format, read in place: https://protobuf.dev/programming-guides/encoding/
//
// Only what OTLP and Prometheus remote write use: varints, fixed 32 and 64 bit numbers and lengths; groups (types 3 and
// 4, given up by protobuf itself) are an error. A generated parser would allocate a message tree per record and was
// not used for that; the fields we read are listed next to their numbers in the decoders.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace culprit::ingest {

class WireReader {
 public:
  enum Type : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  // `base` is where `bytes` starts in the whole message, for offsets in errors.
  explicit WireReader(std::string_view bytes, std::size_t base = 0) : begin_(bytes.data()), at_(begin_), end_(begin_ + bytes.size()), base_(base) {}

  // Reads the next field whole; false at the end, or if the bytes are wrong (then !ok()).
  bool next() {
    if (at_ == end_ || !ok_) return false;
    std::uint64_t key = 0;
    if (!varint(key) || key > UINT32_MAX || (key >> 3U) == 0) return bad();
    field_ = static_cast<std::uint32_t>(key >> 3U);
    switch (key & 7U) {
      case kVarint: type_ = kVarint; return varint(number_) || bad();
      case kFixed64: type_ = kFixed64; return fixed(8);
      case kFixed32: type_ = kFixed32; return fixed(4);
      case kBytes: {
        type_ = kBytes;
        std::uint64_t size = 0;
        if (!varint(size) || size > static_cast<std::uint64_t>(end_ - at_)) return bad();
        bytes_ = std::string_view(at_, size);
        at_ += size;
        return true;
      }
      default: return bad();
    }
  }

  std::uint32_t field() const { return field_; }
  Type type() const { return type_; }
  bool is(std::uint32_t field, Type type) const { return field_ == field && type_ == type; }
  std::uint64_t number() const { return number_; }  // varint and fixed fields
  double real() const { return type_ == kFixed32 ? static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(number_))) : std::bit_cast<double>(number_); }
  std::string_view bytes() const { return bytes_; }
  WireReader message() const { return WireReader(bytes_, base_ + static_cast<std::size_t>(bytes_.data() - begin_)); }
  bool ok() const { return ok_; }
  std::size_t offset() const { return base_ + static_cast<std::size_t>(at_ - begin_); }

 private:
  bool bad() {
    ok_ = false;
    return false;
  }
  bool varint(std::uint64_t& out) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && at_ != end_; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(*at_++);
      if (shift == 63 && byte > 1) return false;
      value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      if (byte < 0x80) {
        out = value;
        return true;
      }
    }
    return false;
  }
  bool fixed(std::size_t size) {
    if (static_cast<std::size_t>(end_ - at_) < size) return bad();
    number_ = 0;
    std::memcpy(&number_, at_, size);
    if constexpr (std::endian::native == std::endian::big) number_ = size == 8 ? __builtin_bswap64(number_) : __builtin_bswap64(number_) >> 32U;
    at_ += size;
    return true;
  }

  const char* begin_;
  const char* at_;
  const char* end_;
  std::size_t base_;
  std::uint32_t field_ = 0;
  Type type_ = kVarint;
  std::uint64_t number_ = 0;
  std::string_view bytes_;
  bool ok_ = true;
};

// The writing side, for the few answers we give (and for tests).
class WireWriter {
 public:
  void number(std::uint32_t field, std::uint64_t value) {
    key(field, WireReader::kVarint);
    varint(value);
  }
  void fixed64(std::uint32_t field, std::uint64_t value) {
    key(field, WireReader::kFixed64);
    for (int i = 0; i < 8; ++i) out_.push_back(static_cast<char>(value >> (8 * i)));
  }
  void real(std::uint32_t field, double value) { fixed64(field, std::bit_cast<std::uint64_t>(value)); }
  void bytes(std::uint32_t field, std::string_view value) {
    key(field, WireReader::kBytes);
    varint(value.size());
    out_ += value;
  }
  const std::string& text() const { return out_; }

 private:
  void key(std::uint32_t field, WireReader::Type type) { varint(static_cast<std::uint64_t>(field) << 3U | type); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7U) out_.push_back(static_cast<char>(value | 0x80U));
    out_.push_back(static_cast<char>(value));
  }
  std::string out_;
};

}  // namespace culprit::ingest
