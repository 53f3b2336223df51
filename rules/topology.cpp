#include "rules/topology.h"

#include <fmt/format.h>

namespace culprit::rules {

std::string_view plain_name(std::string_view entity) {
  constexpr std::string_view kPrefix = "service:";
  if (entity.starts_with(kPrefix)) entity.remove_prefix(kPrefix.size());
  return entity;
}

void Topology::add(std::string_view from, std::string_view relation, std::string_view to) {
  from = plain_name(from);
  to = plain_name(to);
  if (from.empty() || to.empty()) return;
  if (size_ == kTopologyEdgesMax) forget();  // most of it is over by then; what is not is told again
  const auto put = [](auto& map, std::string_view a, std::string_view b) {
    auto at = map.find(a);
    if (at == map.end()) at = map.try_emplace(std::string(a)).first;
    return at->second.emplace(b).second;
  };
  const auto of = [relation](auto& side) -> Neighbours& {
    const auto at = side.find(relation);
    return at != side.end() ? at->second : side.try_emplace(std::string(relation)).first->second;
  };
  if (!put(of(forward_), from, to)) return;
  put(of(backward_), to, from);
  ++size_;
}

void Topology::forget() {
  forward_.clear();
  backward_.clear();
  seen_edges_.clear();
  size_ = 0;
}

void Topology::add(std::string_view text) {
  const auto arrow = text.find(" -");
  const auto end = text.find("-> ");
  if (arrow == std::string_view::npos || end == std::string_view::npos || end < arrow + 3) return;
  add(text.substr(0, arrow), text.substr(arrow + 2, end - arrow - 2), text.substr(end + 3));
}

void Topology::learn(const stream::Event& event) {
  if (event.kind == Kind::Sample) {
    if (!event.entity.starts_with("edge:") || seen_edges_.contains(event.entity)) return;
    if (seen_edges_.size() < kTopologyEdgesMax) seen_edges_.insert(event.entity);
    const std::string_view pair = std::string_view(event.entity).substr(5);
    if (const auto arrow = pair.find("->"); arrow != std::string_view::npos) add(pair.substr(0, arrow), "calls", pair.substr(arrow + 2));
    return;
  }
  if (event.kind != Kind::Kernel) return;
  const std::string_view service = event.attribute("service");
  if (service.empty()) return;
  if (const std::string_view pid = event.attribute("process.pid"); !pid.empty()) add(fmt::format("process:{}", pid), "belongs_to", service);
  else if (event.entity.starts_with("process:")) add(event.entity, "belongs_to", service);
  if (const std::string_view device = event.attribute("device"); !device.empty()) {
    add(service, event.attribute("op") == "read" ? "reads" : "writes", "device:" + std::string(device));
  }
}

bool Topology::walk(const Path& path, const std::map<std::string, std::string>& values) const {
  std::set<std::string, std::less<>> at;
  for (std::size_t i = 0; i < path.stops.size(); ++i) {
    const Path::Stop& stop = path.stops[i];
    if (stop.reference) {
      const auto value = values.find(stop.reference->id + "." + stop.reference->field);
      if (value == values.end()) return false;
      const std::string name(plain_name(value->second));
      if (i > 0 && !at.contains(name)) return false;
      at = {name};
    }
    if (stop.relation.empty()) continue;
    std::set<std::string, std::less<>> next;
    const auto& side = stop.backwards ? backward_ : forward_;
    if (const auto relation = side.find(stop.relation); relation != side.end()) {
      for (const std::string& name : at) {
        if (const auto to = relation->second.find(name); to != relation->second.end()) next.insert(to->second.begin(), to->second.end());
      }
    }
    if (next.empty()) return false;
    at = std::move(next);
  }
  return true;
}

}  // namespace culprit::rules
