// Bodies as they were sent: gzip, deflate, zstd, snappy. Each unpacks at most `limit` bytes; a bomb is refused as soon as it
// passes that, having cost no more memory than that.
#pragma once

#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace culprit::ingest {

inline constexpr std::size_t kUnpackedBytesMax = 64U << 20U;
inline constexpr std::size_t kUnpackRatioMax = 1000;  // more than this, beyond a mebibyte, is no data of anybody's

// Encoding as HTTP names it: "", "identity", "gzip", "x-gzip", "deflate", "zstd", "snappy" (block format).
// Errors: Unsupported (another encoding), Exhausted (over a limit), Invalid with the offset.
Result<std::string> unpack(std::string_view encoding, std::string_view bytes, std::size_t limit = kUnpackedBytesMax);

}  // namespace culprit::ingest
