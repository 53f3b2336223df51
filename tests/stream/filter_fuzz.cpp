// The filter language takes any bytes: an error with a place inside the text, or a filter whose bounds every match keeps.
#include <cstdlib>

#include "daemon/stream/filter.h"
#include "daemon/stream/query.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::stream;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto filter = parse_filter(text);
  if (!filter) {
    if (filter.error().code != culprit::Code::Invalid || !filter.error().message.starts_with("filter, column ")) std::abort();
    const auto column = std::strtoull(filter.error().message.c_str() + 15, nullptr, 10);
    if (column < 1 || column > std::max<std::size_t>(size + 1, 1)) std::abort();
    return 0;
  }
  Event error;
  error.kind = Kind::Log;
  error.severity = kError;
  error.entity = "service:shop";
  error.name = "t:1f";
  error.value = 0.5;
  error.trace_id[1] = 7;
  error.attributes = {{"process.pid", "4211"}, {"errno", "ENOSPC"}};
  error.body = text.substr(0, 200);
  Event sample;
  sample.entity = "edge:shop->redis";
  sample.name = "client.rate";
  for (const Event& event : {error, sample, Event()}) {
    if (!filter->matches(event)) continue;
    Query query;
    const Filter::Bounds& bounds = filter->bounds();
    query.entities = bounds.entities;
    query.names = bounds.names;
    query.severity_min = bounds.severity_min;
    query.attributes = bounds.attributes;
    if (!Matcher(query).event(event) || (bounds.kinds & kind_bit(event.kind)) == 0) std::abort();
    for (const std::string& wanted : bounds.texts) {
      if (!contains_lower(event.body, wanted)) std::abort();
    }
  }
  return 0;
}
