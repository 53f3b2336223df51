// Files are followed through appends, rotation, truncation and restarts: every line once.
#include "daemon/ingest/files.h"

#include <fmt/format.h>

#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

class FilesTest : public testing::Test {
 protected:
  FilesTest() {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("culprit-files-{}-{}", ::getpid(), testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~FilesTest() override {
    follower_.reset();
    std::filesystem::remove_all(folder_);
  }

  void start(bool from_beginning = true) {
    FilesOptions options{folder_ / "*.log", "auto", "", from_beginning, folder_ / "positions"};
    auto started = FileFollower::start(options, source_, intake_, clock_, fake_resolver());
    ASSERT_TRUE(started) << started.error().message;
    follower_ = std::move(*started);
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name, std::ios::app) << text; }
  std::vector<std::string> bodies() {
    const std::lock_guard lock(mutex_);
    return bodies_;
  }
  // Waits until so many lines are there; more that come later would show in the next look.
  std::vector<std::string> wait(std::size_t count) {
    for (int i = 0; i < 400 && bodies().size() < count; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(25));
    return bodies();
  }

  std::filesystem::path folder_;
  SystemClock clock_;
  std::mutex mutex_;
  std::vector<std::string> bodies_;
  std::set<std::string> entities_;
  Intake intake_{Intake::Options{}, [this](Batch&& batch) {
    const std::lock_guard lock(mutex_);
    for (const stream::Event& event : batch.events) {
      bodies_.push_back(event.body);
      entities_.insert(event.entity);
    }
    batch.settle(true);
    return true;
  }};
  SourcePtr source_ = std::make_shared<SourceState>("files", "file", "");
  std::unique_ptr<FileFollower> follower_;
};

TEST_F(FilesTest, AppendsRotationAndTruncation) {
  write("shop.log", "one\ntwo\n");
  start();
  EXPECT_EQ(wait(2), (std::vector<std::string>{"one", "two"}));
  write("shop.log", "thr");
  write("shop.log", "ee\n");
  EXPECT_EQ(wait(3).back(), "three");
  // Renamed with a line still to come, and a new file of its name.
  std::filesystem::rename(folder_ / "shop.log", folder_ / "shop.log.1");
  write("shop.log.1", "four\n");
  write("shop.log", "five\n");
  auto got = wait(5);
  EXPECT_EQ(std::set<std::string>(got.begin(), got.end()), (std::set<std::string>{"one", "two", "three", "four", "five"}));
  EXPECT_EQ(got.size(), 5U);
  // Truncated in place: what is written then counts from the start.
  std::filesystem::resize_file(folder_ / "shop.log", 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  write("shop.log", "six\n");
  got = wait(6);
  ASSERT_EQ(got.size(), 6U);
  EXPECT_EQ(got.back(), "six");
  EXPECT_EQ(entities_, std::set<std::string>{"service:shop"});
  const SourceStats stats = source_->stats();
  EXPECT_EQ(stats.produced, 6U);
  EXPECT_EQ(stats.stored, 6U);
}

TEST_F(FilesTest, PositionsSurviveARestart) {
  write("a.log", "one\n");
  start();
  EXPECT_EQ(wait(1).size(), 1U);
  follower_.reset();
  write("a.log", "two\n");
  write("b.log", "three\n");  // new while nobody looked: from its start
  start();
  const auto got = wait(3);
  EXPECT_EQ(std::set<std::string>(got.begin(), got.end()), (std::set<std::string>{"one", "two", "three"}));
  EXPECT_EQ(got.size(), 3U);
}

TEST_F(FilesTest, EndMeansOnlyWhatComesNow) {
  write("a.log", "old\n");
  start(false);
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  write("a.log", "new\n");
  EXPECT_EQ(wait(1), std::vector<std::string>{"new"});
}

TEST_F(FilesTest, StackTracesAreOneEventAndLongLinesAreCut) {
  write("a.log", "ERROR it failed\n\tat shop.Order(Order.java:17)\n\tat shop.Main(Main.java:3)\nnext\n" + std::string(FileFollower::kLineBytesMax + 10, 'x') + "\nlast\n");
  start();
  const auto got = wait(4);
  ASSERT_EQ(got.size(), 4U);
  EXPECT_EQ(got[0], "ERROR it failed\n\tat shop.Order(Order.java:17)\n\tat shop.Main(Main.java:3)");
  EXPECT_EQ(got[1], "next");
  EXPECT_EQ(got[2].size(), kBodyBytesMax);
  EXPECT_EQ(got[3], "last");
  EXPECT_GE(source_->stats().cut, 1U);
}

TEST(Files, NamesTheServiceByThePath) {
  EXPECT_EQ(service_of_path("/var/log/nginx/access.log"), "nginx");
  EXPECT_EQ(service_of_path("/var/log/shop.log"), "shop");
  EXPECT_EQ(service_of_path("/var/log/shop/error.log.1"), "shop");
  EXPECT_EQ(service_of_path("/var/log/messages"), "messages");
}

TEST(Files, WrongPatternsAndFormatsAreErrors) {
  Intake intake({}, [](Batch&&) { return true; });
  const SystemClock clock;
  const auto source = std::make_shared<SourceState>("x", "file", "");
  EXPECT_FALSE(FileFollower::start({"relative/*.log", "auto", "", false, {}}, source, intake, clock, fake_resolver()));
  EXPECT_FALSE(FileFollower::start({"/tmp/x", "nonsense", "", false, {}}, source, intake, clock, fake_resolver()));
}

}  // namespace
}  // namespace culprit::ingest
