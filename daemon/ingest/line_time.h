// The time that a log line says of itself, wherever in its first part it stands.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace culprit::ingest {

// Wall time in nanoseconds. Forms: RFC 3339 and the like with 'T' or a space, '-' or '/' ("2026-11-23 14:02:08,123 UTC"),
// common log ("23/Nov/2026:14:02:08 +0100"), Redis ("23 Nov 2026 14:02:08.123"), syslog ("Nov 23 14:02:08"), HAProxy
// ("23/Nov/2026:14:02:08.123"). Without a zone it is local time; without a year the one that makes it nearest to now.
std::optional<std::int64_t> line_time(std::string_view line, std::int64_t now_wall_ns);

}  // namespace culprit::ingest
