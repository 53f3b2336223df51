#include "daemon/explain/evidence/spans.h"

#include <algorithm>
#include <unordered_map>

namespace culprit::explain {

namespace {

constexpr std::size_t kBesideMax = 256;  // spans of one parent: of thousands, each would be compared with each

void add(const std::vector<RecordedSpan>& spans, bool reference, std::int64_t onset_ns, SpanForest& out) {
  for (std::size_t begin = 0, end = 0; begin < spans.size(); begin = end) {
    end = begin + 1;
    while (end < spans.size() && spans[end].trace == spans[begin].trace) ++end;
    const bool now = !reference && spans[begin].start_ns >= onset_ns;
    ++(now ? out.now_traces : out.base_traces);
    const std::size_t first = out.nodes.size();
    std::unordered_map<std::uint64_t, std::size_t> place;
    for (std::size_t i = begin; i < end; ++i) {
      place.emplace(spans[i].id, out.nodes.size());
      SpanNode node;
      node.span = &spans[i];
      node.now = now;
      out.nodes.push_back(std::move(node));
    }
    for (std::size_t i = first; i < out.nodes.size(); ++i) {
      SpanNode& node = out.nodes[i];
      const auto parent = node.span->parent == 0 ? place.end() : place.find(node.span->parent);
      if (parent == place.end() || parent->second == i) continue;
      node.parent = static_cast<std::int32_t>(parent->second);
      out.nodes[parent->second].children.push_back(static_cast<std::uint32_t>(i));
    }
  }
}

}  // namespace

SpanForest forest_of(const RecordedCase& c) {
  SpanForest out;
  out.nodes.reserve(c.spans.size() + c.reference_spans.size());
  add(c.reference_spans, true, c.onset_ns, out);
  add(c.spans, false, c.onset_ns, out);
  for (SpanNode& node : out.nodes) {
    const std::int64_t from = node.span->start_ns, to = from + node.span->duration_ns;
    std::int64_t covered = 0, until = from;
    const auto cover = [&](const RecordedSpan& other) {  // by start, as spans are sorted
      const std::int64_t begin = std::max(until, other.start_ns), end = std::min(to, other.start_ns + other.duration_ns);
      if (end > begin) covered += end - begin, until = end;
    };
    for (const std::uint32_t child : node.children) cover(*out.nodes[child].span);
    // Programs that do not block their threads have the call beside the span that waits for it: both have one parent.
    if (node.children.empty() && node.parent >= 0) {
      const auto& all = out.nodes[static_cast<std::size_t>(node.parent)].children;
      auto beside = std::ranges::lower_bound(all, from, {}, [&](std::uint32_t child) { return out.nodes[child].span->start_ns; });
      for (std::size_t looked = 0; beside != all.end() && looked < kBesideMax; ++beside, ++looked) {
        const SpanNode& other = out.nodes[*beside];
        if (other.span->start_ns >= to) break;
        if (&other != &node && other.span->service == node.span->service && out.is_client(other)) cover(*other.span);
      }
    }
    node.own_ns = node.span->own_ns >= 0 ? node.span->own_ns : std::max<std::int64_t>(0, node.span->duration_ns - covered);
  }
  return out;
}

}  // namespace culprit::explain
