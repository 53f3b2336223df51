// The daemon's thread for documents, with an embedding endpoint that answers, hesitates, fails, or may not be spoken to.
#include "daemon/app/library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>

#include "daemon/recall/incidents.h"
#include "tests/embed/fake_server.h"
#include "tests/graph/temporary.h"

namespace culprit::app {
namespace {

using embed::test::FakeServer;
using embed::test::http;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kDocuments = 70;  // three batches

class LibraryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    static const auto kModes = std::make_shared<const recall::Modes>(graph::Knowledge::load({}).value(), recall::built_in_model().value());
    modes_ = kModes;
    std::string lines;
    for (int i = 0; i < kDocuments; ++i) lines += nlohmann::json{{"id", std::to_string(i)}, {"title", "Runbook " + std::to_string(i)}, {"text", "the frobnicator of line seven is out of oil"}}.dump() + "\n";
    folder_.write("a.jsonl", lines);
    auto recall = recall::Recall::open(modes_, {.graph_file = folder_ / "graph.db", .write = true});
    ASSERT_TRUE(recall) << recall.error().message;
    ASSERT_TRUE((*recall)->import(folder_ / "a.jsonl", 1, {}));
  }
  Library::Parts parts(const std::string& url) {
    config_.embedding_url = url;
    config_.embedding_model = "m";
    return {clock_, config_, folder_ / "graph.db", modes_, false, std::chrono::milliseconds{5}};
  }
  // One vector a text, whatever it says.
  std::string answer(const std::string& body) {
    const auto asked = nlohmann::json::parse(body, nullptr, false);
    nlohmann::json data = nlohmann::json::array();
    const std::scoped_lock lock(mutex_);
    batches_.push_back(asked["input"].size());
    for (std::size_t i = 0; i < asked["input"].size(); ++i) {
      sent_.push_back(asked["input"][i]);
      data.push_back({{"index", i}, {"embedding", {1, 0, 1}}});
    }
    return http(nlohmann::json{{"data", data}}.dump());
  }
  std::size_t vectors_of(std::string_view model) {
    auto library = graph::Library::open(folder_ / "graph.db", graph::Library::Mode::Read);
    EXPECT_TRUE(library) << library.error().message;
    return library->vector_ids(model)->size();
  }
  template <typename Condition>
  static bool comes(Condition condition) {  // a deadline far beyond what it takes, so that a hang is a failure
    for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{60}; std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(std::chrono::milliseconds{5})) {
      if (condition()) return true;
    }
    return false;
  }
  std::vector<std::string> found(std::string_view text) {
    auto recall = recall::Recall::open(modes_, {.graph_file = folder_ / "graph.db"});
    std::vector<std::string> titles;
    EXPECT_TRUE(recall);
    const auto answers = (*recall)->documents({.text = std::string(text)});
    EXPECT_TRUE(answers);
    for (const auto& one : *answers) titles.push_back(one.document.item.title);
    return titles;
  }

  graph::test::TemporaryFolder folder_;
  FakeClock clock_;
  Config config_;
  std::shared_ptr<const recall::Modes> modes_;
  std::mutex mutex_;  // of what the server saw
  std::vector<std::size_t> batches_;
  std::vector<std::string> sent_;
};

// Every document gets a vector, in batches; what is sent are documents, and incidents without their values.
TEST_F(LibraryTest, DocumentsGetVectorsInBatches) {
  {
    auto recall = recall::Recall::open(modes_, {.graph_file = folder_ / "graph.db", .write = true});
    ASSERT_TRUE((*recall)->put("incident:7", {.key = "7", .collection = std::string(recall::kIncidentCollection), .title = "Incident", .body = "logs: password for bob from 10.0.0.7 is 'hunter2'"}, 1));
  }
  FakeServer server([this](const std::string& body) { return answer(body); });
  const std::string name = "http m 127.0.0.1:" + std::to_string(server.port());
  {
    const Library library(parts(server.url()));
    EXPECT_TRUE(comes([&] { return vectors_of(name) == kDocuments + 1; }));
  }
  const std::scoped_lock lock(mutex_);
  EXPECT_EQ(batches_, (std::vector<std::size_t>{1, 32, 32, 7}));  // the first asks for the dimensions
  EXPECT_EQ(sent_.size(), kDocuments + 2U);
  EXPECT_THAT(sent_.back(), HasSubstr("password for bob from *"));
  EXPECT_THAT(sent_, Each(Not(HasSubstr("10.0.0.7"))));
  EXPECT_THAT(sent_, Each(Not(HasSubstr("hunter2"))));
  for (std::size_t i = 1; i + 1 < sent_.size(); ++i) EXPECT_THAT(sent_[i], HasSubstr("frobnicator"));
}

// An endpoint that fails, and one that does not answer, cost their vectors and nothing else; when it answers again they come.
TEST_F(LibraryTest, FallsBackUntilItAnswers) {
  std::atomic<bool> well = false;
  FakeServer server([&](const std::string& body) { return well ? answer(body) : http("{}", "503 Unavailable"); });
  const std::string name = "http m 127.0.0.1:" + std::to_string(server.port());
  const Library library(parts(server.url()));
  EXPECT_TRUE(comes([&] { return server.requests > 2; }));
  EXPECT_EQ(found("frobnicator oil").size(), 10U);
  EXPECT_EQ(vectors_of(modes_->model().name()), static_cast<std::size_t>(kDocuments));
  EXPECT_EQ(vectors_of(name), 0U);
  well = true;
  EXPECT_TRUE(comes([&] { return vectors_of(name) == kDocuments; }));
}

TEST_F(LibraryTest, ASilentEndpointStopsNothing) {
  // It takes connections and never reads them; the answer to the first question is cut off by the time-out.
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  auto with = parts("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/v1/embeddings");
  with.provider_timeout = std::chrono::milliseconds{50};
  {
    const Library library(std::move(with));
    // Meanwhile documents come and are found, by words and by the built-in model.
    auto recall = recall::Recall::open(modes_, {.graph_file = folder_ / "graph.db", .write = true});
    folder_.write("b.jsonl", R"({"id":"1","title":"New","text":"the gasket of the boiler leaks"})" "\n");
    ASSERT_TRUE((*recall)->import(folder_ / "b.jsonl", 2, {}));
    EXPECT_EQ(found("boiler gasket").at(0), "New");
  }
  EXPECT_EQ(vectors_of(modes_->model().name()), kDocuments + 1U);
}

// Who is not on the list is not spoken to.
TEST_F(LibraryTest, OnlyAllowedHosts) {
  FakeServer server([this](const std::string& body) { return answer(body); });
  config_.embedding_allowed = {"ollama.internal:11434"};
  {
    graph::ImportItem item{.key = "1", .title = "New", .body = "the gasket leaks"};
    auto library = graph::Library::open(folder_ / "graph.db", graph::Library::Mode::Write);
    ASSERT_TRUE(library->put("/x", "h", std::span(&item, 1), 1));  // a document without a vector
    const Library thread(parts(server.url()));
    EXPECT_TRUE(comes([&] { return vectors_of(modes_->model().name()) == kDocuments + 1; }));
  }
  EXPECT_EQ(server.requests, 0);
}

}  // namespace
}  // namespace culprit::app
