// Any bytes are a configuration in each format or an error.
#include <cstdint>
#include <string_view>

#include "rules/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::rules;
  static const auto policies = PolicySet::load(built_in_policies()).value();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (int format = 0; format <= static_cast<int>(Format::Json); ++format) (void)policies->check("fuzz", text, static_cast<Format>(format));
  (void)guess_format("fuzz", text);
  return 0;
}
