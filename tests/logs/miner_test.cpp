#include "daemon/logs/miner.h"

#include <gmock/gmock.h>

#include <random>
#include <sstream>

namespace culprit::logs {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> texts(const Miner& miner) {
  std::vector<std::string> texts;
  for (const Template& each : miner.templates()) texts.push_back(each.text);
  return texts;
}

TEST(MinerTest, LinesThatDifferInValuesAreOneTemplate) {
  Miner miner({.parameters = true});
  const Match first = miner.add("Jan 15 09:01:02 web sshd[1]: Failed password for root from 10.0.0.7 port 22 ssh2");
  EXPECT_TRUE(first.is_new);
  EXPECT_EQ(first.severity, stream::kError);
  EXPECT_THAT(first.parameters, ElementsAre("10.0.0.7", "22", "2"));
  const std::uint64_t id = first.template_id;
  const Match second = miner.add("Jan 15 09:07:02 web sshd[9]: Failed password for root from 10.9.9.9 port 4711 ssh2");
  EXPECT_FALSE(second.is_new);
  EXPECT_EQ(second.template_id, id);
  EXPECT_EQ(second.text, "Failed password for root from <*> port <*> ssh<*>");
  EXPECT_EQ(miner.templates().front().lines, 2u);
  EXPECT_EQ(template_name(0x1f), "t:000000000000001f");
}

// A plain word is a constant until enough different ones were seen at its place.
TEST(MinerTest, WordsBecomeVariablesByEvidence) {
  Miner miner;
  std::vector<std::uint64_t> ids;
  for (const char* name : {"alice", "bob", "carol", "dave", "erin", "frank", "grace"}) {
    ids.push_back(miner.add(std::string("Invalid name ") + name + " given at login").template_id);
    (void)miner.add("machine Started by operator");
    (void)miner.add("machine Stopped by operator");
  }
  EXPECT_THAT(texts(miner), ::testing::UnorderedElementsAre("Invalid name <*> given at login", "machine Started by operator",
                                                            "machine Stopped by operator"));
  for (const std::uint64_t id : ids) EXPECT_EQ(miner.resolve(id), miner.resolve(ids.back()));
  EXPECT_EQ(miner.templates().front().lines, 7u);
  EXPECT_EQ(miner.stats().templates, 3u);
}

TEST(MinerTest, TheSameLinesGiveTheSameIds) {
  Miner first, second;
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    const std::string line = "event " + std::to_string(random() % 9) + " of kind" + std::string(1, static_cast<char>('a' + random() % 26)) +
                             " at host" + std::to_string(random() % 50) + ".example.net";
    EXPECT_EQ(first.add(line).template_id, second.add(line).template_id);
  }
}

// Beyond the limit there is one template for the rest; every line is counted in exactly one.
TEST(MinerTest, LimitsHoldAndNoLineIsLost) {
  Miner miner({.templates_max = 50});
  std::mt19937 random(11);
  for (int i = 0; i < 20'000; ++i) {
    std::string line;
    for (std::size_t word = 1 + random() % 6; word > 0; --word) {
      for (std::size_t letter = 3 + random() % 6; letter > 0; --letter) line += static_cast<char>('a' + random() % 26);
      line += ' ';
    }
    (void)miner.add(line);
  }
  (void)miner.add(std::string(100'000, 'x'));
  const MinerStats stats = miner.stats();
  EXPECT_LE(stats.templates, 51u);
  EXPECT_GT(stats.overflow, 10'000u);
  EXPECT_EQ(stats.cut, 1u);
  std::uint64_t lines = 0;
  for (const Template& each : miner.templates()) lines += each.lines;
  EXPECT_EQ(lines, stats.lines);
  EXPECT_EQ(lines, 20'001u);
}

TEST(MinerTest, JsonLinesAreMinedByTheirMessage) {
  Miner miner;
  (void)miner.add(R"({"level":"error","message":"job 7 \"a\" failed","id":1})");
  const Match match = miner.add(R"({"id":2,"message":"job 8 \"a\" failed","level":"error","more":true})");
  EXPECT_EQ(match.text, "job <*> \"a\" failed");
  EXPECT_EQ(match.severity, stream::kError);
}

TEST(MinerTest, FilesAreMinedWhole) {
  std::istringstream file("worker 1 started\r\n\r\nworker 2 started\nworker 3 stopped");
  const auto templates = mine_file(file);
  ASSERT_TRUE(templates);
  ASSERT_EQ(templates->size(), 2u);
  EXPECT_EQ(templates->front().text, "worker <*> started");
  EXPECT_EQ(templates->front().lines, 2u);
  EXPECT_EQ(templates->front().example, "worker 1 started");
}

}  // namespace
}  // namespace culprit::logs
