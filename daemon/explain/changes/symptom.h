// The symptom of a recorded case in words: what the alert, the errors and the failed calls speak of, and since when.
#pragma once

#include <set>

#include "daemon/explain/changes/words.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct SymptomWords {
  Bag words;                        // without those that healthy lines use as well
  std::string text;                 // all of it, lower case
  std::map<ServiceId, double> services;  // that show it: the one that was noticed 1, others less
  std::int64_t onset_ns = 0;        // where errors become more, or the noticed series leaves its past; else the alert's time
  double outside = 0;               // how strongly it points to something that nobody here deploys
  std::string outside_text;
};

SymptomWords symptom_of(const RecordedCase& c);

// Does it speak of a sign, such as "oom" or "no space"? One word is the beginning of a word ("oom" is in "OOMKilled", but not in "room"),
// a number or several words stand alone. None if the sign is empty.
bool speaks_of(const SymptomWords& symptom, std::string_view sign);

}  // namespace culprit::explain
