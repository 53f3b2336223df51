// Spans of a recorded case as trees, healthy and of the incident.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct SpanNode {
  const RecordedSpan* span = nullptr;
  std::int32_t parent = -1;             // index; -1 = none that was recorded
  std::vector<std::uint32_t> children;  // by start
  bool now = false;                     // of the incident
  std::int64_t own_ns = 0;              // duration without the union of its children; of a leaf, without the calls of its service beside it
};

struct SpanForest {
  std::vector<SpanNode> nodes;  // by trace, then start
  std::size_t base_traces = 0, now_traces = 0;
  // It waits for one server elsewhere: a client span, by its kind or, where that is not told, by its only child.
  bool is_client(const SpanNode& node) const {
    if (node.span->kind != RecordedSpan::Kind::Unknown) return node.span->kind == RecordedSpan::Kind::Client;
    return node.children.size() == 1 && nodes[node.children.front()].span->service != node.span->service;
  }
  bool usable() const { return base_traces >= 10 && now_traces >= 3; }
};

// Traces that began before the onset, and those of the reference, are healthy.
SpanForest forest_of(const RecordedCase& c);

}  // namespace culprit::explain
