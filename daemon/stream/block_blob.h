// What frames a column of a block on disk. Every blob is
//   format (1 byte) | one zstd frame (format 64 + column) or the bytes as they are (96 + column)
//   | CRC-32 of the block's sequence base and all bytes before (4 bytes)
// Inside of the codec; `checksum`, `compress`, `decompress` and `seal_column` are for all (block.h).
#pragma once

#include <zstd.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/handle.h"
#include "daemon/base/result.h"
#include "daemon/stream/block.h"

namespace culprit::stream {

// What column 0 says of each run.
struct RunHead {
  std::uint64_t times = 0, values = 0;  // bytes of this run in those columns
  std::uint8_t severity = 0, flags = 0;
};
inline constexpr std::uint8_t kSeverityMixed = 255;
inline constexpr std::size_t kIdsBytes = 24;  // of one trace and span id
inline constexpr unsigned kHasIds = 1, kHasAttributes = 2, kHasBodies = 4;  // flags

// Corrupt, with the name of the column.
std::unexpected<Error> corrupt(std::size_t column, std::size_t at);

class Compressor {
 public:
  explicit Compressor(int level = 1);  // of zstd
  // Appends one frame.
  void add(std::string_view bytes, bool checked, std::string& out);

 private:
  Handle<ZSTD_CCtx, ZSTD_freeCCtx> context_;
  std::string buffer_;  // kept from one frame to the next
};

std::string seal_blob(Compressor& compressor, std::size_t column, std::uint64_t sequence_base, std::string_view plain);
// Errors: Corrupt if it is cut, changed, another column's or another block's.
Result<std::string> open_blob(std::size_t column, std::uint64_t sequence_base, std::string_view blob);

}  // namespace culprit::stream
