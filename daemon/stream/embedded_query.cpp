#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <optional>
#include <queue>
#include <unordered_map>

#include "daemon/base/log.h"
#include "daemon/stream/aggregate.h"
#include "daemon/stream/bytes.h"
#include "daemon/stream/embedded_state.h"
#include "daemon/stream/grams.h"

namespace culprit::stream {
namespace {

// The sorted matches of one block (or of the active rows), being merged with others.
struct Source {
  std::vector<Hit> hits;
  std::shared_ptr<const Block> block;  // keeps the hits' keys and details alive
  std::size_t next = 0;

  const Hit& top() const { return hits[next]; }
};

constexpr std::size_t kContrastThreads = 2;
constexpr std::uint32_t kValues = kValueColumns;
constexpr std::uint32_t kWholeRows = kAllColumns & ~column_bit(Column::Grams);

// Counts down a query's time.
class Budget {
 public:
  explicit Budget(std::int64_t budget_ns) : budget_ns_(budget_ns) {}
  bool spent() const {
    return budget_ns_ > 0 && std::chrono::steady_clock::now() - begin_ >= std::chrono::nanoseconds(budget_ns_);
  }

 private:
  std::int64_t budget_ns_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

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
  std::vector<bool> wanted(keys.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = matcher.key(keys[i]);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    if (!wanted[row.key] || !matcher.time(row.time_ns) || !matcher.severity(row.severity)) continue;
    const Hit found = hit(i);
    if (matcher.simple() || matcher.rest(found)) out.push_back(found);
  }
}

EmbeddedStore::State::Snapshot EmbeddedStore::State::snapshot(const Matcher& matcher) const {
  Snapshot snapshot;
  const std::shared_lock lock(mutex);
  snapshot.active = active;
  if (!matcher.minutes()) active->collect(matcher, snapshot.hits);
  for (const BlockRef& ref : matcher.minutes() ? minutes : refs) {
    if (ref.max_ns < matcher.from_ns() || ref.min_ns >= matcher.to_ns() || (ref.kinds & matcher.kinds()) == 0) continue;
    if (ref.memory == nullptr && damaged.contains(ref.serial)) {
      snapshot.completeness.rows_lost += ref.rows;
      snapshot.completeness.whole = false;
    } else if (ref.keys != nullptr && !may_hold_key(*ref.keys, matcher)) {
      ++snapshot.completeness.blocks_left_out;
    } else {
      snapshot.refs.push_back(ref);
    }
  }
  return snapshot;
}

Result<std::shared_ptr<const Block>> EmbeddedStore::State::load_block(const BlockRef& ref, std::uint32_t wanted, const Matcher& matcher,
                                                                      Completeness& completeness) const {
  if (ref.memory != nullptr) {
    ++completeness.blocks_read;
    return ref.memory;
  }
  auto block = [&]() -> Result<std::shared_ptr<const Block>> {
    std::vector<std::string_view> texts = matcher.texts();
    std::erase_if(texts, [](std::string_view text) { return text.size() < kGramBytes; });
    if (!texts.empty()) {
      ASSIGN(const Columns grams, ref.file->read(ref.id, column_bit(Column::Grams)));
      ASSIGN(const bool may, may_hold(grams[static_cast<std::size_t>(Column::Grams)], ref.sequence, texts));
      if (!may) {
        ++completeness.blocks_left_out;
        return nullptr;
      }
    }
    ++completeness.blocks_read;
    std::uint32_t columns_wanted = wanted;
    if ((ref.kinds & matcher.kinds() & ~kind_bit(Kind::Sample)) == 0 && (ref.kinds & kDetailedSamples) == 0) columns_wanted &= ~kEventColumns;
    if (!matcher.kind(Kind::Sample) || matcher.needs_detail()) columns_wanted &= ~kSampleColumns;
    ASSIGN(const Columns columns, ref.file->read(ref.id, columns_wanted | column_bit(Column::Keys)));
    ASSIGN(Block decoded, decode(columns, columns_wanted, ref.rows, ref.sequence, &matcher));
    return std::make_shared<const Block>(std::move(decoded));
  }();
  if (block) return block;
  if (block.error().code == Code::NotFound && !ref.file->holds(ref.id)) return nullptr;  // retention was faster
  if (block.error().code != Code::Corrupt && block.error().code != Code::NotFound) return block;
  log::warn("stream: block {} of '{}' is damaged ({}); going on without its {} events", ref.id,
            ref.file->path().string(), block.error().message, ref.rows);
  completeness.rows_lost += ref.rows;
  completeness.whole = false;
  const std::unique_lock lock(mutex);
  if (damaged.insert(ref.serial).second) ++counters.blocks_unreadable;
  return nullptr;
}

Result<Completeness> EmbeddedStore::scan(const Query& query, const std::function<bool(const Event&)>& visit) const {
  const Matcher matcher(query);
  State::Snapshot snapshot = state_->snapshot(matcher);
  Completeness& completeness = snapshot.completeness;
  const Budget budget(query.budget_ns);
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
  auto ref = snapshot.refs.begin();
  while (seen < query.limit) {
    if (ref != snapshot.refs.end() &&
        (heap.empty() || (newest ? ref->max_ns >= sources[heap.top()]->top().time_ns
                                 : ref->min_ns <= sources[heap.top()]->top().time_ns))) {
      if (budget.spent()) {
        completeness.budget_spent = true;
        completeness.whole = false;
        break;
      }
      Source source;
      ASSIGN(source.block, state_->load_block(*ref, kWholeRows, matcher, completeness));
      if (source.block != nullptr) source.block->collect(matcher, ref->shift_ns, source.hits);
      add(std::move(source));
      ref->memory = nullptr;
      ++ref;
      continue;
    }
    if (heap.empty()) break;
    const std::size_t index = heap.top();
    heap.pop();
    Source& source = *sources[index];
    ++seen;
    if (!visit(source.hits[source.next++].event())) {
      completeness.limit_reached = true;
      completeness.whole = false;
      return completeness;
    }
    if (source.next < source.hits.size()) {
      heap.push(index);
    } else {
      sources[index].reset();
    }
  }
  if (seen >= query.limit && (!heap.empty() || ref != snapshot.refs.end())) {
    completeness.limit_reached = true;
    completeness.whole = false;
  }
  return completeness;
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
  for (BlockRef& ref : snapshot.refs) {
    const bool detailed = (ref.kinds & kDetailedSamples) != 0;
    if (!detailed && (!matcher.severity(kUnset) || matcher.needs_detail())) continue;
    const std::uint32_t also = detailed ? kValues | column_bit(Column::Sequences) : kValues;
    ASSIGN(const std::shared_ptr<const Block> block, state_->load_block(ref, columns_for(matcher, also), matcher, snapshot.completeness));
    ref.memory = nullptr;
    if (block == nullptr) continue;
    if (detailed || !matcher.simple()) {
      std::vector<Hit> hits;
      block->collect(matcher, ref.shift_ns, hits);
      std::sort(hits.begin(), hits.end());
      for (const Hit& hit : hits) slot(*hit.key).push_back({hit.time_ns, hit.value});
      continue;
    }
    for (std::size_t i = 0; i < block->plain_runs; ++i) {
      const Block::Run& run = block->runs[i];
      const Key& key = block->keys[run.key];
      if (!matcher.key(key)) continue;
      const auto [begin, end] = block->window(run, matcher, ref.shift_ns);
      if (begin == end) continue;
      std::vector<Point>& out = slot(key);
      for (std::uint32_t row = begin; row < end; ++row) out.push_back({wrapping_add(block->times[row], ref.shift_ns), block->values[row]});
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
  for (BlockRef& ref : snapshot.refs) {
    ASSIGN(const std::shared_ptr<const Block> block, state_->load_block(ref, columns_for(matcher, kValues), matcher, snapshot.completeness));
    ref.memory = nullptr;
    if (block == nullptr) continue;
    if (!matcher.simple() || !matcher.severity(kUnset)) {
      std::vector<Hit> hits;
      block->collect(matcher, ref.shift_ns, hits);
      add(hits);
      continue;
    }
    for (const Block::Run& run : block->runs) {
      const Key& key = block->keys[run.key];
      if (!matcher.key(key)) continue;
      const auto [begin, end] = block->window(run, matcher, ref.shift_ns);
      if (begin == end) continue;
      const std::uint32_t slot = grouper.slot(key.entity, key.name);
      for (std::uint32_t row = begin; row < end; ++row) grouper.add(slot, wrapping_add(block->times[row], ref.shift_ns), block->values[row]);
    }
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

Result<AggregateAnswer> EmbeddedStore::aggregate(const Aggregation& what) const {
  const Matcher matcher(what.where);
  const Budget budget(what.where.budget_ns);
  State::Snapshot snapshot = state_->snapshot(matcher);
  AggregateBuilder builder(what);
  for (const Hit& hit : snapshot.hits) builder.add(hit.view());
  std::uint32_t columns = columns_for(matcher, kValues);
  if (builder.reads_attributes()) columns |= column_bit(Column::Sets);
  if (builder.reads_severity()) columns |= column_bit(Column::Severities);
  for (BlockRef& ref : snapshot.refs) {
    if (budget.spent()) {
      snapshot.completeness.budget_spent = true;
      snapshot.completeness.whole = false;
      break;
    }
    ASSIGN(const std::shared_ptr<const Block> block, state_->load_block(ref, columns, matcher, snapshot.completeness));
    ref.memory = nullptr;
    if (block == nullptr) continue;
    if (!builder.by_key() || !matcher.simple() || !matcher.severity(kUnset)) {
      std::vector<Hit> hits;
      block->collect(matcher, ref.shift_ns, hits);
      for (const Hit& hit : hits) builder.add(hit.view());
      continue;
    }
    for (const Block::Run& run : block->runs) {
      const Key& key = block->keys[run.key];
      if (!matcher.key(key)) continue;
      const auto [begin, end] = block->window(run, matcher, ref.shift_ns);
      if (begin == end) continue;
      const std::uint32_t slot = builder.slot({.kind = key.kind, .entity = key.entity, .name = key.name});
      for (std::uint32_t row = begin; row < end; ++row) builder.add(slot, wrapping_add(block->times[row], ref.shift_ns), block->values[row]);
    }
  }
  return builder.finish(snapshot.completeness);
}

// Two threads take every second block each: most of the time goes by in decoding.
Result<ContrastAnswer> EmbeddedStore::contrast(const Query& filter, Window before, Window now, std::size_t limit) const {
  if (before.from_ns >= before.to_ns || now.from_ns >= now.to_ns) return fail(Code::Invalid, "empty window");
  const Budget budget(filter.budget_ns);
  struct Counted {  // by a thread
    ContrastBuilder builder;
    Completeness seen[2] = {};
  };
  std::array<Counted, kContrastThreads> counted{Counted{ContrastBuilder(before, now)}, Counted{ContrastBuilder(before, now)}};
  // Each window's snapshot is taken once; a thread forgets the blocks that it took.
  std::array<State::Snapshot, 2> snapshots;
  std::array<std::optional<Matcher>, 2> matchers;
  std::array<Query, 2> queries{filter, filter};
  for (std::size_t window = 0; window < 2; ++window) {
    queries[window].from_ns = window == 0 ? before.from_ns : now.from_ns;
    queries[window].to_ns = window == 0 ? before.to_ns : now.to_ns;
    snapshots[window] = state_->snapshot(matchers[window].emplace(queries[window]));
  }
  const auto count = [&](std::size_t part) -> Result<void> {
    ContrastBuilder& builder = counted[part].builder;
    std::vector<std::uint64_t> sets;
    for (int window = 0; window < 2; ++window) {
      State::Snapshot& snapshot = snapshots[static_cast<std::size_t>(window)];
      const Matcher& matcher = *matchers[static_cast<std::size_t>(window)];
      Completeness& seen = counted[part].seen[window];
      const bool simple = matcher.simple() && matcher.severity(kUnset);
      const auto add = [&](const std::vector<Hit>& hits) {
        std::unordered_map<const Key*, ContrastBuilder::Moments*> known;
        for (const Hit& hit : hits) {
          auto& moments = known[hit.key];
          if (moments == nullptr) moments = &builder.key(*hit.key);
          ContrastBuilder::add(*moments, window, hit.time_ns, hit.value);
          if (hit.detail != nullptr && hit.detail->list != nullptr) builder.add_attributes(window, hit.detail->list->coded, 1);
        }
      };
      if (part == 0) {
        seen = snapshot.completeness;
        add(snapshot.hits);
      }
      const std::uint32_t columns = columns_for(matcher, kValues | column_bit(Column::Sets));
      for (std::size_t i = part; i < snapshot.refs.size(); i += kContrastThreads) {
        BlockRef& ref = snapshot.refs[i];
        if (budget.spent()) {
          seen.budget_spent = true;
          seen.whole = false;
          break;
        }
        ASSIGN(const std::shared_ptr<const Block> block, state_->load_block(ref, columns, matcher, seen));
        ref.memory = nullptr;
        if (block == nullptr) continue;
        if (!simple) {
          std::vector<Hit> hits;
          block->collect(matcher, ref.shift_ns, hits);
          add(hits);
          continue;
        }
        sets.assign(block->store->list_count() + 1, 0);
        for (const Block::Run& run : block->runs) {
          const Key& key = block->keys[run.key];
          if (!matcher.key(key)) continue;
          const auto [begin, end] = block->window(run, matcher, ref.shift_ns);
          if (begin == end) continue;
          ContrastBuilder::Moments& moments = builder.key(key);
          for (std::uint32_t row = begin; row < end; ++row) {
            ContrastBuilder::add(moments, window, wrapping_add(block->times[row], ref.shift_ns), block->values[row]);
            const Detail* const detail = row < block->samples ? nullptr : block->details[row - block->samples];
            if (detail != nullptr && detail->list != nullptr) ++sets[detail->list->number];
          }
        }
        for (std::size_t set = 1; set < sets.size(); ++set) {  // equal attribute lists are counted once for all
          if (sets[set] > 0) builder.add_attributes(window, block->store->list(set).coded, sets[set]);
        }
      }
    }
    return {};
  };
  std::future<Result<void>> other = std::async(count, 1);  // without a thread to be had, get() does it
  const Result<void> done = count(0);
  TRY(other.get());
  TRY(done);
  counted[0].builder.add(counted[1].builder);
  for (std::size_t window = 0; window < 2; ++window) {
    Completeness& seen = counted[0].seen[window];
    const Completeness& also = counted[1].seen[window];
    seen.whole = seen.whole && also.whole;
    seen.budget_spent = seen.budget_spent || also.budget_spent;
    seen.rows_lost += also.rows_lost;
    seen.blocks_read += also.blocks_read;
    seen.blocks_left_out += also.blocks_left_out;
  }
  return counted[0].builder.finish(limit, counted[0].seen[0], counted[0].seen[1]);
}

}  // namespace culprit::stream
