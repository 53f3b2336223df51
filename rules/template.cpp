#include "rules/template.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "daemon/base/text.h"
#include "graph/yaml.h"

namespace culprit::rules {
namespace {

constexpr std::string_view kUnits[] = {"bytes", "seconds", "percent", "count"};

std::string with_unit(std::string value, std::string_view unit) {
  const auto number = graph::parse_number(value);
  if (unit.empty() || !number) return value;
  if (unit == "bytes") return format_bytes(*number);
  if (unit == "seconds") return format_seconds(*number);
  if (unit == "percent") return fmt::format("{:.0f} %", *number * 100);
  if (*number < 0 || *number > 9e15) return value;
  return group_digits(static_cast<std::uint64_t>(std::llround(*number)));
}

}  // namespace

Result<Reference> parse_reference(std::string_view inside) {
  const auto colon = inside.find(':');
  const auto dot = inside.substr(0, colon).find('.');
  Reference reference;
  if (colon != std::string_view::npos) {
    reference.unit = inside.substr(colon + 1);
    if (std::ranges::find(kUnits, reference.unit) == std::end(kUnits)) {
      return fail(Code::Invalid, fmt::format("unknown unit '{}' in '{{{}}}' (bytes, seconds, percent, count)", reference.unit, inside));
    }
  }
  if (dot == std::string_view::npos || dot == 0) return fail(Code::Invalid, fmt::format("'{{{}}}' must be {{<match id>.<field>}}", inside));
  reference.id = inside.substr(0, dot);
  reference.field = inside.substr(dot + 1, colon == std::string_view::npos ? colon : colon - dot - 1);
  if (reference.field.empty()) return fail(Code::Invalid, fmt::format("'{{{}}}' names no field", inside));
  return reference;
}

Result<std::vector<Reference>> references(std::string_view text) {
  std::vector<Reference> result;
  for (std::size_t at = text.find('{'); at != std::string_view::npos; at = text.find('{', at)) {
    const auto end = text.find('}', at);
    if (end == std::string_view::npos) return fail(Code::Invalid, fmt::format("'{{' without '}}' in '{}'", text));
    ASSIGN(Reference reference, parse_reference(text.substr(at + 1, end - at - 1)));
    result.push_back(std::move(reference));
    at = end;
  }
  return result;
}

std::string render(std::string_view text, const std::function<std::optional<std::string>(const Reference&)>& lookup) {
  std::string result;
  std::size_t done = 0;
  for (std::size_t at = text.find('{'); at != std::string_view::npos; at = text.find('{', at)) {
    const auto end = text.find('}', at);
    if (end == std::string_view::npos) break;
    result += text.substr(done, at - done);
    const auto reference = parse_reference(text.substr(at + 1, end - at - 1));
    const auto value = reference ? lookup(*reference) : std::nullopt;
    result += value ? with_unit(*value, reference->unit) : "?";
    done = end + 1;
    at = end;
  }
  result += text.substr(done);
  return result;
}

}  // namespace culprit::rules
