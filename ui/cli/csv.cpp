#include "ui/cli/csv.h"

namespace culprit::cli {
namespace {

std::string quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += c;
    quoted += c;
  }
  return quoted + "\"";
}

std::string cell(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) {
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return value.is_primitive() ? text : quote(text);
  }
  std::string text = value.get<std::string>();
  if (!text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos) text.insert(0, 1, '\'');
  return text.find_first_of(",\"\r\n") == std::string::npos ? text : quote(text);
}

}  // namespace

std::string csv_text(const Json& rows, std::span<const std::string_view> columns) {
  std::string out;
  for (std::size_t i = 0; i < columns.size(); ++i) out += (i == 0 ? "" : ",") + std::string(columns[i]);
  out += '\n';
  for (const Json& row : rows) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (i > 0) out += ',';
      const auto found = row.find(columns[i]);
      if (found != row.end()) out += cell(*found);
    }
    out += '\n';
  }
  return out;
}

}  // namespace culprit::cli
