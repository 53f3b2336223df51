// The document of `culprit logs`: kinds of lines in a window, new ones first.
#include <fmt/format.h>

#include <map>

#include "daemon/app/live_backend.h"
#include "daemon/app/stream_backend.h"
#include "daemon/stream/codec.h"

namespace culprit::app {
namespace {

using api::Json;

constexpr std::int64_t kBeforeNs = 24 * 3600 * kNsPerSecond;  // a kind of line not seen for so long is new
constexpr std::size_t kPatternsMax = 20'000;

struct Pattern {
  std::uint64_t lines = 0;
  std::int64_t first_ns = INT64_MAX, last_ns = INT64_MIN;
  std::uint8_t severity = stream::kUnset;
  std::string text, example;
  bool is_new = false;
};

}  // namespace

Result<Json> LiveBackend::logs(const api::LogsQuery& request) {
  const std::int64_t now = parts_.clock.now_ns();
  stream::Query query;
  query.kinds = {stream::Kind::Log};
  query.from_ns = now - static_cast<std::int64_t>(request.since_s * kNsPerSecond);
  if (!request.service.empty()) query.entities = {"service:" + request.service};
  std::map<std::pair<std::string, std::string>, Pattern> patterns;
  bool truncated = false;
  // Lines of templates that became one are one kind, whatever id they were given.
  std::map<std::string, std::string> names;
  const auto name_of = [&](const std::string& name) -> const std::string& {
    const auto found = names.find(name);
    return found != names.end() ? found->second : names.emplace(name, parts_.pipeline.stream_stage().log_names().pattern(name, {}).name).first->second;
  };
  query.budget_ns = kQueryBudgetNs / 2;
  ASSIGN(stream::Completeness complete, parts_.store.scan(query, [&](const stream::Event& event) {
    const std::string& name = name_of(event.name);
    auto found = patterns.find({event.entity, name});
    if (found == patterns.end()) {
      if (patterns.size() >= kPatternsMax) {
        truncated = true;
        return true;
      }
      found = patterns.try_emplace({event.entity, name}).first;
      found->second.example = event.body;
    }
    Pattern& pattern = found->second;
    ++pattern.lines;
    pattern.first_ns = std::min(pattern.first_ns, event.time_ns);
    pattern.last_ns = std::max(pattern.last_ns, event.time_ns);
    pattern.severity = std::max(pattern.severity, event.severity);
    if (const auto text = event.attribute("template"); !text.empty()) pattern.text = text;
    return true;
  }));
  stream::Aggregation before{.where = query, .by = {"entity", "name"}};
  before.where.to_ns = query.from_ns;
  before.where.from_ns = query.from_ns - kBeforeNs;
  ASSIGN(const auto earlier, parts_.store.aggregate(before));
  add_completeness(complete, earlier.completeness);
  complete.whole = complete.whole && earlier.groups_left_out == 0;
  std::map<std::pair<std::string, std::string>, std::int64_t> known;  // when it was there first before the window
  for (const stream::AggregateRow& row : earlier.rows) {
    const auto [found, is_new] = known.emplace(std::pair(row.group[0], name_of(row.group[1])), row.first_ns);
    if (!is_new) found->second = std::min(found->second, row.first_ns);
  }
  const std::int64_t window_wall_ns = parts_.clock.wall_ns(query.from_ns);
  std::vector<std::pair<const std::pair<std::string, std::string>*, Pattern*>> order;
  for (auto& [key, pattern] : patterns) {
    // The sightings reach back beyond what is stored. When nothing older was ever seen, everything would be new: then nothing is.
    const KnownPattern seen = parts_.pipeline.stream_stage().log_names().pattern(key.second, key.first);
    if (!seen.text.empty()) pattern.text = seen.text;
    const auto before_window = known.find(key);
    if (before_window != known.end()) pattern.first_ns = std::min(pattern.first_ns, before_window->second);
    if (seen.sighting) pattern.first_ns = std::min(pattern.first_ns, seen.sighting->first_wall_ns - parts_.clock.wall_offset_ns());
    const bool something_older = !known.empty() || (seen.began_wall_ns != 0 && seen.began_wall_ns < window_wall_ns);
    pattern.is_new = something_older && pattern.first_ns >= query.from_ns;
    order.emplace_back(&key, &pattern);
  }
  std::ranges::stable_sort(order, [](const auto& a, const auto& b) {
    const auto rank = [](const Pattern& p) { return std::tuple(!p.is_new, -static_cast<int>(p.severity >= stream::kWarn ? p.severity : 0), -static_cast<std::int64_t>(p.lines)); };
    return rank(*a.second) < rank(*b.second);
  });
  Json rows = Json::array();
  for (const auto& [key, pattern] : order) {
    if (rows.size() >= request.limit) break;
    const std::string_view severity = stream::severity_name(pattern->severity);
    const double seconds = std::max(1.0, static_cast<double>(now - query.from_ns) / kNsPerSecond);
    rows.push_back({{"name", key->second}, {"entity", key->first}, {"service", key->first.starts_with("service:") ? key->first.substr(8) : key->first},
                    {"lines", pattern->lines}, {"per_s", static_cast<double>(pattern->lines) / seconds}, {"first", wall(pattern->first_ns)}, {"last", wall(pattern->last_ns)},
                    {"severity", severity.empty() ? Json(nullptr) : Json(severity)}, {"new", pattern->is_new}, {"pattern", pattern->text}, {"example", pattern->example}});
  }
  return Json{{"api", 1}, {"count", patterns.size()}, {"truncated", truncated}, {"patterns", rows}, {"complete", completeness_json(complete)}};
}

}  // namespace culprit::app
