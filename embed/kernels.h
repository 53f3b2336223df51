// Kernels: the two inner loops of the model, compiled for several instruction sets and chosen once at run time.
// All variants give the same bits: every dimension is summed alone and in the same order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace culprit::embed {

struct Kernels {
  const char* name;                                                                             // "avx2"
  void (*add_row)(float* sums, const std::int8_t* row, float factor, std::size_t dimensions);  // sums += row * factor
  float (*dot)(const float* a, const float* b, std::size_t size);
};

const Kernels& kernels();         // the best that this processor runs
const Kernels& plain_kernels();   // without special instructions, to compare with

}  // namespace culprit::embed
