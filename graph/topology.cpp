// Topology: nodes and edges with the intervals in which they were seen, and bounded walks.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <unordered_set>

#include "graph/sqlite.h"
#include "graph/store.h"

namespace culprit::graph {
namespace {

constexpr std::size_t kKeyBytesMax = 4'096;

constexpr const char* kPutNode =
    "INSERT INTO topo_node(kind, key, attributes, attributes_ns) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(kind, key) DO UPDATE SET "
    "attributes = CASE WHEN excluded.attributes_ns >= attributes_ns THEN excluded.attributes ELSE attributes END, "
    "attributes_ns = max(attributes_ns, excluded.attributes_ns) RETURNING id";
constexpr const char* kPutEdge =
    "INSERT INTO topo_edge(src, dst, kind) VALUES(?1, ?2, ?3) ON CONFLICT(src, dst, kind) DO UPDATE SET kind = kind RETURNING id";

// The union of intervals that touch a new one (within the gap), those intervals' removal, and the insertion.
struct IntervalSql {
  const char* hull;
  const char* remove;
  const char* insert;
};
constexpr IntervalSql kNodeIntervals = {
    "SELECT min(first_ns), max(last_ns), count(*) FROM node_interval WHERE owner = ?1 AND last_ns >= ?2 AND first_ns <= ?3",
    "DELETE FROM node_interval WHERE owner = ?1 AND last_ns >= ?2 AND first_ns <= ?3",
    "INSERT INTO node_interval(owner, first_ns, last_ns) VALUES(?1, ?2, ?3)"};
constexpr IntervalSql kEdgeIntervals = {
    "SELECT min(first_ns), max(last_ns), count(*) FROM edge_interval WHERE owner = ?1 AND last_ns >= ?2 AND first_ns <= ?3",
    "DELETE FROM edge_interval WHERE owner = ?1 AND last_ns >= ?2 AND first_ns <= ?3",
    "INSERT INTO edge_interval(owner, first_ns, last_ns) VALUES(?1, ?2, ?3)"};

Result<void> extend(Database& database, const IntervalSql& sql, std::int64_t owner, std::int64_t first_ns, std::int64_t last_ns) {
  const std::int64_t near_first = first_ns < kIntervalGapNs ? 0 : first_ns - kIntervalGapNs;
  const std::int64_t near_last = last_ns > INT64_MAX - kIntervalGapNs ? INT64_MAX : last_ns + kIntervalGapNs;
  std::int64_t hull_first = first_ns;
  std::int64_t hull_last = last_ns;
  {
    Query hull = database.query(sql.hull);
    hull.bind(1, owner).bind(2, near_first).bind(3, near_last);
    ASSIGN(const bool row, hull.next());
    if (row && hull.integer(2) > 0) {
      // The usual case, a batch seen before: nothing to write.
      if (hull.integer(2) == 1 && hull.integer(0) <= first_ns && hull.integer(1) >= last_ns) return {};
      hull_first = std::min(hull_first, hull.integer(0));
      hull_last = std::max(hull_last, hull.integer(1));
    }
  }
  Query remove = database.query(sql.remove);
  remove.bind(1, owner).bind(2, near_first).bind(3, near_last);
  TRY(remove.run());
  Query insert = database.query(sql.insert);
  insert.bind(1, owner).bind(2, hull_first).bind(3, hull_last);
  return insert.run();
}

Result<void> check_interval(std::int64_t first_ns, std::int64_t last_ns) {
  if (first_ns < 0 || last_ns < first_ns) {
    return fail(Code::Invalid, fmt::format("interval [{}, {}] ends before it begins", first_ns, last_ns));
  }
  return {};
}

Node read_node(const Query& row, int first_column) {
  return {.kind = static_cast<NodeKind>(row.integer(first_column)),
          .key = row.text(first_column + 1),
          .first_seen_ns = row.integer(first_column + 3),
          .last_seen_ns = row.integer(first_column + 4),
          .attributes = row.text(first_column + 2)};
}

}  // namespace

std::string_view node_kind_name(NodeKind kind) {
  switch (kind) {
    case NodeKind::Host: return "host";
    case NodeKind::Device: return "device";
    case NodeKind::Mount: return "mount";
    case NodeKind::Cgroup: return "cgroup";
    case NodeKind::Unit: return "unit";
    case NodeKind::Service: return "service";
    case NodeKind::Process: return "process";
    case NodeKind::Endpoint: return "endpoint";
    case NodeKind::Peer: return "peer";
  }
  return "?";
}

std::string_view edge_kind_name(EdgeKind kind) {
  switch (kind) {
    case EdgeKind::Calls: return "calls";
    case EdgeKind::RunsOn: return "runs_on";
    case EdgeKind::Uses: return "uses";
    case EdgeKind::Contains: return "contains";
  }
  return "?";
}

Result<void> Store::upsert(std::span<const Node> nodes, std::span<NodeId> ids) {
  if (nodes.size() != ids.size()) return fail(Code::Invalid, "upsert: one id for each node");
  if (nodes.size() > kBatchMax) return fail(Code::Exhausted, fmt::format("upsert of {} nodes, at most {} a call", nodes.size(), kBatchMax));
  ASSIGN(Transaction transaction, Transaction::begin(*database_));
  std::vector<NodeId> found(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    if (node.key.empty() || node.key.size() > kKeyBytesMax) return fail(Code::Invalid, "node key must have 1 to 4,096 bytes");
    TRY(check_interval(node.first_seen_ns, node.last_seen_ns));
    std::int64_t id = 0;
    {
      Query put = database_->query(kPutNode);
      put.bind(1, static_cast<std::int64_t>(node.kind)).bind(2, std::string_view(node.key));
      put.bind(3, std::string_view(node.attributes)).bind(4, node.last_seen_ns);
      ASSIGN(const bool row, put.next());
      if (!row) return fail(Code::Io, "upsert node: no id");
      id = put.integer(0);
      TRY(put.run());
    }
    TRY(extend(*database_, kNodeIntervals, id, node.first_seen_ns, node.last_seen_ns));
    found[i] = NodeId{id};
  }
  TRY(transaction.commit());
  std::ranges::copy(found, ids.begin());
  return {};
}

Result<void> Store::upsert(std::span<const Edge> edges) {
  if (edges.size() > kBatchMax) return fail(Code::Exhausted, fmt::format("upsert of {} edges, at most {} a call", edges.size(), kBatchMax));
  ASSIGN(Transaction transaction, Transaction::begin(*database_));
  for (const Edge& edge : edges) {
    TRY(check_interval(edge.first_seen_ns, edge.last_seen_ns));
    std::int64_t id = 0;
    {
      Query put = database_->query(kPutEdge);
      put.bind(1, static_cast<std::int64_t>(edge.from)).bind(2, static_cast<std::int64_t>(edge.to));
      put.bind(3, static_cast<std::int64_t>(edge.kind));
      auto row = put.next();
      if (!row) return std::unexpected(row.error().context("upsert edge"));
      id = put.integer(0);
      if (auto done = put.run(); !done) return std::unexpected(done.error().context("upsert edge"));
    }
    TRY(extend(*database_, kEdgeIntervals, id, edge.first_seen_ns, edge.last_seen_ns));
  }
  return transaction.commit();  // deferred constraints would speak here
}

Result<std::optional<NodeId>> Store::find(NodeKind kind, std::string_view key) {
  Query query = database_->query("SELECT id FROM topo_node WHERE kind = ?1 AND key = ?2");
  query.bind(1, static_cast<std::int64_t>(kind)).bind(2, key);
  ASSIGN(const bool row, query.next());
  if (!row) return std::nullopt;
  return NodeId{query.integer(0)};
}

Result<StoredNode> Store::get(NodeId id) {
  Query query = database_->query(
      "SELECT n.kind, n.key, n.attributes, min(i.first_ns), max(i.last_ns), n.id FROM topo_node n "
      "JOIN node_interval i ON i.owner = n.id WHERE n.id = ?1 GROUP BY n.id");
  query.bind(1, static_cast<std::int64_t>(id));
  ASSIGN(const bool row, query.next());
  if (!row) return fail(Code::NotFound, fmt::format("no node {}", static_cast<std::int64_t>(id)));
  return StoredNode{id, read_node(query, 0)};
}

Result<Topology> Store::topology_at(std::int64_t at_ns, std::size_t limit) {
  const auto bounded = static_cast<std::int64_t>(std::min(limit, kBatchMax));
  Topology result;
  {
    Query query = database_->query(
        "SELECT n.kind, n.key, n.attributes, i.first_ns, i.last_ns, n.id FROM node_interval i "
        "JOIN topo_node n ON n.id = i.owner WHERE i.last_ns >= ?1 AND i.first_ns <= ?1 ORDER BY n.id");
    query.bind(1, at_ns);
    while (true) {
      ASSIGN(const bool row, query.next());
      if (!row) break;
      if (static_cast<std::int64_t>(result.nodes.size()) == bounded) {
        ++result.left_out;
        continue;
      }
      result.nodes.push_back({NodeId{query.integer(5)}, read_node(query, 0)});
    }
  }
  Query query = database_->query(
      "SELECT e.src, e.dst, e.kind, i.first_ns, i.last_ns FROM edge_interval i "
      "JOIN topo_edge e ON e.id = i.owner WHERE i.last_ns >= ?1 AND i.first_ns <= ?1 ORDER BY e.id");
  query.bind(1, at_ns);
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    if (static_cast<std::int64_t>(result.edges.size()) == bounded) {
      ++result.left_out;
      continue;
    }
    result.edges.push_back({.from = NodeId{query.integer(0)},
                            .to = NodeId{query.integer(1)},
                            .kind = static_cast<EdgeKind>(query.integer(2)),
                            .first_seen_ns = query.integer(3),
                            .last_seen_ns = query.integer(4)});
  }
}

Result<Walk> Store::walk(NodeId start, const WalkOptions& options) {
  // Direction as two switches, so that one prepared statement serves all. ?4 < 0: at any time.
  constexpr const char* kNeighbours =
      "SELECT dst AS other, kind, id FROM topo_edge WHERE ?2 AND src = ?1 AND (?4 < 0 OR EXISTS(SELECT 1 FROM edge_interval i "
      "WHERE i.owner = topo_edge.id AND i.first_ns <= ?4 AND i.last_ns >= ?4)) "
      "UNION SELECT src, kind, id FROM topo_edge WHERE ?3 AND dst = ?1 AND (?4 < 0 OR EXISTS(SELECT 1 FROM edge_interval i "
      "WHERE i.owner = topo_edge.id AND i.first_ns <= ?4 AND i.last_ns >= ?4)) ORDER BY 1, 2, 3";
  TRY(get(start));
  Walk result;
  std::unordered_set<std::int64_t> seen{static_cast<std::int64_t>(start)};
  result.steps.push_back({.node = start, .depth = 0, .via = start, .edge = {}});
  for (std::size_t next = 0; next < result.steps.size(); ++next) {
    const WalkStep step = result.steps[next];
    Query query = database_->query(kNeighbours);
    query.bind(1, static_cast<std::int64_t>(step.node));
    query.bind(2, std::int64_t{options.direction != Direction::In}).bind(3, std::int64_t{options.direction != Direction::Out});
    query.bind(4, options.at_ns.value_or(-1));
    while (true) {
      ASSIGN(const bool row, query.next());
      if (!row) break;
      const std::int64_t other = query.integer(0);
      if (seen.contains(other)) continue;
      if (step.depth >= options.depth_max || result.steps.size() >= options.nodes_max) {
        ++result.left_out;
        continue;
      }
      seen.insert(other);
      result.steps.push_back({.node = NodeId{other}, .depth = step.depth + 1, .via = step.node, .edge = static_cast<EdgeKind>(query.integer(1))});
    }
  }
  return result;
}

Result<std::uint64_t> Store::prune(std::int64_t before_ns) {
  constexpr const char* kSteps[] = {
      "DELETE FROM edge_interval WHERE last_ns < ?1",
      "DELETE FROM node_interval WHERE last_ns < ?1",
      // An edge outlives neither its intervals nor its ends.
      "DELETE FROM topo_edge WHERE ?1 IS NOT NULL AND NOT EXISTS(SELECT 1 FROM edge_interval i WHERE i.owner = topo_edge.id)",
      "DELETE FROM topo_node WHERE ?1 IS NOT NULL AND NOT EXISTS(SELECT 1 FROM node_interval i WHERE i.owner = topo_node.id)",
      "DELETE FROM incident WHERE closed_ns > 0 AND closed_ns < ?1",
  };
  ASSIGN(Transaction transaction, Transaction::begin(*database_));
  std::uint64_t removed = 0;
  for (const char* sql : kSteps) {
    Query query = database_->query(sql);
    query.bind(1, before_ns);
    TRY(query.run());
    removed += static_cast<std::uint64_t>(database_->changes());
  }
  TRY(transaction.commit());
  return removed;
}

}  // namespace culprit::graph
