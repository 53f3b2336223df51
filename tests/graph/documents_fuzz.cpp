// Any bytes are documents or an error, never a crash, a hang or unbounded memory; what comes out can be stored. The first byte
// chooses the format.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include "daemon/base/text.h"
#include "graph/import.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit;
  if (size == 0) return 0;
  const auto format = static_cast<graph::ImportFormat>(data[0] % 4);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto read = graph::parse_import("fuzz.md", bytes, format);
  if (!read) {
    if (read.error().message.empty()) std::abort();
    return 0;
  }
  std::set<std::string> keys;
  for (const graph::ImportItem& item : read->items) {
    if (item.key.empty() || item.body.empty() || !keys.insert(item.key).second) std::abort();
    for (const std::string* text : {&item.key, &item.title, &item.body, &item.signal}) {
      // Valid UTF-8 stays as it is, line by line.
      for (std::size_t at = 0; at < text->size();) {
        const std::size_t end = std::min(text->find_first_of("\n\t", at), text->size());
        const std::string line = text->substr(at, end - at);
        if (sanitize_utf8(line) != line) std::abort();
        at = end + 1;
      }
    }
  }
  for (const graph::SharedVerdict& verdict : read->verdicts) {
    if (verdict.failure_mode.empty() || verdict.right < 0 || verdict.wrong < 0 || verdict.partly < 0) std::abort();
  }
  return 0;
}
