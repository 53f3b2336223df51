// Files are followed through appends, rotation, truncation and restarts: every line once.
#include "daemon/ingest/files.h"

#include <fmt/format.h>
#include <zlib.h>

#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "daemon/ingest/container_lines.h"
#include "daemon/ingest/log_file.h"
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

  void start(bool from_beginning = true, const char* pattern = "*.log") {
    FilesOptions options{folder_ / pattern, "auto", "", from_beginning, folder_ / "positions", nullptr, poll_every_, scan_every_};
    auto started = FileFollower::start(options, source_, intake_, clock_, fake_resolver());
    ASSERT_TRUE(started) << started.error().message;
    follower_ = std::move(*started);
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name, std::ios::app) << text; }
  std::vector<std::string> bodies() {
    const std::lock_guard lock(mutex_);
    return bodies_;
  }
  // Lines that are long enough for a file of them to be known by its content.
  static std::string numbered(int from, int to) {
    std::string text;
    for (int i = from; i < to; ++i) text += fmt::format("order {} was placed\n", i);
    return text;
  }
  // Each once, and no other: looks once more after a while for those that come twice.
  void expect_numbered(int to) {
    (void)wait(static_cast<std::size_t>(to));
    std::this_thread::sleep_for(10 * poll_every_);
    std::multiset<std::string> expected;
    for (int i = 0; i < to; ++i) expected.insert(fmt::format("order {} was placed", i));
    const auto got = bodies();
    EXPECT_EQ(std::multiset<std::string>(got.begin(), got.end()), expected);
  }
  void pack(const std::string& name) {
    std::ifstream in(folder_ / name);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const gzFile out = ::gzopen((folder_ / (name + ".gz")).c_str(), "w");
    ASSERT_EQ(::gzwrite(out, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
    ::gzclose(out);
    std::filesystem::remove(folder_ / name);
  }
  // Waits until so many lines are there; more that come later would show in the next look.
  std::vector<std::string> wait(std::size_t count) {
    for (int i = 0; i < 2000 && bodies().size() < count; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return bodies();
  }

  std::filesystem::path folder_;
  std::chrono::milliseconds poll_every_{20}, scan_every_{100};
  SystemClock clock_;
  std::mutex mutex_;
  std::vector<std::string> bodies_;
  std::vector<stream::Event> events_;
  std::set<std::string> entities_;
  Intake intake_{Intake::Options{}, [this](Batch&& batch) {
    const std::lock_guard lock(mutex_);
    for (const stream::Event& event : batch.events) {
      bodies_.push_back(event.body);
      events_.push_back(event);
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
  std::this_thread::sleep_for(20 * poll_every_);
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

// A file that was rotated while the daemon was down is read to its end, be it renamed, copied and emptied, or packed since.
TEST_F(FilesTest, RotatedBetweenTwoRuns) {
  const struct { const char* name; bool copied, packed; const char* pattern; } cases[] = {
      {"renamed", false, false, "*.log"},  {"renamed and packed", false, true, "*.log"},   {"copied", true, false, "*.log"},
      {"copied and packed", true, true, "*.log"}, {"renamed, both match", false, false, "shop*"}, {"copied, both match", true, false, "shop*"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    for (const auto& old : std::filesystem::directory_iterator(folder_)) std::filesystem::remove_all(old);
    bodies_.clear();
    write("shop.log", numbered(0, 20));
    start(true, c.pattern);
    (void)wait(20);
    follower_.reset();
    write("shop.log", numbered(20, 40));
    if (c.copied) {
      std::filesystem::copy_file(folder_ / "shop.log", folder_ / "shop.log.1");
      std::filesystem::resize_file(folder_ / "shop.log", 0);
    } else {
      std::filesystem::rename(folder_ / "shop.log", folder_ / "shop.log.1");
    }
    if (c.packed) pack("shop.log.1");
    write("shop.log", numbered(40, 60));
    start(true, c.pattern);
    expect_numbered(60);
    follower_.reset();  // and what was read of it is remembered once more
    start(true, c.pattern);
    write("shop.log", numbered(60, 61));
    expect_numbered(61);
    follower_.reset();
  }
}

// copytruncate while the file is read: what was not read yet is in the copy, also where the file has grown beyond what was read.
TEST_F(FilesTest, EmptiedAfterACopy) {
  const struct { const char* name; int unread, after; bool packed; const char* pattern; } cases[] = {
      {"nothing unread", 20, 30, false, "*.log"}, {"unread lines", 40, 45, false, "*.log"},       {"unread lines, packed", 40, 45, true, "*.log"},
      {"grown beyond", 40, 200, false, "*.log"},  {"the copy matches, too", 40, 45, false, "shop*"}, {"and nothing is unread", 20, 25, false, "shop*"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    for (const auto& old : std::filesystem::directory_iterator(folder_)) std::filesystem::remove_all(old);
    bodies_.clear();
    write("shop.log", numbered(0, 20));
    start(true, c.pattern);
    (void)wait(20);
    write("shop.log", numbered(20, c.unread));
    std::filesystem::copy_file(folder_ / "shop.log", folder_ / "shop.log.1");
    std::filesystem::resize_file(folder_ / "shop.log", 0);
    if (c.packed) pack("shop.log.1");
    write("shop.log", numbered(c.unread, c.after));
    expect_numbered(c.after);
    follower_.reset();
  }
}

// Files are looked for when names change, not only now and then.
TEST_F(FilesTest, SeveralRotationsBetweenTwoScans) {
  scan_every_ = std::chrono::hours(1);
  write("shop.log", numbered(0, 10));
  start();
  (void)wait(10);
  for (int i = 1; i <= 4; ++i) {
    std::filesystem::rename(folder_ / "shop.log", folder_ / fmt::format("shop.log.{}", i));
    write("shop.log", numbered(10 * i, 10 * i + 10));
    (void)wait(10 * static_cast<std::size_t>(i) + 10);
  }
  expect_numbered(50);
}

// After a start of the machine the device may have another number; and older releases kept less of a file.
TEST_F(FilesTest, PositionsOfAnotherDeviceAndOfOlderReleases) {
  for (const bool other_device : {true, false}) {
    SCOPED_TRACE(other_device);
    for (const auto& old : std::filesystem::directory_iterator(folder_)) std::filesystem::remove_all(old);
    bodies_.clear();
    write("shop.log", numbered(0, 20));
    start();
    (void)wait(20);
    follower_.reset();
    std::ifstream in(folder_ / "positions");
    std::string line;
    ASSERT_TRUE(std::getline(in, line));
    auto position = Position::parse(line);
    ASSERT_TRUE(position);
    EXPECT_EQ(position->path, folder_ / "shop.log");
    EXPECT_EQ(position->text(), line + "\n");
    ++position->key.first;
    const auto& p = *position;
    std::ofstream(folder_ / "positions") << (other_device ? p.text() : fmt::format("{} {} {} {} {}\n", p.key.first - 1, p.key.second, p.head_hash, p.head_bytes, p.offset));
    write("shop.log", numbered(20, 21));
    start();
    expect_numbered(21);
    follower_.reset();
  }
  EXPECT_FALSE(Position::parse("1 2 3"));
  EXPECT_FALSE(Position::parse("1 2 3 999999 5"));  // more of a head than is kept
  EXPECT_FALSE(Position::parse("1 2 3 5 5 7 64 /x"));  // a tail longer than what is before it
}

// Files of one folder that begin alike are not copies of each other, and none waits for another.
TEST_F(FilesTest, FilesThatBeginAlikeAreAllRead) {
  write("shop.log", "starting\n");
  start();
  (void)wait(1);
  write("shopkeeper.log", "starting\nkeeper\n");
  write("other.log", "starting\n");
  std::filesystem::rename(folder_ / "shop.log", folder_ / "shop.log.1");
  write("shop.log", "starting\nshop\n");
  const auto got = wait(6);
  EXPECT_EQ(std::multiset<std::string>(got.begin(), got.end()), (std::multiset<std::string>{"starting", "starting", "starting", "starting", "keeper", "shop"}));
}

TEST_F(FilesTest, WholeLinesAndWholeStackTraces) {
  poll_every_ = std::chrono::milliseconds(250);
  write("a.log", "old\nhalf of");
  start(false);
  std::this_thread::sleep_for(3 * poll_every_);
  write("a.log", " a line\n");
  EXPECT_EQ(wait(1), std::vector<std::string>{"half of a line"});
  // A trace that is written slowly goes on as long as its lines come.
  write("a.log", "ERROR it failed\n");
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // half of what it waits
    write("a.log", fmt::format("\tat shop.Order({})\n", i));
  }
  EXPECT_EQ(wait(2).back(), "ERROR it failed\n\tat shop.Order(0)\n\tat shop.Order(1)\n\tat shop.Order(2)");
  // Who writes on where it was in a file that was emptied leaves a hole.
  std::filesystem::resize_file(folder_ / "a.log", 0);
  std::filesystem::resize_file(folder_ / "a.log", 3U << 20U);
  write("a.log", "behind the hole\n");
  EXPECT_EQ(wait(3).back(), "behind the hole");
}

// A start that ends before it could look keeps what the run before knew.
TEST_F(FilesTest, AShortRunForgetsNothing) {
  write("shop.log", numbered(0, 20));
  start();
  (void)wait(20);
  follower_.reset();
  for (int i = 0; i < 3; ++i) {
    start();
    follower_.reset();
  }
  write("shop.log", numbered(20, 21));
  start();
  expect_numbered(21);
}

TEST(Files, NamesOfOneLog) {
  for (const char* name : {"shop.log.1", "shop.log.1.gz", "shop-20270101.log", "shop.log-20270101", "shop_1.log", "shop"}) EXPECT_TRUE(is_named_like(std::string("/v/") + name, "/v/shop.log")) << name;
  for (const char* name : {"/v/shopkeeper.log", "/v/other.log", "/w/shop.log.1", "/v/sho"}) EXPECT_FALSE(is_named_like(name, "/v/shop.log")) << name;
}

// What container engines wrap is the program's own line, of the container's service, at the engine's time; a line that they cut and a
// stack trace are one event each.
TEST_F(FilesTest, LinesOfContainers) {
  const std::string id = "0123456789ab" + std::string(52, 'e'), other = std::string(64, 'f');
  const auto docker = [](const std::string& text, const char* stream = "stdout") { return fmt::format(R"({{"log":"{}","stream":"{}","time":"2026-11-23T14:02:08.5Z"}})", text, stream) + "\n"; };
  write(id + "-json.log", docker(R"(one\n)") + docker("half of ") + docker(R"(two\n)", "stderr") + docker(R"(a line\n)") + docker(R"(ERROR it failed\n)") + docker(R"(\tat shop.Order(17)\n)") +
                              docker(R"({\"level\":\"error\",\"msg\":\"in JSON\",\"time\":\"2026-11-23T12:00:00Z\"}\n)"));
  write(other + "-json.log", docker(R"(unknown\n)"));
  write("cri.log", "2026-11-23T14:02:08.5Z stdout P half of \n2026-11-23T14:02:08.5Z stdout F a CRI line\n2026-11-23T14:02:08.5Z stderr F WARN low\n");
  start();
  (void)wait(8);
  std::map<std::string, stream::Event> got;
  {
    const std::lock_guard lock(mutex_);
    for (const stream::Event& event : events_) got[event.body] = event;
  }
  ASSERT_EQ(got.size(), 8U);
  for (const auto& [body, entity] : {std::pair("one", "service:cart"), {"two", "service:cart"}, {"half of a line", "service:cart"}, {"ERROR it failed\n\tat shop.Order(17)", "service:cart"},
                                     {"in JSON", "service:cart"}, {"unknown", "service:ffffffffffff"}, {"half of a CRI line", "service:cri"}, {"WARN low", "service:cri"}}) {
    SCOPED_TRACE(body);
    ASSERT_TRUE(got.contains(body));
    EXPECT_EQ(got[body].entity, entity);
    EXPECT_NEAR(static_cast<double>(got[body].time_ns + clock_.wall_offset_ns() - *parse_wall("2026-11-23T14:02:08.5Z")), 0, 1e9);
  }
  EXPECT_EQ(at(got["two"], "log.iostream"), "stderr");
  EXPECT_EQ(at(got["one"], "container.id"), id);
  EXPECT_EQ(got["in JSON"].severity, stream::kError);
  EXPECT_EQ(got["WARN low"].severity, stream::kWarn);
}

TEST(Containers, WrappedLinesAndPaths) {
  for (const char* line : {"", "{\"log\":\"x\"}", R"({"log":"x\n","stream":"stdout"})", R"({"log":"x\n","stream":"other","time":"2026-11-23T14:02:08Z"})", R"({"log":"x)", "2026-11-23T14:02:08Z stdout x",
                           "2026-11-23T14:02:08Z stdout Fx y", "2026-11-23 14:02:08.123Z stdout F x", "xxxx-yy-zzT14:02:08.12345Z stdout F x", "2026-11-23T14:02:08.123456789Z INFO F x"}) {
    EXPECT_FALSE(unwrap_container_line(line)) << line;
  }
  const auto empty = unwrap_container_line("2026-11-23T14:02:08.123456789Z stdout F ");
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->text, "");
  const std::string id(64, 'a');
  EXPECT_EQ(container_of_path("/var/lib/docker/containers/" + id + "/" + id + "-json.log"), id);
  EXPECT_EQ(container_of_path("/system.slice/docker-" + id + ".scope"), id);
  EXPECT_EQ(container_of_path("/x/" + id + "a/y"), "");
  EXPECT_EQ(service_of_path("/var/log/pods/shop_cart-7c5d8f9b6d-x2x4z_0b7e/cart/0.log"), "cart");
  EXPECT_EQ(service_of_path("/var/log/containers/cart-7c5d8f9b6d-x2x4z_shop_cart-" + id + ".log"), "cart");
  EXPECT_EQ(service_of_path("/var/lib/docker/containers/" + id + "/" + id + "-json.log"), "aaaaaaaaaaaa");
}

TEST_F(FilesTest, EndMeansOnlyWhatComesNow) {
  write("a.log", "old\n");
  start(false);
  std::this_thread::sleep_for(20 * poll_every_);
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
