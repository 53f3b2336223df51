#include "daemon/stream/block_blob.h"

#include <fmt/format.h>
#include <zlib.h>

#include <cassert>
#include <cstring>

namespace culprit::stream {
namespace {

constexpr int kZstdLevel = 1;                      // the stream is written once and rarely read
constexpr std::size_t kColumnBytesMax = 1u << 30;  // decompressed; more is damage
constexpr std::size_t kFormat = 32;                // 16 was the format before this one

using UnzstdContext = Handle<ZSTD_DCtx, ZSTD_freeDCtx>;

constexpr std::string_view kColumnNames[kColumns] = {"keys", "times", "event times", "sequences", "values", "event values", "severities", "ids", "sets", "bodies", "grams"};

std::uint32_t base_checksum(std::uint64_t sequence_base) {
  return checksum({reinterpret_cast<const char*>(&sequence_base), sizeof sequence_base});
}

}  // namespace

std::unexpected<Error> corrupt(std::size_t column, std::size_t at) {
  return fail(Code::Corrupt, fmt::format("column '{}' damaged at byte {}", kColumnNames[column], at));
}

Compressor::Compressor() : context_(ZSTD_createCCtx()) { ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kZstdLevel); }

void Compressor::add(std::string_view bytes, bool checked, std::string& out) {
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, checked ? 1 : 0);
  const std::size_t bound = ZSTD_compressBound(bytes.size());
  if (buffer_.size() < bound) buffer_.resize(bound);
  const std::size_t size = ZSTD_compress2(context_.get(), buffer_.data(), bound, bytes.data(), bytes.size());
  assert(!ZSTD_isError(size));  // the only failures are a small buffer and no memory
  out.append(buffer_, 0, size);
}

std::string seal_blob(Compressor& compressor, std::size_t column, std::uint64_t sequence_base, std::string_view plain) {
  std::string blob(1, static_cast<char>(kFormat + column));
  compressor.add(plain, false, blob);
  const std::uint32_t sum = checksum(blob, base_checksum(sequence_base));
  blob.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  return blob;
}

Result<std::string> open_blob(std::size_t column, std::uint64_t sequence_base, std::string_view blob) {
  std::uint32_t sum = 0;
  if (blob.size() < 1 + sizeof sum) return corrupt(column, blob.size());
  const std::string_view body = blob.substr(0, blob.size() - sizeof sum);
  std::memcpy(&sum, blob.data() + body.size(), sizeof sum);
  if (checksum(body, base_checksum(sequence_base)) != sum || body.front() != static_cast<char>(kFormat + column)) return corrupt(column, 0);
  auto bytes = decompress(body.substr(1));
  if (!bytes) return std::unexpected(bytes.error().context(fmt::format("column '{}'", kColumnNames[column])));
  return bytes;
}

std::uint32_t checksum(std::string_view bytes, std::uint32_t crc) {
  return static_cast<std::uint32_t>(::crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

std::string compress(std::string_view bytes) {
  static thread_local Compressor compressor;
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
