// The journal: whose line an entry is, and that each entry of real journal files comes once, also over a restart.
#include "daemon/ingest/journal.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdio>
#include <fstream>
#include <mutex>
#include <thread>

#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

TEST(JournalEntry, SaysWhoseLineItIs) {
  const std::string host(fake_resolver().host_name());
  using Fields = std::vector<std::pair<std::string_view, std::string_view>>;
  const struct { const char* name; Fields fields; const char* entity; std::uint8_t severity; } cases[] = {
      {"a unit", {{"MESSAGE", "x"}, {"_SYSTEMD_UNIT", "postgresql@15-main.service"}, {"PRIORITY", "3"}}, "service:postgresql@15-main", stream::kError},
      {"a process of this host", {{"MESSAGE", "x"}, {"_PID", "4211"}, {"_HOSTNAME", host}, {"_SYSTEMD_UNIT", "wrapper.service"}}, "service:shop", stream::kInfo},
      {"a process of another host", {{"MESSAGE", "x"}, {"_PID", "4211"}, {"_HOSTNAME", "elsewhere"}, {"_SYSTEMD_UNIT", "wrapper.service"}}, "service:wrapper", stream::kInfo},
      {"systemd of a unit", {{"MESSAGE", "cart.service: Failed"}, {"_PID", "1"}, {"UNIT", "cart.service"}, {"_SYSTEMD_UNIT", "init.scope"}, {"PRIORITY", "4"}}, "service:cart", stream::kWarn},
      {"a core dump", {{"MESSAGE", "Process 7 (cart) dumped core"}, {"COREDUMP_UNIT", "cart.service"}, {"_SYSTEMD_UNIT", "systemd-coredump@1.service"}, {"PRIORITY", "2"}}, "service:cart", stream::kFatal},
      {"the kernel", {{"MESSAGE", "Out of memory"}, {"_TRANSPORT", "kernel"}, {"SYSLOG_IDENTIFIER", "kernel"}, {"PRIORITY", "3"}}, "host", stream::kError},
      {"a container the kernel knows", {{"MESSAGE", "x"}, {"CONTAINER_ID_FULL", "0123456789abcdef"}, {"CONTAINER_NAME", "n"}, {"_SYSTEMD_UNIT", "docker.service"}}, "service:cart", stream::kInfo},
      {"another container", {{"MESSAGE", "x"}, {"CONTAINER_NAME", "redis-1"}, {"_SYSTEMD_UNIT", "docker.service"}}, "service:redis-1", stream::kInfo},
      {"a session", {{"MESSAGE", "x"}, {"_SYSTEMD_UNIT", "session-3.scope"}, {"SYSLOG_IDENTIFIER", "backup"}}, "service:backup", stream::kInfo},
      {"a user's unit", {{"MESSAGE", "x"}, {"_SYSTEMD_UNIT", "user@1000.service"}, {"_SYSTEMD_USER_UNIT", "sync.service"}}, "service:sync", stream::kInfo},
      {"nobody", {{"MESSAGE", "x"}, {"PRIORITY", "junk"}}, "host", stream::kInfo},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    Decoded out;
    decode_journal_entry({c.fields, kNowWall - kNsPerSecond}, test_context(), out);
    ASSERT_EQ(out.events.size(), 1U);
    EXPECT_EQ(out.events[0].entity, c.entity);
    EXPECT_EQ(out.events[0].severity, c.severity);
    EXPECT_EQ(out.events[0].time_ns, kNow - kNsPerSecond);
  }
}

TEST(JournalEntry, TimesAndTraces) {
  Decoded out;
  const std::string sent = fmt::to_string((kNowWall - 5 * kNsPerSecond) / 1'000), later = fmt::to_string(kNowWall / 1'000);
  decode_journal_entry({{{"MESSAGE", "x"}, {"_SOURCE_REALTIME_TIMESTAMP", sent}}, kNowWall - kNsPerSecond}, test_context(), out);
  decode_journal_entry({{{"MESSAGE", "x"}, {"_SOURCE_REALTIME_TIMESTAMP", later}}, kNowWall - kNsPerSecond}, test_context(), out);  // its sender's clock is wrong
  decode_journal_entry({{{"MESSAGE", "x"}}, kNowWall + 90 * kNsPerSecond}, test_context(), out);
  decode_journal_entry({{{"MESSAGE", "x"}, {"TRACE_ID", "0af7651916cd43dd8448eb211c80319c"}, {"SPAN_ID", "b7ad6b7169203331"}}, kNowWall}, test_context(), out);
  decode_journal_entry({{{"MESSAGE", "failed trace_id=0af7651916cd43dd8448eb211c80319c"}}, kNowWall}, test_context(), out);
  decode_journal_entry({{{"PRIORITY", "3"}}, kNowWall}, test_context(), out);
  ASSERT_EQ(out.events.size(), 5U);
  EXPECT_EQ(out.events[0].time_ns, kNow - 5 * kNsPerSecond);
  EXPECT_EQ(out.events[1].time_ns, kNow - kNsPerSecond);
  EXPECT_EQ(out.events[2].time_ns, kNow);
  EXPECT_EQ(out.times_corrected, 1U);
  EXPECT_EQ(out.events[3].trace_id[0], 0x0af7651916cd43ddU);
  EXPECT_EQ(out.events[3].span_id, 0xb7ad6b7169203331U);
  EXPECT_EQ(out.events[4].trace_id[1], 0x8448eb211c80319cU);
  EXPECT_EQ(out.rejected, 1U);
}

class JournalFiles : public testing::Test {
 protected:
  JournalFiles() { std::filesystem::create_directories(folder_); }
  ~JournalFiles() override { std::filesystem::remove_all(folder_); }

  // Appends entries first..last with Debian's systemd-journal-remote, which reads journalctl's export format.
  void write(int first, int last, const std::string& file = "a.journal") {
    std::string text;
    for (int i = first; i <= last; ++i) {
      text += fmt::format("__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID=0123456789abcdef0123456789abcdef\nPRIORITY=3\nMESSAGE=line {}\n_SYSTEMD_UNIT={}.service\n\n",
                          (kNowWall - 1000 * kNsPerSecond) / 1000 + i, 1000 + i, i, i % 2 == 0 ? "even" : "odd");
    }
    const std::string command = fmt::format("/lib/systemd/systemd-journal-remote -o '{}' - >/dev/null 2>&1", (folder_ / file).string());
    FILE* pipe = ::popen(command.c_str(), "w");
    ASSERT_NE(pipe, nullptr);
    ASSERT_EQ(std::fwrite(text.data(), 1, text.size(), pipe), text.size());
    ASSERT_EQ(::pclose(pipe), 0) << "systemd-journal-remote is needed (./dev setup)";
  }
  std::unique_ptr<JournalFollower> follow(JournalOptions options) {
    auto follower = JournalFollower::start(std::move(options), source_, intake_, clock_, fake_resolver());
    EXPECT_TRUE(follower);
    return follower ? std::move(*follower) : nullptr;
  }
  std::vector<std::string> bodies(std::size_t count) {
    for (int i = 0; i < 600; ++i) {
      {
        const std::lock_guard lock(mutex_);
        if (bodies_.size() >= count) break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    const std::lock_guard lock(mutex_);
    return bodies_;
  }

  const std::filesystem::path folder_ = std::filesystem::temp_directory_path() / fmt::format("culprit-journal-{}", ::getpid());
  const SystemClock clock_;
  const SourcePtr source_ = std::make_shared<SourceState>("journal", "journald", "");
  std::mutex mutex_;
  std::vector<std::string> bodies_;
  Intake intake_{{}, [this](Batch&& batch) {
                   const std::lock_guard lock(mutex_);
                   for (const stream::Event& event : batch.events) bodies_.push_back(event.body);
                   batch.settle(true);
                   return true;
                 }};
};

TEST_F(JournalFiles, EachEntryOnceOverARestart) {
  write(1, 3);
  const JournalOptions options{folder_.string(), {}, true, folder_ / "position"};
  auto follower = follow(options);
  EXPECT_EQ(bodies(3), (std::vector<std::string>{"line 1", "line 2", "line 3"}));
  write(4, 4);  // while it is followed
  EXPECT_EQ(bodies(4).size(), 4U);
  write(5, 6, "b.journal");  // a file that was not there before
  EXPECT_EQ(bodies(6).size(), 6U);
  follower.reset();
  write(7, 8);  // while nobody looked
  follower = follow(options);
  EXPECT_EQ(bodies(8), (std::vector<std::string>{"line 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7", "line 8"}));
  follower.reset();
  // The entry of the cursor is gone, and all before it.
  std::filesystem::remove(folder_ / "a.journal");
  std::filesystem::remove(folder_ / "b.journal");
  write(9, 10, "c.journal");
  follower = follow(options);
  EXPECT_EQ(bodies(10).size(), 10U);
  EXPECT_EQ(source_->stats().produced, 10U);
  EXPECT_EQ(source_->stats().stored, 10U);
}

TEST_F(JournalFiles, FromTheEndAndOfUnits) {
  write(1, 4);
  auto follower = follow({folder_.string(), {"even"}, false, {}});
  for (int i = 0; i < 200 && source_->stats().text.empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  write(5, 8);
  EXPECT_EQ(bodies(2), (std::vector<std::string>{"line 6", "line 8"}));
  follower.reset();
  const auto probe = JournalFollower::probe({folder_.string(), {"odd"}, false, {}}, {clock_.now_ns(), clock_.wall_offset_ns(), &fake_resolver(), nullptr});
  ASSERT_TRUE(probe) << probe.error().message;
  ASSERT_EQ(probe->examples.size(), 3U);
  EXPECT_EQ(probe->examples[0].body, "line 7");
  EXPECT_EQ(probe->examples[0].entity, "service:odd");
}

TEST_F(JournalFiles, BadOnesAreToldAndEndNothing) {
  const Context context{clock_.now_ns(), clock_.wall_offset_ns(), &fake_resolver(), nullptr};
  EXPECT_EQ(JournalFollower::probe({"relative", {}, false, {}}, context).error().code, Code::Invalid);
  EXPECT_EQ(JournalFollower::probe({"/nonexistent/x.journal", {}, false, {}}, context).error().code, Code::NotFound);
  EXPECT_EQ(JournalFollower::probe({folder_.string(), {}, false, {}}, context).error().code, Code::NotFound);  // empty
  write(1, 2);
  // Each half of the file overwritten, and the file cut short: an error or fewer entries, never a crash.
  std::string good((std::istreambuf_iterator<char>(std::ifstream(folder_ / "a.journal", std::ios::binary).rdbuf())), {});
  for (std::size_t from = 0; from < 6; ++from) {
    std::string bad = good;
    if (from < 4) std::fill(bad.begin() + static_cast<std::ptrdiff_t>(from * 512), bad.begin() + static_cast<std::ptrdiff_t>(from * 512 + 512), '\xa5');
    else bad.resize(bad.size() / from);
    std::ofstream(folder_ / "a.journal", std::ios::binary | std::ios::trunc) << bad;
    const auto probe = JournalFollower::probe({folder_.string(), {}, false, {}}, context);
    if (probe) EXPECT_LE(probe->examples.size(), 2U);
    else EXPECT_FALSE(probe.error().message.empty());
  }
}

}  // namespace
}  // namespace culprit::ingest
