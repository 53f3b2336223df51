// What a person does with the files, and what becomes of them when any byte is not what was written.
#include "daemon/stream/maintenance.h"

#include <gmock/gmock.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "daemon/base/fd.h"
#include "daemon/base/log.h"
#include "daemon/stream/database.h"
#include "daemon/stream/day_file.h"
#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class MaintenanceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    log::set_level(log::Level::Error);
    options_.block_rows = 40;
    options_.boot_id = "this";
  }
  // Blocks of 40 rows (eight unless told) and, if told, a group that is not sealed; every row of its own text.
  void fill(bool with_group, int blocks = 8) {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    for (int i = 0; i < blocks * 40 + (with_group ? 10 : 0); ++i) {
      Event event = i % 3 == 0 ? sample(i, "host", "x", i) : log_line(i, "service:shop", fmt::format("line {}", i));
      if (i % 5 == 0) event.attributes = {{"row", fmt::format("{}", i)}};
      ASSERT_TRUE((*store)->append({event}));
    }
    ASSERT_TRUE((*store)->flush());
    expected_ = scan_all(**store);
  }
  std::filesystem::path file() const {
    for (const auto& entry : std::filesystem::directory_iterator(options_.folder)) {
      if (entry.path().extension() == ".db") return entry.path();
    }
    return {};
  }
  std::vector<std::string> reopened() {
    auto store = EmbeddedStore::open(options_, clock_);
    EXPECT_TRUE(store) << store.error().message;
    return store ? scan_all(**store) : std::vector<std::string>();
  }

  TemporaryFolder folder_;
  FakeClock clock_{1000 * kNsPerSecond, 1'700'000'000 * kNsPerSecond};
  StoreOptions options_{.folder = folder_.path() / "state"};
  std::vector<std::string> expected_;
};

TEST_F(MaintenanceTest, SoundFilesAreReportedWhole) {
  fill(true);
  const auto reports = verify_store(options_.folder);
  ASSERT_TRUE(reports);
  ASSERT_EQ(reports->size(), 1u);
  const FileReport& report = reports->front();
  EXPECT_TRUE(report.sound());
  EXPECT_EQ(report.blocks, 8u);
  EXPECT_EQ(report.rows, 320u);
  EXPECT_EQ(report.pending, 10u);
  EXPECT_EQ(verify_store(folder_.path() / "none").error().code, Code::NotFound);
}

// Each byte of a sealed day file, changed in one bit and in all: what is read is a part of what was written, in order and
// nothing twice, and what is missing is reported by verify or counted by the store. ThreadSanitizer, which makes each try many
// times slower and looks for something else, tries one byte in 61.
TEST_F(MaintenanceTest, EveryChangedByteIsFoundOrHarmless) {
#if defined(__SANITIZE_THREAD__)
  constexpr std::size_t kEvery = 61;  // a prime: no place in a page or a record is left out always
#else
  constexpr std::size_t kEvery = 1;
#endif
  fill(false, 4);
  (void)reopened();  // seals, and leaves no log beside the file
  const std::string name = file().filename();
  {  // pages of 512 bytes instead of 8 KiB, which are mostly empty in so small a file: an eighth of the bytes, all of which can be tried
    auto database = Database::open(file(), Database::Mode::Write, {});
    ASSERT_TRUE(database);
    ASSERT_TRUE(database->execute("PRAGMA journal_mode = DELETE"));
    ASSERT_TRUE(database->execute("PRAGMA page_size = 512"));
    ASSERT_TRUE(database->execute("VACUUM"));
    ASSERT_TRUE(database->execute("PRAGMA journal_mode = WAL"));
  }
  ASSERT_EQ(reopened(), expected_);
  std::string good;
  {
    std::ifstream in(file(), std::ios::binary);
    good.assign((std::istreambuf_iterator<char>(in)), {});
  }
  const std::multiset<std::string> written(expected_.begin(), expected_.end());
  std::atomic<std::size_t> harmless = 0, one_block = 0, more = 0, refused = 0, next = 0;
  const std::filesystem::path memory = "/dev/shm";
  const auto base = std::filesystem::is_directory(memory) ? memory / folder_.path().filename() : folder_.path() / "changed";
  const auto try_some = [&](unsigned worker) {
    StoreOptions options = options_;
    options.folder = base / fmt::format("{}", worker);
    options.read_only = true;
    const auto path = options.folder / name;
    std::filesystem::create_directories(options.folder);
    std::ofstream(path, std::ios::binary) << good;
    const Fd bytes(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(bytes);
    constexpr std::size_t kTogether = 64 * kEvery;
    for (std::size_t begin = next.fetch_add(kTogether); begin < good.size() && !HasFailure(); begin = next.fetch_add(kTogether)) {
      for (std::size_t at = begin; at < std::min(begin + kTogether, good.size()); at += kEvery) {
        for (const unsigned change : {1u << (at % 8), 0xffu}) {
          SCOPED_TRACE(fmt::format("byte {}, changed by {:#x}", at, change));
          const auto changed = static_cast<char>(static_cast<unsigned char>(good[at]) ^ change);
          ASSERT_EQ(::pwrite(bytes.get(), &changed, 1, static_cast<off_t>(at)), 1);
          for (const char* beside : {"-wal", "-shm"}) std::filesystem::remove(path.string() + beside);
          auto store = EmbeddedStore::open(options, clock_);
          if (!store) {
            EXPECT_EQ(store.error().code, Code::Unsupported);
            ++refused;
          } else {
            const auto lines = scan_all(**store);
            const StoreStats stats = (*store)->stats();
            for (const std::string& line : lines) ASSERT_TRUE(written.contains(line)) << line;
            ASSERT_EQ(std::set<std::string>(lines.begin(), lines.end()).size(), lines.size()) << "twice";
            const std::size_t missing = expected_.size() - lines.size();
            if (missing != 0) {
              const auto reports = verify_store(options.folder);
              ASSERT_TRUE(reports);
              const bool reported = reports->empty() || !reports->front().sound();
              EXPECT_TRUE(reported || stats.files_set_aside + stats.blocks_unreadable > 0) << "missing " << missing;
            }
            ++(missing == 0 ? harmless : missing == options.block_rows ? one_block : more);
          }
          ASSERT_EQ(::pwrite(bytes.get(), &good[at], 1, static_cast<off_t>(at)), 1);
        }
      }
    }
  };
  {
    std::vector<std::jthread> workers;
    for (unsigned worker = 0; worker < std::clamp(std::thread::hardware_concurrency(), 2u, 8u); ++worker) workers.emplace_back(try_some, worker);
  }
  std::filesystem::remove_all(base);
  if (HasFailure()) return;
  EXPECT_EQ(harmless + one_block + more + refused, 2 * ((good.size() + kEvery - 1) / kEvery));
  std::printf("%zu bytes: harmless %zu, one block lost %zu, more lost %zu, refused %zu\n", good.size(), harmless.load(), one_block.load(), more.load(), refused.load());
  // More than one block is lost only where SQLite's own pages say what is where.
  EXPECT_GT(one_block, good.size() / kEvery / 4);
  EXPECT_LT(more, one_block);
}

TEST_F(MaintenanceTest, RepairKeepsWhatCanBeRead) {
  fill(true);
  const std::filesystem::path path = file();
  std::string bytes;
  {
    std::ifstream in(path, std::ios::binary);
    bytes.assign((std::istreambuf_iterator<char>(in)), {});
  }
  // A byte of a blob: "could not" style texts are compressed, so that any byte of a zstd frame will do.
  const std::size_t frame = bytes.find("\x28\xB5\x2F\xFD", bytes.size() / 2);
  ASSERT_NE(frame, std::string::npos);
  bytes[frame + 12] = static_cast<char>(bytes[frame + 12] ^ 1);
  std::ofstream(path, std::ios::binary) << bytes;
  constexpr uid_t kDaemon = 65'534;
  const bool root = ::geteuid() == 0;
  ASSERT_EQ(root ? ::chown(path.c_str(), kDaemon, kDaemon) : 0, 0);
  const auto before = repair_store(options_.folder);
  ASSERT_TRUE(before) << before.error().message;
  ASSERT_EQ(before->size(), 1u);
  EXPECT_FALSE(before->front().sound());
  const auto after = verify_store(options_.folder);
  ASSERT_TRUE(after);
  EXPECT_TRUE(after->front().sound());
  EXPECT_TRUE(std::filesystem::exists(path.string() + ".corrupt-1"));
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, root ? kDaemon : ::getuid());  // whoever repairs it
  const auto lines = reopened();
  EXPECT_GE(lines.size(), expected_.size() - 40);
  EXPECT_LT(lines.size(), expected_.size());
  const auto store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  EXPECT_EQ(repair_store(options_.folder).error().code, Code::Busy);
}

TEST_F(MaintenanceTest, ExportedEventsReplay) {
  fill(true);
  std::stringstream file;
  {
    options_.read_only = true;
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    EXPECT_EQ(*export_events(**store, {}, clock_, file), expected_.size());
    EXPECT_EQ((*store)->append({sample(1, "a", "b", 1)}).error().code, Code::Denied);
  }
  options_ = {.folder = folder_.path() / "other"};
  options_.boot_id = "later";
  clock_ = FakeClock(50 * kNsPerSecond, clock_.wall_offset_ns() + 950 * kNsPerSecond);  // the same moment, after a reboot
  {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    const auto offset_ns = read_export_header(file);
    ASSERT_TRUE(offset_ns);
    EXPECT_EQ(*import_events(file, *offset_ns, **store, clock_), expected_.size());
    std::vector<std::string> moved;
    EXPECT_TRUE((*store)->scan({}, [&](Event event) {
      event.time_ns += 950 * kNsPerSecond;
      moved.push_back(encode_json(event));
      return true;
    }));
    EXPECT_EQ(moved, expected_);
  }
  auto store = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(store);
  const struct {
    const char *text, *says;
  } cases[] = {{"", "line 1 is no header"},
               {"{\"culprit\":\"incident\"}\n", "line 1 is no header"},
               {"{\"culprit\":\"events\",\"version\":2,\"wall_offset_ns\":0}\n", "newer release"},
               {"{\"culprit\":\"events\",\"version\":1,\"wall_offset_ns\":0}\n\n{\"time_ns\":1}\n", "line 3: "},
               {"{\"culprit\":\"events\",\"version\":1,\"wall_offset_ns\":0}\n{\"time_ns\":1,\"kind\":\"log\",\"entity\":\"a\",\"name\":\"b\"}\n7\n", "1 events before it were taken"}};
  for (const auto& c : cases) {
    std::istringstream in(c.text);
    const auto offset_ns = read_export_header(in);
    const auto done = offset_ns ? import_events(in, *offset_ns, **store, clock_) : std::unexpected(offset_ns.error());
    ASSERT_FALSE(done) << c.text;
    EXPECT_THAT(done.error().message, HasSubstr(c.says));
  }
}

TEST_F(MaintenanceTest, AnExportIsCheckedWholeAndNoted) {
  const std::string header = "{\"culprit\":\"events\",\"version\":1,\"wall_offset_ns\":5}\n", event = R"({"time_ns":1,"kind":"log","entity":"a","body":"b"})";
  const auto check = [](const std::string& text) {
    std::istringstream in(text);
    return check_export(in);
  };
  const auto whole = check(header + event + "\n" + event + "\n");
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_EQ(whole->events, 2U);
  EXPECT_EQ(check(header + event + "\n" + event)->mark, whole->mark);  // an editor took the last line's end
  EXPECT_NE(check(header + event + "\n")->mark, whole->mark);
  std::string moved = header;
  moved.replace(moved.find(":5}"), 3, ":6}");
  EXPECT_NE(check(moved + event + "\n" + event + "\n")->mark, whole->mark);
  EXPECT_THAT(check(header + event + "\n" + event.substr(0, 20)).error().message, HasSubstr("line 3: "));
  EXPECT_THAT(check("").error().message, HasSubstr("line 1 is no header"));

  const auto folder = folder_.path();
  EXPECT_FALSE(noted_import(folder, whole->mark));
  ASSERT_TRUE(note_import(folder, {.mark = whole->mark, .file = "a\xff.jsonl", .wall_ns = 7}));
  ASSERT_TRUE(noted_import(folder, whole->mark));
  EXPECT_FALSE(noted_import(folder, whole->mark)->whole);
  ASSERT_TRUE(note_import(folder, {.mark = "another", .file = "b", .wall_ns = 8, .events = 1, .whole = true}));
  ASSERT_TRUE(note_import(folder, {.mark = whole->mark, .file = "a.jsonl", .wall_ns = 9, .events = 2, .whole = true}));
  std::ofstream(folder / "imports.jsonl", std::ios::app) << "[]\n{\"mark\":[1]}\n{\"mark\":\"" << whole->mark << "\",\"events\":-1,\"file\":3";
  const auto noted = noted_import(folder, whole->mark);
  ASSERT_TRUE(noted);
  EXPECT_TRUE(noted->whole);
  EXPECT_EQ(noted->events, 2U);
  EXPECT_EQ(noted->file, "a.jsonl");
  EXPECT_EQ(noted->wall_ns, 9);
  ASSERT_TRUE(note_import(folder, {.mark = whole->mark, .file = "behind a line that was cut off", .wall_ns = 10, .events = 2, .whole = true}));
  EXPECT_EQ(noted_import(folder, whole->mark)->wall_ns, 10);
}

// Long lines: no batch is larger than the store's memory. A store that had no room for all of them says so.
TEST_F(MaintenanceTest, ImportOfMoreThanMemoryHolds) {
  std::string text;
  for (int i = 0; i < 150; ++i) text += encode_json(log_line(i, "a", std::string(20'000, static_cast<char>('a' + i % 26)))) + "\n";
  StoreOptions in_memory{.memory_bytes = 2u << 20};
  in_memory.block_rows = 20;
  options_.block_rows = 20;
  options_.memory_bytes = 2u << 20;
  for (const StoreOptions& options : {options_, in_memory}) {
    auto store = EmbeddedStore::open(options, clock_);
    ASSERT_TRUE(store);
    std::istringstream in(text);
    const auto count = import_events(in, clock_.wall_offset_ns(), **store, clock_);
    if (options.folder.empty()) {
      ASSERT_FALSE(count);
      EXPECT_EQ(count.error().code, Code::Exhausted);
      EXPECT_THAT(count.error().message, AllOf(HasSubstr("of 150 events found no room"), HasSubstr("memory_limit")));
    } else {
      ASSERT_TRUE(count) << count.error().message;
      EXPECT_EQ(*count, 150U);
      EXPECT_EQ(scan_all(**store).size(), 150U);
    }
  }
}

TEST_F(MaintenanceTest, BackupIsAStoreOfItsOwn) {
  fill(true);
  const auto running = EmbeddedStore::open(options_, clock_);
  ASSERT_TRUE(running);
  const auto copy = folder_.path() / "copy";
  EXPECT_EQ(*backup_store(options_.folder, copy), 1u);
  EXPECT_EQ(backup_store(options_.folder, copy).error().code, Code::Invalid);
  options_.folder = copy;
  EXPECT_EQ(reopened(), expected_);
}

// Summaries are checked, repaired and copied as the raw days are, and a copy knows what was imported.
TEST_F(MaintenanceTest, SummariesAndNotesAreLookedAfterToo) {
  fill(true);
  {
    auto store = EmbeddedStore::open(options_, clock_);
    ASSERT_TRUE(store);
    clock_.advance(2 * 86'400 * kNsPerSecond);
    ASSERT_TRUE((*store)->append({log_line(clock_.now_ns(), "a", "today")}));
    ASSERT_TRUE((*store)->flush());
    ASSERT_TRUE((*store)->prune(clock_.now_ns() - 86'400 * kNsPerSecond));
    for (int i = 0; i < 3'000 && day_files(options_.folder, kDayFilePrefix).size() > 1; ++i) {  // the raw day goes when its summary is made
      ASSERT_TRUE((*store)->flush());
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  ASSERT_TRUE(note_import(options_.folder, {.mark = "m", .file = "f", .whole = true}));
  const auto minutes = day_files(options_.folder, kMinuteFilePrefix).at(0);
  auto reports = verify_store(options_.folder);
  ASSERT_TRUE(reports);
  ASSERT_EQ(reports->size(), 2U);
  EXPECT_EQ(reports->back().file, minutes);
  const std::uint64_t summaries = reports->back().rows;
  EXPECT_GT(summaries, 0U);
  const auto copy = folder_.path() / "copy";
  EXPECT_EQ(*backup_store(options_.folder, copy), 2U);
  EXPECT_TRUE(noted_import(copy, "m"));
  EXPECT_EQ(verify_store(copy)->back().rows, summaries);
  {
    auto database = Database::open(minutes, Database::Mode::Write, {});
    ASSERT_TRUE(database && database->execute("UPDATE columns SET data = zeroblob(9) WHERE id % 16 = 1"));
  }
  EXPECT_FALSE(verify_store(options_.folder)->back().sound());
  ASSERT_TRUE(repair_store(options_.folder));
  EXPECT_TRUE(verify_store(options_.folder)->back().sound());
}

// A file that was begun when the power went is empty: it keeps nobody from the others. One that is no database is left out of a backup, which says so.
TEST_F(MaintenanceTest, OneFileDoesNotKeepFromTheOthers) {
  fill(true);
  std::ofstream(options_.folder / "stream-2001-01-01.db").close();
  options_.read_only = true;
  EXPECT_EQ(reopened(), expected_);
  options_.read_only = false;
  const auto reports = verify_store(options_.folder);
  ASSERT_TRUE(reports);
  EXPECT_TRUE(std::ranges::all_of(*reports, &FileReport::sound));
  std::ofstream(options_.folder / "stream-2001-01-02.db") << std::string(20'000, 'x');
  const auto files = backup_store(options_.folder, folder_.path() / "copy");
  ASSERT_FALSE(files);
  EXPECT_THAT(files.error().message, AllOf(HasSubstr("stream-2001-01-02.db"), HasSubstr("not all")));
  options_.folder = folder_.path() / "copy";
  EXPECT_EQ(reopened(), expected_);
}

}  // namespace
}  // namespace culprit::stream
