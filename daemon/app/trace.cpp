// The document of one trace: its spans as a tree, what each waited for, and the log lines that belong to it.
#include <fmt/format.h>

#include <map>
#include <set>

#include "daemon/app/live_backend.h"
#include "daemon/app/stream_backend.h"
#include "daemon/ingest/record.h"

namespace culprit::app {
namespace {

using api::Json;

constexpr std::size_t kSpansMax = 5'000;
constexpr std::size_t kLinesMax = 2'000;
constexpr std::size_t kDepthMax = 200;

struct Node {
  const stream::Event* event = nullptr;
  const stream::Event* kernel = nullptr;  // the same request as the kernel saw it
  std::uint64_t parent = 0;
  std::vector<std::size_t> children;
};

std::uint64_t parent_of(const stream::Event& event) {
  std::uint64_t parent = 0;
  (void)ingest::parse_span_id(event.attribute("parent.span_id"), parent);
  return parent;
}

// Kernel spans name the thread that handled the request; OTLP's name their kind.
bool seen_by_kernel(const stream::Event& event) { return !event.attribute("thread.id").empty() && event.attribute("span.kind").empty(); }

std::int64_t start_ns(const stream::Event& event) { return event.time_ns - static_cast<std::int64_t>(event.value * kNsPerSecond); }

}  // namespace

Result<Json> LiveBackend::trace(const std::string& id) {
  std::uint64_t wanted[2] = {0, 0};
  if (!ingest::parse_trace_id(id, wanted)) return fail(Code::Invalid, fmt::format("'{}' is no trace id: 32 hexadecimal digits", id.substr(0, 64)));
  std::vector<stream::Event> spans, lines;
  bool truncated = false;
  stream::Query query;
  query.kinds = {stream::Kind::Span, stream::Kind::Log};
  ASSIGN(query.filter, stream::parse_filter(fmt::format("trace_id = {:016x}{:016x}", wanted[0], wanted[1])));
  query.newest_first = true;  // what people ask about was found a moment ago
  query.budget_ns = kQueryBudgetNs;
  ASSIGN(const stream::Completeness complete, parts_.store.scan(query, [&](const stream::Event& event) {
    auto& to = event.kind == stream::Kind::Span ? spans : lines;
    if (to.size() < (event.kind == stream::Kind::Span ? kSpansMax : kLinesMax)) {
      to.push_back(event);
    } else {
      truncated = true;
    }
    return true;
  }));
  std::ranges::reverse(spans);
  std::ranges::reverse(lines);
  if (spans.empty() && lines.empty()) return fail(Code::NotFound, fmt::format("no span and no log line of trace {} is stored", id));

  // A request that a program told of and that the kernel saw as well is one: same parent, same service, overlapping.
  std::vector<Node> nodes;
  std::map<std::uint64_t, std::size_t> by_id;
  for (const stream::Event& event : spans) {
    if (seen_by_kernel(event)) continue;
    by_id.emplace(event.span_id, nodes.size());
    nodes.push_back({&event, nullptr, parent_of(event), {}});
  }
  for (const stream::Event& event : spans) {
    if (!seen_by_kernel(event)) continue;
    const std::uint64_t parent = parent_of(event);
    Node* twin = nullptr;
    for (Node& node : nodes) {
      if (seen_by_kernel(*node.event) || node.kernel != nullptr || node.event->attribute("span.kind") != "server") continue;
      const bool overlap = start_ns(*node.event) < event.time_ns && start_ns(event) < node.event->time_ns;
      if (node.event->entity == event.entity && overlap && (parent == 0 || node.parent == parent || node.event->span_id == event.span_id)) twin = &node;
    }
    if (twin != nullptr) {
      twin->kernel = &event;
      by_id.emplace(event.span_id, static_cast<std::size_t>(twin - nodes.data()));
    } else {
      by_id.emplace(event.span_id, nodes.size());
      nodes.push_back({&event, nullptr, parent, {}});
    }
  }
  std::vector<std::size_t> roots;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const auto parent = by_id.find(nodes[i].parent);
    if (nodes[i].parent != 0 && parent != by_id.end() && parent->second != i) {
      nodes[parent->second].children.push_back(i);
    } else {
      roots.push_back(i);
    }
  }
  const auto by_start = [&](std::size_t a, std::size_t b) { return std::pair(start_ns(*nodes[a].event), a) < std::pair(start_ns(*nodes[b].event), b); };
  std::ranges::sort(roots, by_start);
  for (Node& node : nodes) std::ranges::sort(node.children, by_start);
  std::int64_t begin = INT64_MAX, end = INT64_MIN;
  for (const Node& node : nodes) {
    begin = std::min(begin, start_ns(*node.event));
    end = std::max(end, node.event->time_ns);
  }
  Json rows = Json::array();
  std::set<std::size_t> shown;  // ids that name each other as parents would never end
  const std::function<void(std::size_t, std::size_t)> show = [&](std::size_t at, std::size_t depth) {
    if (depth > kDepthMax || !shown.insert(at).second) return;
    const stream::Event& event = *nodes[at].event;
    Json attributes = Json::object();
    for (const auto& [key, value] : event.attributes) attributes[key] = value;
    Json waits = Json::object();
    for (const stream::Event* of : {&event, nodes[at].kernel}) {
      if (of == nullptr) continue;
      for (const auto& [key, value] : of->attributes) {
        if (key.starts_with("wait.") || key == "self") waits[key] = value;
      }
    }
    rows.push_back({{"depth", depth}, {"service", event.entity.starts_with("service:") ? event.entity.substr(8) : event.entity}, {"name", event.name},
                    {"kind", event.attribute("span.kind")}, {"start", wall(start_ns(event))}, {"offset_s", static_cast<double>(start_ns(event) - begin) / kNsPerSecond},
                    {"duration_s", event.value}, {"error", event.severity >= stream::kError || !event.attribute("error.type").empty()}, {"text", event.body},
                    {"span_id", fmt::format("{:016x}", event.span_id)}, {"seen_by", nodes[at].kernel != nullptr ? "both" : seen_by_kernel(event) ? "kernel" : "program"},
                    {"waits", waits}, {"attributes", attributes}});
    for (const std::size_t child : nodes[at].children) show(child, depth + 1);
  };
  for (const std::size_t root : roots) show(root, 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) show(i, 0);
  Json logs = Json::array();
  for (const stream::Event& line : lines) {
    const std::string_view severity = line.severity == stream::kUnset ? "" : line.severity >= stream::kError ? "error" : line.severity >= stream::kWarn ? "warn" : "info";
    logs.push_back({{"time", wall(line.time_ns)}, {"offset_s", nodes.empty() ? 0.0 : static_cast<double>(line.time_ns - begin) / kNsPerSecond},
                    {"service", line.entity.starts_with("service:") ? line.entity.substr(8) : line.entity}, {"severity", severity.empty() ? Json(nullptr) : Json(severity)},
                    {"span_id", line.span_id == 0 ? Json(nullptr) : Json(fmt::format("{:016x}", line.span_id))}, {"body", line.body}});
  }
  return Json{{"api", 1}, {"trace_id", fmt::format("{:016x}{:016x}", wanted[0], wanted[1])}, {"start", nodes.empty() ? Json(nullptr) : Json(wall(begin))},
              {"duration_s", nodes.empty() ? 0.0 : static_cast<double>(end - begin) / kNsPerSecond}, {"truncated", truncated}, {"spans", rows}, {"logs", logs},
              {"complete", completeness_json(complete)}};
}

}  // namespace culprit::app
