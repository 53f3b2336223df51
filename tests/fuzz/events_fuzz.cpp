// Events as bytes (commit groups on disk) and as JSON lines (files of anybody): an error, or an event that round trips in both.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "daemon/stream/codec.h"

namespace {

using namespace culprit::stream;

void round_trip(const Event& event) {
  std::string bytes;
  encode_bytes(event, bytes);
  std::string_view rest = bytes;
  const auto from_bytes = decode_bytes(rest);
  if (!from_bytes || !rest.empty()) abort();
  std::string again;
  encode_bytes(*from_bytes, again);
  if (again != bytes) abort();
  if (event.attributes.size() > kAttributesMax) return;
  const std::string line = encode_json(event);
  if (line.size() > kLineBytesMax) return;
  const auto from_json = decode_json(line);
  if (!from_json || encode_json(*from_json) != line) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t before = rest.size();
    const auto event = decode_bytes(rest);
    if (!event) break;
    if (rest.size() >= before) abort();
    round_trip(*event);
  }
  if (const auto event = decode_json(text)) round_trip(*event);
  return 0;
}
