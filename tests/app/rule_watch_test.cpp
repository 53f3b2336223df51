// A changed rules folder is taken up once it has settled; a broken one leaves the good set; asking does not wait.
#include "daemon/app/rule_watch.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <fstream>

namespace culprit::app {
namespace {

// Waits for what another thread does; fails the test's expectation, not the clock, when it never happens.
template <typename Done>
bool wait_for(Done done) {
  for (int i = 0; i < 3'000 && !done(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return done();
}

TEST(RuleWatch, TakesUpWhatTheFolderSays) {
  std::string name = (std::filesystem::temp_directory_path() / "culprit-watch-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  const auto knowledge = graph::Knowledge::load({}).value();
  rules::RuleBook book(folder, knowledge, rules::load_rules(folder, {.knowledge = knowledge.get()}).value());
  const SystemClock clock;
  auto watch = RuleWatch::start(book, clock).value();
  const std::string text = "rule: toy\nsummary: A toy\nmatch:\n  - {id: a, log: '', text: broken}\nblame: a.entity\ncause: redis/down\nexplain: x\nsource: s\n";
  std::ofstream(folder / "toy.yaml") << text;
  EXPECT_TRUE(wait_for([&] { return book.current()->find("toy") != nullptr; }));

  std::ofstream(folder / "toy.yaml") << "rule: [";
  EXPECT_TRUE(wait_for([&] { return book.state().failures > 0; }));
  EXPECT_NE(book.current()->find("toy"), nullptr);
  EXPECT_NE(book.state().error, "");

  std::filesystem::remove(folder / "toy.yaml");
  watch->ask();
  EXPECT_TRUE(wait_for([&] { return book.current()->find("toy") == nullptr; }));
  watch.reset();
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace culprit::app
