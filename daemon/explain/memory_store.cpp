#include "daemon/explain/memory_store.h"

#include <algorithm>
#include <cctype>
#include <map>

namespace culprit::explain {

namespace {

using stream::Event;
using stream::Query;

bool any_matches(const std::vector<std::string>& patterns, std::string_view text) {
  if (patterns.empty()) return true;
  return std::ranges::any_of(patterns, [&](std::string_view pattern) {
    return pattern.ends_with('*') ? text.starts_with(pattern.substr(0, pattern.size() - 1)) : pattern == text;
  });
}

bool contains(std::string_view body, std::string_view text) {
  const auto same = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
  return text.empty() || std::search(body.begin(), body.end(), text.begin(), text.end(), same) != body.end();
}

bool matches(const Query& query, const Event& event) {
  if (!query.kinds.empty() && std::ranges::find(query.kinds, event.kind) == query.kinds.end()) return false;
  if (event.severity < query.severity_min) return false;
  if (!any_matches(query.entities, event.entity) || !any_matches(query.names, event.name)) return false;
  for (const auto& [name, value] : query.attributes) {
    if (event.attribute(name) != value) return false;
  }
  return contains(event.body, query.text) && query.filter.matches(event);
}

}  // namespace

MemoryStore::MemoryStore(std::vector<Event> events) : events_(std::move(events)) {
  std::ranges::stable_sort(events_, {}, &Event::time_ns);
}

Result<void> MemoryStore::append(std::vector<Event> events) {
  const bool ordered = std::ranges::is_sorted(events, {}, &Event::time_ns) &&
                       (events_.empty() || events.empty() || events.front().time_ns >= events_.back().time_ns);
  std::ranges::move(events, std::back_inserter(events_));
  if (!ordered) std::ranges::stable_sort(events_, {}, &Event::time_ns);
  return {};
}

Result<stream::Completeness> MemoryStore::scan(const Query& query, const std::function<bool(const Event&)>& visit) const {
  const auto from = std::ranges::lower_bound(events_, query.from_ns, {}, &Event::time_ns);
  const auto to = std::ranges::lower_bound(events_, query.to_ns, {}, &Event::time_ns);
  std::size_t left = query.limit;
  stream::Completeness completeness;
  const auto offer = [&](const Event& event) {
    if (!matches(query, event)) return true;
    if (left == 0 || !visit(event)) {
      completeness.limit_reached = true;
      completeness.whole = false;
      return false;
    }
    --left;
    return true;
  };
  if (query.newest_first) {
    for (auto at = to; at > from;) {
      if (!offer(*--at)) break;
    }
  } else {
    for (auto at = from; at < to; ++at) {
      if (!offer(*at)) break;
    }
  }
  return completeness;
}

Result<std::vector<stream::Series>> MemoryStore::series(const Query& query) const {
  Query samples = query;
  samples.kinds = {stream::Kind::Sample};
  samples.newest_first = false;
  std::map<std::pair<std::string_view, std::string_view>, stream::Series> found;
  TRY(scan(samples, [&](const Event& event) {
    stream::Series& series = found[{event.entity, event.name}];
    if (series.points.empty()) {
      series.entity = event.entity;
      series.name = event.name;
    }
    series.points.push_back({event.time_ns, event.value});
    return true;
  }));
  std::vector<stream::Series> out;
  out.reserve(found.size());
  for (auto& [key, series] : found) out.push_back(std::move(series));
  return out;
}

Result<std::vector<stream::Group>> MemoryStore::group(const Query& query) const {
  std::map<std::pair<std::string_view, std::string_view>, std::pair<stream::Group, std::vector<double>>> found;
  TRY(scan(query, [&](const Event& event) {
    auto& [group, values] = found[{event.entity, event.name}];
    if (values.empty()) {
      group.entity = event.entity;
      group.name = event.name;
      group.first_ns = group.last_ns = event.time_ns;
    }
    group.first_ns = std::min(group.first_ns, event.time_ns);
    group.last_ns = std::max(group.last_ns, event.time_ns);
    values.push_back(event.value);
    return true;
  }));
  std::vector<stream::Group> out;
  for (auto& [key, entry] : found) {
    auto& [group, values] = entry;
    std::ranges::sort(values);
    group.count = values.size();
    for (const double value : values) group.sum += value;
    group.min = values.front();
    group.max = values.back();
    group.p50 = values[values.size() / 2];
    group.p99 = values[std::min(values.size() - 1, values.size() * 99 / 100)];
    out.push_back(std::move(group));
  }
  return out;
}

Result<std::vector<stream::Difference>> MemoryStore::differs(const Query&, std::int64_t, std::int64_t, std::int64_t, std::int64_t) const {
  return fail(Code::Unsupported, "an imported incident has no window comparison");
}

Result<void> MemoryStore::prune(std::int64_t older_than_ns) {
  std::erase_if(events_, [&](const Event& event) { return event.time_ns < older_than_ns; });
  return {};
}

stream::StoreStats MemoryStore::stats() const {
  stream::StoreStats stats;
  stats.appended = stats.stored = stats.in_memory = events_.size();
  if (!events_.empty()) {
    stats.oldest_ns = events_.front().time_ns;
    stats.newest_ns = events_.back().time_ns;
  }
  return stats;
}

}  // namespace culprit::explain
