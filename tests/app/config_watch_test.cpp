// A written configuration file is a change; beginning to violate a policy is another, told once.
#include "daemon/app/config_watch.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <fstream>

namespace culprit::app {
namespace {

using ::testing::HasSubstr;

TEST(ConfigLook, TellsWhatBeganToBeWrong) {
  std::string name = (std::filesystem::temp_directory_path() / "culprit-config-XXXXXX").string();
  const std::filesystem::path folder = std::filesystem::path(::mkdtemp(name.data())) / "redis";
  std::filesystem::create_directories(folder);
  const auto write = [&](const std::string& text) { std::ofstream(folder / "redis.conf") << text; };
  write("maxmemory 1gb\nmaxmemory-policy allkeys-lru\nrequirepass short\n");
  ConfigLook look({"cache=" + folder.string(), "/no/such/folder"}, rules::PolicySet::load(rules::built_in_policies()).value());
  EXPECT_TRUE(look.look(1).empty());  // the base line, whatever is wrong with it
  EXPECT_TRUE(look.look(2).empty());

  write("maxmemory 1gb\nrequirepass short\n");
  const auto events = look.look(3);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].name, "config.write");
  EXPECT_EQ(events[0].entity, "service:cache");
  EXPECT_EQ(events[1].name, "config.violation");
  EXPECT_EQ(events[1].attribute("policy"), "redis-maxmemory-policy");
  EXPECT_THAT(events[1].body, HasSubstr("redis.conf:1 began to violate policy"));
  EXPECT_TRUE(look.look(4).empty());

  write("maxmemory 1gb\nrequirepass short\nport 6380\n");
  EXPECT_EQ(look.look(5).size(), 1U);  // written; nothing new is wrong
  std::filesystem::remove_all(folder.parent_path());
}

}  // namespace
}  // namespace culprit::app
