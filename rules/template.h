// Templates: text with {id.field} or {id.field:unit} in it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "rules/rule.h"

namespace culprit::rules {

// "id.field" or "id.field:unit". Errors: Invalid.
Result<Reference> parse_reference(std::string_view text);
// The references of a template in order. Errors: Invalid (unclosed brace, no dot, unknown unit).
Result<std::vector<Reference>> references(std::string_view text);

// Replaces each reference by what `lookup` knows, or "?".
std::string render(std::string_view text, const std::function<std::optional<std::string>(const Reference&)>& lookup);

}  // namespace culprit::rules
