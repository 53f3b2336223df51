// JSON of other programs, read with simdjson: the few helpers that all our JSON decoders share. Nothing here throws.
#pragma once

#include <simdjson.h>

#include <functional>
#include <string>
#include <string_view>

#include "daemon/ingest/record.h"

namespace culprit::ingest {

using JsonValue = simdjson::dom::element;
using JsonObject = simdjson::dom::object;
using JsonArray = simdjson::dom::array;

inline constexpr std::size_t kJsonDepthMax = 64;

// Owns what it parsed: values borrow from it and end with the next parse.
class JsonParser {
 public:
  // Errors: Invalid, with the offset where simdjson knows it.
  Result<JsonValue> parse(std::string_view text);

 private:
  simdjson::dom::parser parser_;
};

// The member, if `value` is an object that has it and it is not null.
bool member(JsonValue value, std::string_view key, JsonValue& out);
std::string_view text_of(JsonValue value);                       // empty unless a string
std::string_view text_of(JsonValue value, std::string_view key);
double number_of(JsonValue value);                               // also of a string that holds one; 0 if none
double number_of(JsonValue value, std::string_view key);
std::int64_t integer_of(JsonValue value);                        // the same, exact for 64 bits
std::int64_t integer_of(JsonValue value, std::string_view key);
bool bool_of(JsonValue value, std::string_view key);
// Calls it for each element of an array; for nothing else.
template <typename Each>
void each_of(JsonValue value, const Each& each) {
  JsonArray array;
  if (value.get(array) != simdjson::SUCCESS) return;
  for (const JsonValue element : array) each(element);
}
template <typename Each>
void each_of(JsonValue value, std::string_view key, const Each& each) {
  JsonValue list;
  if (member(value, key, list)) each_of(list, each);
}
// A scalar as text, anything else as JSON, at most `limit` bytes of it.
std::string any_text(JsonValue value, std::size_t limit);

}  // namespace culprit::ingest
