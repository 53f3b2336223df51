#include "graph/store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <thread>

#include "graph/knowledge.h"
#include "tests/graph/temporary.h"

namespace culprit::graph {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  Store open(Store::Mode mode = Store::Mode::Write) {
    auto store = Store::open(folder_ / "graph.db", mode);
    if (!store) throw std::runtime_error(store.error().message);  // gtest reports it as the test's failure
    return std::move(*store);
  }
  void sql(const std::string& file, const char* text) {
    sqlite3* raw = nullptr;
    ASSERT_EQ(sqlite3_open((folder_ / file).c_str(), &raw), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(raw, text, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(raw);
    sqlite3_close(raw);
  }
  test::TemporaryFolder folder_;
};

Incident sample(const char* service, std::int64_t opened_ns) {
  return {.service = service, .opened_ns = opened_ns, .updated_ns = opened_ns, .headline = "p99 is high"};
}

// What was saved comes back whole, and a restart goes on with the same incidents and the next id.
TEST_F(StoreTest, IncidentsOutliveARestart) {
  IncidentId first{};
  {
    Store store = open();
    Incident incident = sample("shop", 100);
    incident.explanation = R"({"candidates":[{"rank":1}]})";
    auto id = store.save(incident);
    ASSERT_TRUE(id) << id.error().message;
    first = *id;
    incident.id = first;
    incident.updated_ns = 200;
    incident.closed_ns = 300;
    incident.state = "closed";
    ASSERT_EQ(*store.save(incident), first);
  }
  Store store = open();
  auto back = store.get(first);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->service, "shop");
  EXPECT_EQ(back->closed_ns, 300);
  EXPECT_EQ(back->state, "closed");
  EXPECT_EQ(back->explanation, R"({"candidates":[{"rank":1}]})");
  EXPECT_GT(*store.save(sample("shop", 400)), first);
}

// An id is never given twice, even when the newest incident is forgotten.
TEST_F(StoreTest, IdsAreNotReused) {
  Store store = open();
  Incident incident = sample("shop", 1);
  incident.closed_ns = 2;
  const IncidentId gone = *store.save(incident);
  ASSERT_TRUE(store.prune(100));
  EXPECT_FALSE(store.get(gone));
  EXPECT_GT(*store.save(sample("shop", 200)), gone);
}

TEST_F(StoreTest, ListsNewestFirstByStateAndService) {
  Store store = open();
  for (int i = 1; i <= 5; ++i) {
    Incident incident = sample(i % 2 == 0 ? "shop" : "cart", i * 10);
    if (i > 3) incident.state = "closed", incident.closed_ns = i * 10 + 1;
    ASSERT_TRUE(store.save(incident));
  }
  const auto ids = [&](const Store::ListOptions& options) {
    std::vector<std::int64_t> result;
    const auto incidents = store.incidents(options);
    for (const Incident& incident : *incidents) result.push_back(static_cast<std::int64_t>(incident.id));
    return result;
  };
  EXPECT_EQ(ids({}), (std::vector<std::int64_t>{5, 4, 3, 2, 1}));
  EXPECT_EQ(ids({.state = "open"}), (std::vector<std::int64_t>{3, 2, 1}));
  EXPECT_EQ(ids({.service = "shop"}), (std::vector<std::int64_t>{4, 2}));
  EXPECT_EQ(ids({.since_ns = 30, .limit = 2}), (std::vector<std::int64_t>{5, 4}));
}

// Detection numbers its incidents itself; what comes after them takes the next number.
TEST_F(StoreTest, IncidentsKeepTheirOwnNumbers) {
  Store store = open();
  Incident incident = sample("shop", 1);
  incident.id = IncidentId{7};
  ASSERT_EQ(*store.save(incident), IncidentId{7});
  incident.headline = "again";
  ASSERT_EQ(*store.save(incident), IncidentId{7});
  EXPECT_EQ(store.get(IncidentId{7})->headline, "again");
  EXPECT_EQ(store.incidents({})->size(), 1U);
  EXPECT_EQ(*store.save(sample("cart", 2)), IncidentId{8});
}

// Wrong input is refused with the code that a caller can act on, and changes nothing.
TEST_F(StoreTest, RefusesWrongIncidents) {
  Store store = open();
  Incident no_json = sample("shop", 1);
  no_json.explanation = "{";
  EXPECT_EQ(store.save(no_json).error().code, Code::Invalid);
  Incident huge = sample("shop", 1);
  huge.explanation.assign(kExplanationBytesMax + 1, ' ');
  EXPECT_EQ(store.save(huge).error().code, Code::Exhausted);
  EXPECT_EQ(store.get(IncidentId{1}).error().code, Code::NotFound);
  EXPECT_TRUE(store.incidents({})->empty());
}

// The last verdict on a candidate counts, once.
TEST_F(StoreTest, FeedbackIsCountedOncePerCandidate) {
  Store store = open();
  const IncidentId id = *store.save(sample("shop", 1));
  Feedback feedback{.incident = id, .rank = 1, .verdict = "wrong", .failure_mode = "redis/down", .entity = "service:redis"};
  ASSERT_TRUE(store.add_feedback(feedback));
  feedback.verdict = "right";
  ASSERT_TRUE(store.add_feedback(feedback));
  feedback.rank = 2;
  feedback.verdict = "partly";
  ASSERT_TRUE(store.add_feedback(feedback));
  const auto verdicts = store.verdicts();
  EXPECT_EQ(verdicts->at("redis/down").right, 1);
  EXPECT_EQ(verdicts->at("redis/down").wrong, 0);
  EXPECT_EQ(verdicts->at("redis/down").partly, 1);
  const auto given = store.feedback(id);
  ASSERT_EQ(given->size(), 2U);
  EXPECT_EQ(given->front().verdict, "right");

  // What is taken back does not count, and may be about the whole answer.
  ASSERT_TRUE(store.undo_feedback(id, 2));
  EXPECT_EQ(store.verdicts()->at("redis/down").partly, 0);
  EXPECT_EQ(store.undo_feedback(id, 2).error().code, Code::NotFound);
  Feedback whole{.incident = id, .rank = 0, .verdict = "wrong", .note = "it was the firewall", .who = "ops"};
  ASSERT_TRUE(store.add_feedback(whole));
  EXPECT_EQ(store.feedback(id)->front().who, "ops");
  EXPECT_FALSE(store.verdicts()->contains(""));
  EXPECT_EQ(store.own_verdicts()->size(), 1U);
  ASSERT_TRUE(store.undo_feedback(id, 0));
  feedback.verdict = "perhaps";
  EXPECT_EQ(store.add_feedback(feedback).error().code, Code::Invalid);
  feedback.verdict = "right";
  feedback.incident = IncidentId{77};
  EXPECT_EQ(store.add_feedback(feedback).error().code, Code::NotFound);
}

// Files that are not ours are left alone and said to be so.
TEST_F(StoreTest, RefusesForeignFiles) {
  folder_.write("noise.db", std::string(5000, 'x'));
  EXPECT_EQ(Store::open(folder_ / "noise.db", Store::Mode::Write).error().code, Code::Corrupt);
  sql("other.db", "CREATE TABLE t(x)");
  EXPECT_EQ(Store::open(folder_ / "other.db", Store::Mode::Write).error().code, Code::Corrupt);
  EXPECT_EQ(Store::open(folder_ / "missing.db", Store::Mode::Read).error().code, Code::NotFound);
  { Store store = open(); }
  sql("graph.db", "PRAGMA user_version = 99");
  EXPECT_EQ(Store::open(folder_ / "graph.db", Store::Mode::Write).error().code, Code::Unsupported);
}

// A reader sees what the writer committed, and cannot write.
TEST_F(StoreTest, ReaderBesideWriter) {
  Store writer = open();
  Store reader = open(Store::Mode::Read);
  const IncidentId id = *writer.save(sample("shop", 1));
  EXPECT_TRUE(reader.get(id));
  EXPECT_EQ(reader.save(sample("shop", 2)).error().code, Code::Denied);
}

// Two writers take turns and lose nothing.
TEST_F(StoreTest, WritersTakeTurns) {
  { Store create = open(); }
  const auto work = [this] {
    Store store = open();
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(store.save(sample("shop", i)));
  };
  std::thread one(work);
  std::thread two(work);
  one.join();
  two.join();
  EXPECT_EQ(open().incidents({.limit = 1000})->size(), 100U);
}

// The packs land in the file once, and again only when they change.
TEST_F(StoreTest, WritesKnowledgeWhenItChanged) {
  const auto known = Knowledge::load({});
  ASSERT_TRUE(known) << known.error().message;
  Store store = open();
  EXPECT_TRUE(store.write_knowledge(**known).value());
  EXPECT_FALSE(store.write_knowledge(**known).value());
  const auto fewer = Knowledge::from_packs({});
  EXPECT_TRUE(store.write_knowledge(**fewer).value());
  EXPECT_TRUE(store.write_knowledge(**known).value());
  // Every edge has both ends, and the index agrees with its table.
  sql("graph.db", "CREATE TEMP TABLE checks(x CHECK(x = 0)); INSERT INTO checks SELECT count(*) FROM pragma_foreign_key_check; "
                  "INSERT INTO checks SELECT (SELECT count(*) FROM node WHERE kind = 'failure_mode') < 30; "
                  // An edge says when it holds, and is sure only of what was looked up or seen.
                  "INSERT INTO checks SELECT count(*) FROM edge WHERE relation IN ('version_sensitive', 'cloud_provider_specific') AND condition = '{}'; "
                  "INSERT INTO checks SELECT count(*) FROM edge WHERE confidence >= 0.9 AND relation IN ('mitigates_with', 'observed_in') AND source NOT LIKE 'printed by %'; "
                  "INSERT INTO checks SELECT (SELECT count(*) FROM edge WHERE source LIKE 'printed by %') < 100; "
                  "INSERT INTO document_fts(document_fts, rank) VALUES('integrity-check', 1)");
}

}  // namespace
}  // namespace culprit::graph
