// How often a randomised test is repeated: a few times in every run, many times in `./dev test --long`.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace culprit::concurrent {

inline std::uint64_t seeds(std::uint64_t usual) {
  return std::getenv("CULPRIT_TEST_LONG") != nullptr ? usual * 15 : usual;
}

}  // namespace culprit::concurrent
