// Recorded cases on disk: what is read, and that bad files are refused or counted, with their place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <fstream>

#include "daemon/explain/recorded/lose.h"
#include "daemon/explain/recorded/read_case.h"
#include "daemon/explain/recorded/text_file.h"
#include "tests/explain/recorded_world.h"

namespace culprit::explain {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RecordedTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "culprit-recorded-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    write("c1/case.json", R"({"id": "one", "services": ["b", "a"], "inject_time": 100, "reference": "_reference/day", "alert": {"service": "a", "metric": "latency"}})");
    write("c1/metrics.csv", "time,a|cpu,b|cpu\n90,1,2\n110,,3\nbroken,1,2\n120,4\n130,x,5\n");
    write("c1/logs.jsonl", "{\"ts_ns\": 5, \"service\": \"a\", \"msg\": \"hello\", \"attrs\": {\"k\": 7}}\nnot json\n{\"ts_ns\": 6}\n");
    write("c1/traces.csv", "trace_id,span_id,parent_id,service,pod,operation,start_ns,duration_us,status,error\n"
                           "t,s1,root,a,p,\"GET \"\"x\"\", y\",1000,50,,\nt,s2,s1,b,p,q,2000,20,ERROR,no space left\nt,s3,s1,b,p,q,oops,20,,\n");
    write("_reference/day/topology.csv", "caller,callee\na,b\n");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }

  std::filesystem::path folder_;
};

TEST_F(RecordedTest, ReadsEveryTableAndCountsWhatItSkips) {
  const auto c = read_case(folder_ / "c1");
  ASSERT_TRUE(c) << c.error().message;
  EXPECT_EQ(c->id, "one");
  EXPECT_EQ(c->name(c->candidates[0]), "a");
  EXPECT_EQ(c->onset_ns, 100'000'000'000);
  EXPECT_THAT(c->metrics.times_ns, ElementsAre(90'000'000'000, 110'000'000'000, 130'000'000'000));
  EXPECT_TRUE(std::isnan(c->metrics.columns[0].values[1]));
  EXPECT_EQ(c->skipped.at("metrics.csv"), 3U);  // a bad time, a short row, a value that is none
  ASSERT_EQ(c->logs.size(), 1U);
  EXPECT_EQ(c->logs[0].text, "hello k=7");
  EXPECT_EQ(c->skipped.at("logs.jsonl"), 2U);
  ASSERT_EQ(c->spans.size(), 2U);
  EXPECT_EQ(c->words[c->spans[0].operation], "GET \"x\", y");
  EXPECT_TRUE(c->spans[1].failed);
  EXPECT_EQ(c->skipped.at("traces.csv"), 1U);
  EXPECT_THAT(c->all_calls(), ElementsAre(std::pair(c->service("a"), c->service("b"))));
  EXPECT_EQ(c->name(c->fired.service), "a");
  // With a slash at its end it is the same directory.
  EXPECT_TRUE(read_case((folder_ / "c1").string() + "/"));
}

TEST_F(RecordedTest, RefusesWhatIsNoCaseWithItsPlace) {
  write("no/readme", "");
  write("list/case.json", "[]");
  write("names/case.json", R"({"services": [1]})");
  write("leaves/case.json", R"({"services": ["a"], "reference": "../../etc"})");
  write("lost/case.json", R"({"services": ["a"], "reference": "nowhere"})");
  write("columns/case.json", R"({"services": ["a"]})");
  write("columns/traces.csv", "trace_id,span_id\n1,2\n");
  write("broken/case.json", "{\"services\": [\"a\"],\n\"id\" 1}");
  write("onset/case.json", R"({"services": ["a"], "inject_time": "soon"})");
  write("far/case.json", R"({"services": ["a"], "inject_time": 1e300})");
  write("when/case.json", R"({"services": ["a"]})");
  write("when/metrics.csv", "time,a|x\n1,2\n");
  write("nobody/case.json", R"({"services": [], "inject_time": 1})");
  write("time/case.json", R"({"services": ["a"]})");
  write("time/metrics.csv", "when,a|x\n1,2\n");
  const std::pair<const char*, const char*> rows[] = {
      {"no", "holds no case.json"},    {"list", "no JSON object"},       {"names", "not a list of names"}, {"leaves", "leads elsewhere"},
      {"lost", "no reference 'nowhere'"}, {"broken", "line 2, column 6: not JSON"}, {"onset", "\"inject_time\" is no time"}, {"far", "\"inject_time\" is no time"}, {"when", "no \"inject_time\""},
      {"nobody", "names nobody"}, {"columns", "line 1: no column 'parent_id'"}, {"time", "line 1: the first column is not 'time'"}};
  for (const auto& [name, text] : rows) {
    const auto c = read_case(folder_ / name);
    ASSERT_FALSE(c) << name;
    EXPECT_THAT(c.error().message, HasSubstr(text));
    EXPECT_THAT(c.error().message, HasSubstr(name));
  }
}

TEST_F(RecordedTest, GzipIsReadAndACutOneIsAnError) {
  const std::string file = folder_ / "x.gz";
  const gzFile out = gzopen(file.c_str(), "wb");
  std::string body;
  for (int i = 0; i < 5000; ++i) body += "line " + std::to_string(i * 7919) + "\n";
  gzwrite(out, body.data(), static_cast<unsigned>(body.size()));
  gzclose(out);
  std::size_t lines = 0;
  const auto count = [&](std::string_view, std::size_t) -> Result<void> {
    ++lines;
    return {};
  };
  ASSERT_TRUE(read_lines(file, count));
  EXPECT_EQ(lines, 5000U);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  const auto cut = read_lines(file, count);
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, Code::Corrupt);
}

TEST(CaseLines, AlertsAreReadAndBadOnesCounted) {
  const auto c = parse_case_line(R"({"id": "x", "services": ["a-0", "b-0"], "edges": [["a-0", "b-0"], [1]],
    "alerts": {"metrics": [["a-0", "host", "cpu", "up"], ["a-0"]], "traces": [["a-0", "b-0", "GET", "500"]], "logs": [["b-0", "b-0-17"]]}})");
  ASSERT_TRUE(c) << c.error().message;
  ASSERT_EQ(c->alerts.size(), 3U);
  EXPECT_EQ(c->alerts[0].name, "cpu");
  EXPECT_EQ(c->name(c->alerts[1].callee), "b-0");
  EXPECT_EQ(c->alerts[2].name, "17");
  EXPECT_EQ(c->skipped.at("edges"), 1U);
  EXPECT_EQ(c->skipped.at("alerts.metrics"), 1U);
  for (const char* bad : {"", "[]", "{}", R"({"id": "x"})", R"({"id": "x", "services": "a", "alerts": {}})"}) EXPECT_FALSE(parse_case_line(bad)) << bad;
}

TEST(Csv, QuotesFollowTheRfc) {
  std::vector<std::string_view> fields;
  std::string buffer;
  ASSERT_TRUE(split_csv("a,,\"b,\"\"c\"\"\",d", fields, buffer));
  EXPECT_THAT(fields, ElementsAre("a", "", "b,\"c\"", "d"));
  EXPECT_FALSE(split_csv("a,\"b", fields, buffer));
}

TEST(Lose, TakesWhatItSaysAndNothingElse) {
  const RecordedCase whole = test::recorded(test::Broken::NewErrors);
  Loss loss;
  ASSERT_TRUE(mark_lost(loss, "logs"));
  EXPECT_FALSE(mark_lost(loss, "smell"));
  loss.spans_kept = 0.5;
  RecordedCase less = whole;
  lose(less, loss);
  EXPECT_TRUE(less.logs.empty());
  EXPECT_EQ(less.metrics.columns.size(), whole.metrics.columns.size());
  EXPECT_NEAR(static_cast<double>(less.spans.size()), 0.5 * static_cast<double>(whole.spans.size()), 0.2 * static_cast<double>(whole.spans.size()));
}

}  // namespace
}  // namespace culprit::explain
