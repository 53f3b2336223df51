// Any bytes are an exported incident or an error; whatever can be read can be ranked, twice to the same answer.
#include <cstdlib>
#include <string_view>

#include "daemon/explain/json.h"
#include "daemon/explain/replay.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::explain;
  const auto replay = import_incident({reinterpret_cast<const char*>(data), size});
  if (!replay) return 0;
  const auto first = explain(*replay->store, replay->incident, replay->options);
  const auto second = explain(*replay->store, replay->incident, replay->options);
  if (first.has_value() != second.has_value()) abort();
  constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
  if (first && to_json(*first).dump(-1, ' ', false, kReplace) != to_json(*second).dump(-1, ' ', false, kReplace)) abort();
  return 0;
}
