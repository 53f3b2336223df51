#include "daemon/detect/topology.h"

#include <vector>

#include "daemon/base/clock.h"

namespace culprit::detect {

namespace {
constexpr std::int64_t kForgetNs = 900 * kNsPerSecond;
}

void Topology::seen(std::string_view caller, std::string_view callee, std::int64_t now_ns) {
  if (caller == callee) return;
  auto at = callees_.find(caller);
  if (at != callees_.end()) {
    if (const auto edge = at->second.find(callee); edge != at->second.end()) {
      edge->second = now_ns;
      return;
    }
  }
  if (edges_ >= kEdgesMax) return;
  ++edges_;
  callees_[std::string(caller)].emplace(callee, now_ns);
  callers_[std::string(callee)].emplace(caller);
}

void Topology::expire(std::int64_t now_ns) {
  for (auto caller = callees_.begin(); caller != callees_.end();) {
    for (auto edge = caller->second.begin(); edge != caller->second.end();) {
      if (now_ns - edge->second <= kForgetNs) {
        ++edge;
        continue;
      }
      const auto callers = callers_.find(edge->first);
      if (callers != callers_.end()) {
        callers->second.erase(caller->first);
        if (callers->second.empty()) callers_.erase(callers);
      }
      edge = caller->second.erase(edge);
      --edges_;
    }
    caller = caller->second.empty() ? callees_.erase(caller) : std::next(caller);
  }
}

bool Topology::reaches(std::string_view from, std::string_view to) const { return connected(from, to, false); }
bool Topology::related(std::string_view a, std::string_view b) const { return connected(a, b, true); }

bool Topology::connected(std::string_view from, std::string_view to, bool both_ways) const {
  if (from == to) return true;
  std::set<std::string, std::less<>> visited{std::string(from)};
  std::vector<std::string> todo{std::string(from)};
  const auto visit = [&](const std::string& next) {
    if (visited.insert(next).second) todo.push_back(next);
  };
  while (!todo.empty()) {
    const std::string here = std::move(todo.back());
    todo.pop_back();
    if (here == to) return true;
    if (const auto found = callees_.find(here); found != callees_.end()) {
      for (const auto& [callee, time] : found->second) visit(callee);
    }
    if (!both_ways) continue;
    if (const auto found = callers_.find(here); found != callers_.end()) {
      for (const std::string& caller : found->second) {
        if (caller == to || callers_.contains(caller)) visit(caller);
      }
    }
  }
  return false;
}

}  // namespace culprit::detect
