#include "daemon/ingest/json.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <sstream>

namespace culprit::ingest {

Result<JsonValue> JsonParser::parse(std::string_view text) {
  // Depth is fixed when the parser allocates; it grows with the text but keeps the depth.
  if (parser_.capacity() < text.size() || parser_.max_depth() != kJsonDepthMax) {
    if (const auto error = parser_.allocate(std::max<std::size_t>(text.size(), 4096), kJsonDepthMax)) {
      return fail(Code::Exhausted, fmt::format("JSON of {} bytes: {}", text.size(), simdjson::error_message(error)));
    }
  }
  JsonValue root;
  if (const auto error = parser_.parse(text.data(), text.size(), true).get(root)) {
    // simdjson's DOM says what is wrong, not where; the place is the first byte after which no text can be right.
    std::size_t offset = 0;
    if (error == simdjson::UTF8_ERROR) {
      while (offset < text.size() && simdjson::validate_utf8(text.data(), offset + 1)) offset += 1;
      // a character of several bytes is wrong until it is whole: name its first byte
    } else if (error == simdjson::EMPTY) {
      return fail(Code::Invalid, "JSON: the text is empty (offset 0)");
    } else {
      const std::string_view spaces = " \t\r\n";
      offset = std::min(text.find_last_not_of(spaces), text.size() - 1) + 1;
      return fail(Code::Invalid, fmt::format("JSON: {} (somewhere before offset {})", simdjson::error_message(error), offset));
    }
    return fail(Code::Invalid, fmt::format("JSON: {} (offset {})", simdjson::error_message(error), offset));
  }
  return root;
}

bool member(JsonValue value, std::string_view key, JsonValue& out) {
  JsonObject object;
  if (value.get(object) != simdjson::SUCCESS) return false;
  return object.at_key(key).get(out) == simdjson::SUCCESS && !out.is_null();
}

std::string_view text_of(JsonValue value) {
  std::string_view text;
  return value.get(text) == simdjson::SUCCESS ? text : std::string_view();
}
std::string_view text_of(JsonValue value, std::string_view key) {
  JsonValue found;
  return member(value, key, found) ? text_of(found) : std::string_view();
}

double number_of(JsonValue value) {
  double number = 0;
  if (value.get(number) == simdjson::SUCCESS) return number;
  const std::string_view text = text_of(value);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : 0;
}
double number_of(JsonValue value, std::string_view key) {
  JsonValue found;
  return member(value, key, found) ? number_of(found) : 0;
}

std::int64_t integer_of(JsonValue value) {
  std::int64_t number = 0;
  if (value.get(number) == simdjson::SUCCESS) return number;
  double real = 0;
  if (value.get(real) == simdjson::SUCCESS) return std::abs(real) < 9e18 ? static_cast<std::int64_t>(real) : 0;
  const std::string_view text = text_of(value);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : 0;
}
std::int64_t integer_of(JsonValue value, std::string_view key) {
  JsonValue found;
  return member(value, key, found) ? integer_of(found) : 0;
}

bool bool_of(JsonValue value, std::string_view key) {
  JsonValue found;
  bool yes = false;
  return member(value, key, found) && found.get(yes) == simdjson::SUCCESS && yes;
}

std::string any_text(JsonValue value, std::size_t limit) {
  if (value.is_string()) return std::string(text_of(value).substr(0, limit));
  std::ostringstream out;
  out << simdjson::minify(value);
  return out.str().substr(0, limit);
}

}  // namespace culprit::ingest
