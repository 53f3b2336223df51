// A line that the kernel shows and a source reads is one event, whichever comes first; what only one of them has is lost by neither.
#include "daemon/ingest/line_twins.h"

#include <fmt/format.h>

#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

using stream::Event;
using stream::LineMark;

constexpr std::uint64_t kDevice = 8U << 20U | 1U, kInode = 77;

// What tracking makes of a write; device 0: to a pipe or socket.
Event written(const std::string& line, std::uint64_t device = kDevice, std::int64_t time_ns = kNow - kNsPerSecond) {
  Event event;
  event.kind = stream::Kind::Log;
  event.time_ns = time_ns;
  event.entity = "service:shop";
  event.severity = stream::kError;
  event.trace_id[1] = 7;
  event.span_id = 8;
  event.attributes = {{"service", "shop"}, {"process.pid", "4211"}, {"thread.id", "4212"}};
  event.body = line;
  put_line_mark(event, {device, device == 0 ? 0 : kInode, LineMark::hash(line)});
  return event;
}

Event read_from_file(const std::string& line, bool guessed = true) {
  Event event;
  event.kind = stream::Kind::Log;
  event.time_ns = kNow;
  event.entity = "service:app";
  event.attributes = {{"log.file.path", "/var/log/app.log"}};
  event.body = line;
  put_line_mark(event, {kDevice, kInode, LineMark::hash(line.substr(0, line.find('\n'))), guessed});
  return event;
}

Event read_from_journal(const std::string& line, const std::string& pid = "4211") {
  Event event;
  event.kind = stream::Kind::Log;
  event.time_ns = kNow;
  event.entity = "service:shop";
  event.severity = stream::kInfo;
  event.attributes = {{"process.pid", pid}, {"journal.transport", "stdout"}};
  event.body = line;
  put_line_mark(event, {.text = LineMark::hash(line)});
  return event;
}

struct LineTwinsTest : testing::Test {
  Followed followed;
  LineTwins twins{followed};
  std::vector<Event> stored;

  void see(std::vector<Event> events, std::int64_t now_ns = kNow) {
    twins.kernel(events, now_ns);
    std::ranges::move(events, std::back_inserter(stored));
  }
  void tell(std::vector<Event> events, std::int64_t now_ns = kNow) {
    twins.told(events, now_ns);
    std::ranges::move(events, std::back_inserter(stored));
  }
  std::vector<std::string> bodies() const {
    std::vector<std::string> out;
    for (const Event& event : stored) {
      EXPECT_EQ(event.attribute(LineMark::kAttribute), "") << "a mark is stored";
      out.push_back(event.body);
    }
    return out;
  }
};
using Lines = std::vector<std::string>;

TEST_F(LineTwinsTest, ALineOfAFollowedFileIsTheSourcesAndLearnsWhoWroteIt) {
  followed.begin({kDevice, kInode}, 0);
  see({written("one"), written("two")});
  tell({read_from_file("one"), read_from_file("two\n  at main.js:3")});
  EXPECT_EQ(bodies(), (Lines{"one", "two\n  at main.js:3"}));
  for (const Event& event : stored) {
    EXPECT_EQ(at(event, "process.pid"), "4211");
    EXPECT_EQ(at(event, "thread.id"), "4212");
    EXPECT_EQ(at(event, "log.file.path"), "/var/log/app.log");
    EXPECT_EQ(event.entity, "service:shop");  // the kernel knows, the file's name was a guess
    EXPECT_EQ(event.trace_id[1], 7U);
    EXPECT_EQ(event.span_id, 8U);
    EXPECT_EQ(event.severity, stream::kError);
    EXPECT_EQ(event.time_ns, kNow - kNsPerSecond);  // a file is read later than it is written
  }
  EXPECT_EQ(twins.stats().files, 2U);
  EXPECT_EQ(twins.stats().joined, 2U);
}

TEST_F(LineTwinsTest, WhatTheSourceSaysItselfStays) {
  followed.begin({kDevice, kInode}, 0);
  see({written("one")});
  Event said = read_from_file("one", false);
  said.trace_id[1] = 99;
  said.severity = stream::kInfo;
  said.time_ns = kNow - 5 * kNsPerSecond;
  tell({said});
  ASSERT_EQ(stored.size(), 1U);
  EXPECT_EQ(stored[0].entity, "service:app");
  EXPECT_EQ(stored[0].trace_id[1], 99U);
  EXPECT_EQ(stored[0].span_id, 0U);
  EXPECT_EQ(stored[0].severity, stream::kInfo);
  EXPECT_EQ(stored[0].time_ns, kNow - 5 * kNsPerSecond);
}

// Only what the source reads is left to it.
TEST_F(LineTwinsTest, LinesThatNoSourceReadsAreTheKernels) {
  followed.begin({kDevice, kInode}, kNow - 2 * kNsPerSecond);
  see({written("before it was followed", kDevice, kNow - 3 * kNsPerSecond), written("another file system", kDevice + 1), written("to a pipe", 0)});
  EXPECT_EQ(stored.size(), 3U);
  followed.begin({kDevice, kInode}, kNow);  // a second source, and both end
  followed.end({kDevice, kInode});
  see({written("read")});
  EXPECT_EQ(stored.size(), 3U);
  followed.end({kDevice, kInode});
  see({written("no more")});
  EXPECT_EQ(bodies().back(), "no more");
  EXPECT_EQ(twins.stats().files, 1U);
}

// A file whose lines the kernel cannot tell apart or sees only in part still belongs to its writer.
TEST_F(LineTwinsTest, CutLinesAreTheSourcesToo) {
  followed.begin({kDevice, kInode}, 0);
  const std::string line(300, 'x');
  see({written(line.substr(0, 250)), written("cut sho")});
  tell({read_from_file(line), read_from_file("cut short here")});
  ASSERT_EQ(stored.size(), 2U);
  EXPECT_EQ(at(stored[0], "process.pid"), "4211");  // its first 200 bytes are the same
  EXPECT_EQ(at(stored[1], "process.pid"), "");
  EXPECT_EQ(stored[1].entity, "service:shop");
}

TEST_F(LineTwinsTest, AnEntryOfTheJournalAndTheKernelsLineAreOneInEitherOrder) {
  followed.begin_journal();
  see({written("kernel first", 0)});
  EXPECT_TRUE(stored.empty());
  tell({read_from_journal("kernel first"), read_from_journal("journal first")});
  see({written("journal first", 0)});
  EXPECT_EQ(bodies(), (Lines{"kernel first", "journal first"}));
  EXPECT_EQ(at(stored[0], "thread.id"), "4212");
  EXPECT_EQ(stored[0].trace_id[1], 7U);
  EXPECT_EQ(stored[0].severity, stream::kInfo);
  EXPECT_EQ(twins.stats().journal, 2U);
  EXPECT_EQ(twins.stats().held, 0U);
}

// Equal lines are as many as were written.
TEST_F(LineTwinsTest, EqualLinesAreCounted) {
  followed.begin_journal();
  see({written("tick", 0), written("tick", 0), written("tick", 0)});
  tell({read_from_journal("tick"), read_from_journal("tick"), read_from_journal("tick"), read_from_journal("tick")});
  see({written("tick", 0)});
  EXPECT_EQ(bodies(), (Lines{"tick", "tick", "tick", "tick"}));
}

// Output that goes elsewhere is held once, then never again.
TEST_F(LineTwinsTest, WhatIsNotInTheJournalGoesOnAlone) {
  followed.begin_journal();
  see({written("to a container's pipe", 0)});
  std::vector<Event> out;
  twins.release(kNow + LineTwins::kHoldNs - 1, false, out);
  EXPECT_TRUE(out.empty());
  twins.release(kNow + LineTwins::kHoldNs, false, out);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].body, "to a container's pipe");
  see({written("next", 0)}, kNow + LineTwins::kHoldNs);
  EXPECT_EQ(bodies(), (Lines{"next"}));
  // One that the journal has after all (a new program with that number) is waited for again.
  tell({read_from_journal("in the journal")}, kNow + 2 * LineTwins::kHoldNs);
  see({written("waits", 0)}, kNow + 2 * LineTwins::kHoldNs);
  EXPECT_EQ(stored.size(), 2U);
  twins.release(kNow + 3 * LineTwins::kHoldNs, true, stored);
  EXPECT_EQ(bodies().back(), "waits");
}

TEST_F(LineTwinsTest, WithoutAJournalNothingIsHeld) {
  see({written("one", 0)});
  EXPECT_EQ(bodies(), (Lines{"one"}));
  followed.begin_journal();
  followed.end_journal();
  see({written("two", 0)});
  EXPECT_EQ(bodies(), (Lines{"one", "two"}));
}

TEST_F(LineTwinsTest, BoundedAndNothingIsLost) {
  followed.begin_journal();
  for (std::size_t i = 0; i < LineTwins::kLinesMax + 10; ++i) see({written(fmt::format("line {}", i), 0)});
  EXPECT_EQ(twins.stats().held, LineTwins::kLinesMax);
  twins.release(kNow, false, stored);
  EXPECT_EQ(stored.size(), 10U);
  twins.release(kNow, true, stored);
  EXPECT_EQ(stored.size(), LineTwins::kLinesMax + 10);
}

// A source's lines wait for the kernel's only where the kernel shows such lines.
TEST_F(LineTwinsTest, SourcesWaitForTheKernelOnlyWhereItSpeaks) {
  followed.begin({kDevice, kInode}, 0);
  followed.begin_journal();
  EXPECT_EQ(twins.ready_ns({read_from_file("x")}, kNow), kNow);
  see({written("y")});
  EXPECT_EQ(twins.ready_ns({read_from_file("x")}, kNow), kNow + LineTwins::kEarlyNs);
  // A process of which nobody knows whether the kernel shows it, one that it does not show, and that does.
  EXPECT_EQ(twins.ready_ns({read_from_journal("x")}, kNow), kNow + LineTwins::kEarlyNs);
  tell({read_from_journal("x")});
  EXPECT_EQ(twins.ready_ns({read_from_journal("x")}, kNow), kNow);
  see({written("x", 0)});
  EXPECT_EQ(twins.ready_ns({read_from_journal("x")}, kNow), kNow + LineTwins::kEarlyNs);
}

// What the engine wrote down of a container's output is what the kernel saw its process say.
TEST_F(LineTwinsTest, AContainersLogAndTheKernelsLineAreOneInEitherOrder) {
  const std::string path = "/docker/" + std::string(64, 'a');
  const std::uint64_t container = LineMark::container_number(path);
  const auto said = [&](const std::string& line, std::uint64_t of) {
    Event event = written(line, 0);
    (void)stream::take_line_mark(event);
    put_line_mark(event, {.text = LineMark::hash(line), .container = of});
    return event;
  };
  const auto logged = [&](const std::string& line) {
    Event event = read_from_file(line);
    (void)stream::take_line_mark(event);
    event.entity = "service:aaaaaaaaaaaa";
    event.attributes.emplace_back("container.id", std::string(64, 'a'));
    put_line_mark(event, {.text = LineMark::hash(line), .guessed = true, .container = container});
    return event;
  };
  see({said("nobody reads its log", container)});
  EXPECT_EQ(bodies(), Lines{"nobody reads its log"});
  stored.clear();
  followed.begin_container(container);
  see({said("one", container), said("of another container", container + 1)});
  EXPECT_EQ(bodies(), Lines{"of another container"});
  stored.clear();
  EXPECT_GT(twins.ready_ns({logged("one")}, kNow), kNow);
  tell({logged("one"), logged("two")});
  EXPECT_EQ(bodies(), (Lines{"one", "two"}));
  EXPECT_EQ(stored[0].entity, "service:shop");
  EXPECT_EQ(at(stored[0], "thread.id"), "4212");
  EXPECT_EQ(stored[0].trace_id[1], 7U);
  stored.clear();
  see({said("two", container), said("not to its log", container)});
  EXPECT_EQ(bodies(), Lines{});
  twins.release(kNow + LineTwins::kHoldNs, false, stored);
  EXPECT_EQ(bodies(), Lines{"not to its log"});
  EXPECT_EQ(twins.stats().held, 0U);
  followed.end_container(container);
  stored.clear();
  see({said("again alone", container)});
  EXPECT_EQ(bodies(), Lines{"again alone"});
}

TEST(LineMarkTest, RoundTrips) {
  Event event;
  const LineMark mark{0xfffff, 0xffffffffffffffff, 1, true, 0xfffffffffffffff0};
  put_line_mark(event, mark);
  EXPECT_EQ(stream::take_line_mark(event), mark);
  EXPECT_TRUE(event.attributes.empty());
  EXPECT_EQ(stream::take_line_mark(event), std::nullopt);
  for (const char* text : {"", "1", "1 2 3", "x y z w ", "1 2 3 4", "1 2 3 4 ", "11111111111111111 1 1 1 1 "}) {
    event.attributes = {{std::string(LineMark::kAttribute), text}};
    EXPECT_EQ(stream::take_line_mark(event), std::nullopt) << text;
    EXPECT_TRUE(event.attributes.empty());
  }
  EXPECT_EQ(LineMark::hash("a b \r"), LineMark::hash("a b"));
  EXPECT_NE(LineMark::hash("a b"), LineMark::hash("a  b"));
}

}  // namespace
}  // namespace culprit::ingest
