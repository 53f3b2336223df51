// Fuzz: a line of a file of recorded cases, weights, and a CSV line: bytes from anybody.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/explain/learn/answer.h"
#include "daemon/explain/recorded/read_case.h"
#include "daemon/explain/recorded/text_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::explain;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto one = parse_case_line(text)) {
    const CaseAnswer answer = answer_case(*one, built_in_model());
    if (answer.ranking.size() != one->candidates.size()) __builtin_trap();
  }
  if (const auto model = parse_model(text)) (void)write_model(*model);
  std::vector<std::string_view> fields;
  std::string buffer;
  (void)split_csv(text, fields, buffer);
  return 0;
}
