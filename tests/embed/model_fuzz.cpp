// Any bytes are a model or an error. The checksum at the end is put right, so that what is before it is read.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "embed/model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::embed;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > sizeof(std::uint64_t)) {
    const std::uint64_t sum = fnv1a(std::string_view(bytes).substr(0, size - sizeof(std::uint64_t)));
    std::memcpy(bytes.data() + size - sizeof(sum), &sum, sizeof(sum));
  }
  const auto model = Model::decode(bytes, "fuzz");
  if (!model) return 0;
  for (const float value : model->vector("connection refused by 10.0.0.7")) {
    if (std::isnan(value)) std::abort();
  }
  return 0;
}
