// Any bytes are rules (whose tests then run) or an error, never a crash, a hang or unbounded memory.
#include <cstdint>
#include <string>

#include "rules/loader.h"
#include "rules/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::rules;
  const RuleText texts[] = {{"fuzz.yaml", std::string(reinterpret_cast<const char*>(data), size)}};
  if (const auto set = load_rules(texts)) (void)run_tests(**set);
  if (const auto set = PolicySet::load(texts)) (void)(*set)->run_tests();
  return 0;
}
