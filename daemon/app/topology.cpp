#include "daemon/app/topology.h"

#include <map>
#include <vector>

namespace culprit::app {

void Topology::see(std::span<const stream::Event> events) {
  constexpr std::string_view kService = "service:";
  constexpr std::string_view kEdge = "edge:";
  for (const stream::Event& event : events) {
    const std::string_view entity = event.entity;
    if (entity.starts_with(kService)) {
      const std::string_view name = entity.substr(kService.size());
      if (name.empty() || services_.contains(name)) continue;
      if (services_.size() < kTopologyMax) services_.emplace(name);
      else ++left_out_;
    } else if (entity.starts_with(kEdge) && event.value > 0 && event.name.starts_with("client.")) {
      const std::size_t arrow = entity.find("->");
      if (arrow == std::string_view::npos) continue;
      std::pair edge{std::string(entity.substr(kEdge.size(), arrow - kEdge.size())), std::string(entity.substr(arrow + 2))};
      if (edge.first.empty() || edge.second.empty() || edges_.contains(edge)) continue;
      if (edges_.size() < kTopologyMax) edges_.insert(std::move(edge));
      else ++left_out_;
    }
  }
}

Result<void> Topology::write(graph::Store& store, std::int64_t from_wall_ns, std::int64_t to_wall_ns) {
  std::vector<graph::Node> nodes = {{.kind = graph::NodeKind::Host, .key = host_, .first_seen_ns = from_wall_ns, .last_seen_ns = to_wall_ns}};
  std::map<std::string, std::size_t, std::less<>> places;
  const auto place = [&](const std::string& name, graph::NodeKind kind) {
    const auto [at, fresh] = places.try_emplace(name, nodes.size());
    if (fresh) nodes.push_back({.kind = kind, .key = name, .first_seen_ns = from_wall_ns, .last_seen_ns = to_wall_ns});
    return at->second;
  };
  for (const std::string& name : services_) place(name, graph::NodeKind::Service);
  // A caller is ours; whom it calls may be an address that no service of this host has.
  for (const auto& [caller, callee] : edges_) {
    place(caller, graph::NodeKind::Service);
    place(callee, graph::NodeKind::Peer);
  }
  std::vector<graph::NodeId> ids(nodes.size());
  TRY(store.upsert(nodes, ids));
  std::vector<graph::Edge> edges;
  for (const std::string& name : services_) {
    edges.push_back({.from = ids[places[name]], .to = ids[0], .kind = graph::EdgeKind::RunsOn, .first_seen_ns = from_wall_ns, .last_seen_ns = to_wall_ns});
  }
  for (const auto& [caller, callee] : edges_) {
    edges.push_back({.from = ids[places[caller]], .to = ids[places[callee]], .kind = graph::EdgeKind::Calls, .first_seen_ns = from_wall_ns, .last_seen_ns = to_wall_ns});
  }
  TRY(store.upsert(edges));
  services_.clear();
  edges_.clear();
  return {};
}

}  // namespace culprit::app
