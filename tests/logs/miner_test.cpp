#include "daemon/logs/miner.h"

#include <gmock/gmock.h>

#include <map>
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

std::string random_line(std::mt19937& random, std::size_t words) {
  std::string line;
  for (; words > 0; --words) {
    for (std::size_t letter = 3 + random() % 6; letter > 0; --letter) line += static_cast<char>('a' + random() % 26);
    line += ' ';
  }
  return line;
}

// Beyond the limit what was used longest ago makes room; what is in use stays; every line is counted in exactly one.
TEST(MinerTest, LimitsHoldAndNoLineIsLost) {
  Miner miner({.templates_max = 50});
  std::mt19937 random(11);
  const std::uint64_t kept = miner.add("order placed by its customer").template_id;
  for (int i = 0; i < 20'000; ++i) {
    (void)miner.add(random_line(random, 1 + random() % 6));
    if (i % 20 == 0) {
      EXPECT_EQ(miner.add("order placed by its customer").template_id, kept);
    }
  }
  (void)miner.add(std::string(100'000, 'x'));
  const MinerStats stats = miner.stats();
  EXPECT_LE(stats.templates, 50u);
  EXPECT_GT(stats.evicted, 10'000u);
  EXPECT_EQ(stats.cut, 1u);
  std::uint64_t lines = stats.evicted_lines;
  for (const Template& each : miner.templates()) lines += each.lines;
  EXPECT_EQ(lines, stats.lines);
  EXPECT_EQ(lines, 21'002u);
}

// After a restart each kind of line has the id it had, whatever comes first, also where templates had been merged.
TEST(MinerTest, IdsStayOverARestart) {
  std::vector<std::string> lines;
  for (const char* name : {"alice", "bob", "carol", "dave", "erin", "frank", "grace"}) {
    lines.push_back(std::string("Invalid name ") + name + " given at login");
    lines.push_back(std::string("took ") + std::to_string(lines.size()) + " ms for " + name + std::to_string(lines.size()) + ".example.net");
    lines.push_back(std::string("host") + std::to_string(lines.size()) + ".example.net became ready");
  }
  Miner before;
  std::map<std::string, std::uint64_t> ids;
  for (int round = 0; round < 2; ++round) {
    for (const std::string& line : lines) ids[line] = before.add(line).template_id;
  }
  std::vector<std::uint64_t> early;
  Miner first;
  for (const std::string& line : lines) early.push_back(first.add(line).template_id);
  std::ranges::reverse(lines);
  auto after = Miner::load(before.save());
  ASSERT_TRUE(after) << after.error().message;
  for (const std::string& line : lines) {
    const Match match = after->add(line);
    EXPECT_EQ(match.template_id, ids[line]) << line;
    EXPECT_FALSE(match.is_new);
  }
  for (const std::uint64_t id : early) EXPECT_EQ(after->resolve(id), before.resolve(id));
  EXPECT_EQ(after->text(ids[lines.front()]), before.text(ids[lines.front()]));
  Miner fresh;  // which is what would be without it
  bool same = true;
  for (const std::string& line : lines) same = same && fresh.add(line).template_id == ids[line];
  EXPECT_FALSE(same);
}

TEST(MinerTest, SavedTemplatesThatAreBrokenAreRefused) {
  Miner miner;
  for (int i = 0; i < 30; ++i) (void)miner.add("state " + std::string(1, static_cast<char>('a' + i % 7)) + " reached by worker");
  const std::string saved = miner.save();
  ASSERT_TRUE(Miner::load(saved));
  for (std::size_t cut = 0; cut < saved.size(); ++cut) EXPECT_FALSE(Miner::load(saved.substr(0, cut))) << cut;
  EXPECT_FALSE(Miner::load(saved + "x"));
  const auto wrong = Miner::load("culprit templates 1\n\x05zz");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("offset"), std::string::npos);
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
