// Reading API documents without trusting them: a missing field, null or another type reads as its fallback,
// and text is made fit for a terminal line (valid UTF-8, no control characters, no line breaks).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::cli {

using Json = nlohmann::json;

const Json& field(const Json& object, std::string_view key);  // a null if absent
const Json& list(const Json& object, std::string_view key);   // an empty array if absent or no array
std::string text(const Json& object, std::string_view key, std::string_view fallback = "");
// The lines of a text that has several; each is safe to print.
std::vector<std::string> lines(const Json& object, std::string_view key);
std::optional<double> number(const Json& object, std::string_view key);
double number_or(const Json& object, std::string_view key, double fallback);
std::string whole(const Json& object, std::string_view key);  // "7"; "?" if it is no number of fit size
bool truth(const Json& object, std::string_view key);
std::vector<std::string> texts(const Json& object, std::string_view key);       // the strings of an array
std::optional<std::int64_t> wall_ns(const Json& object, std::string_view key);  // of an RFC 3339 field

std::string one_line(std::string_view text);  // for a terminal
std::string scalar(const Json& value);        // a value for people: strings bare, null as "-"

}  // namespace culprit::cli
