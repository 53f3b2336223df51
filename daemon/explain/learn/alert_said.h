// Who said what: a case's alerts as words of its candidates, and how unusual a word is for who says it.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/explain/learn/model.h"

namespace culprit::explain {

using Words = std::set<std::string>;

struct AlertWords {
  Words metric, caller, callee, inside;
  Words log;     // a template's name without its service's in front: "carts-0-34" of carts-0 is "34", which other services may raise too
  Words sides;   // one measure that two sides report, as by the client's and the server's proxy: "dest_p#/up & src_p#/up"
  Words family;  // of its metrics' alerts: "memory/up" once, however many series say it
};

// For each candidate.
std::vector<AlertWords> alert_words_of(const RecordedCase& c);

// -log of the share of incidents in which the service raised the word; 1 if nobody counted.
double surprise(const Habits& habits, std::string_view service, std::string_view source, std::string_view word);

// The digits of a name say which of many equal things it is ("core_10"), not what it is.
std::string without_digits(std::string_view text);
// "http://x/y/PD" -> "PD"
inline std::string_view kind_of(std::string_view word) { return word.substr(word.rfind('/') + 1); }

template <typename Each>
void for_each_source(const AlertWords& said, const Each& each) {
  each("M", said.metric);
  each("T>", said.caller);
  each("T<", said.callee);
  each("T", said.inside);
  each("L", said.log);
  each("F", said.family);
}

}  // namespace culprit::explain
