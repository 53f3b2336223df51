// Where a source was before a restart: a small file that is either the old one or the new one, never half of it.
#pragma once

#include <filesystem>
#include <string>

#include "daemon/base/result.h"

namespace culprit::ingest {

// Makes its folder if there is none. Errors: Io, with the path.
Result<void> replace_file(const std::filesystem::path& path, std::string_view text);

// Empty if there is none; at most kPositionBytesMax bytes of it.
inline constexpr std::size_t kPositionBytesMax = 1U << 20U;
std::string read_position(const std::filesystem::path& path);

}  // namespace culprit::ingest
