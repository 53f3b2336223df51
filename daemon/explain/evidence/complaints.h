// Complaints: error lines in which a service says that another one failed it. They are effects: whoever complains is not to blame
// for them (explaining away: Pearl, Probabilistic Reasoning, 1988, section 2.3).
#pragma once

#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/explain/evidence/templates.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

// Of each line that has a template: whom it complains about, a candidate other than who wrote it; kNoService = nobody.
struct Complaints {
  std::vector<ServiceId> reference, now;
};

Complaints complaints_of(const RecordedCase& c, const CaseTemplates& templates);

using Names = std::unordered_map<std::string_view, ServiceId>;

// The first of those named but `self` that a text names as a service and not as a word of the language: the name has parts ("cart-db"), or
// stands where an address does ("//cart/", "cart:8080"), with its domain or without.
ServiceId named_in(std::string_view text, const Names& names, ServiceId self);

}  // namespace culprit::explain
