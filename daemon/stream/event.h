// Event: one row of the one stream. Metrics, logs, spans, kernel events, changes and alerts share this
// shape, so that a question can cross them. docs/events.md lists every name we write and its unit.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "daemon/base/clock.h"
#include "daemon/base/whole.h"
#include "daemon/stream/attributes.h"

namespace culprit::stream {

// Stored on disk: values are never reused.
enum class Kind : std::uint8_t {
  Sample = 1,  // a number of an entity over one second
  Log = 2,     // a log line; name = template id, body = the line
  Span = 3,    // a request that ended; value = duration in seconds
  Kernel = 4,  // something that a probe saw
  Change = 5,  // something that a person or a program did
  Alert = 6,   // told from outside, or a symptom that detection found
};

// OpenTelemetry severity numbers (the first of each range); 0 = not given.
enum Severity : std::uint8_t { kUnset = 0, kTrace = 1, kDebug = 5, kInfo = 9, kWarn = 13, kError = 17, kFatal = 21 };

struct Event {
  std::int64_t time_ns = 0;  // CLOCK_BOOTTIME
  Kind kind = Kind::Sample;
  std::uint8_t severity = kUnset;
  std::string entity = {};  // "service:shop", "process:4211", "edge:shop->postgres", "device:vda", "host"
  std::string name = {};  // series, template id, operation, kernel event or change
  double value = 0;
  std::uint64_t trace_id[2] = {0, 0};  // 0 = none
  std::uint64_t span_id = 0;
  Attributes attributes = {};  // names are OpenTelemetry's
  std::string body = {};

  std::string_view attribute(std::string_view key) const { return attributes.find(key); }  // empty if absent
  // When it began, of what `value` says the duration of in seconds (spans, slow calls): held at the ends of time if that is absurd.
  std::int64_t start_ns() const {
    std::int64_t start = 0;
    if (!__builtin_sub_overflow(time_ns, whole(value * kNsPerSecond), &start)) return start;
    return value > 0 ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
  }
};

}  // namespace culprit::stream
