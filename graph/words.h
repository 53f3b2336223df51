// Words of a question and of a title, as full text search asks for them and finds them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::graph {

// Distinct lower-case words, in order, without those that say nothing about a failure. A name like NotEnoughReplicas
// also gives its parts, which is how people write about it.
std::vector<std::string> question_words(std::string_view text);

// The title and after it the parts of its names that neither it nor the other texts of the document have as words: a runbook is called
// NodeFileDescriptorLimit, and asked for as "out of file descriptors". Names inside a text are mentions, not what it is about, and stay whole.
std::string title_words(std::string_view title, std::span<const std::string_view> others);

// "a" OR "b": quoted, so that no input is FTS5 syntax. Empty if there are no words.
std::string any_of(const std::vector<std::string>& words);

}  // namespace culprit::graph
