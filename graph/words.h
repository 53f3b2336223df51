// Words of a question, as full text search asks for them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace culprit::graph {

// Distinct lower-case words, in order, without those that say nothing about a failure. A name like NotEnoughReplicas
// also gives its parts, which is how people write about it.
std::vector<std::string> question_words(std::string_view text);

// "a" OR "b": quoted, so that no input is FTS5 syntax. Empty if there are no words.
std::string any_of(const std::vector<std::string>& words);

}  // namespace culprit::graph
