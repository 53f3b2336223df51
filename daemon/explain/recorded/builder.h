// Builder: what the readers of a recorded case share: names to numbers, ids to hashes, text to numbers.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/base/result.h"
#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

class CaseBuilder {
 public:
  RecordedCase out;

  ServiceId service(std::string_view name);
  std::uint32_t word(std::string_view text);
  // Declares who may be blamed; call once, before finish(). Without it, every service seen may be.
  Result<void> candidates(const nlohmann::json& names);
  RecordedCase finish();

 private:
  std::unordered_map<std::string, ServiceId> services_;
  std::unordered_map<std::string, std::uint32_t> words_;
  std::vector<ServiceId> declared_;
};

std::uint64_t hash_id(std::string_view text);  // never 0
std::optional<double> parse_number(std::string_view text);
std::optional<std::int64_t> parse_whole(std::string_view text);
std::optional<std::int64_t> seconds_to_ns(double seconds);  // nothing if it is out of range
std::string text_of(const nlohmann::json& object, const char* key);  // "" if it is not there or no text

}  // namespace culprit::explain
