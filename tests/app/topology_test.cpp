#include "daemon/app/topology.h"

#include <gtest/gtest.h>

#include "tests/graph/temporary.h"

namespace culprit::app {
namespace {

stream::Event sample(const char* entity, const char* name, double value) {
  stream::Event event;
  event.kind = stream::Kind::Sample;
  event.entity = entity;
  event.name = name;
  event.value = value;
  return event;
}

constexpr std::int64_t kMinute = 60'000'000'000;

// What was seen is there for its minutes and not after; a call that carries nothing is none.
TEST(Topology, IsTrueForItsTime) {
  const graph::test::TemporaryFolder folder;
  auto store = graph::Store::open(folder / "graph.db", graph::Store::Mode::Write).value();
  Topology topology("host1");
  const stream::Event first[] = {sample("service:shop", "cpu.time", 0), sample("edge:shop->redis", "client.rate", 3), sample("edge:shop->10.0.0.7:25", "client.inflight", 1),
                                 sample("edge:shop->idle", "client.rate", 0), sample("service:redis", "cpu.time", 1), sample("edge:", "client.rate", 1), sample("edge:->", "client.rate", 1)};
  topology.see(first);
  ASSERT_TRUE(topology.write(store, 10 * kMinute, 11 * kMinute));
  const auto then = store.topology_at(10 * kMinute + 1);
  ASSERT_TRUE(then) << then.error().message;
  EXPECT_EQ(then->nodes.size(), 4U);  // host, shop, redis, the peer
  EXPECT_EQ(then->edges.size(), 4U);  // two calls, two on the host
  EXPECT_TRUE(store.find(graph::NodeKind::Peer, "10.0.0.7:25").value().has_value());
  EXPECT_FALSE(store.find(graph::NodeKind::Service, "idle").value().has_value());
  // The next minute goes on the same interval; much later it is another.
  topology.see(std::span(first, 2));
  ASSERT_TRUE(topology.write(store, 11 * kMinute, 12 * kMinute));
  ASSERT_TRUE(topology.write(store, 40 * kMinute, 41 * kMinute));
  EXPECT_EQ(store.topology_at(12 * kMinute)->edges.size(), 2U);
  EXPECT_EQ(store.topology_at(12 * kMinute)->nodes.size(), 3U);
  EXPECT_EQ(store.topology_at(40 * kMinute)->nodes.size(), 1U);
  EXPECT_TRUE(store.topology_at(40 * kMinute)->edges.empty());
  EXPECT_EQ(topology.left_out(), 0U);
}

}  // namespace
}  // namespace culprit::app
