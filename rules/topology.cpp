#include "rules/topology.h"

#include <fmt/format.h>

#include <set>

namespace culprit::rules {
namespace {

constexpr std::int64_t kForGood = INT64_MAX;
constexpr std::int64_t kToldAgainNs = 60LL * 1'000'000'000;  // an edge that is told each second is put this often
constexpr std::string_view kBelongs = "belongs_to";
constexpr std::size_t kNamesShown = 5;

template <typename Map>
auto& at_or_new(Map& map, std::string_view key) {
  const auto at = map.find(key);
  return at != map.end() ? at->second : map.try_emplace(std::string(key)).first->second;
}

std::string some_of(const std::set<std::string, std::less<>>& names) {
  std::string text;
  std::size_t shown = 0;
  for (const std::string& name : names) {
    if (shown++ == kNamesShown) return fmt::format("{} and {} more", text, names.size() - kNamesShown);
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace

std::string_view plain_name(std::string_view entity) {
  constexpr std::string_view kPrefix = "service:";
  if (entity.starts_with(kPrefix)) entity.remove_prefix(kPrefix.size());
  return entity;
}

void Topology::add(std::string_view from, std::string_view relation, std::string_view to, std::int64_t told_ns) {
  from = plain_name(from);
  to = plain_name(to);
  if (from.empty() || to.empty()) return;
  if (size_ >= kTopologyEdgesMax) make_room(told_ns);
  Ends& ends = at_or_new(at_or_new(forward_, relation), from);
  if (relation == kBelongs && !ends.empty() && !ends.contains(to)) {
    // The number of a process that ended was given to another one.
    for (const auto& [earlier, told] : ends) at_or_new(at_or_new(backward_, relation), earlier).erase(std::string(from));
    size_ -= ends.size();
    ends.clear();
  }
  const auto [end, fresh] = ends.try_emplace(std::string(to), told_ns);
  end->second = std::max(end->second, told_ns);
  at_or_new(at_or_new(at_or_new(backward_, relation), to), from) = end->second;
  size_ += fresh ? 1 : 0;
}

void Topology::add(std::string_view text) {
  const auto arrow = text.find(" -");
  const auto end = text.find("-> ");
  if (arrow == std::string_view::npos || end == std::string_view::npos || end < arrow + 3) return;
  add(text.substr(0, arrow), text.substr(arrow + 2, end - arrow - 2), text.substr(end + 3), kForGood);
}

void Topology::learn(const stream::Event& event) {
  if (event.kind == Kind::Sample) {
    if (!event.entity.starts_with("edge:")) return;
    const auto seen = seen_edges_.find(event.entity);
    if (seen != seen_edges_.end() && event.time_ns - seen->second < kToldAgainNs) return;
    const std::string_view pair = std::string_view(event.entity).substr(5);
    const auto arrow = pair.find("->");
    if (arrow == std::string_view::npos) return;
    add(pair.substr(0, arrow), "calls", pair.substr(arrow + 2), event.time_ns);
    if (seen_edges_.size() < kTopologyEdgesMax) at_or_new(seen_edges_, event.entity) = event.time_ns;
    return;
  }
  if (event.kind != Kind::Kernel && !with_processes_) return;
  const std::string_view service = event.attribute("service");
  if (service.empty()) return;
  if (with_processes_) {
    if (const std::string_view pid = event.attribute("process.pid"); !pid.empty()) add(fmt::format("process:{}", pid), kBelongs, service, event.time_ns);
    else if (event.entity.starts_with("process:")) add(event.entity, kBelongs, service, event.time_ns);
  }
  if (event.kind != Kind::Kernel) return;
  if (const std::string_view device = event.attribute("device"); !device.empty()) {
    add(service, event.attribute("op") == "read" ? "reads" : "writes", "device:" + std::string(device), event.time_ns);
  }
}

void Topology::expire(std::int64_t before_ns) {
  const auto prune = [before_ns](Side& side) {
    std::size_t left = 0;
    for (auto& [relation, all] : side) {
      for (auto& [from, ends] : all) std::erase_if(ends, [before_ns](const auto& end) { return end.second < before_ns; });
      std::erase_if(all, [](const auto& of) { return of.second.empty(); });
      for (const auto& [from, ends] : all) left += ends.size();
    }
    return left;
  };
  size_ = prune(forward_);
  prune(backward_);
  std::erase_if(seen_edges_, [before_ns](const auto& edge) { return edge.second < before_ns; });
}

void Topology::make_room(std::int64_t now_ns) {
  const std::size_t before = size_;
  for (std::int64_t age_ns = kEdgeNsMax; size_ >= kTopologyEdgesMax && age_ns > kToldAgainNs; age_ns /= 4) expire(now_ns - age_ns);
  if (size_ >= kTopologyEdgesMax) {
    forward_.clear();
    backward_.clear();
    seen_edges_.clear();
    size_ = 0;  // what still is will be told again
  }
  forgotten_ += before - size_;
}

const Topology::Ends* Topology::neighbours(const std::string& of, const Path::Stop& along) const {
  const Side& side = along.backwards ? backward_ : forward_;
  const auto relation = side.find(along.relation);
  if (relation == side.end()) return nullptr;
  const auto ends = relation->second.find(of);
  return ends == relation->second.end() ? nullptr : &ends->second;
}

bool Topology::walk(const Path& path, const std::map<std::string, std::string>& values, std::string* told) const {
  std::set<std::string, std::less<>> at;
  const auto stuck = [told](std::string_view why) {
    if (told != nullptr) *told += why;
    return false;
  };
  for (std::size_t i = 0; i < path.stops.size(); ++i) {
    const Path::Stop& stop = path.stops[i];
    if (stop.reference) {
      const auto value = values.find(stop.reference->id + "." + stop.reference->field);
      if (value == values.end()) return stuck(fmt::format("{}.{} has no value", stop.reference->id, stop.reference->field));
      std::string name(plain_name(value->second));
      if (i > 0 && !at.contains(name)) return stuck(fmt::format("{}, not {}", some_of(at), name));
      at = {std::move(name)};
    }
    if (told != nullptr) *told += some_of(at);
    if (stop.relation.empty()) continue;
    if (told != nullptr) *told += stop.backwards ? fmt::format(" <-{}- ", stop.relation) : fmt::format(" -{}-> ", stop.relation);
    std::set<std::string, std::less<>> next;
    for (const std::string& name : at) {
      if (const Ends* ends = neighbours(name, stop)) {
        for (const auto& [to, when] : *ends) next.insert(to);
      }
    }
    if (next.empty()) return stuck("nothing");
    at = std::move(next);
  }
  return true;
}

}  // namespace culprit::rules
