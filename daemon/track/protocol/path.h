// Path templates: what stays the same in the paths of one operation.
#pragma once

#include <string>
#include <string_view>

namespace culprit::track {

// "/items/4711/photo" -> "/items/{id}/photo". Replaced: numbers, UUIDs, hexadecimal ids, long tokens, words with a
// number at their end (u17, user42; not v1), segments with four digits in a row, e-mail addresses, bytes that are no plain text. At most 8 segments; deeper ones become "*".
std::string path_template(std::string_view path);

}  // namespace culprit::track
