#include "daemon/stream/block_blob.h"

#include <fmt/format.h>
#include <libdeflate.h>

#include <cassert>
#include <cstring>

namespace culprit::stream {
namespace {

constexpr int kGroupLevel = -5;                    // a group becomes part of a block within minutes: half the time of level 1
constexpr int kZstdHashLog = 12;                   // level 1's own are 14 for so much: 13 % less time, 2 % more bytes, measured
constexpr std::size_t kColumnBytesMax = 1u << 30;  // decompressed; more is damage
constexpr std::size_t kPacked = 64, kPlain = 96;   // formats; 16 and 32 were those before the first release

using UnzstdContext = Handle<ZSTD_DCtx, ZSTD_freeDCtx>;

constexpr std::string_view kColumnNames[kColumns] = {"keys", "times", "event times", "sequences", "values", "event values", "severities", "ids", "id rows", "sets", "bodies", "grams"};

// Ids are random, and so are the distances between lines: compressing them costs more than the few bytes are worth.
constexpr bool compresses(std::size_t column) { return column != static_cast<std::size_t>(Column::Ids) && column != static_cast<std::size_t>(Column::EventTimes); }

std::uint32_t base_checksum(std::uint64_t sequence_base) {
  return checksum({reinterpret_cast<const char*>(&sequence_base), sizeof sequence_base});
}

}  // namespace

std::unexpected<Error> corrupt(std::size_t column, std::size_t at) {
  return fail(Code::Corrupt, fmt::format("column '{}' damaged at byte {}", kColumnNames[column], at));
}


Compressor::Compressor(int level) : context_(ZSTD_createCCtx()) {
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_hashLog, kZstdHashLog);
}

void Compressor::add(std::string_view bytes, bool checked, std::string& out) {
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, checked ? 1 : 0);
  const std::size_t bound = ZSTD_compressBound(bytes.size());
  if (buffer_.size() < bound) buffer_.resize(bound);
  const std::size_t size = ZSTD_compress2(context_.get(), buffer_.data(), bound, bytes.data(), bytes.size());
  assert(!ZSTD_isError(size));  // the only failures are a small buffer and no memory
  out.append(buffer_, 0, size);
}

std::string seal_blob(Compressor& compressor, std::size_t column, std::uint64_t sequence_base, std::string_view plain) {
  const bool packed = compresses(column);
  std::string blob;
  if (!packed) blob.reserve(1 + plain.size() + sizeof(std::uint32_t));
  blob.push_back(static_cast<char>((packed ? kPacked : kPlain) + column));
  if (packed) {
    compressor.add(plain, false, blob);
  } else {
    blob.append(plain);
  }
  const std::uint32_t sum = checksum(blob, base_checksum(sequence_base));
  blob.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  return blob;
}

Result<std::string> open_blob(std::size_t column, std::uint64_t sequence_base, std::string_view blob) {
  std::uint32_t sum = 0;
  if (blob.size() < 1 + sizeof sum) return corrupt(column, blob.size());
  const std::string_view body = blob.substr(0, blob.size() - sizeof sum);
  std::memcpy(&sum, blob.data() + body.size(), sizeof sum);
  const auto format = static_cast<std::size_t>(static_cast<unsigned char>(body.front()));
  if (checksum(body, base_checksum(sequence_base)) != sum || (format != kPacked + column && format != kPlain + column)) return corrupt(column, 0);
  if (format == kPlain + column) return std::string(body.substr(1));
  auto bytes = decompress(body.substr(1));
  if (!bytes) return std::unexpected(bytes.error().context(fmt::format("column '{}'", kColumnNames[column])));
  return bytes;
}

std::uint32_t checksum(std::string_view bytes, std::uint32_t crc) {
  return libdeflate_crc32(crc, bytes.data(), bytes.size());
}

std::string compress(std::string_view bytes) {
  static thread_local Compressor compressor(kGroupLevel);
  std::string out;
  compressor.add(bytes, true, out);
  return out;
}

Result<std::string> decompress(std::string_view bytes) {
  const unsigned long long size = ZSTD_getFrameContentSize(bytes.data(), bytes.size());
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > kColumnBytesMax) {
    return fail(Code::Corrupt, "no compressed data of ours");
  }
  static thread_local const UnzstdContext context(ZSTD_createDCtx());
  std::string out(size, '\0');
  const std::size_t got = ZSTD_decompressDCtx(context.get(), out.data(), out.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(got) || got != size) {
    return fail(Code::Corrupt, fmt::format("compressed data damaged: {}", ZSTD_isError(got) ? ZSTD_getErrorName(got) : "cut"));
  }
  return out;
}

std::string seal_column(std::size_t column, std::uint64_t sequence_base, std::string_view plain) {
  Compressor compressor;
  return seal_blob(compressor, column, sequence_base, plain);
}

}  // namespace culprit::stream
