// The provider against a fake on loopback: what it sends, what it takes, what it refuses, and that it gives up.
#include "embed/provider.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/embed/fake_server.h"

namespace culprit::embed {
namespace {

using ::testing::HasSubstr;
using test::FakeServer;
using test::http;

TEST(Provider, AsksInBatchesAndSortsByIndex) {
  std::string bodies;
  FakeServer server([&](const std::string& body) {
    bodies += body + "\n";
    return http(body.find("\"c\"") != std::string::npos ? R"({"data":[{"index":0,"embedding":[0,5]}]})" : R"({"data":[{"index":1,"embedding":[0,2]},{"index":0,"embedding":[3,4]}]})");
  });
  const auto provider = Provider::create({.url = server.url(), .model = "m", .key = "secret", .dimensions = 2, .batch = 2});
  ASSERT_TRUE(provider) << provider.error().message;
  const std::vector<std::string> texts = {"a", "b", "c"};
  const auto vectors = (*provider)->embed(texts);
  ASSERT_TRUE(vectors) << vectors.error().message;
  EXPECT_EQ(*vectors, (std::vector<std::vector<float>>{{0.6F, 0.8F}, {0, 1}, {0, 1}}));
  EXPECT_EQ(server.requests, 2);
  EXPECT_THAT(bodies, HasSubstr(R"("model":"m")"));
  EXPECT_THAT(bodies, HasSubstr(R"(["a","b"])"));
  EXPECT_THAT(server.last_head, HasSubstr("Authorization: Bearer secret"));
  EXPECT_THAT((*provider)->name(), HasSubstr("http m 127.0.0.1"));
}

TEST(Provider, LearnsItsDimensions) {
  FakeServer server([](const std::string&) { return http(R"({"data":[{"index":0,"embedding":[1,0,0]}]})"); });
  const auto provider = Provider::create({.url = server.url(), .model = "m"});
  ASSERT_TRUE(provider) << provider.error().message;
  EXPECT_EQ((*provider)->dimensions(), 3U);
}

TEST(Provider, RefusesNonsense) {
  const struct { std::string reply; Code code; } cases[] = {
      {http("not json"), Code::Corrupt},
      {http(R"({"data":[]})"), Code::Corrupt},
      {http(R"({"data":[{"index":7,"embedding":[1,0]}]})"), Code::Corrupt},
      {http(R"({"data":[{"index":0,"embedding":[1,0,0]}]})"), Code::Corrupt},
      {http(R"({"data":[{"index":0,"embedding":[1,"x"]}]})"), Code::Corrupt},
      {http(R"({"data":[{"index":0,"embedding":[1e999,0]}]})"), Code::Corrupt},
      {http(R"({"data":[{"index":0}]})"), Code::Corrupt},
      {http("{}", "500 Internal Server Error"), Code::Io},
      {"HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n", Code::Io},
      {"", Code::Io},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.reply);
    FakeServer server([&](const std::string&) { return c.reply; });
    const auto provider = Provider::create({.url = server.url(), .model = "m", .dimensions = 2});
    ASSERT_TRUE(provider);
    const std::vector<std::string> texts = {"a"};
    const auto vectors = (*provider)->embed(texts);
    ASSERT_FALSE(vectors);
    EXPECT_EQ(vectors.error().code, c.code);
  }
}

// A dead endpoint is left alone after a few failures.
TEST(Provider, LeavesADeadEndpointAlone) {
  FakeServer server([](const std::string&) { return http("{}", "503 Unavailable"); });
  const auto provider = Provider::create({.url = server.url(), .model = "m", .dimensions = 2});
  const std::vector<std::string> texts = {"a"};
  for (int i = 0; i < Provider::kFailuresMax; ++i) EXPECT_EQ((*provider)->embed(texts).error().code, Code::Io);
  EXPECT_EQ((*provider)->embed(texts).error().code, Code::Busy);
  EXPECT_EQ(server.requests, Provider::kFailuresMax);
}

TEST(Provider, SpeaksOnlyToAllowedHosts) {
  const auto code = [](ProviderOptions options) {
    options.dimensions = 2;
    const auto made = Provider::create(std::move(options));
    return made ? std::optional<Code>() : made.error().code;
  };
  EXPECT_EQ(code({.url = "http://192.0.2.1/v1/embeddings", .model = "m"}), Code::Denied);
  EXPECT_EQ(code({.url = "http://192.0.2.1:8080/x", .model = "m", .allowed = {"192.0.2.1:80"}}), Code::Denied);
  EXPECT_EQ(code({.url = "http://192.0.2.1:8080/x", .model = "m", .allowed = {"192.0.2.1:8080"}}), std::nullopt);
  EXPECT_EQ(code({.url = "http://127.0.0.1@192.0.2.1/x", .model = "m"}), Code::Invalid);
  EXPECT_EQ(code({.url = "file:///etc/passwd", .model = "m"}), Code::Invalid);
  EXPECT_EQ(code({.url = "http://localhost/x"}), Code::Invalid);
  EXPECT_EQ(code({.url = ":::", .model = "m"}), Code::Invalid);
}

}  // namespace
}  // namespace culprit::embed
