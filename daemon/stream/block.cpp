#include "daemon/stream/block.h"

#include <algorithm>
#include <numeric>

#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kKeyFilterBitsMin = 256;
constexpr std::size_t kKeyFilterBitsMax = 1 << 16;
constexpr std::uint64_t kKeySeed = 1;  // stored: never changed

template <typename Visit>
void key_bits(std::string_view text, std::uint64_t seed, std::size_t bits, Visit&& visit) {
  const std::uint64_t hash = hash_bytes(text, seed);
  visit(hash & (bits - 1));
  visit((hash >> 32) & (bits - 1));
}

// For each row: how many of the same time came before it. Blocks follow each other in order of append, so that
// this and the block's base order everything. Empty if no two rows have the same time.
std::vector<std::uint32_t> tie_ranks(std::span<const Row> rows) {
  struct Seen {
    std::int64_t time_ns;
    std::uint32_t rows;
  };
  std::vector<std::uint32_t> ranks;
  std::vector<Seen> rising;  // later than all before them: most rows are, so that few have to be looked up
  std::vector<Seen> others;
  HashIndex others_index;
  const auto seen = [&](std::int64_t time) -> Seen& {
    if (rising.back().time_ns == time) return rising.back();  // samples of one tick come together
    const auto at = std::lower_bound(rising.begin(), rising.end(), time, [](const Seen& a, std::int64_t wanted) { return a.time_ns < wanted; });
    if (at->time_ns == time) return *at;
    const auto fresh = static_cast<std::uint32_t>(others.size());
    const std::string_view bytes(reinterpret_cast<const char*>(&time), sizeof time);
    const std::uint32_t id = others_index.find_or_add(table_hash(bytes, table_seed()), fresh, [&](std::uint32_t other) { return others[other].time_ns == time; });
    if (id == fresh) others.push_back({time, 0});
    return others[id];
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t time = rows[i].time_ns;
    if (rising.empty() || time > rising.back().time_ns) {
      rising.push_back({time, 1});
      continue;
    }
    const std::uint32_t rank = seen(time).rows++;
    if (rank == 0) continue;
    if (ranks.empty()) ranks.resize(rows.size());
    ranks[i] = rank;
  }
  return ranks;
}

// Most runs are in order of time as they come.
void sort_by_time(Block& block, const Block::Run& run) {
  const auto first = block.times.begin() + run.begin, last = block.times.begin() + run.end;
  if (std::is_sorted(first, last)) return;
  std::vector<std::uint32_t> order(run.end - run.begin);
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return first[a] < first[b]; });
  const auto arrange = [&](auto& column, std::size_t begin) {
    const std::vector before(column.begin() + static_cast<std::ptrdiff_t>(begin), column.begin() + static_cast<std::ptrdiff_t>(begin + order.size()));
    for (std::size_t i = 0; i < order.size(); ++i) column[begin + i] = before[order[i]];
  };
  if (run.begin >= block.samples) {
    arrange(block.severities, run.begin - block.samples);
    arrange(block.details, run.begin - block.samples);
  }
  if (!block.sequences.empty()) arrange(block.sequences, run.begin);
  arrange(block.values, run.begin);
  arrange(block.times, run.begin);
}

}  // namespace

std::size_t Block::bytes() const {
  std::size_t total = sizeof(Block) + times.size() * 8 + sequences.size() * 4 + values.size() * 8 + severities.size() + details.size() * 8;
  for (const Key& key : keys) total += sizeof(Key) + key.entity.size() + key.name.size();
  total += runs.size() * sizeof(Run);
  return total + (store != nullptr ? store->bytes() : 0);
}

std::uint32_t Block::kinds() const {
  std::uint32_t kinds = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Kind kind = keys[runs[i].key].kind;
    kinds |= kind_bit(kind) | (i >= plain_runs && kind == Kind::Sample ? kDetailedSamples : 0);
  }
  return kinds;
}

std::pair<std::uint32_t, std::uint32_t> Block::window(const Run& run, const Matcher& matcher, std::int64_t shift_ns) const {
  const auto first = times.begin() + run.begin, last = times.begin() + run.end;
  const auto at = [&](std::int64_t time) {  // `time` is of this boot, the run's are of the boot that wrote it
    return std::lower_bound(first, last, time, [&](std::int64_t own, std::int64_t wanted) { return wrapping_add(own, shift_ns) < wanted; });
  };
  const auto begin = at(matcher.from_ns()), end = std::max(begin, at(matcher.to_ns()));
  return {static_cast<std::uint32_t>(begin - times.begin()), static_cast<std::uint32_t>(end - times.begin())};
}

void Block::collect(const Matcher& matcher, std::int64_t shift_ns, std::vector<Hit>& out) const {
  std::vector<bool> wanted(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) wanted[i] = matcher.key(keys[i]);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Run& run = runs[i];
    if (!wanted[run.key] || (i < plain_runs && (!matcher.severity(kUnset) || matcher.needs_detail()))) continue;
    const auto [begin, end] = window(run, matcher, shift_ns);
    for (std::uint32_t row = begin; row < end; ++row) {
      const Hit found = hit(run, row, shift_ns);
      if (matcher.severity(found.severity) && (matcher.simple() || matcher.rest(found))) out.push_back(found);
    }
  }
}

std::uint32_t columns_for(const Matcher& matcher, std::uint32_t also) {
  std::uint32_t columns = also | column_bit(Column::Keys) | kTimeColumns;
  if (!matcher.severity(kUnset)) columns |= column_bit(Column::Severities);
  if (matcher.reads_attributes()) columns |= column_bit(Column::Sets);
  if (matcher.reads_body()) columns |= column_bit(Column::Bodies);
  if (matcher.reads_ids()) columns |= kIdColumns;
  if (!matcher.simple()) columns |= kValueColumns | column_bit(Column::Severities);  // the filter may look at them
  return columns;
}

Block seal(std::span<const Row> rows, const KeyTable& keys, std::shared_ptr<const DetailStore> store, std::uint64_t sequence_base) {
  Block block;
  block.store = std::move(store);
  block.sequence_base = sequence_base;
  const std::vector<std::uint32_t> ranks = tie_ranks(rows);
  // Counting sort by key, plain samples first. The rows are read as they lie; of each key's places only the next ones are in the cache.
  const auto bucket_of = [&](const Row& row) { return (row.plain() ? 0 : keys.size()) + row.key; };
  std::vector<std::uint32_t> begins(keys.size() * 2 + 1);
  for (const Row& row : rows) ++begins[bucket_of(row) + 1];
  for (std::size_t i = 1; i < begins.size(); ++i) begins[i] += begins[i - 1];
  block.samples = begins[keys.size()];
  block.keys.reserve(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) block.keys.push_back(keys[i]);
  block.times.resize(rows.size());
  block.values.resize(rows.size());
  if (!ranks.empty()) block.sequences.resize(rows.size());
  block.severities.resize(rows.size() - block.samples);
  block.details.resize(rows.size() - block.samples);
  std::vector<std::uint32_t> next(begins.begin(), begins.end() - 1);
  // Spans of their own: the compiler cannot know that writing a severity leaves the vectors where they are.
  const std::span times(block.times);
  const std::span values(block.values);
  const std::span sequences(block.sequences);
  const std::span severities(block.severities);
  const std::span details(block.details);
  const std::size_t samples = block.samples;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    const std::size_t at = next[bucket_of(row)]++;
    times[at] = row.time_ns;
    values[at] = row.value;
    if (!sequences.empty()) sequences[at] = ranks[i];
    if (at < samples) continue;
    severities[at - samples] = row.severity;
    details[at - samples] = row.detail;
  }
  for (std::size_t bucket = 0; bucket + 1 < begins.size(); ++bucket) {
    if (bucket == keys.size()) block.plain_runs = block.runs.size();
    const Block::Run run{static_cast<std::uint32_t>(bucket % keys.size()), begins[bucket], begins[bucket + 1]};
    if (run.begin == run.end) continue;
    sort_by_time(block, run);
    block.runs.push_back(run);
  }
  return block;
}

std::string key_filter(const Block& block) {
  std::size_t bits = kKeyFilterBitsMin;
  while (bits < block.keys.size() * 16 && bits < kKeyFilterBitsMax) bits *= 2;
  std::string filter(bits / 8, '\0');
  const auto set = [&](std::size_t bit) { filter[bit / 8] = static_cast<char>(static_cast<unsigned char>(filter[bit / 8]) | 1u << (bit % 8)); };
  for (const Key& key : block.keys) {
    key_bits(key.entity, kKeySeed, bits, set);
    key_bits(key.name, kKeySeed + 1, bits, set);
  }
  return filter;
}

bool may_hold_key(std::string_view filter, const Matcher& matcher) {
  const std::size_t bits = filter.size() * 8;
  if (bits == 0 || (bits & (bits - 1)) != 0) return true;  // none was made
  const auto any = [&](const TextFilter& texts, std::uint64_t seed) {
    const auto exact = texts.exact();
    return exact.empty() || std::any_of(exact.begin(), exact.end(), [&](const std::string& text) {
             bool all = true;
             key_bits(text, seed, bits, [&](std::size_t bit) { all = all && (static_cast<unsigned char>(filter[bit / 8]) >> (bit % 8) & 1u) != 0; });
             return all;
           });
  };
  return any(matcher.entities(), kKeySeed) && any(matcher.bound_entities(), kKeySeed) && any(matcher.names(), kKeySeed + 1) &&
         any(matcher.bound_names(), kKeySeed + 1);
}

}  // namespace culprit::stream
