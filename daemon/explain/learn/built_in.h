// The weights that ship, as text: weights.json, part of the program.
#pragma once

#include <span>

namespace culprit::explain {

struct BuiltInText {
  const char* name;
  const char* text;
};
std::span<const BuiltInText> built_in_weights();

}  // namespace culprit::explain
