// Import and library: what comes in, what is found, what goes again.
#include "graph/library.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <array>

#include "graph/import.h"
#include "graph/schema.h"
#include "graph/sqlite.h"
#include "graph/store.h"
#include "graph/words.h"
#include "tests/graph/temporary.h"

namespace culprit::graph {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> titles(const std::vector<ImportItem>& items) {
  std::vector<std::string> result;
  for (const ImportItem& item : items) result.push_back(item.title);
  return result;
}

TEST(Import, MarkdownIsCutAtHeadings) {
  const auto items = parse_import("ops/toys.md", "Intro\n# When it jams\nTurn the crank.\n```\n# not a heading\n```\n## Empty\n## Else\nx\n#no\n", ImportFormat::Markdown);
  ASSERT_TRUE(items);
  EXPECT_THAT(titles(items->items), ElementsAre("toys", "toys: When it jams", "toys: Else"));
  EXPECT_EQ(items->items[1].key, "2");
  EXPECT_THAT(items->items[1].body, HasSubstr("# not a heading"));
  EXPECT_THAT(items->items[2].body, HasSubstr("#no"));
}

TEST(Import, HtmlIsTextWithoutScripts) {
  const auto items = parse_import("a.html",
                                  "<html><style>p{}</style><h1>Disk &amp; room</h1><p>It is <b>full</b>.</p><script>alert('</b>')</SCRIPT >"
                                  "<h2>Next</h2>after<!-- hidden --> all<script>never ends",
                                  ImportFormat::Html);
  ASSERT_TRUE(items);
  EXPECT_THAT(titles(items->items), ElementsAre("a: Disk & room", "a: Next"));
  EXPECT_THAT(items->items[0].body, HasSubstr("full"));
  for (const ImportItem& item : items->items) EXPECT_THAT(item.body, Not(::testing::ContainsRegex("alert|hidden|never|p\\{")));
}

// Headings of a page that is one line have keys of their own.
TEST(Import, HtmlOnOneLine) {
  const auto items = parse_import("a.html", "<h1>One</h1>first<h1>Two</h1>second" + std::string(kItemBytesMax, 'x') + "<h1>Three</h1>third", ImportFormat::Html);
  ASSERT_TRUE(items);
  std::vector<std::string> keys;
  for (const ImportItem& item : items->items) keys.push_back(item.key);
  EXPECT_THAT(keys, ElementsAre("1", "1.1", "1.1+1", "1.2"));
}

TEST(Import, JsonLines) {
  const auto items = parse_import("a.jsonl", R"({"id": "a", "title": "A", "text": "one", "collection": "c", "middleware": "redis"})" "\n\n" R"({"body": "two"})" "\n", ImportFormat::JsonLines);
  ASSERT_TRUE(items) << items.error().message;
  EXPECT_EQ(items->items[0].middleware, "redis");
  EXPECT_EQ(items->items[1].key, "3");
  EXPECT_EQ(items->items[1].body, "two");
  const struct { std::string text; const char* said; } bad[] = {
      {"{\"text\": \"x\"}\nnot json\n", "a.jsonl:2: no JSON object"},
      {"{\"title\": \"x\"}\n", "a.jsonl:1: 'text' is missing"},
      {"{\"id\":\"1\",\"text\":\"x\"}\n{\"id\":\"1\",\"text\":\"y\"}\n", "a.jsonl:2: id '1' is given twice"},
      {std::string(100'000, '['), "nested deeper"},
  };
  for (const auto& c : bad) {
    const auto read = parse_import("a.jsonl", c.text, ImportFormat::JsonLines);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Code::Invalid);
    EXPECT_THAT(read.error().message, HasSubstr(c.said));
  }
}

// Verdicts of a team come with its documents, once each; taking the file away takes them away.
TEST(Import, Verdicts) {
  test::TemporaryFolder folder;
  const auto read = parse_import("a.jsonl", R"({"failure_mode":"redis/down","right":3,"wrong":1,"partly":0})" "\n", ImportFormat::JsonLines);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->verdicts.size(), 1U);
  Library library = std::move(*Library::open(folder / "graph.db", Library::Mode::Write));
  Store store = std::move(*Store::open(folder / "graph.db", Store::Mode::Write));
  for (int again = 0; again < 2; ++again) ASSERT_TRUE(library.put("a.jsonl", "h", read->items, 1, read->verdicts));
  EXPECT_EQ(store.verdicts()->at("redis/down").right, 3);
  EXPECT_TRUE(store.own_verdicts()->empty());  // what others said is not passed on as ours
  ASSERT_TRUE(library.remove("a.jsonl"));
  EXPECT_TRUE(store.verdicts()->empty());
  EXPECT_EQ(parse_import("a", R"({"failure_mode":"x","right":-1,"wrong":0,"partly":0})", ImportFormat::JsonLines).error().code, Code::Invalid);
}

// Hostile files are refused or cut, never followed.
TEST(Import, HostileFiles) {
  EXPECT_EQ(parse_import("a.md", std::string("a\0b", 3), ImportFormat::Markdown).error().code, Code::Invalid);
  EXPECT_THAT(parse_import("a.md", std::string(10'000, 'a') + std::string(1, '\0'), ImportFormat::Markdown).error().message, HasSubstr("a NUL at byte 10000"));
  EXPECT_EQ(parse_import("a.txt", std::string(kImportBytesMax + 1, 'x'), ImportFormat::Text).error().code, Code::Exhausted);
  std::string deep;
  for (int i = 0; i < 200'000; ++i) deep += "<div>";
  EXPECT_TRUE(parse_import("a.html", deep + "text", ImportFormat::Html));
  const auto cut = parse_import("a.txt", std::string(3 * kItemBytesMax, 'x'), ImportFormat::Text);
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->items.size(), 3U);
  EXPECT_EQ(cut->items[1].key, "1+1");
  EXPECT_TRUE(parse_import("a.md", "\xff\xfe\n# \xc3\x28\n", ImportFormat::Markdown));
}

class LibraryTest : public ::testing::Test {
 protected:
  Library open() { return std::move(*Library::open(folder_ / "graph.db", Library::Mode::Write)); }
  std::vector<std::int64_t> found(Library& library, std::string_view text, std::string_view collection = {}) {
    std::vector<std::int64_t> ids;
    const auto scores = library.find(text, collection, 10);
    for (const TextScore& one : *scores) ids.push_back(one.text);
    return ids;
  }
  test::TemporaryFolder folder_;
};

// Importing again changes only what changed, and what is gone is not found.
TEST_F(LibraryTest, ReimportsAndRemoves) {
  Library library = open();
  std::vector<ImportItem> items = {{.key = "1", .collection = "wiki", .title = "Crank", .body = "the frobnicator jams"}, {.key = "2", .title = "Oil", .body = "needs oil monthly"}};
  auto counts = library.put("/w/a.md", "h1", items, 1);
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_EQ(counts->added, 2U);
  EXPECT_TRUE(*library.is_current("/w/a.md", "h1"));
  EXPECT_FALSE(*library.is_current("/w/a.md", "h2"));
  const auto first = found(library, "frobnicators jam?");
  ASSERT_EQ(first.size(), 1U);
  EXPECT_TRUE(found(library, "frobnicator", "other").empty());
  EXPECT_EQ(found(library, "frobnicator", "wiki"), first);
  const StoredVector vector{.text = first[0], .scale = 0.5F, .values = "\x01\x7f"};
  ASSERT_TRUE(library.put_vectors("m1", std::span(&vector, 1)));
  const TextLink link{first[0], "redis/down", 0.7};
  ASSERT_TRUE(library.set_links(first, std::span(&link, 1)));

  items[1].body = "needs grease monthly";
  items.push_back({.key = "3", .title = "New", .body = "a third"});
  counts = library.put("/w/a.md", "h2", items, 2);
  EXPECT_EQ(counts->unchanged, 1U);
  EXPECT_EQ(counts->changed, 1U);
  EXPECT_EQ(counts->added, 1U);
  EXPECT_EQ(found(library, "frobnicator"), first);  // the same id, with its vector and link
  EXPECT_EQ(library.vectors("m1", 0, 10)->size(), 1U);
  EXPECT_TRUE(library.vectors("m2", 0, 10)->empty());
  EXPECT_EQ(library.links_of("redis/down", 10)->size(), 1U);
  EXPECT_TRUE(found(library, "oil").size() == 1U);  // the title only
  EXPECT_EQ(library.without_vector("m1")->size(), 2U);

  const auto before = *library.version();
  ASSERT_TRUE(library.put("/w/sub/b.md", "h", std::vector<ImportItem>{{.key = "1", .title = "B", .body = "gasket"}}, 3));
  EXPECT_NE(*library.version(), before);
  EXPECT_EQ(library.remove("/x").error().code, Code::NotFound);
  EXPECT_EQ(*library.remove("/w"), 2U);
  EXPECT_TRUE(found(library, "frobnicator gasket").empty());
  EXPECT_EQ(library.stats()->links, 0);
  EXPECT_EQ(library.stats()->vectors, 0);
}

TEST_F(LibraryTest, NothingHalfImported) {
  Library library = open();
  const std::vector<ImportItem> twice = {{.key = "1", .title = "A", .body = "alpha"}, {.key = "1", .title = "B", .body = "beta"}};
  EXPECT_EQ(library.put("s", "h", twice, 1).error().code, Code::Invalid);
  EXPECT_EQ(library.stats()->documents, 0);
  EXPECT_EQ(library.stats()->sources, 0);
}

// Nothing that a person types is query syntax; a reader sees what a writer wrote.
TEST_F(LibraryTest, OddQuestionsAndReaders) {
  Library writer = open();
  ASSERT_TRUE(writer.put("s", "h", std::vector<ImportItem>{{.key = "1", .title = "T", .body = "alpha NotEnoughReplicas"}}, 1));
  Library reader = std::move(*Library::open(folder_ / "graph.db", Library::Mode::Read));
  for (const char* text : {"", "\"", "NEAR(", "a\" OR b", "*", "\xff", "OR AND NOT"}) EXPECT_TRUE(reader.find(text, "", 5)) << text;
  EXPECT_EQ(found(reader, "alpha").size(), 1U);
  EXPECT_EQ(Library::open(folder_ / "none.db", Library::Mode::Read).error().code, Code::NotFound);
}

TEST(Words, OfQuestionsAndTitles) {
  EXPECT_THAT(question_words("The OOMKilled pod, NotEnoughReplicas: HTTP2 io_uring"),
              ElementsAre("oom", "killed", "oomkilled", "pod", "not", "enough", "replicas", "notenoughreplicas", "http2", "io", "uring"));
  EXPECT_THAT(question_words("the of \"\" \xc3\xa4rger"), ElementsAre("\xc3\xa4rger"));
  const struct { const char* title; const char* body; const char* out; } cases[] = {
      {"NodeFileDescriptorLimit", "", "NodeFileDescriptorLimit node file descriptor limit"},
      {"NodeFileDescriptorLimit", "A File is open on this NODE.", "NodeFileDescriptorLimit descriptor limit"},
      {"Node clock", "KubeProxyDown is a mention", "Node clock"},
      {"KubeDown down", "", "KubeDown down kube"},
      {"", "", ""},
  };
  for (const auto& c : cases) {
    const std::array<std::string_view, 1> others = {c.body};
    EXPECT_EQ(title_words(c.title, others), c.out);
  }
}

// A document is found by the parts of its name, and not any more when it is gone.
TEST_F(LibraryTest, TitlesAreFoundByTheirParts) {
  Library library = open();
  std::vector<ImportItem> items = {{.key = "1", .title = "NodeFileDescriptorLimit", .body = "raise it"}, {.key = "2", .title = "Other", .body = "nothing"}};
  ASSERT_TRUE(library.put("s", "h", items, 1));
  EXPECT_EQ(found(library, "out of file descriptors").size(), 1U);
  items[0].title = "Renamed";
  ASSERT_TRUE(library.put("s", "h2", items, 2));
  EXPECT_TRUE(found(library, "out of file descriptors").empty());
}

// Programs glue words together: what no document has is asked for by its longest beginning that some have, of five letters or more.
TEST_F(LibraryTest, UnknownWordsByTheirBeginning) {
  Library library = open();
  ASSERT_TRUE(library.put("s", "h", std::vector<ImportItem>{{.key = "1", .title = "A", .body = "an annotation is deprecated"}, {.key = "2", .title = "B", .body = "oil"}}, 1));
  EXPECT_EQ(found(library, "deprecatedfoo").size(), 1U);
  EXPECT_TRUE(found(library, "oilskin").empty());
  EXPECT_TRUE(found(library, "deprecated\xe6\x97\xa5\xe6\x9c\xac").empty());  // never cut inside a character
  EXPECT_TRUE(found(library, std::string(5'000, 'x')).empty());
}

// A file of an earlier release is brought up to date: what was imported with it is found by the parts of titles too.
TEST_F(LibraryTest, OlderFilesAreMigrated) {
  constexpr std::size_t kBefore = 4;
  {
    const auto database = std::move(*Database::open((folder_ / "graph.db").string(), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
    for (std::size_t step = 0; step < kBefore; ++step) ASSERT_TRUE(database->execute(schema_texts()[step].text.c_str()));
    ASSERT_TRUE(database->execute("INSERT INTO source VALUES(1, 's', 'h', 1);"
                                  "INSERT INTO text(source, key, collection, title, body, signal, hash, middleware) VALUES(1, '1', '', 'KubeProxyDown', 'x', '', '', '');"
                                  "PRAGMA application_id = 0x43756C70; PRAGMA user_version = 4"));
  }
  Library library = open();
  EXPECT_EQ(found(library, "proxy").size(), 1U);
  EXPECT_EQ(*library.remove("s"), 1U);
  EXPECT_TRUE(found(library, "proxy").empty());
}

// A damaged file is set aside and said; a good one is not touched.
TEST_F(LibraryTest, DamagedFileIsSetAside) {
  {
    Library library = open();
    std::vector<ImportItem> items;
    for (int i = 0; i < 200; ++i) items.push_back({.key = std::to_string(i), .title = "T", .body = std::string(500, 'x')});
    ASSERT_TRUE(library.put("s", "h", items, 1));
  }
  std::string said;
  ASSERT_TRUE(Store::open_or_set_aside(folder_ / "graph.db", said));
  EXPECT_EQ(said, "");
  {
    std::fstream file(folder_ / "graph.db", std::ios::in | std::ios::out | std::ios::binary);
    for (int page = 3; page < 30; ++page) {
      file.seekp(page * 4096);
      file << std::string(4096, '\x5a');
    }
  }
  // Not under somebody who has it open, as a running daemon has: it would go on writing into what was set aside.
  {
    Fd daemon(::open((folder_ / "graph.db.lock").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::flock(daemon.get(), LOCK_SH), 0);
    const auto refused = Store::open_or_set_aside(folder_ / "graph.db", said);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::Busy);
    EXPECT_EQ(Store::check_not_in_use(folder_ / "graph.db").error().code, Code::Busy);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "graph.db.damaged-1"));
  }
  EXPECT_TRUE(Store::check_not_in_use(folder_ / "graph.db"));
  ASSERT_TRUE(Store::open_or_set_aside(folder_ / "graph.db", said));
  EXPECT_THAT(said, HasSubstr("graph.db.damaged-1"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "graph.db.damaged-1"));
  EXPECT_EQ(open().stats()->documents, 0);
}

}  // namespace
}  // namespace culprit::graph
