#include <fmt/format.h>

#include <algorithm>
#include <queue>

#include "daemon/base/log.h"
#include "daemon/stream/bytes.h"
#include "daemon/stream/embedded_state.h"

namespace culprit::stream {
namespace {

// The sorted matches of one block (or of the active rows), being merged with others.
struct Source {
  std::vector<Hit> hits;
  std::shared_ptr<const Block> block;  // keeps the hits' keys and details alive
  std::size_t next = 0;

  const Hit& top() const { return hits[next]; }
};

constexpr std::uint32_t kGroupColumns = kAllColumns & ~column_bit(Column::Sequences) & ~column_bit(Column::Details);
constexpr std::uint32_t kSeriesColumns =
    column_bit(Column::Keys) | column_bit(Column::Times) | column_bit(Column::Values);

// Keeps the order of points of one time. (std::stable_sort does too, but clang finds it deprecated within.)
void sort_by_time(std::vector<Point>& points) {
  const auto earlier = [](const Point& a, const Point& b) { return a.time_ns < b.time_ns; };
  if (std::is_sorted(points.begin(), points.end(), earlier)) return;
  std::vector<std::pair<std::int64_t, std::size_t>> order;
  order.reserve(points.size());
  for (const Point& point : points) order.emplace_back(point.time_ns, order.size());
  std::sort(order.begin(), order.end());
  std::vector<Point> sorted;
  sorted.reserve(points.size());
  for (const auto& [time, index] : order) sorted.push_back(points[index]);
  points = std::move(sorted);
}

}  // namespace

void Active::collect(const Matcher& matcher, std::vector<Hit>& out) const {
  static const Detail kNone;
  std::vector<bool> wanted(keys.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = matcher.key(keys[i].entity, keys[i].name);
  for (const Row& row : rows) {
    if (!wanted[row.key] || !matcher.time(row.time_ns) || !matcher.kind(row.kind) || !matcher.severity(row.severity)) {
      continue;
    }
    if (matcher.needs_detail()) {
      const Detail& detail = row.detail ? *row.detail : kNone;
      if (!matcher.detail(detail.attributes, detail.body)) continue;
    }
    out.push_back({row.time_ns, row.sequence, row.value, &keys[row.key], row.detail.get(), row.kind, row.severity});
  }
}

EmbeddedStore::State::Snapshot EmbeddedStore::State::snapshot(const Matcher& matcher) const {
  Snapshot snapshot;
  const std::shared_lock lock(mutex);
  snapshot.active = active;
  active->collect(matcher, snapshot.hits);
  for (const BlockRef& ref : refs) {
    if (ref.max_ns >= matcher.from_ns() && ref.min_ns < matcher.to_ns() && (ref.kinds & matcher.kinds()) != 0 &&
        (ref.memory != nullptr || !damaged.contains(ref.serial))) {
      snapshot.refs.push_back(ref);
    }
  }
  return snapshot;
}

Result<std::shared_ptr<const Block>> EmbeddedStore::State::load_block(const BlockRef& ref, std::uint32_t wanted) const {
  if (ref.memory != nullptr) return ref.memory;
  auto block = [&]() -> Result<Block> {
    ASSIGN(const Columns columns, ref.file->read(ref.id, wanted));
    return decode(columns, wanted, ref.rows, ref.sequence);
  }();
  if (block) return std::make_shared<const Block>(std::move(*block));
  if (block.error().code == Code::NotFound) return nullptr;
  if (block.error().code != Code::Corrupt) return std::unexpected(block.error());
  log::warn("stream: block {} of '{}' is damaged ({}); going on without its {} events", ref.id,
            ref.file->path().string(), block.error().message, ref.rows);
  const std::unique_lock lock(mutex);
  if (damaged.insert(ref.serial).second) ++counters.blocks_unreadable;
  return nullptr;
}

Result<void> EmbeddedStore::scan(const Query& query, const std::function<bool(const Event&)>& visit) const {
  const Matcher matcher(query);
  State::Snapshot snapshot = state_->snapshot(matcher);
  const bool newest = query.newest_first;
  const auto before = [newest](const Hit& a, const Hit& b) { return newest ? b < a : a < b; };
  // Blocks are read only when the merge comes to their time.
  std::sort(snapshot.refs.begin(), snapshot.refs.end(), [newest](const BlockRef& a, const BlockRef& b) {
    return newest ? a.max_ns > b.max_ns : a.min_ns < b.min_ns;
  });
  std::vector<std::unique_ptr<Source>> sources;
  const auto later = [&](std::size_t a, std::size_t b) { return before(sources[b]->top(), sources[a]->top()); };
  std::priority_queue<std::size_t, std::vector<std::size_t>, decltype(later)> heap(later);
  const auto add = [&](Source source) {
    if (source.hits.empty()) return;
    std::sort(source.hits.begin(), source.hits.end(), before);
    sources.push_back(std::make_unique<Source>(std::move(source)));
    heap.push(sources.size() - 1);
  };
  add({std::move(snapshot.hits), nullptr});

  std::size_t seen = 0;
  for (auto ref = snapshot.refs.begin(); seen < query.limit;) {
    if (ref != snapshot.refs.end() &&
        (heap.empty() || (newest ? ref->max_ns >= sources[heap.top()]->top().time_ns
                                 : ref->min_ns <= sources[heap.top()]->top().time_ns))) {
      ASSIGN(std::shared_ptr<const Block> block, state_->load_block(*ref, kAllColumns));
      if (block != nullptr) {
        Source source;
        source.block = block;
        block->collect(matcher, ref->shift_ns, source.hits);
        add(std::move(source));
      }
      ref->memory = nullptr;
      ++ref;
      continue;
    }
    if (heap.empty()) break;
    const std::size_t index = heap.top();
    heap.pop();
    Source& source = *sources[index];
    ++seen;
    if (!visit(source.hits[source.next++].event())) return {};
    if (source.next < source.hits.size()) {
      heap.push(index);
    } else {
      sources[index].reset();
    }
  }
  return {};
}

Result<std::vector<Series>> EmbeddedStore::series(const Query& query) const {
  Query samples = query;
  if (!query.kinds.empty() && std::find(query.kinds.begin(), query.kinds.end(), Kind::Sample) == query.kinds.end()) {
    return std::vector<Series>();
  }
  samples.kinds = {Kind::Sample};
  const Matcher matcher(samples);
  State::Snapshot snapshot = state_->snapshot(matcher);
  KeyTable keys;
  std::vector<std::vector<Point>> points;
  const auto slot = [&](const Key& key) -> std::vector<Point>& {
    const std::uint32_t id = keys.intern(key.entity, key.name);
    if (id == points.size()) points.emplace_back();
    return points[id];
  };
  const bool plain = matcher.severity(kUnset) && !matcher.needs_detail();
  for (BlockRef& ref : snapshot.refs) {
    const bool detailed = (ref.kinds & kDetailedSamples) != 0;
    if (!plain && !detailed) continue;
    ASSIGN(const std::shared_ptr<const Block> block, state_->load_block(ref, detailed ? kAllColumns : kSeriesColumns));
    ref.memory = nullptr;
    if (block == nullptr) continue;
    if (detailed) {
      std::vector<Hit> hits;
      block->collect(matcher, ref.shift_ns, hits);
      std::sort(hits.begin(), hits.end());
      for (const Hit& hit : hits) slot(*hit.key).push_back({hit.time_ns, hit.value});
      continue;
    }
    for (const Block::Run& run : block->runs) {
      const Key& key = block->keys[run.key];
      if (!matcher.key(key.entity, key.name)) continue;
      std::vector<Point>* out = nullptr;
      for (std::uint32_t i = run.begin; i < run.end; ++i) {
        const std::int64_t time = wrapping_add(block->times[i], ref.shift_ns);
        if (!matcher.time(time)) continue;
        if (out == nullptr) out = &slot(key);
        out->push_back({time, block->values[i]});
      }
    }
  }
  for (const Hit& hit : snapshot.hits) slot(*hit.key).push_back({hit.time_ns, hit.value});

  std::vector<Series> answer;
  for (std::size_t i = 0; i < points.size(); ++i) {
    sort_by_time(points[i]);
    answer.push_back({keys[i].entity, keys[i].name, std::move(points[i])});
  }
  std::sort(answer.begin(), answer.end(), [](const Series& a, const Series& b) {
    return std::tie(a.entity, a.name) < std::tie(b.entity, b.name);
  });
  return answer;
}

Result<std::vector<Group>> EmbeddedStore::group(const Query& query) const {
  const Matcher matcher(query);
  State::Snapshot snapshot = state_->snapshot(matcher);
  Grouper grouper;
  const auto add = [&](const std::vector<Hit>& hits) {
    std::unordered_map<const Key*, std::uint32_t> slots;
    for (const Hit& hit : hits) {
      const auto [found, fresh] = slots.try_emplace(hit.key, 0);
      if (fresh) found->second = grouper.slot(hit.key->entity, hit.key->name);
      grouper.add(found->second, hit.time_ns, hit.value);
    }
  };
  add(snapshot.hits);
  const std::uint32_t columns = matcher.needs_detail() ? kGroupColumns | column_bit(Column::Details) : kGroupColumns;
  for (BlockRef& ref : snapshot.refs) {
    ASSIGN(const std::shared_ptr<const Block> block, state_->load_block(ref, columns));
    ref.memory = nullptr;
    if (block == nullptr) continue;
    std::vector<Hit> hits;
    block->collect(matcher, ref.shift_ns, hits);
    add(hits);
  }
  return grouper.finish();
}

Result<std::vector<Difference>> EmbeddedStore::differs(const Query& filter, std::int64_t before_from_ns,
                                                       std::int64_t before_to_ns, std::int64_t now_from_ns,
                                                       std::int64_t now_to_ns) const {
  if (before_from_ns >= before_to_ns || now_from_ns >= now_to_ns) return fail(Code::Invalid, "empty window");
  Query query = filter;
  query.from_ns = before_from_ns;
  query.to_ns = before_to_ns;
  ASSIGN(const std::vector<Group> before, group(query));
  query.from_ns = now_from_ns;
  query.to_ns = now_to_ns;
  ASSIGN(const std::vector<Group> now, group(query));
  return compare(before, seconds_between(before_from_ns, before_to_ns), now, seconds_between(now_from_ns, now_to_ns));
}

}  // namespace culprit::stream
