// Log headers: what programs and log daemons put before a message (time, host, pid, level, logger), and how
// severe a line is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/stream/event.h"

namespace culprit::logs {

// A line without its header. Borrows from the line, or from the buffer of split_header.
struct Message {
  std::string_view text;
  std::uint8_t severity = stream::kUnset;  // as the header says it
  std::string_view program = {};           // syslog's tag or the logger's name; may be empty
};

// Takes the header off: syslog (RFC 3164, RFC 5424), nginx and Apache error logs, PostgreSQL, Redis, Java
// (logback, log4j), Python logging, klog, times alone, logfmt (msg=) and JSON lines (their message field, whose
// unescaped text `buffer` then holds). A line with no known header is all message.
Message split_header(std::string_view line, std::string& buffer);

// Severity by the header, else by the words of the message; kUnset if neither says.
std::uint8_t severity_of(std::string_view line);
std::uint8_t severity_of_words(std::string_view message);
// "ERROR", "err", "W", "<warning>": kUnset if it is no level.
std::uint8_t severity_of_level(std::string_view word);

}  // namespace culprit::logs
