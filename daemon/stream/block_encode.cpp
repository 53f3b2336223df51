// A block's columns as bytes; docs/events.md has the format byte by byte, block_decode.cpp the way back. What frames each
// column is in block_blob.h, the numbers of a run in block_numbers.h, what a text scan looks at in grams.h.
#include "daemon/stream/block_encode.h"

#include <algorithm>

#include "daemon/stream/block_numbers.h"
#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kBodiesAhead = 8;  // fetched before they are copied: each is a miss or two of the cache
constexpr std::size_t kCacheLineBytes = 64;

}  // namespace

// What the rows of a run behind the samples have. All columns of them are written run by run: its details, which lie
// in order of time among those of all others, are fetched into the cache once.
RunHead Encoder::details(const Block& block, const Block::Run& run) {
  const std::size_t begin = run.begin - block.samples, end = run.end - block.samples;
  for (std::size_t row = begin; row < end; ++row) __builtin_prefetch(block.details[row]);
  RunHead head{.severity = block.severities[begin]};
  for (std::size_t row = begin; row < end; ++row) {
    if (block.severities[row] != head.severity) head.severity = kSeverityMixed;
    const Detail* const detail = block.details[row];
    if (detail == nullptr) continue;
    head.flags |= static_cast<std::uint8_t>((detail->has_ids() ? kHasIds : 0) | (detail->set != 0 ? kHasAttributes : 0) |
                                            (detail->body.empty() ? 0 : kHasBodies));
  }
  const std::span rows(block.details.data() + begin, end - begin);
  if ((head.flags & kHasIds) != 0) {
    for (const Detail* detail : rows) put_ids(detail);
  }
  if ((head.flags & kHasAttributes) != 0) {
    for (const Detail* detail : rows) put_set(detail);
  }
  if ((head.flags & kHasBodies) != 0) {
    std::string& lengths = plain(Column::Bodies);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      if (row + kBodiesAhead < rows.size() && rows[row + kBodiesAhead] != nullptr && !rows[row + kBodiesAhead]->body.empty()) {
        const char* const next = rows[row + kBodiesAhead]->body.data();
        __builtin_prefetch(next);
        __builtin_prefetch(next + kCacheLineBytes);
      }
      const std::string_view body = rows[row] == nullptr ? std::string_view() : rows[row]->body;
      put_varint(lengths, body.size());
      bodies_.append(body);
      grams_.add(body);
    }
  }
  if (head.severity == kSeverityMixed) {
    plain(Column::Severities).append(reinterpret_cast<const char*>(block.severities.data() + begin), end - begin);
  }
  return head;
}

// Ids of a request stand at its span and at its log lines: each once, then a number a row (0 = none).
void Encoder::put_ids(const Detail* detail) {
  if (detail == nullptr || !detail->has_ids()) return put_varint(id_rows_, 0);
  const std::string_view bytes(reinterpret_cast<const char*>(detail->trace_id), 16);
  const auto fresh = static_cast<std::uint32_t>(ids_.size());
  const std::uint32_t id = id_index_.find_or_add(table_hash(bytes, table_seed() + detail->span_id), fresh, [&](std::uint32_t other) {
    return ids_[other]->trace_id[0] == detail->trace_id[0] && ids_[other]->trace_id[1] == detail->trace_id[1] && ids_[other]->span_id == detail->span_id;
  });
  if (id != fresh) return put_varint(id_rows_, 1 + ids_.size() - id);  // how long ago it was new
  ids_.push_back(detail);
  id_table_.append(bytes);
  put_fixed64(id_table_, detail->span_id);
  put_varint(id_rows_, 1);
}

void Encoder::put_set(const Detail* detail) {
  if (detail == nullptr || detail->set == 0) return put_varint(set_rows_, 0);
  std::uint32_t& number = set_numbers_[detail->set];
  if (number == 0) {
    number = ++sets_;
    put_string(set_table_, detail->attributes);
  }
  put_varint(set_rows_, number);
}

void Encoder::clear(const Block& block) {
  for (std::string& bytes : plain_) bytes.clear();
  for (std::string* bytes : {&id_table_, &id_rows_, &set_rows_, &set_table_, &bodies_}) bytes->clear();
  ids_.clear();
  id_index_.clear();
  set_numbers_.assign(block.store == nullptr ? 1 : block.store->set_count() + 1, 0);
  sets_ = 0;
  grams_.clear();
}

void Encoder::put_keys(const Block& block, const std::vector<RunHead>& heads) {
  std::string& keys = plain(Column::Keys);
  put_varint(keys, block.keys.size());
  for (const Key& key : block.keys) {
    keys.push_back(static_cast<char>(key.kind));
    put_string(keys, key.entity);
    put_string(keys, key.name);
  }
  put_varint(keys, block.runs.size());
  put_varint(keys, block.plain_runs);
  for (std::size_t i = 0; i < block.runs.size(); ++i) {
    put_varint(keys, block.runs[i].key);
    put_varint(keys, block.runs[i].end - block.runs[i].begin);
    put_varint(keys, heads[i].times);
    put_varint(keys, heads[i].values);
    if (i < block.plain_runs) continue;
    keys.push_back(static_cast<char>(heads[i].severity));
    keys.push_back(static_cast<char>(heads[i].flags));
  }
}

Columns Encoder::encode(const Block& block) {
  clear(block);
  std::vector<RunHead> heads(block.runs.size());
  const std::int64_t base = block.times.empty() ? 0 : *std::min_element(block.times.begin(), block.times.end());
  put_fixed64(plain(Column::Times), static_cast<std::uint64_t>(base));
  put_fixed64(plain(Column::EventTimes), static_cast<std::uint64_t>(base));
  for (std::size_t i = 0; i < block.runs.size(); ++i) {
    const Block::Run& run = block.runs[i];
    const bool is_plain = i < block.plain_runs;
    if (!is_plain) heads[i] = details(block, run);
    std::string& times = plain(is_plain ? Column::Times : Column::EventTimes);
    std::string& values = plain(is_plain ? Column::Values : Column::EventValues);
    const std::size_t times_before = times.size(), values_before = values.size();
    encode_times(std::span(block.times).subspan(run.begin, run.end - run.begin), base, is_plain, times);
    encode_values(std::span(block.values).subspan(run.begin, run.end - run.begin), values);
    heads[i].times = times.size() - times_before;
    heads[i].values = values.size() - values_before;
  }
  put_keys(block, heads);
  std::int64_t last = 0;
  for (const std::uint32_t sequence : block.sequences) {
    put_signed(plain(Column::Sequences), std::int64_t{sequence} - last);
    last = sequence;
  }
  std::string& ids = plain(Column::Ids);
  put_varint(ids, ids_.size());
  ids.append(id_table_).append(id_rows_);
  put_varint(plain(Column::Sets), sets_);
  plain(Column::Sets).append(set_table_).append(set_rows_);
  plain(Column::Bodies).append(bodies_);
  grams_.put(bodies_.size(), plain(Column::Grams));
  Columns columns;
  for (std::size_t i = 0; i < kColumns; ++i) columns[i] = seal_blob(compressor_, i, block.sequence_base, plain_[i]);
  return columns;
}

Columns encode(const Block& block) { return Encoder().encode(block); }

}  // namespace culprit::stream
