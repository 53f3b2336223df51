// Recall: modes and documents for a question, import and its vectors, incidents as experience.
#include "daemon/recall/recall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "daemon/recall/incidents.h"
#include "tests/graph/temporary.h"

namespace culprit::recall {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

std::shared_ptr<const Modes> modes() {
  static const auto kModes = std::make_shared<const Modes>(graph::Knowledge::load({}).value(), built_in_model().value());
  return kModes;
}

// The built-in model is that of the built-in packs, and small.
TEST(Modes, BuiltInModel) {
  const auto model = built_in_model();
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_LE(model->bytes(), embed::kModelBytesMax);
  EXPECT_NE(model->input_hash(), 0U);
}

// A line that shows a tell-tale, and words that no pack has literally, lead to the mode.
TEST(Modes, RanksByLiteralsWordsAndLikeness) {
  const struct { const char* text; const char* middleware; const char* first; } cases[] = {
      {"2026-11-23 FATAL:  sorry, too many clients already", "", "postgresql/too-many-clients"},
      {"nginx: connect() failed (111: Connection refused) while connecting to upstream", "", "nginx/upstream-refused"},
      {"every select on that table is stuck since somebody ran an alter", "postgresql", "postgresql/lock-wait"},
      {"the certificate was not renewed and browsers complain", "tls", "tls/"},
  };
  for (const auto& c : cases) {
    const auto answers = modes()->ask(c.text, c.middleware, 3);
    ASSERT_EQ(answers.size(), 3U);
    EXPECT_THAT(answers[0].mode->id, HasSubstr(c.first)) << c.text;
  }
  EXPECT_NE(modes()->ask(cases[0].text, "", 1)[0].symptom, nullptr);
  EXPECT_TRUE(modes()->ask("", "", 5).size() <= 5);
}

// Templates are recognised by tell-tale with its weight, by likeness only for a known middleware and with little weight.
TEST(Modes, RecognisesTemplates) {
  const auto sure = modes()->recognise("FATAL:  sorry, too many clients already", "postgres");
  ASSERT_FALSE(sure.empty());
  EXPECT_GT(sure[0].weight, 0.8);
  for (const char* text : {"request finished in 3 ms", "checkpoint complete: wrote 3 buffers", "GET /items 200"}) {
    for (const char* program : {"postgres", "shop", ""}) EXPECT_TRUE(modes()->recognise(text, program).empty()) << text << " of " << program;
  }
}

class RecallTest : public ::testing::Test {
 protected:
  std::unique_ptr<Recall> open(bool write = true, std::shared_ptr<const embed::Embedder> embedder = nullptr) {
    auto opened = Recall::open(modes(), {.graph_file = folder_ / "graph.db", .write = write, .embedder = embedder});
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(*opened);
  }
  std::vector<std::string> found(Recall& recall, const std::string& text, const std::string& collection = "") {
    std::vector<std::string> titles;
    const auto answers = recall.documents({.text = text, .collection = collection});
    EXPECT_TRUE(answers) << answers.error().message;
    for (const DocumentAnswer& answer : *answers) titles.push_back(answer.document.item.title);
    return titles;
  }
  graph::test::TemporaryFolder folder_;
};

// What was imported is found at once, also by a reader that was open before; a broken file does not stop the others.
TEST_F(RecallTest, ImportsAFolder) {
  auto recall = open();
  auto reader = open(false);
  EXPECT_TRUE(found(*recall, "anything").empty());
  std::filesystem::create_directories(folder_ / "wiki/sub");
  folder_.write("wiki/redis.md", "# Cache full\nRedis throws keys out and the hit ratio falls. Raise maxmemory.\n# Other\nNothing.\n");
  folder_.write("wiki/sub/page.html", "<h1>Printer</h1><p>The printer on floor three jams.</p>");
  folder_.write("wiki/broken.jsonl", "{}\n");
  folder_.write("wiki/picture.png", "x");
  std::size_t calls = 0;
  auto counts = recall->import(folder_ / "wiki", 1, [&](std::string_view, std::size_t done, std::size_t all) {
    ++calls;
    EXPECT_LE(done, all);
  });
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_EQ(counts->files, 3U);
  EXPECT_EQ(counts->failed, 1U);
  EXPECT_THAT(counts->problems.at(0), HasSubstr("broken.jsonl:1"));
  EXPECT_EQ(counts->documents.added, 3U);
  EXPECT_GT(calls, 0U);
  EXPECT_EQ(found(*recall, "printer jam").at(0), "page: Printer");
  EXPECT_EQ(found(*reader, "printer jam").at(0), "page: Printer");
  // It is linked to what it speaks of.
  const auto linked = recall->library()->links_of("redis/evictions", 10);
  EXPECT_FALSE(linked->empty());

  counts = recall->import(folder_ / "wiki", 2, {});
  EXPECT_EQ(counts->current, 2U);
  EXPECT_EQ(counts->documents.added, 0U);
  folder_.write("wiki/sub/page.html", "<h1>Printer</h1><p>It was thrown away.</p>");
  EXPECT_EQ(recall->import(folder_ / "wiki", 3, {})->documents.changed, 1U);
  EXPECT_EQ(*recall->remove((folder_ / "wiki").string()), 2U);
  EXPECT_TRUE(found(*recall, "printer redis").empty());
  EXPECT_EQ(recall->remove("wiki").error().code, Code::NotFound);
  EXPECT_EQ(recall->import(folder_ / "none", 3, {}).error().code, Code::NotFound);
}

// The index file is a cache: damaged or gone, answers stay the same.
TEST_F(RecallTest, IndexFileIsACache) {
  folder_.write("a.jsonl", R"({"id":"1","title":"A","text":"the frobnicator is out of oil"})" "\n" R"({"id":"2","title":"B","text":"the disk is full"})" "\n");
  ASSERT_TRUE(open()->import(folder_ / "a.jsonl", 1, {}));
  const auto before = found(*open(false), "volume has no room left");
  ASSERT_EQ(before.at(0), "B");
  folder_.write("graph.db.vectors", "garbage");
  EXPECT_EQ(found(*open(false), "volume has no room left"), before);
  std::filesystem::remove(folder_ / "graph.db.vectors");
  EXPECT_EQ(found(*open(false), "volume has no room left"), before);
}

// What a question means lifts the documents that speak of it, as far as the library speaks of such things at all.
TEST_F(RecallTest, LinksCountAsFarAsTheyCover) {
  folder_.write("about.jsonl", R"({"id":"1","collection":"c","title":"Eviction","text":"redis throws keys out because maxmemory is reached"})" "\n");
  folder_.write("other.jsonl", R"({"id":"1","collection":"c","title":"Tea","text":"the kettle is on the second floor"})" "\n");
  auto recall = open();
  ASSERT_TRUE(recall->import(folder_ / "about.jsonl", 1, {}));
  ASSERT_TRUE(recall->import(folder_ / "other.jsonl", 1, {}));
  const auto link_of = [&](const char* text) {
    const auto answers = recall->documents({.text = text, .collection = "c"});
    EXPECT_TRUE(answers);
    const auto at = std::ranges::find(*answers, "Eviction", [](const DocumentAnswer& one) { return one.document.item.title; });
    return at == answers->end() ? -1.0 : at->link_score;
  };
  const char* question = "redis evicted keys, maxmemory reached";
  const double alone = link_of(question);
  EXPECT_GT(alone, 0.0);
  // More of what the question may mean is spoken of: the same link counts for more.
  folder_.write("rival.jsonl", R"({"id":"1","collection":"c","title":"OOM","text":"redis: writes are refused with OOM command not allowed when used memory > maxmemory"})" "\n");
  ASSERT_TRUE(recall->import(folder_ / "rival.jsonl", 1, {}));
  EXPECT_GT(link_of(question), alone * 1.05);
  EXPECT_LE(link_of("a certificate expired last night"), 0.0);
}

class FakeEmbedder final : public embed::Embedder {
 public:
  Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) const override {
    if (dead) return fail(Code::Io, "dead");
    if (texts.size() == 1) asked = texts[0];
    std::vector<std::vector<float>> vectors;
    for (const std::string& text : texts) vectors.push_back(text.find("oil") != std::string::npos || text.find("grease") != std::string::npos ? std::vector<float>{1, 0} : std::vector<float>{0, 1});
    return vectors;
  }
  std::size_t dimensions() const override { return 2; }
  std::string_view name() const override { return "fake"; }
  bool dead = false;
  mutable std::string asked;
};

// Vectors of another embedder do not mix with those of the model; without it words still find.
TEST_F(RecallTest, AnotherEmbedder) {
  folder_.write("a.jsonl", R"({"id":"1","title":"A","text":"the frobnicator is out of oil"})" "\n" R"({"id":"2","title":"B","text":"the disk is full"})" "\n");
  ASSERT_TRUE(open()->import(folder_ / "a.jsonl", 1, {}));
  const auto shared = std::make_shared<FakeEmbedder>();  // the Recall shares it
  FakeEmbedder& fake = *shared;
  auto recall = open(true, shared);
  ASSERT_TRUE(recall->relink({}));
  EXPECT_EQ(found(*recall, "grease").at(0), "A");
  EXPECT_EQ(recall->library()->vector_ids("fake")->size(), 2U);
  fake.dead = true;
  EXPECT_EQ(found(*recall, "frobnicator").at(0), "A");
  // Documents imported meanwhile are there, and get their vectors when it answers again.
  folder_.write("b.jsonl", R"({"id":"3","title":"C","text":"grease on the gears"})" "\n");
  const auto counts = recall->import(folder_ / "b.jsonl", 2, {});
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_EQ(counts->documents.added, 1U);
  EXPECT_EQ(found(*recall, "gears").at(0), "C");
  EXPECT_EQ(recall->library()->vector_ids("fake")->size(), 2U);
  EXPECT_EQ(*recall->complete({}), 1U);
  fake.dead = false;
  EXPECT_EQ(*recall->complete({}), 0U);
  EXPECT_EQ(recall->library()->vector_ids("fake")->size(), 3U);
  // The question is without its values.
  (void)found(*recall, "user 'bob' at 10.0.0.7 cannot write /home/bob/x: didn't fit id=77");
  EXPECT_EQ(fake.asked, "user * at * cannot write * didn't fit *");
}

// A database that was set aside is filled again from the files, as far as they are there; what is gone is named.
TEST_F(RecallTest, ImportsAgainAfterDamage) {
  std::filesystem::create_directories(folder_ / "wiki");
  folder_.write("wiki/a.md", "# Printer\nIt jams.\n");
  folder_.write("wiki/b.md", "# Lift\nIt is stuck between two floors.\n");
  ASSERT_TRUE(open()->import(folder_ / "wiki", 1, {}));
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(folder_ / (std::string("graph.db") + suffix));
  folder_.write("graph.db", std::string(100'000, 'x'));
  std::string said;
  ASSERT_TRUE(graph::Store::open_or_set_aside(folder_ / "graph.db", said));
  EXPECT_THAT(said, HasSubstr("set aside"));
  std::filesystem::remove(folder_ / "wiki/b.md");
  auto recall = open();
  const auto counts = recall->reimport(2, {});
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_EQ(counts->documents.added, 1U);
  EXPECT_EQ(counts->failed, 1U);
  EXPECT_THAT(counts->problems.at(0), HasSubstr("b.md"));
  EXPECT_EQ(found(*recall, "printer jams").at(0), "a: Printer");
}

// Links follow the packs: a mode that a new pack brings is linked to documents that were there before.
TEST_F(RecallTest, LinksAreRenewedWithThePacks) {
  folder_.write("a.md", "# Frobnicator\nThe frobnicator is out of oil and squeaks; oil it.\n");
  ASSERT_TRUE(open()->import(folder_ / "a.md", 1, {}));
  EXPECT_TRUE(open(false)->library()->links_of("toy/squeak", 10)->empty());
  const graph::PackText toy{"toy.yaml",
      "schema: 1\nmiddleware: toy\ntitle: Toy\nfailure_modes:\n  - {id: squeak, name: Frobnicator squeaks, summary: The frobnicator is out of oil and squeaks, "
      "symptoms: [{id: log, literal: out of oil}], causes: [{id: x, text: No oil}], mitigations: [{id: y, kind: lasting, text: oil it}]}\n"};
  const auto more = std::make_shared<const Modes>(graph::Knowledge::load({.packs = {toy}}).value(), built_in_model().value());
  auto opened = Recall::open(more, {.graph_file = folder_ / "graph.db", .write = true});
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_TRUE((*opened)->complete({}));
  EXPECT_EQ((*opened)->library()->links_of("toy/squeak", 10)->size(), 1U);
}

// Only what somebody confirmed is experience; taking it back forgets it.
TEST_F(RecallTest, ConfirmedIncidentsAreFound) {
  auto store = graph::Store::open(folder_ / "graph.db", graph::Store::Mode::Write).value();
  graph::Incident incident{.service = "shop", .opened_ns = 1, .updated_ns = 2, .headline = "shop answers slowly",
                           .explanation = R"({"symptoms":[{"entity":"service:shop","text":"p99 rose to 3 s"},{"entity":"endpoint:shop GET /pay","text":"50 % errors"},{"entity":"endpoint:shop GET /pay","text":"50 % errors"}],"candidates":[{"rank":1,"title":"locks in postgres","next":["culprit events --around 14:02","end the blocker"]}]})"};
  incident.id = store.save(incident).value();
  std::vector<graph::Feedback> said = {{.incident = incident.id, .rank = 1, .verdict = "right", .failure_mode = "postgresql/lock-wait", .entity = "service:postgres", .note = "we killed the migration", .time_ns = 1'795'392'000'000'000'000, .who = "ann"}};
  said.push_back({.incident = incident.id, .rank = 0, .verdict = "partly"});
  ASSERT_TRUE(remember_incident(modes(), folder_ / "graph.db", incident, said, 3));
  auto recall = open(false);
  const auto answers = recall->documents({.text = "checkout hangs since the migration", .collection = std::string(kIncidentCollection)});
  ASSERT_EQ(answers->size(), 1U);
  EXPECT_THAT(answers->front().document.item.body, HasSubstr("we killed the migration"));
  EXPECT_THAT(answers->front().document.item.body, HasSubstr("locks in postgres\nend the blocker"));
  EXPECT_THAT(answers->front().document.item.body, HasSubstr("shop answers slowly\np99 rose to 3 s\nendpoint:shop GET /pay: 50 % errors\nThe cause"));
  EXPECT_THAT(answers->front().document.item.body, HasSubstr("Said by ann on 2026-11-23."));
  EXPECT_THAT(answers->front().document.item.body, HasSubstr("The answer as a whole was partly right."));
  EXPECT_THAT(answers->front().modes, Contains("postgresql/lock-wait"));

  // By words and by the number of another; itself is not like itself, and what does not exist is said.
  EXPECT_EQ(similar_incidents(*recall, folder_ / "graph.db", "checkout hangs", 5).value()["similar"].size(), 1U);
  const std::string own = std::to_string(static_cast<std::int64_t>(incident.id));
  EXPECT_TRUE(similar_incidents(*recall, folder_ / "graph.db", own, 5).value().at("similar").empty());
  const auto later = static_cast<std::int64_t>(store.save({.service = "shop", .opened_ns = 9, .updated_ns = 9, .headline = "shop answers slowly", .explanation = "{}"}).value());
  const auto like = similar_incidents(*recall, folder_ / "graph.db", std::to_string(later), 1).value()["similar"];
  ASSERT_EQ(like.size(), 1U);
  EXPECT_EQ(like[0]["incident"], own);
  EXPECT_EQ(similar_incidents(*recall, folder_ / "graph.db", "999", 5).error().code, Code::NotFound);

  ASSERT_TRUE(remember_incident(modes(), folder_ / "graph.db", incident, {}, 4));
  EXPECT_TRUE(found(*recall, "migration", std::string(kIncidentCollection)).empty());
  ASSERT_TRUE(remember_incident(modes(), folder_ / "graph.db", incident, {}, 5));
}

TEST(Incidents, VerdictsMoveWeightsWithinBounds) {
  EXPECT_EQ(weight_after(0.7, {}), 0.7);
  EXPECT_LT(weight_after(0.7, {.wrong = 1}), 0.7);
  EXPECT_GT(weight_after(0.7, {.right = 1}), 0.7);
  EXPECT_LE(weight_after(0.7, {.right = 1'000'000}), 0.98);
  EXPECT_GE(weight_after(0.7, {.wrong = 1'000'000}), 0.1);
  EXPECT_EQ(weight_after(1.0, {.right = 5}), 1.0);
}

}  // namespace
}  // namespace culprit::recall
