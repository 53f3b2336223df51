// Text helpers that more than one module needs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace culprit {

// Number of single-character edits between two words (Levenshtein).
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidates nearest to `word`, best first, at most `limit`, none further than half its length
// (at least 2 edits are always allowed). A candidate that contains the word counts as near.
std::vector<std::string> nearest(std::string_view word, std::span<const std::string> candidates,
                                 std::size_t limit = 3);

// "*" matches any run of characters, "?" one.
bool glob_match(std::string_view pattern, std::string_view text);

// "5m", "90s", "1h30m", "250ms", "2d" to nanoseconds; nothing if it is none of these or overflows.
std::optional<std::int64_t> parse_duration_ns(std::string_view text);

// 1204 -> "1,204".
std::string group_digits(std::uint64_t value);

// Seconds for people, three significant figures: "1.84 s", "20 ms", "310 us".
std::string format_seconds(double seconds);
// Bytes for people: "1.5 GiB".
std::string format_bytes(double bytes);

// Only printable ASCII and valid UTF-8 stay; each other byte becomes U+FFFD. For text from outside.
std::string sanitize_utf8(std::string_view text);

}  // namespace culprit
