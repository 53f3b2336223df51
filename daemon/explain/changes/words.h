// Words of code, logs and alerts, so that a diff can be compared with a symptom.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::explain {

// Lower case, camelCase and snake_case cut apart, plural s off, without what every language and log says ("return", "error").
// Numbers are no words.
std::vector<std::string> words_of(std::string_view text);

using Bag = std::map<std::string, double, std::less<>>;  // word -> weight
void add_words(Bag& bag, std::string_view text, double weight);  // keeps the larger weight

}  // namespace culprit::explain
