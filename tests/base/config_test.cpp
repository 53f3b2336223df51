#include "daemon/base/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace culprit {
namespace {

TEST(ConfigTest, EveryKeyOfTheFileIsRead) {
  const auto config = Config::parse(
      "state_dir: /tmp/x\npage_port: 8000\nwatch: [all, 'cgroup:/a/*']\nslow_ms: 5\n"
      "services:\n  - {name: shop, port: 8080}\n",
      "c.yaml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->state_dir, "/tmp/x");
  EXPECT_EQ(config->page_port, 8000);
  EXPECT_EQ(config->watch, (std::vector<std::string>{"all", "cgroup:/a/*"}));
  EXPECT_EQ(config->slow_ms, 5U);
  ASSERT_EQ(config->services.size(), 1U);
  EXPECT_EQ(config->services[0].port, 8080);
  EXPECT_EQ(config->origins.at("page_port"), "c.yaml:2");
  EXPECT_EQ(config->embedding_url, "off");
  const auto provider = Config::parse("embedding_url: http://a:1/x\nembedding_model: m\nembedding_allowed: [a, 'b:2']\n", "c.yaml");
  ASSERT_TRUE(provider) << provider.error().message;
  EXPECT_EQ(provider->embedding_allowed, (std::vector<std::string>{"a", "b:2"}));
}

// Each mistake is answered with its file, its line and, where one is near, what was meant.
TEST(ConfigTest, MistakesNameTheirPlace) {
  const struct { const char* yaml; const char* message; } cases[] = {
      {"page_prot: 1\n", "c.yaml:1: unknown key 'page_prot'; did you mean 'page_port'?"},
      {"\npage_port: high\n", "c.yaml:2: page_port: 'high' is not a whole number"},
      {"page_port: 70000\n", "70000 is not between 0 and 65535"},
      {"watch: all\n", "c.yaml:1: 'watch' is a list"},
      {"watch: ['cgruop:/x']\n", "did you mean 'cgroup'?"},
      {"watch: ['pid:x']\n", "'x' is not a whole number"},
      {"watch: ['shop']\n", "neither 'all' nor KIND:NAME"},
      {"services: [{name: x}]\n", "matches nothing"},
      {"services: [{nam: x, port: 1}]\n", "unknown key 'nam'; did you mean 'name'?"},
      {"control_ring_bytes: 5000\n", "c.yaml:1: control_ring_bytes: 5000 is not a power of two"},
      {"a: [\n", "c.yaml:"},
      {"- a\n", "the configuration is a map"},
      {"log_level: loud\n", "none of debug, info, warn, error"},
      {"embedding_url: http://127.0.0.1:11434/v1/embeddings\n", "c.yaml:1: embedding_url: which model? embedding_model is missing"},
      {"embedding_allowed: ['http://a/b']\n", "neither HOST nor HOST:PORT"},
      {"slow_ms: 5\nslow_ms: 6\n", "c.yaml:2: 'slow_ms' was given at c.yaml:1 already"},
      {"? [a]\n: 1\n", "c.yaml:1: "},
      {"sources:\n  - {type: fil, path: /x}\n", "c.yaml:2: unknown type of source 'fil', did you mean 'file'?"},
      {"sources:\n  - {type: file, path: /x, form: json}\n", "c.yaml:2: file source: unknown key 'form'; did you mean 'format'?"},
      {"sources:\n  - {type: scrape}\n", "c.yaml:2: scrape source: 'target' is missing"},
      {"sources:\n  - {type: file, path: /x, name: ../x}\n", "c.yaml:2: name '../x': at most 64 letters, digits"},
      {"sources:\n  - {type: file, path: /x, name: .x}\n", "c.yaml:2: name '.x'"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.yaml);
    const auto config = Config::parse(c.yaml, "c.yaml");
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().code, Code::Invalid);
    EXPECT_THAT(config.error().message, testing::HasSubstr(c.message));
  }
}

TEST(ConfigTest, EmptyFileIsAllDefaults) {
  const auto config = Config::parse("", "c.yaml");
  ASSERT_TRUE(config);
  for (const auto& row : config->rows()) {
    EXPECT_EQ(row.origin, "default");
    EXPECT_FALSE(row.help.empty()) << row.key;
  }
}

TEST(ConfigTest, MissingFileIsNotFound) {
  const auto config = Config::load("/nonexistent/c.yaml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, Code::NotFound);
}

TEST(ConfigTest, FolderIsNoConfiguration) {
  const auto config = Config::load(std::filesystem::temp_directory_path());
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, Code::Invalid);
}

TEST(ConfigTest, MistakesOfTheCommandLineNameTheirKey) {
  const struct { const char* key; const char* value; const char* message; } cases[] = {
      {"slow_ms", "", "command line: slow_ms: '' is not a whole number"},
      {"slow_mss", "5", "unknown key 'slow_mss'; did you mean 'slow_ms'?"},
      {"watch", "nobody", "command line: watch: watch target 'nobody' is neither 'all' nor KIND:NAME"},
      {"state_dir", "", "command line: state_dir: an empty path"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.key);
    Config config;
    const auto set = config.set(c.key, c.value, "command line");
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, Code::Invalid);
    EXPECT_THAT(set.error().message, testing::HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace culprit
