// Text files of a recorded case, plain or gzip, line by line: memory is one line, whatever the file's size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::explain {

inline constexpr std::size_t kLineBytesMax = 16U << 20U;
inline constexpr std::uint64_t kFileBytesMax = 2ULL << 30U;  // unpacked: a bomb ends here

// Calls `each(line, number)` for every line (numbers from 1, no line end) until it fails.
// Errors: NotFound, Io, Corrupt (bad gzip), Exhausted (a line or the file is too long), those of `each`; with file and line.
using EachLine = std::function<Result<void>(std::string_view line, std::size_t number)>;
Result<void> read_lines(const std::filesystem::path& file, const EachLine& each);

// A JSON object. Errors: Invalid, with line and column of what is not JSON.
Result<nlohmann::json> parse_object(std::string_view text);

// `name` or `name`.gz in a directory; empty if neither is there.
std::filesystem::path find_file(const std::filesystem::path& directory, std::string_view name);

// Cuts one line of a CSV file (RFC 4180: quotes, doubled quotes inside). `fields` borrows from `line` or `buffer`.
// False: a quote that is not closed.
bool split_csv(std::string_view line, std::vector<std::string_view>& fields, std::string& buffer);

}  // namespace culprit::explain
