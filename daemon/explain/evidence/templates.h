// Log lines of a recorded case as templates, by the same miner as live logs (daemon/logs).
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct CaseTemplates {
  std::vector<std::uint64_t> reference, now;  // of each line; a service's templates are its own
  struct Entry {
    std::string text;
    ServiceId service = kNoService;
    std::uint8_t severity = 0;
  };
  std::unordered_map<std::uint64_t, Entry> entries;
};

CaseTemplates templates_of(const RecordedCase& c);

}  // namespace culprit::explain
