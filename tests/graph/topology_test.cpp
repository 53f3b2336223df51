#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "graph/store.h"
#include "tests/graph/temporary.h"

namespace culprit::graph {
namespace {

constexpr std::int64_t kGap = kIntervalGapNs;

class TopologyTest : public ::testing::Test {
 protected:
  NodeId add(NodeKind kind, const std::string& key, std::int64_t first_ns, std::int64_t last_ns) {
    NodeId id{};
    const Node node{.kind = kind, .key = key, .first_seen_ns = first_ns, .last_seen_ns = last_ns};
    const auto done = store_.upsert(std::span(&node, 1), std::span(&id, 1));
    EXPECT_TRUE(done) << done.error().message;
    return id;
  }
  void connect(NodeId from, NodeId to, std::int64_t first_ns, std::int64_t last_ns, EdgeKind kind = EdgeKind::Calls) {
    const Edge edge{.from = from, .to = to, .kind = kind, .first_seen_ns = first_ns, .last_seen_ns = last_ns};
    const auto done = store_.upsert(std::span(&edge, 1));
    EXPECT_TRUE(done) << done.error().message;
  }
  test::TemporaryFolder folder_;
  Store store_ = std::move(*Store::open(folder_ / "graph.db", Store::Mode::Write));
};

// Seeing a node again never makes a second node; another kind or key does.
TEST_F(TopologyTest, UpsertIsIdempotent) {
  const NodeId shop = add(NodeKind::Service, "shop", 10, 20);
  EXPECT_EQ(add(NodeKind::Service, "shop", 10, 20), shop);
  EXPECT_EQ(add(NodeKind::Service, "shop", 15, 90), shop);
  EXPECT_NE(add(NodeKind::Unit, "shop", 10, 20), shop);
  EXPECT_NE(add(NodeKind::Service, "cart", 10, 20), shop);
  EXPECT_EQ(store_.get(shop)->node.last_seen_ns, 90);
  EXPECT_EQ(store_.find(NodeKind::Service, "shop")->value(), shop);
  EXPECT_FALSE(store_.find(NodeKind::Device, "shop")->has_value());
}

// A thing that goes away for long and comes back is not valid in between.
TEST_F(TopologyTest, IntervalsHaveGaps) {
  const NodeId shop = add(NodeKind::Service, "shop", 0, 100);
  const NodeId redis = add(NodeKind::Service, "redis", 0, 10 * kGap);
  connect(shop, redis, 0, 100);
  connect(shop, redis, 3 * kGap, 4 * kGap);
  const struct { std::int64_t at_ns; std::size_t edges; } cases[] = {
      {0, 1}, {100, 1}, {101, 0}, {2 * kGap, 0}, {3 * kGap, 1}, {4 * kGap, 1}, {4 * kGap + 1, 0}};
  for (const auto& c : cases) EXPECT_EQ(store_.topology_at(c.at_ns)->edges.size(), c.edges) << c.at_ns;
  // A sighting in between that is near both ends joins them.
  connect(shop, redis, 100 + kGap, 2 * kGap + kGap / 2);
  EXPECT_EQ(store_.topology_at(kGap)->edges.size(), 1U);
  const auto joined = store_.topology_at(2 * kGap);
  ASSERT_EQ(joined->edges.size(), 1U);
  EXPECT_EQ(joined->edges[0].first_seen_ns, 0);
  EXPECT_EQ(joined->edges[0].last_seen_ns, 4 * kGap);
}

// The order of sightings does not matter, and replaying them changes nothing.
TEST_F(TopologyTest, OrderDoesNotMatter) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  std::vector<Node> nodes;
  for (int i = 0; i < 40; ++i) {
    const auto first = static_cast<std::int64_t>(random() % 40) * kGap / 2;
    nodes.push_back({.kind = NodeKind::Service, .key = i % 2 == 0 ? "a" : "b", .first_seen_ns = first, .last_seen_ns = first + static_cast<std::int64_t>(random() % 3) * kGap / 3});
  }
  const auto intervals = [&](Store& store) {
    std::vector<std::pair<std::int64_t, std::string>> seen;
    for (std::int64_t t = 0; t < 25 * kGap; t += kGap / 6) {
      const auto topology = store.topology_at(t);
      for (const StoredNode& node : topology->nodes) seen.emplace_back(t, node.node.key);
    }
    std::ranges::sort(seen);
    return seen;
  };
  std::vector<NodeId> ids(nodes.size());
  ASSERT_TRUE(store_.upsert(nodes, ids));
  const auto expected = intervals(store_);
  ASSERT_TRUE(store_.upsert(nodes, ids));
  EXPECT_EQ(intervals(store_), expected);
  std::ranges::shuffle(nodes, random);
  Store other = std::move(*Store::open(folder_ / "other.db", Store::Mode::Write));
  for (std::size_t i = 0; i < nodes.size(); ++i) ASSERT_TRUE(other.upsert(std::span(&nodes[i], 1), std::span(&ids[i], 1)));
  EXPECT_EQ(intervals(other), expected);
}

// A batch is stored whole or not at all.
TEST_F(TopologyTest, BatchesAreAtomic) {
  std::vector<Node> nodes = {{.kind = NodeKind::Service, .key = "good", .first_seen_ns = 1, .last_seen_ns = 2},
                             {.kind = NodeKind::Service, .key = "bad", .first_seen_ns = 9, .last_seen_ns = 2}};
  std::vector<NodeId> ids(2);
  EXPECT_EQ(store_.upsert(nodes, ids).error().code, Code::Invalid);
  EXPECT_FALSE(store_.find(NodeKind::Service, "good")->has_value());
  EXPECT_EQ(store_.upsert(nodes, std::span(ids).first(1)).error().code, Code::Invalid);
  const Edge dangling{.from = NodeId{500}, .to = NodeId{501}, .kind = EdgeKind::Calls, .first_seen_ns = 1, .last_seen_ns = 1};
  EXPECT_EQ(store_.upsert(std::span(&dangling, 1)).error().code, Code::Invalid);
}

// A walk goes the way it is told, visits each node once, ends within its limits and says what it left out.
TEST_F(TopologyTest, WalksAreBounded) {
  const NodeId nginx = add(NodeKind::Service, "nginx", 0, 10);
  const NodeId shop = add(NodeKind::Service, "shop", 0, 10);
  const NodeId redis = add(NodeKind::Service, "redis", 0, 10);
  const NodeId postgres = add(NodeKind::Service, "postgres", 0, 10);
  const NodeId disk = add(NodeKind::Device, "vda", 0, 10);
  connect(nginx, shop, 0, 10);
  connect(shop, redis, 0, 10);
  connect(shop, postgres, 0, 5);
  connect(postgres, disk, 0, 10, EdgeKind::RunsOn);
  connect(disk, nginx, 0, 10);  // a ring
  const auto reached = [&](NodeId start, const WalkOptions& options) {
    const auto walk = store_.walk(start, options);
    EXPECT_TRUE(walk);
    return std::pair(walk->steps.size(), walk->left_out);
  };
  using Pair = std::pair<std::size_t, std::uint64_t>;
  EXPECT_EQ(reached(nginx, {}), Pair(5, 0));
  EXPECT_EQ(reached(nginx, {.depth_max = 1}), Pair(2, 2));
  EXPECT_EQ(reached(nginx, {.at_ns = 8}), Pair(3, 0));
  EXPECT_EQ(reached(redis, {.direction = Direction::In}), Pair(5, 0));
  EXPECT_EQ(reached(redis, {.direction = Direction::Out}), Pair(1, 0));
  EXPECT_EQ(reached(redis, {.direction = Direction::Both, .nodes_max = 3}).first, 3U);
  EXPECT_EQ(store_.walk(NodeId{999}, {}).error().code, Code::NotFound);
}

TEST_F(TopologyTest, PruneForgetsWhatEnded) {
  const NodeId old = add(NodeKind::Process, "7@1", 0, 10);
  const NodeId live = add(NodeKind::Service, "shop", 0, 1000);
  connect(live, old, 0, 10);
  const auto removed = store_.prune(500);
  EXPECT_EQ(removed.value(), 4U);  // two intervals, one edge, one node
  EXPECT_FALSE(store_.get(old));
  EXPECT_TRUE(store_.get(live));
  EXPECT_EQ(store_.prune(500).value(), 0U);
}

// What a limit leaves out is counted.
TEST_F(TopologyTest, ListsSayWhatTheyLeaveOut) {
  for (int i = 0; i < 5; ++i) add(NodeKind::Process, std::to_string(i), 0, 10);
  const auto some = store_.topology_at(5, 3);
  EXPECT_EQ(some->nodes.size(), 3U);
  EXPECT_EQ(some->left_out, 2U);
}

}  // namespace
}  // namespace culprit::graph
