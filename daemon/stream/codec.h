// Codec: events as bytes (commit groups on disk) and as JSON lines (export files, `-o json`, replay).
// Both round trips are exact, also for text that is no UTF-8 and numbers that are not finite.
//
// JSON: one object a line; fields at their default are left out, except time_ns and kind:
//   {"time_ns":17,"kind":"log","severity":17,"entity":"service:shop","name":"t:1f","value":0.5,
//    "trace_id":"<32 hex digits>","span_id":"<16>","attributes":{"process.pid":"7"},"body":"..."}
// Text that is no valid UTF-8 is {"base64":"..."} instead of a string; attributes whose names repeat are an
// array of [name, text]; numbers that are not finite are "NaN", "Infinity", "-Infinity".
#pragma once

#include <istream>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/stream/event.h"

namespace culprit::stream {

inline constexpr std::size_t kLineBytesMax = 4 << 20;  // a longer line of an export file is refused
inline constexpr std::size_t kAttributesMax = 1024;    // more attributes of one event are refused

std::string_view kind_name(Kind kind);                  // sample log span kernel change alert
Result<Kind> parse_kind(std::string_view name);         // Invalid: says the names there are
std::string_view severity_name(std::uint8_t severity);  // "" trace debug info warn error fatal

std::string encode_json(const Event& event);                // one line, no newline at its end
Result<Event> decode_json(std::string_view line);           // Invalid: names the field or the byte

// Empty lines are skipped. Invalid: "line 7: ...".
Result<std::vector<Event>> read_json_lines(std::istream& in);

void encode_bytes(const Event& event, std::string& out);    // appends
// Takes one event off the front of `bytes`. Corrupt: says at which byte of `bytes`.
Result<Event> decode_bytes(std::string_view& bytes);

}  // namespace culprit::stream
