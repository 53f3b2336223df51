// HTTP/1 parser and path templates over arbitrary bytes, cut into calls as the input says.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "daemon/track/lines.h"
#include "daemon/track/protocol/http1.h"
#include "daemon/track/protocol/path.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::track;
  if (size < 1) return 0;
  const bool responses = (data[0] & 1) != 0;
  Http1Parser parser(responses ? Http1Parser::Side::Responses : Http1Parser::Side::Requests);
  std::vector<HttpEvent> out;
  std::size_t at = 1;
  while (at < size) {
    // One byte of length, one of what was moved beyond the captured bytes.
    std::size_t length = data[at++];
    const std::uint64_t unseen = at < size && (data[at] & 0x80) != 0 ? data[at] : 0;
    if (length > size - at) length = size - at;
    parser.expect((unseen & 1) != 0, (unseen & 2) != 0);
    const std::string_view piece(reinterpret_cast<const char*>(data) + at, length);
    out.clear();
    parser.feed(piece, length + unseen, out);
    at += length;
    if (out.size() > 4 * Http1Parser::kEventsPerCall) std::abort();
    for (const HttpEvent& event : out) {
      const std::string path = path_template(event.path);
      if (path.find_first_of(" \n\"?") != std::string::npos || path.size() > 512) std::abort();
    }
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)severity_of_line(text);
  (void)without_query_values(text);
  TraceContext trace;
  if (parse_traceparent(text, trace) && trace.span_id == 0) std::abort();
  return 0;
}
