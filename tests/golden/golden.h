// Golden files: canonical text kept beside the tests. CULPRIT_GOLDEN_WRITE=1 rewrites them; review the diff.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace culprit {

inline void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(CULPRIT_GOLDEN) + "/" + name;
  if (std::getenv("CULPRIT_GOLDEN_WRITE") != nullptr) std::ofstream(path, std::ios::binary) << text;
  std::ifstream file(path, std::ios::binary);
  ASSERT_TRUE(file) << "no golden file '" << path << "': run once with CULPRIT_GOLDEN_WRITE=1";
  const std::string expected((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(text, expected) << "differs from " << path << " (CULPRIT_GOLDEN_WRITE=1 rewrites it)";
}

}  // namespace culprit
