// What a diff does, as far as its lines tell: nothing that runs, another value, less of what was there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct DiffShape {
  bool harmless = false;       // only documents, tests, styles, build files or comments
  double value_change = 0;     // |log2| of the largest change of a number or duration; settings count 1 for a word
  double removed = 0;          // share of words that went and did not come back, 0 to 1
  bool setting = false;        // a configuration file
  std::string text;            // "a value from 5 to 300": the most telling change
};

struct DiffLine {
  char sign;  // '-' it went, '+' it came
  std::string_view text;
};

// The lines that a unified diff takes away and adds, without their context and without the names of its files.
std::vector<DiffLine> changed_lines(std::string_view diff);

DiffShape shape_of(const RecordedChange& commit);

}  // namespace culprit::explain
