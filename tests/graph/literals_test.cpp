#include "graph/literals.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace culprit::graph {
namespace {

std::set<std::uint32_t> scan(const Literals& literals, std::string_view line) {
  std::set<std::uint32_t> found;
  literals.scan(line, [&found](std::uint32_t id) { found.insert(id); });
  return found;
}

TEST(Literals, FindsEachThatOccurs) {
  const Literals literals({"he", "she", "his", "hers", "", "he"});
  EXPECT_EQ(scan(literals, "ushers"), (std::set<std::uint32_t>{0, 1, 3, 5}));
  EXPECT_EQ(scan(literals, "HIS"), (std::set<std::uint32_t>{2}));
  EXPECT_EQ(scan(literals, "h e"), (std::set<std::uint32_t>{}));
  EXPECT_EQ(scan(literals, ""), (std::set<std::uint32_t>{}));
  EXPECT_TRUE(scan(Literals({}), "anything").empty());
}

// The automaton agrees with searching for each text on its own.
TEST(Literals, AgreesWithPlainSearch) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto word = [&](std::size_t length) {
    std::string text;
    for (std::size_t i = 0; i < length; ++i) text += static_cast<char>('a' + random() % 3);
    return text;
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> texts;
    for (int i = 0; i < 12; ++i) texts.push_back(word(1 + random() % 4));
    const Literals literals(texts);
    const std::string line = word(random() % 30) + "\xff" + word(random() % 30);
    std::set<std::uint32_t> expected;
    for (std::uint32_t i = 0; i < texts.size(); ++i) {
      if (line.find(texts[i]) != std::string::npos) expected.insert(i);
    }
    EXPECT_EQ(scan(literals, line), expected) << line;
  }
}

}  // namespace
}  // namespace culprit::graph
