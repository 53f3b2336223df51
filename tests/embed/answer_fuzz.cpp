// Any bytes are an answer of an embedding provider or an error; the first byte says for how many texts of how many dimensions.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "embed/provider.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t texts = data[0] % 4U, dimensions = data[0] / 4U % 4U;
  const auto vectors = culprit::embed::parse_embeddings({reinterpret_cast<const char*>(data) + 1, size - 1}, texts, dimensions);
  if (!vectors) return 0;
  if (vectors->size() != texts) std::abort();
  for (const auto& vector : *vectors) {
    if (dimensions != 0 && vector.size() != dimensions) std::abort();
    for (const float value : vector) {
      if (!std::isfinite(value)) std::abort();
    }
  }
  return 0;
}
