// The document of one trace: its spans as a tree, what each waited for, and the log lines that belong to it.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "daemon/app/live_backend.h"
#include "daemon/app/span_waits.h"
#include "daemon/app/stream_backend.h"
#include "daemon/ingest/join.h"
#include "daemon/ingest/record.h"

namespace culprit::app {
namespace {

using api::Json;

constexpr std::size_t kSpansMax = 5'000;
constexpr std::size_t kLinesMax = 2'000;
constexpr std::size_t kDepthMax = 200;
constexpr std::size_t kTracesMax = 100;      // of the kernel's own ids that spans of one trace carry
constexpr std::size_t kThreadsMax = 16;      // whose lines are looked for by thread and time
constexpr std::int64_t kOutlivesNs = 60 * kNsPerSecond;  // requests that end later than the trace, but were worked at meanwhile

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

// The event with what the kernel saw of it: its own, or, after both were joined, the program's.
const stream::Event* kernel_view(const Node& node) {
  if (node.kernel != nullptr) return node.kernel;
  return node.event->attribute("self").empty() ? nullptr : node.event;
}

// Where the time of a span went; null if nobody knows. Of a call: what the callee's own span does not explain is the network's.
Json kernel_json(const std::vector<Node>& nodes, std::size_t at, const SpanWaitsReader& reader) {
  const Node& node = nodes[at];
  if (const stream::Event* seen = kernel_view(node); seen != nullptr) {
    const auto seconds = [&](std::string_view key, double otherwise) {
      const std::string_view text = seen->attribute(key);
      (void)std::from_chars(text.data(), text.data() + text.size(), otherwise);
      return otherwise;
    };
    const OwnTime own = {.self_s = std::min(seconds("self", 0), node.event->value), .run_queue_s = seconds("run_queue", -1), .run_queue_calls_s = seconds("run_queue.in_calls", 0)};
    const std::string_view tid = seen->attribute("culprit.ambiguous").empty() ? seen->attribute("thread.id") : std::string_view();
    const SpanWaits waits = reader.of(node.event->entity, seen->attribute("process.pid"), tid, node.event->start_ns(), node.event->time_ns, own);
    return {{"network_s", waits.network_s}, {"run_queue_s", waits.run_queue_s}, {"run_queue_exact", waits.run_queue_exact}, {"disk_s", waits.disk_s}, {"disk_timed_s", waits.timed_s}, {"lock_s", waits.lock_s}, {"cpu_s", waits.cpu_s},
            {"estimated", true}, {"of_second", reader.knows(node.event->entity)}};
  }
  if (node.event->attribute("span.kind") != "client" || node.children.size() != 1) return nullptr;
  const stream::Event& callee = *nodes[node.children.front()].event;
  if (callee.entity == node.event->entity) return nullptr;
  return {{"network_s", std::max(0.0, node.event->value - callee.value)}, {"estimated", false}};
}

// A sender that had no answer sends again, and a file may be imported twice: the same span, and with it the lines that came of it. Both
// sorted by time; the offset of the wall clock may differ a little from one telling to the next.
void drop_told_again(std::vector<stream::Event>& spans, std::vector<stream::Event>& lines) {
  std::set<std::tuple<std::uint64_t, bool, std::string, std::string>> told;
  std::set<std::uint64_t> again;
  std::erase_if(spans, [&](const stream::Event& span) {
    if (span.span_id == 0 || told.emplace(span.span_id, seen_by_kernel(span), span.entity, span.name).second) return false;
    again.insert(span.span_id);
    return true;
  });
  std::map<std::pair<std::uint64_t, std::string>, std::int64_t> said_ns;
  std::erase_if(lines, [&](const stream::Event& line) {
    if (!again.contains(line.span_id) || line.attribute("event.name").empty()) return false;
    const auto [said, first] = said_ns.emplace(std::pair(line.span_id, line.body), line.time_ns);
    return !first && line.time_ns - std::exchange(said->second, line.time_ns) < kNsPerMs;
  });
}

// Lines that name only their process: what it wrote while it worked at one of these requests and at no other.
Result<void> add_lines_of_processes(const stream::EventStore& store, const std::vector<stream::Event>& spans, std::int64_t wall_offset_ns, std::int64_t budget_ns, stream::Completeness& complete,
                                    std::vector<stream::Event>& found) {
  std::map<std::string, std::vector<const stream::Event*>> processes;
  std::set<std::uint64_t> own;
  for (const stream::Event& span : spans) {
    own.insert(span.span_id);
    const std::string pid(span.attribute("process.pid"));
    if (!pid.empty() && (processes.size() < kThreadsMax || processes.contains(pid))) processes[pid].push_back(&span);
  }
  const auto works_at = [&](const stream::Event& span, const stream::Event& line) {
    return span.start_ns() < line.time_ns + ingest::grain_of(line.time_ns + wall_offset_ns) && line.time_ns <= span.time_ns + ingest::kAfterAnswerNs;
  };
  for (const auto& [pid, of] : processes) {
    stream::Query query;
    query.attributes = {{"process.pid", pid}};
    query.from_ns = INT64_MAX;
    query.to_ns = INT64_MIN;
    for (const stream::Event* span : of) {
      query.from_ns = std::min(query.from_ns, span->start_ns() - kNsPerSecond);  // the coarsest grain
      query.to_ns = std::max(query.to_ns, span->time_ns + ingest::kAfterAnswerNs);
    }
    query.budget_ns = std::max(kNsPerMs, budget_ns / static_cast<std::int64_t>(2 * processes.size()));
    query.kinds = {stream::Kind::Log};
    query.limit = kLinesMax;
    std::vector<stream::Event> lines;
    ASSIGN(const stream::Completeness of_lines, store.scan(query, [&](const stream::Event& line) {
      const bool of_process = line.trace_id[0] == 0 && line.trace_id[1] == 0 && line.attribute("thread.id").empty() && line.attribute("container.id").empty();
      if (of_process && std::ranges::any_of(of, [&](const stream::Event* span) { return works_at(*span, line); })) lines.push_back(line);
      return true;
    }));
    add_completeness(complete, of_lines);
    if (lines.empty()) continue;
    query.kinds = {stream::Kind::Span};
    query.to_ns += kOutlivesNs;
    query.limit = kSpansMax;
    std::vector<stream::Event> others;
    ASSIGN(const stream::Completeness of_spans, store.scan(query, [&](const stream::Event& span) {
      if (!own.contains(span.span_id)) others.push_back(span);
      return true;
    }));
    add_completeness(complete, of_spans);
    if (of_spans.limit_reached || of_spans.budget_spent) continue;  // there may be others
    for (stream::Event& line : lines) {
      if (found.size() >= kLinesMax || std::ranges::any_of(others, [&](const stream::Event& span) { return works_at(span, line); })) continue;
      const stream::Event* inner = nullptr;
      for (const stream::Event* span : of) {
        if (works_at(*span, line) && (inner == nullptr || span->start_ns() > inner->start_ns())) inner = span;
      }
      line.span_id = inner->span_id;
      line.attributes.emplace_back("joined_by", "process");
      found.push_back(std::move(line));
    }
  }
  return {};
}

}  // namespace

// Lines without a trace that a span's thread wrote while it worked at that span: those that came too early or too late to be joined in
// the stream. What several requests shared is nobody's.
Result<std::vector<stream::Event>> LiveBackend::lines_of_threads(const std::vector<stream::Event>& spans, std::int64_t budget_ns, stream::Completeness& complete) const {
  std::map<std::pair<std::string, std::string>, std::vector<const stream::Event*>> threads;
  for (const stream::Event& span : spans) {
    const std::string_view pid = span.attribute("process.pid"), tid = span.attribute("thread.id");
    if (pid.empty() || tid.empty() || !span.attribute("culprit.ambiguous").empty()) continue;
    if (threads.size() < kThreadsMax || threads.contains({std::string(pid), std::string(tid)})) threads[{std::string(pid), std::string(tid)}].push_back(&span);
  }
  std::vector<stream::Event> found;
  for (const auto& [thread, of] : threads) {
    stream::Query query;
    query.kinds = {stream::Kind::Log};
    query.attributes = {{"process.pid", thread.first}, {"thread.id", thread.second}};
    query.from_ns = INT64_MAX;
    query.to_ns = INT64_MIN;
    for (const stream::Event* span : of) {
      query.from_ns = std::min(query.from_ns, span->start_ns());
      query.to_ns = std::max(query.to_ns, span->time_ns + ingest::kAfterAnswerNs);
    }
    query.limit = kLinesMax;
    query.budget_ns = std::max(kNsPerMs, budget_ns / static_cast<std::int64_t>(threads.size()));
    ASSIGN(const stream::Completeness part, parts_.store.scan(query, [&](const stream::Event& line) {
      if (line.trace_id[0] != 0 || line.trace_id[1] != 0 || found.size() >= kLinesMax) return true;
      const stream::Event* inner = nullptr;
      for (const stream::Event* span : of) {
        if (line.time_ns < span->start_ns() || line.time_ns > span->time_ns + ingest::kAfterAnswerNs) continue;
        if (inner == nullptr || span->start_ns() > inner->start_ns()) inner = span;
      }
      if (inner == nullptr) return true;
      found.push_back(line);
      found.back().span_id = inner->span_id;
      found.back().attributes.emplace_back("joined_by", "thread");
      return true;
    }));
    add_completeness(complete, part);
  }
  TRY(add_lines_of_processes(parts_.store, spans, parts_.clock.wall_offset_ns(), budget_ns, complete, found));
  return found;
}

Result<Json> LiveBackend::trace(const std::string& id) {
  std::uint64_t wanted[2] = {0, 0};
  if (!ingest::parse_trace_id(id, wanted)) return fail(Code::Invalid, fmt::format("'{}' is no trace id: 32 hexadecimal digits", id.substr(0, 64)));
  const std::int64_t deadline_ns = parts_.clock.now_ns() + kQueryBudgetNs;
  std::vector<stream::Event> spans, lines;
  bool truncated = false;
  stream::Completeness complete;
  const auto left_ns = [&] { return std::max(kNsPerMs, deadline_ns - parts_.clock.now_ns()); };
  const auto collect = [&](const std::string& filter) -> Result<void> {
    stream::Query query;
    query.kinds = {stream::Kind::Span, stream::Kind::Log};
    ASSIGN(query.filter, stream::parse_filter(filter));
    query.newest_first = true;  // what people ask about was found a moment ago
    query.budget_ns = left_ns();
    ASSIGN(const stream::Completeness part, parts_.store.scan(query, [&](const stream::Event& event) {
      auto& to = event.kind == stream::Kind::Span ? spans : lines;
      if (to.size() < (event.kind == stream::Kind::Span ? kSpansMax : kLinesMax)) {
        to.push_back(event);
      } else {
        truncated = true;
      }
      return true;
    }));
    add_completeness(complete, part);
    return {};
  };
  const std::string own = fmt::format("{:016x}{:016x}", wanted[0], wanted[1]);
  TRY(collect("trace_id = " + own));
  if (spans.empty() && lines.empty()) {
    if (complete.budget_spent) {
      return fail(Code::Busy, fmt::format("trace {} was not found in the {} s that a question may take, which did not reach all that is stored: ask again, or use 'culprit events' with a time", id,
                                          kQueryBudgetNs / kNsPerSecond));
    }
    return fail(Code::NotFound, fmt::format("no span and no log line of trace {} is stored", id));
  }
  // What the kernel saw of the same calls before anybody had named the trace has the kernel's own id.
  std::set<std::string> others;
  for (const stream::Event& span : spans) {
    if (const auto other = span.attribute("kernel.trace_id"); !other.empty() && other != own && others.size() < kTracesMax) others.emplace(other);
  }
  if (!others.empty()) TRY(collect(fmt::format("trace_id in ({})", fmt::join(others, ", "))));
  const auto by_end = [](const stream::Event& a, const stream::Event& b) { return a.time_ns < b.time_ns; };
  std::ranges::reverse(spans);
  std::ranges::reverse(lines);
  std::ranges::stable_sort(spans, by_end);
  std::ranges::stable_sort(lines, by_end);
  drop_told_again(spans, lines);
  ASSIGN(const std::vector<stream::Event> near, lines_of_threads(spans, left_ns(), complete));
  lines.insert(lines.end(), near.begin(), near.end());
  std::ranges::stable_sort(lines, by_end);

  // A request that a program told of and that the kernel saw as well is one: same parent, same service, overlapping.
  std::vector<Node> nodes;
  std::map<std::uint64_t, std::size_t> by_id;
  for (const stream::Event& event : spans) {
    if (seen_by_kernel(event)) continue;
    by_id.emplace(event.span_id, nodes.size());
    // Who was called without a header names the kernel's id of its caller.
    if (std::uint64_t kernel = 0; ingest::parse_span_id(event.attribute("kernel.span_id"), kernel)) by_id.emplace(kernel, nodes.size());
    nodes.push_back({&event, nullptr, parent_of(event), {}});
  }
  for (const stream::Event& event : spans) {
    if (!seen_by_kernel(event)) continue;
    const std::uint64_t parent = parent_of(event);
    Node* twin = nullptr;
    for (Node& node : nodes) {
      if (seen_by_kernel(*node.event) || node.kernel != nullptr || node.event->attribute("span.kind") != "server") continue;
      if (node.event->attribute("kernel.span_id") == fmt::format("{:016x}", event.span_id)) {
        twin = &node;
        break;
      }
      if (!node.event->attribute("kernel.span_id").empty()) continue;
      const bool overlap = node.event->start_ns() < event.time_ns && event.start_ns() < node.event->time_ns;
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
  const auto by_start = [&](std::size_t a, std::size_t b) { return std::pair(nodes[a].event->start_ns(), a) < std::pair(nodes[b].event->start_ns(), b); };
  std::ranges::sort(roots, by_start);
  for (Node& node : nodes) std::ranges::sort(node.children, by_start);
  std::int64_t begin = INT64_MAX, end = INT64_MIN;
  for (const Node& node : nodes) {
    begin = std::min(begin, node.event->start_ns());
    end = std::max(end, node.event->time_ns);
  }
  std::vector<std::string> entities;
  for (const Node& node : nodes) {
    if (kernel_view(node) != nullptr && std::ranges::find(entities, node.event->entity) == entities.end()) entities.push_back(node.event->entity);
  }
  ASSIGN(const SpanWaitsReader kernel, SpanWaitsReader::read(parts_.store, std::move(entities), begin, end, left_ns()));
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
                    {"kind", event.attribute("span.kind")}, {"start", wall(event.start_ns())}, {"offset_s", static_cast<double>(event.start_ns() - begin) / kNsPerSecond},
                    {"duration_s", event.value}, {"error", event.severity >= stream::kError || !event.attribute("error.type").empty()}, {"text", event.body},
                    {"span_id", fmt::format("{:016x}", event.span_id)}, {"seen_by", nodes[at].kernel != nullptr || event.attribute("seen_by") == "both" ? "both" : seen_by_kernel(event) ? "kernel" : "program"},
                    {"waits", waits}, {"kernel", kernel_json(nodes, at, kernel)}, {"attributes", attributes}});
    for (const std::size_t child : nodes[at].children) show(child, depth + 1);
  };
  for (const std::size_t root : roots) show(root, 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) show(i, 0);
  Json logs = Json::array();
  for (const stream::Event& line : lines) {
    const std::string_view severity = line.severity == stream::kUnset ? "" : line.severity >= stream::kError ? "error" : line.severity >= stream::kWarn ? "warn" : "info";
    logs.push_back({{"time", wall(line.time_ns)}, {"offset_s", nodes.empty() ? 0.0 : static_cast<double>(line.time_ns - begin) / kNsPerSecond},
                    {"service", line.entity.starts_with("service:") ? line.entity.substr(8) : line.entity}, {"severity", severity.empty() ? Json(nullptr) : Json(severity)},
                    {"span_id", line.span_id == 0 ? Json(nullptr) : Json(fmt::format("{:016x}", line.span_id))},
                    {"joined_by", line.attribute("joined_by").empty() ? std::string("trace") : std::string(line.attribute("joined_by"))}, {"body", line.body}});
  }
  return Json{{"api", 1}, {"trace_id", fmt::format("{:016x}{:016x}", wanted[0], wanted[1])}, {"start", nodes.empty() ? Json(nullptr) : Json(wall(begin))},
              {"duration_s", nodes.empty() ? 0.0 : static_cast<double>(end - begin) / kNsPerSecond}, {"truncated", truncated}, {"spans", rows}, {"logs", logs},
              {"complete", completeness_json(complete)}};
}

}  // namespace culprit::app
