// LogNames: lines get the names of their kinds, the same after a restart.
#include "daemon/app/log_names.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/graph/temporary.h"

namespace culprit::app {
namespace {

constexpr std::int64_t kWall = 1'700'000'000 * kNsPerSecond;

stream::Event line(std::int64_t second, const std::string& body) { return {.time_ns = second * kNsPerSecond, .kind = stream::Kind::Log, .entity = "service:shop", .body = body}; }

std::string name_of(LogNames& names, stream::Event event) {
  std::vector<stream::Event> events = {std::move(event)};
  names.name(events, kWall);
  return events[0].name;
}

TEST(LogNames, LinesOfOneKindHaveOneName) {
  LogNames names({});
  std::vector<stream::Event> events = {line(1, "ERROR order 17 failed"), line(2, "ERROR order 18 failed"), line(3, "cache warm"), line(4, "named already")};
  events[3].name = "event";
  events.push_back({.time_ns = 5, .kind = stream::Kind::Kernel, .body = "no line"});
  names.name(events, kWall);
  EXPECT_FALSE(events[0].name.empty());
  EXPECT_EQ(events[0].name, events[1].name);
  EXPECT_NE(events[0].name, events[2].name);
  EXPECT_EQ(events[0].attribute("template.new"), "1");
  EXPECT_EQ(events[1].attribute("template.new"), "");
  EXPECT_EQ(events[0].severity, stream::kError);
  EXPECT_FALSE(events[1].attribute("template").empty());
  EXPECT_EQ(events[3].name, "event");
  EXPECT_TRUE(events[4].name.empty());
  const KnownPattern known = names.pattern(events[0].name, "service:shop");
  ASSERT_TRUE(known.sighting);
  EXPECT_EQ(known.text, events[1].attribute("template"));
  EXPECT_FALSE(names.pattern(events[0].name, "service:front").sighting);
  EXPECT_TRUE(names.pattern("t:zz", "service:shop").text.empty());
}

// A source that says which kind a line is of is believed, and its severity too.
TEST(LogNames, WhatTheSourceTellsCounts) {
  LogNames names({});
  std::vector<stream::Event> events = {line(1, "1.2.3.4 GET /a 500"), line(2, "5.6.7.8 POST /b 200")};
  for (stream::Event& event : events) {
    event.attributes.emplace_back("template", "access <*>");
    event.severity = stream::kWarn;
  }
  names.name(events, kWall);
  EXPECT_EQ(events[0].name, events[1].name);
  EXPECT_EQ(events[1].severity, stream::kWarn);
  EXPECT_EQ(events[1].attributes.size(), 1U);
}

TEST(LogNames, NamesOutliveARestart) {
  const graph::test::TemporaryFolder folder;
  std::string failed;
  {
    LogNames names(folder.path());
    names.load();
    (void)name_of(names, line(1, "cache warm"));
    failed = name_of(names, line(1, "order 17 failed"));
    names.save(70 * kNsPerSecond, false);
    const auto written = std::filesystem::last_write_time(folder.path() / "templates");
    names.save(200 * kNsPerSecond, false);  // nothing is new
    EXPECT_EQ(std::filesystem::last_write_time(folder.path() / "templates"), written);
  }
  LogNames names(folder.path());
  names.load();
  EXPECT_EQ(name_of(names, line(300, "order 99 failed")), failed);
  EXPECT_TRUE(names.pattern(failed, "service:shop").sighting);
}

TEST(LogNames, DamagedFilesBeginAnew) {
  const graph::test::TemporaryFolder folder;
  for (const char* file : {"templates", "sightings"}) folder.write(file, "no such thing");
  LogNames names(folder.path());
  names.load();
  EXPECT_EQ(names.stats().lines, 0U);
  EXPECT_FALSE(name_of(names, line(1, "order 17 failed")).empty());
  names.save(kNsPerSecond, true);
  LogNames again(folder.path());
  again.load();
  EXPECT_EQ(again.stats().templates, 1U);
}

}  // namespace
}  // namespace culprit::app
