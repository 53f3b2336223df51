#include "embed/kernels.h"

#include <array>

namespace culprit::embed {
namespace {

constexpr std::size_t kLanes = 16;  // partial sums of a dot product, the same for every instruction set

// One body, inlined into each variant below and vectorised for its instruction set. This file is compiled without
// contraction to fused multiply-add (embed/CMakeLists.txt), which would round differently.
[[gnu::always_inline]] inline void add_row_body(float* __restrict sums, const std::int8_t* __restrict row, float factor, std::size_t dimensions) {
  for (std::size_t i = 0; i < dimensions; ++i) sums[i] += static_cast<float>(row[i]) * factor;
}

[[gnu::always_inline]] inline float dot_body(const float* __restrict a, const float* __restrict b, std::size_t size) {
  std::array<float, kLanes> lanes{};
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (std::size_t lane = 0; i < size; ++i, ++lane) lanes[lane] += a[i] * b[i];
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

void add_row_plain(float* sums, const std::int8_t* row, float factor, std::size_t dimensions) { add_row_body(sums, row, factor, dimensions); }
float dot_plain(const float* a, const float* b, std::size_t size) { return dot_body(a, b, size); }
constexpr Kernels kPlain{"plain", add_row_plain, dot_plain};

#if defined(__x86_64__)
[[gnu::target("avx2")]] void add_row_avx2(float* sums, const std::int8_t* row, float factor, std::size_t dimensions) { add_row_body(sums, row, factor, dimensions); }
[[gnu::target("avx2")]] float dot_avx2(const float* a, const float* b, std::size_t size) { return dot_body(a, b, size); }
constexpr Kernels kAvx2{"avx2", add_row_avx2, dot_avx2};
#endif

const Kernels& choose() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return kAvx2;
#endif
  return kPlain;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}
const Kernels& plain_kernels() { return kPlain; }

}  // namespace culprit::embed
