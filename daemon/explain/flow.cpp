// The topology of a scene: edges, and how the root's trouble flows along them. Where it stops is where to look.
#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/explain/scene.h"

namespace culprit::explain {

namespace {

constexpr double kFlowMin = 0.02;  // less is not followed
constexpr int kDepthMax = 8;

constexpr double kQueueing = 0.85;  // of the blame, for callees that are clearly slow

bool clearly_slow(const Scene& scene, const Edge& edge) {
  return scene.find(edge.entity, "client.duration.mean").score >= 2 || scene.find(edge.entity, "client.inflight.age.max").score >= 2;
}

// Growth of one request's time, of which shares are taken. A hung request counts with its age so far.
struct Growth {
  double before = 0, now = 0;
};

Growth growth_of(const Scene& scene, const std::string& service) {
  const View& mean = scene.of_service(service, "request.duration.mean");
  const View& age = scene.of_service(service, "request.inflight.age.max");
  Growth growth{mean.normal, mean.now_points > 0 ? mean.now : 0};
  if (age.up()) growth.now = std::max(growth.now, 0.5 * age.peak);
  return growth;
}

}  // namespace

void Scene::build_edges() {
  std::map<std::string, Edge> edges;
  for (const View& view : views_) {
    if (!view.entity.starts_with("edge:")) continue;
    const auto arrow = view.entity.find("->");
    if (arrow == std::string::npos) continue;
    Edge& edge = edges[view.entity];
    if (edge.entity.empty()) {
      edge.entity = view.entity;
      edge.caller = view.entity.substr(5, arrow - 5);
      edge.callee = view.entity.substr(arrow + 2);
      edge.fresh = true;
    }
    if (view.base_points > 3) edge.fresh = false;
    if (view.base_name == "client.wait.share") {
      edge.wait_normal = view.normal;
      edge.wait_now = view.now;
    }
    if (view.base_name == "connect.failures" && view.up()) {
      edge.failures += view.now > 0 ? view.change() : view.peak;
      if (edge.connect_errno.empty()) edge.connect_errno = view.label("errno");
    }
    if (view.base_name == "client.errors" && view.up()) edge.failures += std::max(view.change(), 0.5 * view.peak);
    if (view.up() && view.base_name != "client.rate") edge.suspicious = true;
  }
  for (auto& [entity, edge] : edges) {
    if (edge.caller != edge.callee) edges_.push_back(std::move(edge));
  }
}

// How much of the caller's trouble each callee answers for.
void Scene::share_blame(const std::string& caller) {
  const Growth growth = growth_of(*this, caller);
  const View& rate = of_service(caller, "request.rate");
  const View& errors = of_service(caller, "request.errors");
  const bool slower = growth.now > growth.before + 0.002;
  double sum = 0;
  for (Edge& edge : edges_) {
    if (edge.caller != caller) continue;
    double latency = 0, failing = 0;
    const View& duration = find(edge.entity, "client.duration.mean");
    const View& age = find(edge.entity, "client.inflight.age.max");
    if (edge.wait_now > 0 || edge.wait_normal > 0) {
      if (slower) {
        const double waited = edge.wait_now * growth.now - edge.wait_normal * growth.before;
        latency = std::clamp(waited / (growth.now - growth.before), 0.0, 1.0);
      }
      // A share of open time tells also when no request ends.
      if (age.up()) latency = std::max(latency, edge.wait_now);
    } else if (slower && duration.now_points > 0 && rate.now > 0) {
      const double calls_now = find(edge.entity, "client.rate").now / rate.now;
      const double calls_before = rate.normal > 0 ? find(edge.entity, "client.rate").normal / rate.normal : 0;
      const double waited = calls_now * duration.now - calls_before * duration.normal;
      latency = std::clamp(waited / (growth.now - growth.before), 0.0, 1.0);
    }
    if (latency < 0.5 && age.up()) latency = std::max(latency, 0.8);
    if (edge.failures > 0) {
      const double failed = errors.up() ? std::max(errors.now, 0.5 * errors.peak) : 0;
      failing = failed > 0 ? std::clamp(edge.failures / failed, 0.0, 1.0) : (edge.connect_errno.empty() ? 0.2 : 0.6);
      // Callers often fail fast or retry: refused connections explain errors also where the numbers do not match.
      if (!edge.connect_errno.empty()) failing = std::max(failing, 0.6);
    }
    // A callee that answers with errors of its own hands them up.
    const View& handed = of_service(edge.callee, "request.errors");
    if (errors.up() && handed.up()) {
      failing = std::max(failing, std::clamp(std::max(handed.now, 0.5 * handed.peak) / std::max(errors.now, 0.5 * errors.peak), 0.0, 1.0));
    }
    edge.share = std::max(latency, failing);
    sum += edge.share;
  }
  // A thread that waits for a pooled connection seems to be busy with itself. If a callee is clearly slow and the
  // caller does not work more than before, the wait belongs to the callee.
  const View& cpu = of_service(caller, "cpu.time");
  if (slower && !cpu.up() && sum > 0.05 && sum < kQueueing) {
    double slow = 0;
    for (const Edge& edge : edges_) {
      if (edge.caller == caller && clearly_slow(*this, edge)) slow += edge.share;
    }
    for (Edge& edge : edges_) {
      if (slow <= 0.05 || edge.caller != caller || !clearly_slow(*this, edge)) continue;
      const double more = edge.share * (kQueueing - sum) / slow;
      edge.share += more;
    }
    if (slow > 0.05) sum = kQueueing;
  }
  if (sum > 1) {
    for (Edge& edge : edges_) {
      if (edge.caller == caller) edge.share /= sum;
    }
  }
}

void Scene::build_flow() {
  std::vector<std::string> callers;
  for (const Edge& edge : edges_) {
    if (callers.empty() || callers.back() != edge.caller) callers.push_back(edge.caller);
  }
  for (const std::string& caller : callers) share_blame(caller);

  flow_[root_] = 1;
  std::vector<std::string> level{root_};
  for (int depth = 0; depth < kDepthMax && !level.empty(); ++depth) {
    std::vector<std::string> next;
    for (const std::string& here : level) {
      const double flow_here = flow_[here];
      for (const Edge& edge : edges_) {
        if (edge.caller != here) continue;
        if (here == root_) edges_known_ = true;
        const double passed = flow_here * edge.share;
        const auto [at, fresh] = flow_.try_emplace(edge.callee, passed);
        if (!fresh && at->second + 1e-9 >= passed) continue;
        at->second = passed;
        if (passed >= kFlowMin || fresh) next.push_back(edge.callee);
      }
    }
    level = std::move(next);
  }
  for (const auto& [service, flow] : flow_) {
    double passed_on = 0;
    for (const Edge& edge : edges_) {
      if (edge.caller == service) passed_on += edge.share;
    }
    self_[service] = flow * std::max(0.0, 1 - passed_on);
  }
}

std::vector<const Edge*> Scene::callees_of(std::string_view service) const {
  std::vector<const Edge*> out;
  for (const Edge& edge : edges_) {
    if (edge.caller == service) out.push_back(&edge);
  }
  return out;
}

std::vector<const Edge*> Scene::callers_of(std::string_view service) const {
  std::vector<const Edge*> out;
  for (const Edge& edge : edges_) {
    if (edge.callee == service) out.push_back(&edge);
  }
  return out;
}

bool Scene::has_endpoints(std::string_view service) const {
  const std::string prefix = "endpoint:" + std::string(service) + " ";
  const auto at = std::ranges::lower_bound(views_, prefix, {}, &View::entity);
  return at != views_.end() && at->entity.starts_with(prefix);
}

bool Scene::errors_hidden(std::string_view service) const {
  for (const Edge* edge : callers_of(service)) {
    if (flow(edge->caller) < 0.3) continue;
    const View& errors = of_service(edge->caller, "request.errors");
    const View& mean = of_service(edge->caller, "request.duration.mean");
    const View& age = of_service(edge->caller, "request.inflight.age.max");
    if (errors.up() && !mean.up() && !age.up() && !has_endpoints(service)) return true;
  }
  return false;
}

double Scene::flow(std::string_view service) const {
  const auto found = flow_.find(std::string(service));
  return found != flow_.end() ? found->second : 0;
}

double Scene::self(std::string_view service) const {
  const auto found = self_.find(std::string(service));
  return found != self_.end() ? found->second : 0;
}

}  // namespace culprit::explain
