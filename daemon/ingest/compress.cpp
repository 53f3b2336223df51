#include "daemon/ingest/compress.h"

#include <fmt/format.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>

#include "daemon/base/handle.h"

namespace culprit::ingest {
namespace {

constexpr std::size_t kStepBytes = 64U << 10U;
constexpr int kWindowLogMax = 23;  // 8 MiB, what RFC 8878 asks decoders to support and no more

std::unexpected<Error> too_big(std::size_t limit) { return fail(Code::Exhausted, fmt::format("unpacks to more than {} bytes", limit)); }

// What this many packed bytes may become.
std::size_t bound(std::size_t packed, std::size_t limit) { return std::min(limit, std::max<std::size_t>(1U << 20U, packed * kUnpackRatioMax)); }

Result<std::string> inflate_all(std::string_view bytes, int window_bits, std::size_t limit) {
  z_stream stream{};
  if (inflateInit2(&stream, window_bits) != Z_OK) return fail(Code::Exhausted, "no memory to unpack");
  const Handle<z_stream, inflateEnd> owner(&stream);
  std::string out;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  while (true) {
    const std::size_t have = out.size();
    if (have > limit) return too_big(limit);
    out.resize(have + std::min(std::max(kStepBytes, have), limit + 1 - have));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + have);
    stream.avail_out = static_cast<uInt>(out.size() - have);
    const int status = inflate(&stream, Z_NO_FLUSH);
    out.resize(out.size() - stream.avail_out);
    if (out.size() > limit) return too_big(limit);
    if (status == Z_STREAM_END) {
      if (stream.avail_in == 0 || window_bits < 31) return out;
      if (inflateReset(&stream) != Z_OK) return fail(Code::Invalid, "gzip: cannot go on");  // members one after the other
      continue;
    }
    if (status != Z_OK) return fail(Code::Invalid, fmt::format("gzip: {} at offset {}", stream.msg != nullptr ? stream.msg : "ends too early", stream.total_in));
  }
}

Result<std::string> unzstd(std::string_view bytes, std::size_t limit) {
  const Handle<ZSTD_DCtx, ZSTD_freeDCtx> context(ZSTD_createDCtx());
  if (!context) return fail(Code::Exhausted, "no memory to unpack");
  (void)ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kWindowLogMax);
  std::string out;
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  std::size_t left = 1;
  while (in.pos < in.size || left != 0) {
    const std::size_t have = out.size();
    if (have > limit) return too_big(limit);
    out.resize(have + std::min(std::max(kStepBytes, have), limit + 1 - have));
    ZSTD_outBuffer to{out.data() + have, out.size() - have, 0};
    const std::size_t before = in.pos;
    left = ZSTD_decompressStream(context.get(), &to, &in);
    out.resize(have + to.pos);
    if (ZSTD_isError(left) != 0) return fail(Code::Invalid, fmt::format("zstd: {} at offset {}", ZSTD_getErrorName(left), in.pos));
    if (out.size() > limit) return too_big(limit);
    if (in.pos == in.size && left != 0 && to.pos == 0 && in.pos == before) return fail(Code::Invalid, fmt::format("zstd: ends too early at offset {}", in.pos));
  }
  return out;
}

Result<std::string> unsnappy(std::string_view bytes, std::size_t limit) {
  std::size_t size = 0;
  if (!snappy::GetUncompressedLength(bytes.data(), bytes.size(), &size)) return fail(Code::Invalid, "snappy: no length at offset 0");
  if (size > limit) return too_big(limit);
  // The length is only what it claims: look before memory is taken for it.
  if (!snappy::IsValidCompressedBuffer(bytes.data(), bytes.size())) return fail(Code::Invalid, "snappy: wrong bytes after offset 0");
  std::string out;
  if (!snappy::Uncompress(bytes.data(), bytes.size(), &out)) return fail(Code::Invalid, "snappy: wrong bytes after offset 0");
  return out;
}

}  // namespace

Result<std::string> unpack(std::string_view encoding, std::string_view bytes, std::size_t limit) {
  if (encoding.empty() || encoding == "identity") {
    if (bytes.size() > limit) return too_big(limit);
    return std::string(bytes);
  }
  const std::size_t most = bound(bytes.size(), limit);
  if (encoding == "gzip" || encoding == "x-gzip") return inflate_all(bytes, 15 + 16, most);
  if (encoding == "deflate") return inflate_all(bytes, 15, most);
  if (encoding == "zstd") return unzstd(bytes, most);
  if (encoding == "snappy") return unsnappy(bytes, most);
  return fail(Code::Unsupported, fmt::format("content encoding '{}': gzip, deflate, zstd and snappy are known", encoding.substr(0, 32)));
}

}  // namespace culprit::ingest
