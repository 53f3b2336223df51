#include "daemon/stream/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "daemon/base/text.h"
#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kKindNames[] = {"sample", "log", "span", "kernel", "change", "alert"};
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(std::string_view bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto at = [&](std::size_t j) {
      return j < bytes.size() ? static_cast<std::uint32_t>(static_cast<std::uint8_t>(bytes[j])) : 0u;
    };
    const std::uint32_t group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    out.push_back(kBase64[group >> 18]);
    out.push_back(kBase64[group >> 12 & 63]);
    out.push_back(i + 1 < bytes.size() ? kBase64[group >> 6 & 63] : '=');
    out.push_back(i + 2 < bytes.size() ? kBase64[group & 63] : '=');
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const std::size_t padding = !last || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const std::size_t digit = j < 4 - padding ? kBase64.find(text[i + j]) : 0;
      if (digit == std::string_view::npos) return std::nullopt;
      group = group << 6 | static_cast<std::uint32_t>(digit);
    }
    for (std::size_t j = 0; j < 3 - padding; ++j) out.push_back(static_cast<char>(group >> (16 - 8 * j)));
  }
  return out;
}

bool is_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const std::size_t size = text.size();
  for (std::size_t i = 0; i < size;) {
    const std::uint8_t lead = bytes[i];
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = lead >= 0xC2 && lead <= 0xDF ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
    if (length == 0 || i + length > size) return false;
    for (std::size_t j = 1; j < length; ++j) {
      if ((bytes[i + j] & 0xC0) != 0x80) return false;
    }
    if ((lead == 0xE0 && bytes[i + 1] < 0xA0) || (lead == 0xED && bytes[i + 1] > 0x9F) ||
        (lead == 0xF0 && bytes[i + 1] < 0x90) || (lead == 0xF4 && bytes[i + 1] > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

Json text_to_json(std::string_view text) {
  if (is_utf8(text)) return Json(std::string(text));
  Json object = Json::object();
  object["base64"] = to_base64(text);
  return object;
}

Result<std::string> text_from_json(const Json& json, std::string_view field) {
  if (json.is_string()) return json.get<std::string>();
  if (json.is_object() && json.size() == 1) {
    const auto found = json.find("base64");
    if (found != json.end() && found->is_string()) {
      if (auto bytes = from_base64(found->get_ref<const std::string&>())) return std::move(*bytes);
      return fail(Code::Invalid, fmt::format("'{}': not base64", field));
    }
  }
  return fail(Code::Invalid, fmt::format("'{}': neither a string nor {{\"base64\": ...}}", field));
}

Json number_to_json(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

Result<double> number_from_json(const Json& json, std::string_view field) {
  if (json.is_number()) return json.get<double>();
  if (json == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (json == "Infinity") return std::numeric_limits<double>::infinity();
  if (json == "-Infinity") return -std::numeric_limits<double>::infinity();
  return fail(Code::Invalid, fmt::format("'{}': not a number", field));
}

bool parse_hex(std::string_view text, std::uint64_t& value) {
  value = 0;
  if (text.size() != 16) return false;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return false;
    value = value << 4 | static_cast<std::uint64_t>(digit);
  }
  return true;
}

Json attributes_to_json(const Attributes& attributes) {
  std::set<std::string_view> names;
  bool plain = true;
  for (const auto& [name, text] : attributes) plain = names.insert(name).second && is_utf8(name) && plain;
  if (plain) {
    Json object = Json::object();
    for (const auto& [name, text] : attributes) object.emplace(name, text_to_json(text));
    return object;
  }
  Json array = Json::array();
  for (const auto& [name, text] : attributes) {
    Json pair = Json::array();
    pair.push_back(text_to_json(name));
    pair.push_back(text_to_json(text));
    array.push_back(std::move(pair));
  }
  return array;
}

Result<void> attributes_from_json(const Json& json, Attributes& out) {
  if (json.size() > kAttributesMax) {
    return fail(Code::Invalid, fmt::format("'attributes': {} of them, at most {}", json.size(), kAttributesMax));
  }
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) {
      ASSIGN(std::string text, text_from_json(value, "attributes." + name));
      out.emplace_back(name, std::move(text));
    }
    return {};
  }
  if (!json.is_array()) return fail(Code::Invalid, "'attributes': neither an object nor an array of pairs");
  for (const Json& pair : json) {
    if (!pair.is_array() || pair.size() != 2) return fail(Code::Invalid, "'attributes': not a pair");
    ASSIGN(std::string name, text_from_json(pair[0], "attributes"));
    ASSIGN(std::string text, text_from_json(pair[1], "attributes"));
    out.emplace_back(std::move(name), std::move(text));
  }
  return {};
}

// Applies one field; unknown fields are errors, so that a misspelt file is not half understood.
Result<void> apply_field(const std::string& name, const Json& json, Event& event) {
  if (name == "time_ns") {
    if (!json.is_number_integer() || (json.is_number_unsigned() && json.get<std::uint64_t>() > INT64_MAX)) {
      return fail(Code::Invalid, "'time_ns': not a 64-bit integer");
    }
    event.time_ns = json.get<std::int64_t>();
  } else if (name == "kind") {
    if (!json.is_string()) return fail(Code::Invalid, "'kind': not a string");
    ASSIGN(event.kind, parse_kind(json.get_ref<const std::string&>()));
  } else if (name == "severity") {
    if (!json.is_number_unsigned() || json.get<std::uint64_t>() > 255) {
      return fail(Code::Invalid, "'severity': not 0 to 255");
    }
    event.severity = json.get<std::uint8_t>();
  } else if (name == "entity") {
    ASSIGN(event.entity, text_from_json(json, name));
  } else if (name == "name") {
    ASSIGN(event.name, text_from_json(json, name));
  } else if (name == "value") {
    ASSIGN(event.value, number_from_json(json, name));
  } else if (name == "trace_id") {
    const std::string text = json.is_string() ? json.get<std::string>() : "";
    if (text.size() != 32 || !parse_hex(std::string_view(text).substr(0, 16), event.trace_id[0]) ||
        !parse_hex(std::string_view(text).substr(16), event.trace_id[1])) {
      return fail(Code::Invalid, "'trace_id': not 32 hex digits");
    }
  } else if (name == "span_id") {
    if (!json.is_string() || !parse_hex(json.get_ref<const std::string&>(), event.span_id)) {
      return fail(Code::Invalid, "'span_id': not 16 hex digits");
    }
  } else if (name == "attributes") {
    TRY(attributes_from_json(json, event.attributes));
  } else if (name == "body") {
    ASSIGN(event.body, text_from_json(json, name));
  } else {
    return fail(Code::Invalid, fmt::format("unknown field '{}'", sanitize_utf8(name)));
  }
  return {};
}

// As std::getline, but a line longer than the limit is cut there, so that a file cannot fill the memory.
bool read_line(std::istream& in, std::string& line) {
  line.clear();
  std::streambuf& buffer = *in.rdbuf();
  for (int c = buffer.sbumpc(); c != EOF; c = buffer.sbumpc()) {
    if (c == '\n') return true;
    line.push_back(static_cast<char>(c));
    if (line.size() > kLineBytesMax) return true;
  }
  return !line.empty();
}

}  // namespace

std::string_view kind_name(Kind kind) {
  const auto index = static_cast<std::size_t>(kind) - 1;
  return index < std::size(kKindNames) ? kKindNames[index] : "unknown";
}

Result<Kind> parse_kind(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kKindNames); ++i) {
    if (kKindNames[i] == name) return static_cast<Kind>(i + 1);
  }
  return fail(Code::Invalid, fmt::format("no kind '{}'; kinds are sample, log, span, kernel, change, alert",
                                         sanitize_utf8(name.substr(0, 64))));
}

std::string_view severity_name(std::uint8_t severity) {
  constexpr std::string_view names[] = {"trace", "debug", "info", "warn", "error", "fatal"};
  if (severity == kUnset) return "";
  return names[std::min<std::size_t>((severity - 1u) / 4u, std::size(names) - 1)];
}

std::string encode_json(const Event& event) {
  Json json = Json::object();
  json["time_ns"] = event.time_ns;
  json["kind"] = std::string(kind_name(event.kind));
  if (event.severity != 0) json["severity"] = event.severity;
  if (!event.entity.empty()) json["entity"] = text_to_json(event.entity);
  if (!event.name.empty()) json["name"] = text_to_json(event.name);
  if (std::bit_cast<std::uint64_t>(event.value) != 0) json["value"] = number_to_json(event.value);
  if (event.trace_id[0] != 0 || event.trace_id[1] != 0) {
    json["trace_id"] = fmt::format("{:016x}{:016x}", event.trace_id[0], event.trace_id[1]);
  }
  if (event.span_id != 0) json["span_id"] = fmt::format("{:016x}", event.span_id);
  if (!event.attributes.empty()) json["attributes"] = attributes_to_json(event.attributes);
  if (!event.body.empty()) json["body"] = text_to_json(event.body);
  return json.dump();
}

Result<Event> decode_json(std::string_view line) {
  if (line.size() > kLineBytesMax) {
    return fail(Code::Invalid, fmt::format("{} bytes, at most {}", line.size(), kLineBytesMax));
  }
  Json json;
  try {
    json = Json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    return fail(Code::Invalid, fmt::format("not JSON at byte {}", error.byte));
  } catch (const std::exception&) {
    return fail(Code::Invalid, "not JSON");
  }
  if (!json.is_object()) return fail(Code::Invalid, "not an object");
  Event event;
  for (const auto& [name, value] : json.items()) TRY(apply_field(name, value, event));
  for (const char* required : {"time_ns", "kind"}) {
    if (!json.contains(required)) return fail(Code::Invalid, fmt::format("'{}' is missing", required));
  }
  return event;
}

Result<std::vector<Event>> read_json_lines(std::istream& in) {
  std::vector<Event> events;
  std::string line;
  for (std::size_t number = 1; read_line(in, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    auto event = decode_json(line);
    if (!event) return std::unexpected(event.error().context(fmt::format("line {}", number)));
    events.push_back(std::move(*event));
  }
  if (in.bad()) return fail(Code::Io, "read events");
  return events;
}

// Bytes: time (signed varint), kind, severity, entity, name, value (8), flags, then what the flags say:
// 1 = trace ids and span id (8 each), 2 = attributes (count, then name and text each), 4 = body.
void encode_bytes(const Event& event, std::string& out) {
  put_signed(out, event.time_ns);
  out.push_back(static_cast<char>(event.kind));
  out.push_back(static_cast<char>(event.severity));
  put_string(out, event.entity);
  put_string(out, event.name);
  put_fixed64(out, std::bit_cast<std::uint64_t>(event.value));
  const bool ids = event.trace_id[0] != 0 || event.trace_id[1] != 0 || event.span_id != 0;
  out.push_back(static_cast<char>((ids ? 1 : 0) | (event.attributes.empty() ? 0 : 2) | (event.body.empty() ? 0 : 4)));
  if (ids) {
    put_fixed64(out, event.trace_id[0]);
    put_fixed64(out, event.trace_id[1]);
    put_fixed64(out, event.span_id);
  }
  if (!event.attributes.empty()) {
    put_varint(out, event.attributes.size());
    for (const auto& [name, text] : event.attributes) {
      put_string(out, name);
      put_string(out, text);
    }
  }
  if (!event.body.empty()) put_string(out, event.body);
}

Result<Event> decode_bytes(std::string_view& bytes) {
  Reader in(bytes);
  Event event;
  event.time_ns = in.signed_varint();
  const std::uint8_t kind = in.byte();
  event.kind = static_cast<Kind>(kind);
  event.severity = in.byte();
  event.entity = in.string();
  event.name = in.string();
  event.value = std::bit_cast<double>(in.fixed64());
  const std::uint8_t flags = in.byte();
  const auto corrupt = [&] {
    return fail(Code::Corrupt, fmt::format("event cut or damaged at byte {}", in.position()));
  };
  if (!in.ok() || kind < 1 || kind > std::size(kKindNames) || flags > 7) return corrupt();
  if ((flags & 1) != 0) {
    event.trace_id[0] = in.fixed64();
    event.trace_id[1] = in.fixed64();
    event.span_id = in.fixed64();
  }
  if ((flags & 2) != 0) {
    const std::uint64_t count = in.varint();
    if (!in.ok() || count > in.left() / 2) return corrupt();  // each takes two bytes or more
    event.attributes.clear();
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string_view name = in.string();
      event.attributes.emplace_back(name, in.string());
    }
  }
  if ((flags & 4) != 0) event.body = in.string();
  if (!in.ok()) return corrupt();
  bytes = in.rest();
  return event;
}

}  // namespace culprit::stream
