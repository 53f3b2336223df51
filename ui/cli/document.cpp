#include "ui/cli/document.h"

#include <cmath>
#include <ranges>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::cli {

const Json& field(const Json& object, std::string_view key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(std::string(key));
  return found == object.end() ? kNull : *found;
}

const Json& list(const Json& object, std::string_view key) {
  static const Json kEmpty = Json::array();
  const Json& value = field(object, key);
  return value.is_array() ? value : kEmpty;
}

std::string one_line(std::string_view text) {
  std::string line = sanitize_utf8(text);
  for (char& c : line) {
    if (c == '\n' || c == '\t') c = ' ';
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

std::string text(const Json& object, std::string_view key, std::string_view fallback) {
  const Json& value = field(object, key);
  return value.is_string() ? one_line(value.get_ref<const std::string&>()) : std::string(fallback);
}

std::vector<std::string> lines(const Json& object, std::string_view key) {
  std::vector<std::string> result;
  const Json& value = field(object, key);
  if (!value.is_string()) return result;
  for (const auto line : std::views::split(value.get_ref<const std::string&>(), '\n')) result.push_back(one_line(std::string_view(line.begin(), line.end())));
  return result;
}

std::optional<double> number(const Json& object, std::string_view key) {
  const Json& value = field(object, key);
  if (!value.is_number()) return std::nullopt;
  return value.get<double>();
}

double number_or(const Json& object, std::string_view key, double fallback) {
  return number(object, key).value_or(fallback);
}

std::string whole(const Json& object, std::string_view key) {
  const auto value = number(object, key);
  return value && std::fabs(*value) < 1e15 ? std::to_string(static_cast<std::int64_t>(*value)) : "?";
}

bool truth(const Json& object, std::string_view key) {
  const Json& value = field(object, key);
  return value.is_boolean() && value.get<bool>();
}

std::vector<std::string> texts(const Json& object, std::string_view key) {
  std::vector<std::string> result;
  for (const Json& value : list(object, key)) {
    if (value.is_string()) result.push_back(one_line(value.get_ref<const std::string&>()));
  }
  return result;
}

std::optional<std::int64_t> wall_ns(const Json& object, std::string_view key) {
  const Json& value = field(object, key);
  return value.is_string() ? parse_wall(value.get_ref<const std::string&>()) : std::nullopt;
}

std::string scalar(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return one_line(value.get_ref<const std::string&>());
  if (value.is_array()) {
    std::string line;
    for (const Json& item : value) line += (line.empty() ? "" : ", ") + scalar(item);
    return line.empty() ? "-" : line;
  }
  return one_line(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace culprit::cli
