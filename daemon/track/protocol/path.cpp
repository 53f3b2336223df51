#include "daemon/track/protocol/path.h"

#include <cstdint>

namespace culprit::track {

namespace {

constexpr std::size_t kSegmentsMax = 8;
constexpr std::size_t kSegmentBytesMax = 40;

bool is_variable(std::string_view segment) {
  std::size_t digits = 0, run = 0, run_max = 0, hex = 0, letters = 0, dashes = 0;
  for (const char c : segment) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte < 0x21 || byte > 0x7e || c == '%' || c == '@' || c == '"' || c == '{' || c == '}') return true;
    const bool digit = c >= '0' && c <= '9';
    digits += digit;
    run = digit ? run + 1 : 0;
    run_max = run > run_max ? run : run_max;
    hex += digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    letters += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    dashes += c == '-';
  }
  if (segment.empty()) return false;
  if (digits > 0 && letters == 0) return true;                                // 17, 2026-11-23, 1.5
  // u17, user42, item_7: a word and its number; not v1 to v99 (a version) and not oauth2, mp3.
  if (run == digits && digits > 0 && letters + digits + (segment[letters] == '_' || segment[letters] == '-') == segment.size()) {
    const bool version = letters == 1 && (segment[0] == 'v' || segment[0] == 'V') && digits <= 2;
    if (!version && (letters == 1 || digits >= 2 || letters + digits < segment.size())) return true;
  }
  if (run_max >= 4) return true;                                              // order-20481
  if (digits > 0 && hex + dashes == segment.size() && segment.size() >= 8) return true;  // UUIDs, hashes
  if (digits > 0 && segment.size() >= 20) return true;                        // tokens
  return segment.size() > kSegmentBytesMax;
}

}  // namespace

std::string path_template(std::string_view path) {
  if (path.empty() || path.front() != '/') return path == "*" ? "*" : "/*";
  std::string out;
  std::size_t segments = 0;
  while (!path.empty()) {
    path.remove_prefix(1);  // the '/'
    const auto slash = path.find('/');
    const std::string_view segment = path.substr(0, slash);
    out += '/';
    if (++segments > kSegmentsMax) {
      out += '*';
      break;
    }
    if (is_variable(segment)) {
      out += "{id}";
    } else {
      out += segment;
    }
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash);
  }
  return out;
}

}  // namespace culprit::track
