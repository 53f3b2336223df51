// The Backend's questions to the event stream: what differs, series, the store itself; and who is near whom.
#include "daemon/app/stream_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "daemon/app/live_backend.h"

namespace culprit::app {
namespace {

using api::Json;

// Services, who calls whom, and what belongs to them, as tracking sees it now.
class LiveTopology final : public stream::Topology {
 public:
  explicit LiveTopology(const TrackView& view) : view_(view) {}

  Result<std::vector<std::string>> within(std::string_view entity, unsigned hops) const override {
    std::set<std::string> services;
    for (const auto& service : view_.services) {
      const bool owns = std::ranges::any_of(service.pids, [&](auto pid) { return entity == fmt::format("process:{}", pid); });
      if (owns || entity == "service:" + service.name || entity.starts_with("endpoint:" + service.name + " ")) services.insert(service.name);
    }
    for (const auto& edge : view_.edges) {
      if (entity == fmt::format("edge:{}->{}", edge.caller, edge.callee)) services.insert({edge.caller, edge.callee});
      if (entity == "service:" + edge.callee) services.insert(edge.callee);
    }
    if (services.empty()) return fail(Code::NotFound, fmt::format("no entity '{}' is known now: use service:NAME, process:PID or edge:A->B", entity));
    std::set<std::string> newest = services;
    for (unsigned hop = 0; hop < hops && !newest.empty(); ++hop) {
      std::set<std::string> next;
      for (const auto& edge : view_.edges) {
        if (newest.contains(edge.caller) && services.insert(edge.callee).second) next.insert(edge.callee);
        if (newest.contains(edge.callee) && services.insert(edge.caller).second) next.insert(edge.caller);
      }
      newest = std::move(next);
    }
    std::vector<std::string> entities = {"host"};
    for (const auto& service : view_.services) {
      if (!services.contains(service.name)) continue;
      for (const auto pid : service.pids) entities.push_back(fmt::format("process:{}", pid));
      for (const auto& endpoint : service.endpoints) entities.push_back(fmt::format("endpoint:{} {}", service.name, endpoint.operation));
    }
    for (const std::string& service : services) entities.push_back("service:" + service);
    for (const auto& edge : view_.edges) {
      if (services.contains(edge.caller) && services.contains(edge.callee)) entities.push_back(fmt::format("edge:{}->{}", edge.caller, edge.callee));
    }
    if (hops == 0 || std::ranges::find(entities, entity) == entities.end()) entities.emplace_back(entity);
    return entities;
  }

 private:
  const TrackView& view_;
};

// A sketch is right within 1 %: not so far that a value which is always 2 has a p99 of 1.99.
double quantile(const stream::AggregateRow& row, double share) { return std::clamp(row.values.quantile(share), row.min, row.max); }

}  // namespace

Result<stream::Filter> LiveBackend::resolve(const stream::Filter& filter) const {
  const auto view = parts_.pipeline.track_view();
  return filter.resolve(LiveTopology(*view));
}

Result<Json> LiveBackend::diff(const api::DiffQuery& request) {
  const std::int64_t offset = parts_.clock.wall_offset_ns();
  stream::Query query;
  ASSIGN(query.filter, resolve(request.filter));
  query.budget_ns = kQueryBudgetNs / 2;
  ASSIGN(const stream::ContrastAnswer answer,
         parts_.store.contrast(query, {request.before_from_wall_ns - offset, request.before_to_wall_ns - offset},
                               {request.now_from_wall_ns - offset, request.now_to_wall_ns - offset}, request.limit));
  Json rows = Json::array();
  for (const stream::Contrast& change : answer.changes) {
    rows.push_back({{"field", change.field}, {"value", change.value}, {"effect", change.effect}, {"before", change.before}, {"now", change.now},
                    {"before_per_s", change.before_per_s}, {"now_per_s", change.now_per_s}, {"before_mean", change.before_mean}, {"now_mean", change.now_mean}});
  }
  return Json{{"api", 1}, {"changes", rows}, {"left_out", answer.left_out}, {"fields_left_out", answer.fields_left_out},
              {"complete", {{"before", completeness_json(answer.before)}, {"now", completeness_json(answer.now)}}}};
}

Result<Json> LiveBackend::series(const api::SeriesQuery& request) {
  const std::int64_t offset = parts_.clock.wall_offset_ns();
  stream::Aggregation what;
  ASSIGN(what.where.filter, resolve(request.filter));
  what.where.kinds = {stream::Kind::Sample};
  what.where.minutes = request.minutes;
  what.where.from_ns = request.from_wall_ns - offset;
  what.where.to_ns = request.to_wall_ns - offset;
  what.where.budget_ns = kQueryBudgetNs / 2;
  what.by = {"entity", "name"};
  what.top = request.limit;
  ASSIGN(const stream::AggregateAnswer answer, parts_.store.aggregate(what));
  const auto numbers = [&](const stream::AggregateRow& row) {
    const auto count = static_cast<double>(std::max<std::uint64_t>(row.values.count(), 1));
    return Json{{"count", row.count}, {"min", row.min}, {"mean", row.sum / count}, {"max", row.max},
                {"p50", quantile(row, 0.5)}, {"p99", quantile(row, 0.99)}, {"latest", row.latest}};
  };
  std::map<std::vector<std::string>, Json> points;
  bool points_cut = false;
  if (request.step_ns > 0) {
    what.bucket_ns = request.step_ns;
    what.top = api::kPointsMax;
    ASSIGN(const stream::AggregateAnswer buckets, parts_.store.aggregate(what));
    points_cut = buckets.groups_left_out > 0;
    for (const stream::AggregateRow& row : buckets.rows) {
      Json point = numbers(row);
      point["time"] = wall(row.bucket_ns);
      Json& list = points[row.group];
      if (list.is_null()) list = Json::array();
      list.push_back(std::move(point));
    }
  }
  Json rows = Json::array();
  for (const stream::AggregateRow& row : answer.rows) {
    Json series = numbers(row);
    series["entity"] = row.group[0];
    series["name"] = row.group[1];
    series["first"] = wall(row.first_ns);
    series["last"] = wall(row.last_ns);
    if (request.step_ns > 0) series["points"] = points.contains(row.group) ? points[row.group] : Json::array();
    rows.push_back(std::move(series));
  }
  return Json{{"api", 1}, {"series", rows}, {"left_out", answer.groups_left_out}, {"points_cut", points_cut}, {"complete", completeness_json(answer.completeness)}};
}

Result<Json> LiveBackend::store() {
  const stream::StoreStats stats = parts_.store.stats();
  return Json{{"api", 1}, {"folder", (parts_.config.state_dir / "events").string()}, {"appended", stats.appended}, {"stored", stats.stored},
              {"dropped", stats.dropped}, {"pruned", stats.pruned}, {"pending", stats.pending}, {"in_memory", stats.in_memory},
              {"in_memory_bytes", stats.in_memory_bytes}, {"on_disk_bytes", stats.on_disk_bytes},
              {"oldest", stats.in_memory == 0 && stats.on_disk_bytes == 0 ? Json(nullptr) : Json(wall(stats.oldest_ns))},
              {"newest", stats.in_memory == 0 && stats.on_disk_bytes == 0 ? Json(nullptr) : Json(wall(stats.newest_ns))},
              {"commits", stats.commits}, {"commit_failures", stats.commit_failures}, {"files_set_aside", stats.files_set_aside},
              {"blocks_unreadable", stats.blocks_unreadable}};
}

}  // namespace culprit::app
