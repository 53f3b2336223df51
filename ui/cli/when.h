// When: times and windows as a person types them, to wall-clock nanoseconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace culprit::cli {

// "5m", "1h30m": how long ago. "14:02", "14:02:08" and "14:02:08.25": the last time the local clock showed that.
// "2026-11-23 14:02:08": local. RFC 3339 with a zone: itself. "now". Invalid otherwise, naming these forms.
Result<std::int64_t> parse_when(std::string_view text, std::int64_t now_wall_ns);

// "5m" in nanoseconds, more than zero.
Result<std::int64_t> parse_window(std::string_view text);

// The same as checks of an option: empty if the text is fine, else what is wrong with it.
std::string check_when(const std::string& text);
std::string check_window(const std::string& text);

// Both as parse_when() takes them, or empty. Invalid if `since` is not before `until`.
Result<void> check_order(const std::string& since, const std::string& until, std::int64_t now_wall_ns);

}  // namespace culprit::cli
